"""The start of a student: a checkpoint, a Hugging Face encoder, or a small new transformer."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, assert_never

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PretrainedConfig, PreTrainedTokenizerFast

from distill.encoders.checkpoints import is_late_interaction, load_backbone, load_late_interaction
from distill.encoders.encoder import Encoder
from distill.encoders.late_interaction import PASSAGE_MARKER, QUERY_MARKER, EncoderSettings, LateInteractionEncoder
from distill.encoders.settings import (
    FreshStudent,
    LateInteractionStudent,
    PretrainedStudent,
    SingleVectorStudent,
    StudentSettings,
)
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.models.fetch import fetch_folder
from distill.models.loading import positions_of
from distill.models.locate import ModelError

_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
)
"""The names that backbones have for the probabilities of their dropouts."""
_SPECIAL = ("[PAD]", QUERY_MARKER, PASSAGE_MARKER, "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def start_student(settings: StudentSettings, texts: Iterable[str], seed: int) -> Encoder:
    """Make a student before training. New weights and the new tokenizer depend on `seed` and `texts` alone.

    A late-interaction checkpoint keeps its projection, its markers and the kind of its skip-list, a single-vector one its backbone alone;
    everything else is that of `settings`. Dropout is written to the backbone's configuration; it holds once the checkpoint is loaded.
    """
    torch.manual_seed(seed)
    single = isinstance(settings, SingleVectorStudent)
    encoder = _start_single_vector(settings, texts) if single else _start_late_interaction(settings, texts)
    check_lengths(settings, encoder.backbone.config)
    if settings.dropout is not None:
        _set_dropout(encoder.backbone.config, settings.dropout)
    return encoder


def check_lengths(settings: StudentSettings, config: Any) -> None:
    """Raise a `ModelError` where texts may be longer than the student's backbone, of this configuration, has positions."""
    positions = positions_of(config)
    for name, tokens in (("query_tokens", settings.query_tokens), ("passage_tokens", settings.passage_tokens)):
        if positions is not None and tokens > positions:
            model = settings.start.model if isinstance(settings.start, PretrainedStudent) else "a fresh student"
            raise ModelError(
                f"student.{name} {tokens}: '{model}' has {positions} positions; lower it to {positions}, or take another student.start"
            )


def _set_dropout(config: PretrainedConfig, probability: float) -> None:
    known = [name for name in _DROPOUTS if hasattr(config, name)]
    if not known:
        raise ModelError(
            f"student.dropout: the configuration of {config.model_type} has none of {', '.join(_DROPOUTS)}; leave it at null"
        )
    for name in known:
        setattr(config, name, probability)


def _start_late_interaction(settings: LateInteractionStudent, texts: Iterable[str]) -> LateInteractionEncoder:
    wanted = EncoderSettings(
        settings.dim,
        settings.query_tokens,
        settings.passage_tokens,
        settings.marker_mode,
        settings.mask_punctuation,
        settings.attend_to_mask_tokens,
        settings.query_expansion,
        settings.skip_list or ("first_piece" if settings.marker_mode == "overwrite" else "token"),
    )
    match settings.start:
        case PretrainedStudent():
            folder = fetch_folder(settings.start.model, settings.start.revision)
            if not is_late_interaction(folder):
                return LateInteractionEncoder.assemble(*load_backbone(folder), wanted)
            found = load_late_interaction(folder)
            kept = replace(
                found.settings,
                query_tokens=wanted.query_tokens,
                passage_tokens=wanted.passage_tokens,
                mask_punctuation=wanted.mask_punctuation,
                attend_to_mask_tokens=wanted.attend_to_mask_tokens,
                query_expansion=wanted.query_expansion,
                skip_list=settings.skip_list or found.settings.skip_list,
                skip_words=found.settings.skip_words or wanted.skip_words,
            )
            return LateInteractionEncoder(found.backbone, found.projection, found.tokenizer, kept)
        case FreshStudent():
            tokenizer = train_tokenizer(texts, settings.start.vocabulary)
            longest = max(settings.query_tokens, settings.passage_tokens)
            backbone = _fresh_backbone(settings.start, tokenizer, longest, pooler=False)
            return LateInteractionEncoder.assemble(backbone, tokenizer, wanted)
        case _:
            assert_never(settings.start)


def _start_single_vector(settings: SingleVectorStudent, texts: Iterable[str]) -> SingleVectorEncoder:
    wanted = SingleVectorSettings(
        settings.pooling,
        settings.normalize,
        settings.query_tokens,
        settings.passage_tokens,
        settings.query_prefix,
        settings.passage_prefix,
    )
    match settings.start:
        case PretrainedStudent():
            backbone, tokenizer = load_backbone(fetch_folder(settings.start.model, settings.start.revision))
        case FreshStudent():
            tokenizer = train_tokenizer(texts, settings.start.vocabulary)
            longest = max(settings.query_tokens, settings.passage_tokens)
            pooler = settings.pooling == "pooler"
            backbone = _fresh_backbone(settings.start, tokenizer, longest, pooler=pooler)
        case _:
            assert_never(settings.start)
    encoder = SingleVectorEncoder(backbone, tokenizer, wanted)
    if settings.sizes and settings.sizes[-1] > encoder.dim:
        raise ModelError(
            f"student.sizes holds {settings.sizes[-1]}, but the vectors of '{settings.start.type}' have {encoder.dim} numbers"
        )
    return encoder


def _fresh_backbone(
    start: FreshStudent, tokenizer: PreTrainedTokenizerFast, longest: int, *, pooler: bool
) -> BertModel:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=start.hidden,
        num_hidden_layers=start.layers,
        num_attention_heads=start.hidden // 32,
        intermediate_size=4 * start.hidden,
        max_position_embeddings=max(512, longest),
        pad_token_id=0,
    )
    return BertModel(config, add_pooling_layer=pooler)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer for any script on `texts`: NFKC, lower case, Chinese characters apart.

    The special tokens come first, [PAD] being 0. Equal texts give equal tokenizers.
    """
    texts = list(texts)
    tokenizer = _tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=64))
    letters = {
        f"##{letter}" if position else letter
        for text in texts
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        for position, letter in enumerate(word)
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
