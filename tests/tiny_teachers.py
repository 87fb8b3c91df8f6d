"""Tiny teachers of every family, made on the spot: random weights, tokenizers of the kind that the family has, saved as models are."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GemmaConfig,
    GemmaForCausalLM,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from distill.score.settings import CausalTeacher, CrossEncoderTeacher, MonoT5Teacher

QUERIES = ["what is the dance of bees?", "stone bridge", "Wie hoch ist der Turm in der Stadt?"]
PASSAGES = [
    "The waggle dance tells other bees where flowers are: its angle is the angle to the sun!",
    "Bridges of stone cross the river.\nThe oldest one has three arches, and it's 900 years old.",
    " (A map) of the city -- see page 12?",
    "Der Turm ist 98 m hoch.",
    "  two  spaces and a tab\there, then more words until the passage is long enough to be cut at every budget of the test",
]
PAIRS = [(0, 0), (1, 1), (0, 2), (2, 3), (2, 0), (1, 4), (0, 1), (2, 4)]
_CORPUS = [*QUERIES, *PASSAGES] * 3
_PROMPTS = [
    "Query: what Document: this Relevant: true false yes no",
    "query: a document: b instruction: c\nYou are a search relevance expert Relevance: 0 1",
    "<Instruct>: Given a web search query, retrieve relevant passages\n<Query>: q\n<Document>: d",
    "A: q\nB: p\nGiven a query A and a passage B, determine whether 'Yes' or 'No'.",
]
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def word_pieces(folder: Path) -> None:
    """BERT's and DeBERTa's: `[CLS] q [SEP] p [SEP]`, the second part with segment id 1."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    _save(
        tokenizer, folder, ["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def modern_bert_bytes(folder: Path) -> None:
    """ModernBERT's: pairs of bytes without segments."""
    tokenizer = _byte_pairs(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    _save(
        tokenizer, folder, ["input_ids", "attention_mask"],
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def xlmr_pieces(folder: Path) -> None:
    """XLM-R's: `<s> q </s></s> p </s>`."""
    tokenizer = _unigram(["<s>", "<pad>", "</s>", "<unk>"], unk="<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    _save(
        tokenizer, folder, ["input_ids", "attention_mask"],
        bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip


def t5_pieces(folder: Path) -> None:
    """T5's: `text </s>`, with pieces for every answer of the published checkpoints."""
    tokenizer = _unigram(["<pad>", "</s>", "<unk>"], unk="<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    _save(tokenizer, folder, ["input_ids", "attention_mask"], eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def qwen_bytes(folder: Path) -> None:
    """Qwen's: pairs of bytes within words, `?` and a following line break in one."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = _byte_pairs(specials, split, more=["?\n"] * 20 + ["yes no 0 1"] * 20)
    tokenizer.normalizer = normalizers.NFC()
    _save(tokenizer, folder, ["input_ids", "attention_mask"], pad_token="<|endoftext|>", eos_token="<|im_end|>")


def gemma_pieces(folder: Path) -> None:
    """Gemma's: byte-pair merges over text whose spaces are marks, and a start token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=350, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*_CORPUS, *_PROMPTS, *["Yes"] * 20], trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    _save(
        tokenizer, folder, ["input_ids", "attention_mask"],
        bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip


def make(family: str, folder: Path, seed: int = 0) -> Path:
    """Save a tiny teacher of a family, with its tokenizer; the folder."""
    tokenizer, build = FAMILIES[family]
    tokenizer(folder)
    size = len(PreTrainedTokenizerFast.from_pretrained(folder))
    torch.manual_seed(seed)
    model: PreTrainedModel = build(size)
    for parameter in model.parameters():  # fresh heads and norms are too regular to tell faults by
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval().save_pretrained(folder)
    return folder


def _config(kind: Any, **settings: Any) -> Any:
    return kind(**settings)


def _bert(size: int) -> PreTrainedModel:
    return BertForSequenceClassification(_config(BertConfig, vocab_size=size, num_labels=1, pad_token_id=0, **_SMALL))


def _deberta(size: int) -> PreTrainedModel:
    config = _config(DebertaV2Config, vocab_size=size, num_labels=1, pad_token_id=0, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False, **_SMALL,
    )  # fmt: skip
    return DebertaV2ForSequenceClassification(config)


def _modern_bert(size: int) -> PreTrainedModel:
    config = _config(ModernBertConfig, vocab_size=size, num_labels=1, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2,
        eos_token_id=3,
        local_attention=16, global_attn_every_n_layers=2, **_SMALL,
    )  # fmt: skip
    return ModernBertForSequenceClassification(config)


def _xlmr(size: int) -> PreTrainedModel:
    config = _config(XLMRobertaConfig, vocab_size=size, num_labels=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
        **(_SMALL | {"max_position_embeddings": 514}),
    )  # fmt: skip
    return XLMRobertaForSequenceClassification(config)


def _t5(size: int) -> PreTrainedModel:
    return T5ForConditionalGeneration(_config(T5Config, vocab_size=size, tie_word_embeddings=True, **_SMALL_T5))


def _t5_untied(size: int) -> PreTrainedModel:
    model = T5ForConditionalGeneration(
        _config(T5Config, vocab_size=size, tie_word_embeddings=False, feed_forward_proj="gated-gelu", **_SMALL_T5)
    )
    return _untie(model)


def _mt5_untied(size: int) -> PreTrainedModel:
    return _untie(MT5ForConditionalGeneration(_config(MT5Config, vocab_size=size, **_SMALL_T5)))


def _untie(model: Any) -> PreTrainedModel:
    model.lm_head.weight = torch.nn.Parameter(0.2 * torch.randn_like(model.lm_head.weight))
    return model


def _qwen3(size: int) -> PreTrainedModel:
    return Qwen3ForCausalLM(
        _config(Qwen3Config, vocab_size=size, tie_word_embeddings=True, head_dim=16, **_SMALL_CAUSAL)
    )


def _qwen2(size: int) -> PreTrainedModel:
    return Qwen2ForCausalLM(_config(Qwen2Config, vocab_size=size, tie_word_embeddings=True, **_SMALL_CAUSAL))


def _gemma(size: int) -> PreTrainedModel:
    config = _config(
        GemmaConfig, vocab_size=size, head_dim=16, pad_token_id=0, eos_token_id=1, bos_token_id=2, **_SMALL_CAUSAL
    )
    return GemmaForCausalLM(config)


def _unigram(specials: list[str], unk: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    answers = ["▁false", "▁true", "▁no", "▁yes", "▁", "Query:", "▁Document:", "▁Relevant:"]
    trainer = trainers.UnigramTrainer(
        vocab_size=250, special_tokens=[*specials, *answers], unk_token=unk, show_progress=False
    )
    tokenizer.train_from_iterator([*_CORPUS, *_PROMPTS], trainer)
    # Trained anew from its own pieces, so that the answers are pieces and no special tokens.
    pieces = tokenizer.get_vocab()
    scores = [(piece, -3.0 - 0.01 * place) for piece, place in sorted(pieces.items(), key=lambda item: item[1])]
    rebuilt = Tokenizer(models.Unigram(scores, unk_id=specials.index(unk)))
    rebuilt.normalizer, rebuilt.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    rebuilt.decoder = decoders.Metaspace()
    return rebuilt


def _byte_pairs(specials: list[str], pre_tokenizer: Any, more: list[str] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*_CORPUS, *_PROMPTS, *(more or [])], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _save(tokenizer: Tokenizer, folder: Path, inputs: list[str], **specials: str) -> None:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **specials).save_pretrained(folder)


_SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
_SMALL_CAUSAL: dict[str, Any] = _SMALL | {"num_key_value_heads": 1, "max_position_embeddings": 2048}
_SMALL_T5: dict[str, Any] = {
    "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
FAMILIES: dict[str, tuple[Any, Any]] = {
    "bert": (word_pieces, _bert),
    "deberta": (word_pieces, _deberta),
    "modernbert": (modern_bert_bytes, _modern_bert),
    "xlmr": (xlmr_pieces, _xlmr),
    "t5": (t5_pieces, _t5),
    "t5_untied": (t5_pieces, _t5_untied),
    "mt5_untied": (t5_pieces, _mt5_untied),
    "qwen3": (qwen_bytes, _qwen3),
    "qwen2": (qwen_bytes, _qwen2),
    "gemma": (gemma_pieces, _gemma),
}
"""Families by name: what saves their tokenizer, and what builds the model for a vocabulary of a size."""


CROSS_ENCODERS = ("bert", "deberta", "modernbert", "xlmr")
SEQ2SEQ = ("t5", "t5_untied", "mt5_untied")
CAUSAL = {"qwen3": "qwen3", "qwen2": "mxbai", "gemma": "bge_gemma"}
T5_ANSWERS = ("▁false", "▁true")
QWEN3_HEAD = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
QWEN3_TAIL = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
MXBAI_HEAD = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair, "
    "carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
MXBAI_TAIL = "<|im_end|>\n<|im_start|>assistant\n"
GEMMA_TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


def teacher_settings(family: str, folder: Path) -> Any:
    """The settings that score the tiny teacher of a family."""
    if family in CROSS_ENCODERS:
        return CrossEncoderTeacher(model=str(folder))
    if family in SEQ2SEQ:
        return MonoT5Teacher(model=str(folder), answers=T5_ANSWERS)
    return CausalTeacher(model=str(folder), prompt=CAUSAL[family])  # pyright: ignore[reportArgumentType]


class PlainTransformers:
    """One pair at a time through tokenizer and model as the models' own documentation does it: slow and obvious."""

    def __init__(self, family: str, folder: Path) -> None:
        self.family = family
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        kind: Any = AutoModelForCausalLM
        if family in CROSS_ENCODERS:
            kind = AutoModelForSequenceClassification
        elif family in SEQ2SEQ:
            kind = AutoModelForSeq2SeqLM
        self.model: Any = kind.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(self, query: str, passage: str) -> list[int]:
        """Token ids of an untruncated pair."""

        def bare(text: str) -> list[int]:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]

        if self.family in CROSS_ENCODERS:
            return self.tokenizer(query, passage)["input_ids"]
        if self.family in SEQ2SEQ:
            return self.tokenizer(f"Query: {query} Document: {passage} Relevant:")["input_ids"]
        if self.family == "qwen3":
            instruction = "Given a web search query, retrieve relevant passages that answer the query"
            body = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}"
            return [*bare(QWEN3_HEAD), *bare(body), *bare(QWEN3_TAIL)]
        if self.family == "gemma":
            start = self.tokenizer.bos_token_id
            body = [*bare(f"A: {query}"), *bare("\n"), *bare(f"B: {passage}")]
            return [start, *body, *bare("\n"), *bare(GEMMA_TASK)]
        body = [*bare(f"query: {query}"), *bare("\n"), *bare(f"document: {passage}")]
        return [*bare(MXBAI_HEAD), *body, *bare("\n"), *bare(MXBAI_TASK), *bare(MXBAI_TAIL)]

    @torch.inference_mode()
    def score(self, query: str, passage: str) -> float:
        """The raw score of an untruncated pair."""
        if self.family in CROSS_ENCODERS:
            return self.model(**self.tokenizer(query, passage, return_tensors="pt")).logits.item()
        ids = torch.tensor([self.ids(query, passage)])
        if self.family in SEQ2SEQ:
            logits = self.model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
            no, yes = self.tokenizer.convert_tokens_to_ids(list(T5_ANSWERS))
        else:
            logits = self.model(input_ids=ids).logits[0, -1]
            answers = {"qwen3": ["no", "yes"], "qwen2": ["0", "1"], "gemma": ["Yes", "Yes"]}[self.family]
            no, yes = self.tokenizer.convert_tokens_to_ids(answers)
        return (logits[yes] if self.family == "gemma" else logits[yes] - logits[no]).item()
