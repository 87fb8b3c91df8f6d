"""Small encoders of both kinds of tokenizer, for tests of checkpoints: WordPiece as BERT's, and unigrams as XLM-R's."""

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from distill.encoders.checkpoints import load_backbone
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder

WORDS = [
    "bee", "honey", "dance", "hive", "flower", "sun", "angle", "food", "river", "bridge", "stone", "road", "city", "biene", "tanz", "été",
]  # fmt: skip
QUERIES = ["honey bee", "bee", "road, city?", "the dance of a bee: how. far", "sun flower " * 30]
PASSAGES = ["bee, honey.", "dance (of the bee) . river", "stone", "! bridge - road 'city'", "tanz der biene " * 30]
_SPECIAL = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "xlmr": ["<s>", "<pad>", "</s>", "<unk>"]}


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Words, letters and every mark of ASCII; [unused0] and [unused1] as BERT has them, ordinary entries."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    entries = [
        *_SPECIAL["bert"],
        "[unused0]",
        "[unused1]",
        *WORDS,
        *letters,
        *(f"##{x}" for x in letters),
        *string.punctuation,
    ]
    pieces = {piece: i for i, piece in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_max_length=512,
    )  # fmt: skip


def xlmr_tokenizer() -> PreTrainedTokenizerFast:
    """Unigrams with a word-start piece, of which '. ' makes two: '▁' and '.'."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    scored = [(piece, 0.0) for piece in _SPECIAL["xlmr"]]
    scored += [("▁", -3.0), *((f"▁{word}", -4.0) for word in WORDS)]
    scored += [(piece, -8.0) for piece in [*letters, *string.punctuation]] + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>", model_max_length=512,
    )  # fmt: skip


def save_backbone(folder: Path, family: str, **settings: Any) -> Path:
    """A backbone of two layers of 32 with random weights, saved as Hugging Face models are; weights large enough to tell vectors apart."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = bert_tokenizer() if family == "bert" else xlmr_tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.2,
    }  # fmt: skip
    sizes |= settings if family == "bert" else {"max_position_embeddings": 514} | settings
    torch.manual_seed(7)
    model = BertModel(BertConfig(**sizes)) if family == "bert" else XLMRobertaModel(XLMRobertaConfig(**sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def late_interaction(folder: Path, settings: EncoderSettings) -> LateInteractionEncoder:
    """A student with a new projection on a saved backbone."""
    torch.manual_seed(8)
    backbone, tokenizer = load_backbone(folder)
    return LateInteractionEncoder.assemble(backbone, tokenizer, settings).eval()
