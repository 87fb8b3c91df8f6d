"""What a student starts from: a checkpoint, a Hugging Face encoder, or a small new transformer."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from distill.encoder import PASSAGE_MARKER, QUERY_MARKER, EncoderSettings, LateInteractionEncoder
from distill.models import locate
from distill.settings.train import FreshStudent, PretrainedStudent, StudentSettings

_SPECIAL = ("[PAD]", QUERY_MARKER, PASSAGE_MARKER, "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def start_student(settings: StudentSettings, texts: Iterable[str], seed: int) -> LateInteractionEncoder:
    """A student before training. New weights and the new tokenizer depend on `seed` and `texts` alone.

    A checkpoint in the HF_ColBERT layout keeps its projection and marker mode; query and passage lengths are those of `settings`.
    """
    torch.manual_seed(seed)
    wanted = EncoderSettings(
        settings.dim,
        settings.query_tokens,
        settings.passage_tokens,
        settings.marker_mode,
        settings.mask_punctuation,
        settings.attend_to_mask_tokens,
        settings.query_expansion,
    )
    match settings.start:
        case PretrainedStudent():
            model = locate(settings.start.model)
            if (Path(model) / "artifact.metadata").is_file():
                found = LateInteractionEncoder.load(model)
                kept = replace(wanted, dim=found.settings.dim, marker_mode=found.settings.marker_mode)
                return LateInteractionEncoder(found.backbone, found.projection, found.tokenizer, kept)
            return LateInteractionEncoder.from_backbone(model, wanted, settings.start.revision)
        case FreshStudent():
            tokenizer = train_tokenizer(texts, settings.start.vocabulary)
            config = BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=settings.start.hidden,
                num_hidden_layers=settings.start.layers,
                num_attention_heads=settings.start.hidden // 32,
                intermediate_size=4 * settings.start.hidden,
                max_position_embeddings=max(512, settings.passage_tokens),
                pad_token_id=0,
            )
            return LateInteractionEncoder.assemble(BertModel(config, add_pooling_layer=False), tokenizer, wanted)
        case _:
            assert_never(settings.start)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer for any script, trained on `texts`: NFKC, lower case, Chinese characters apart.

    The special tokens come first, [PAD] being 0. Equal texts give equal tokenizers.
    """
    texts = list(texts)
    tokenizer = _tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=64))
    letters = {
        f"##{letter}" if place else letter
        for text in texts
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        for place, letter in enumerate(word)
    }
    # The trainer numbers letters in the order of a randomly seeded hash table, and breaks ties by number: it gets them numbered.
    numbered = [*_SPECIAL, *sorted(letters)]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=numbered, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    # Anew, because letters are no special tokens.
    pieces = tokenizer.get_vocab()
    tokenizer = _tokenizer(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=64))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, pieces[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _tokenizer(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=True),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
