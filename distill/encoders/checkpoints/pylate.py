"""Checkpoints of PyLate: a Transformer, a Dense, and settings of its own in config_sentence_transformers.json.

PyLate (https://github.com/lightonai/pylate) inserts marker tokens, pads with the mask token, and leaves out of passages the tokens of the
names that its skip-list has; a name that is none is the unknown token.
"""

import string
from pathlib import Path

from distill.encoders.checkpoints.modules import (
    CONFIG,
    KNOWN,
    check_transformer,
    expect_kinds,
    read_modules,
    read_projection,
    refuse_unknown,
)
from distill.encoders.checkpoints.weights import backbone_from_state, projection_of, read_weights, refuse, require
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.models.files import read_json
from distill.models.loading import load_tokenizer

_OWN = {
    "query_prefix", "document_prefix", "query_length", "document_length", "attend_to_expansion_tokens", "do_query_expansion",
    "skiplist_words",
}  # fmt: skip


def read_pylate(folder: Path) -> LateInteractionEncoder:
    """Read a checkpoint of PyLate; the encoder gives its scores."""
    modules = read_modules(folder)
    expect_kinds(folder, modules, [["Transformer", "Dense"]], "checkpoint of PyLate")
    transformer, dense = modules
    check_transformer(transformer)
    tokenizer = load_tokenizer(str(transformer.folder))
    backbone = backbone_from_state(transformer.folder, read_weights(transformer.folder))
    weight = read_projection(dense, backbone.config.hidden_size)
    projection = projection_of(weight)
    return LateInteractionEncoder(backbone, projection, tokenizer, _settings(folder / CONFIG, len(weight)))


def _settings(file: Path, dim: int) -> EncoderSettings:
    config = read_json(file)
    require(file, config, "similarity_fn_name", ["MaxSim", "maxsim", None], "a student's score is MaxSim")
    prompts = {name: text for name, text in (config.get("prompts") or {}).items() if text}
    if prompts:
        raise refuse(file, "prompts", prompts, "PyLate puts them before texts only where asked; remove them")
    refuse_unknown(file, config, KNOWN | _OWN)
    # PyLate's defaults, where a value is missing or none.
    skip_words = config.get("skiplist_words")
    return EncoderSettings(
        dim=dim,
        query_tokens=config.get("query_length") or 32,
        passage_tokens=config.get("document_length") or 180,
        marker_mode="insert",
        mask_punctuation=skip_words != [],
        attend_to_mask_tokens=bool(config.get("attend_to_expansion_tokens")),
        query_expansion=config.get("do_query_expansion") is not False,
        skip_list="token_or_unknown",
        skip_words=tuple(string.punctuation) if skip_words is None else tuple(skip_words),
        query_marker=config.get("query_prefix") or "[Q] ",
        passage_marker=config.get("document_prefix") or "[D] ",
    )
