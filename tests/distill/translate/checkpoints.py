"""Small checkpoints of every family of translation models, made on the spot and saved as Hugging Face models are."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch

from distill.sources import corpus

LANGUAGES = ("en", "de", "fr", "zh")


def train_pieces(
    folder: Path, name: str, size: int, kind: str = "unigram", texts: Sequence[str] = (), **options: Any
) -> Path:
    """A SentencePiece model of the bundled corpus, or of `texts`."""
    texts = texts or [row["text"] for _, row in corpus.passages() if row["lang"] in LANGUAGES]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=size, model_type=kind, character_coverage=0.98,
        hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    file = folder / name
    file.write_bytes(model.getvalue())
    return file


def pieces_of(file: Path) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return [model.IdToPiece(i) for i in range(model.GetPieceSize())]


def save_marian(
    folder: Path,
    targets: tuple[str, ...] = (),
    *,
    seed: int = 0,
    size: int = 900,
    filler: int = 0,
    moved_padding: bool = False,
    texts: Sequence[str] = (),
    **config: Any,
) -> Path:
    """A Marian model of two layers, random.

    Args:
        folder: where it is saved.
        targets: codes of a model of several target languages (`deu`).
        seed: of the weights.
        size: number of pieces.
        filler: the vocabulary is filled up to so many pieces with some that no text has.
        moved_padding: give the padding an embedding, as training in transformers does.
        texts: what the pieces are trained on; none: the bundled corpus.
        config: of the model, instead of what is small.
    """
    import transformers

    library: Any = transformers  # some arguments of its configurations are in no signature
    folder.mkdir(parents=True, exist_ok=True)
    source = train_pieces(folder, "source.spm", size, texts=texts)
    (folder / "target.spm").write_bytes(source.read_bytes())
    pieces = [piece for piece in pieces_of(source) if piece not in {"<unk>", "<s>", "</s>"}]
    pieces += [f"▁filler{i}" for i in range(filler - len(pieces))]
    names = ["</s>", "<unk>", *pieces, *(f">>{code}<<" for code in targets), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"})
    )
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*sacremoses.*")
        library.MarianTokenizer.from_pretrained(folder).save_pretrained(folder)
    last = len(names) - 1
    shape = {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128, "init_std": 0.4,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = library.MarianMTModel(
        library.MarianConfig(
            vocab_size=len(names), pad_token_id=last, eos_token_id=0, forced_eos_token_id=0, decoder_start_token_id=last,
            activation_function="swish", scale_embedding=True, static_position_embeddings=True, bad_words_ids=[[last]], max_length=128,
            num_beams=4, **{**shape, **config},
        )
    )  # fmt: skip
    if moved_padding:
        torch.nn.init.normal_(model.get_input_embeddings().weight.data[last], std=0.4)
    model.save_pretrained(folder)
    return folder


def save_nllb(folder: Path, *, seed: int = 1) -> Path:
    """An NLLB model: FLORES-200 codes as extra tokens of a byte-pair vocabulary."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    pieces = pieces_of(train_pieces(folder, "pieces.model", 800, "bpe"))
    names = ["<s>", "<pad>", "</s>", "<unk>", *(piece for piece in pieces if piece not in {"<unk>", "<s>", "</s>"})]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    (folder / "pieces.model").unlink()
    kind: Any = NllbTokenizer
    tokenizer = kind(vocab=vocabulary, merges=merges)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    M2M100ForConditionalGeneration(_m2m_config(M2M100Config, len(tokenizer))).save_pretrained(folder)
    return folder


def save_m2m100(folder: Path, *, seed: int = 2) -> Path:
    """An M2M100 model: a hundred language tokens behind the pieces, and eight rows that mean nothing."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    pieces = train_pieces(folder, "sentencepiece.bpe.model", 800, "bpe")
    names = ["<s>", "<pad>", "</s>", "<unk>", *(p for p in pieces_of(pieces) if p not in {"<unk>", "<s>", "</s>"})]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(pieces))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    size = len(names) + len(tokenizer.lang_token_to_id) + tokenizer.num_madeup_words
    M2M100ForConditionalGeneration(_m2m_config(M2M100Config, size)).save_pretrained(folder)
    return folder


def _m2m_config(kind: Any, size: int) -> Any:
    return kind(
        vocab_size=size, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=128, init_std=0.4, scale_embedding=True, dropout=0.0,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip


def save_t5(folder: Path, *, seed: int = 3, tied: bool = False, kind: str = "t5") -> Path:
    """A T5 v1.1 model with MADLAD's target-language tokens; `tied` is whether its output head is its embedding."""
    import transformers

    library: Any = transformers
    folder.mkdir(parents=True, exist_ok=True)
    marks = [f"<2{lang}>" for lang in LANGUAGES]
    train_pieces(
        folder,
        "spiece.model",
        900,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        user_defined_symbols=marks,
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "pad_token": "<pad>", "eos_token": "</s>"})
    )
    tokenizer = library.T5Tokenizer.from_pretrained(folder, extra_ids=0)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {
        "vocab_size": len(tokenizer), "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
        "dropout_rate": 0.0, "feed_forward_proj": "gated-gelu", "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": tokenizer.pad_token_id, "initializer_factor": 2.0,
    }  # fmt: skip
    config = getattr(library, "MT5Config" if kind == "mt5" else "T5Config")(tie_word_embeddings=tied, **shape)
    model = getattr(library, f"{kind.upper()}ForConditionalGeneration")(config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    # As published checkpoints say it; transformers 5 writes what it forces.
    written["tie_word_embeddings"] = tied
    written.pop("scale_decoder_outputs", None)
    (folder / "config.json").write_text(json.dumps(written))
    return folder
