"""Late-interaction checkpoints of sentence-transformers 6 (`MultiVectorEncoder`).

A Transformer with the lengths and the query expansion, a Dense (the projection), a MultiVectorMask (the skip-list) and a Normalize. Queries
and documents are told apart by prompts, texts that come before them; a marker token is a prompt that its tokenizer takes for one token.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from distill.encoders.checkpoints.modules import (
    CONFIG,
    KNOWN,
    MODULES,
    TRANSFORMER,
    Module,
    check_transformer,
    expect_kinds,
    longest_text,
    marks,
    prompts_of,
    read_modules,
    read_projection,
    refuse_unknown,
)
from distill.encoders.checkpoints.weights import (
    backbone_from_state,
    projection_of,
    read_weights,
    require,
    write_backbone,
    write_json,
    write_weights,
)
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.models.files import read_json
from distill.models.loading import load_tokenizer
from distill.models.locate import ModelError

_PROBES = ("bee", "A bee's dance, (again).", ". . honey", "été 蜜蜂 رقص", "bee " * 600)
_TYPES = {
    "": "sentence_transformers.base.modules.transformer.Transformer",
    "1_Dense": "sentence_transformers.base.modules.dense.Dense",
    "2_MultiVectorMask": "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
    "3_Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def read_multi_vector(folder: Path) -> LateInteractionEncoder:
    """Read a checkpoint of MultiVectorEncoder; the encoder gives its scores.

    A prompt that is one token becomes a marker that is inserted; other prompts stay texts, and marker mode is `prompt`.
    """
    modules = read_modules(folder)
    last = ["MultiVectorMask", "Normalize"]
    allowed = [["Transformer", "Dense", *last], ["Transformer", "Dense", *reversed(last)]]
    expect_kinds(folder, modules, allowed, "late-interaction student")
    transformer, dense, mask, normalize = [*modules[:2], *sorted(modules[2:], key=lambda module: module.kind)]
    check_transformer(transformer)
    mask.require("skiplist_tasks", [["document"]], "a student leaves tokens of passages out, not of queries")
    mask.require(
        "keep_only_token_ids", [None, []], "a student has a list of tokens to leave out, none of tokens to keep"
    )
    normalize.require("module_input_name", ["token_embeddings"], "a student's token vectors have unit length")
    normalize.require("module_output_name", ["token_embeddings", None], "a student's token vectors have unit length")
    tokenizer = load_tokenizer(str(transformer.folder))
    backbone = backbone_from_state(transformer.folder, read_weights(transformer.folder))
    weight = read_projection(dense, backbone.config.hidden_size)
    projection = projection_of(weight)
    longest = longest_text(transformer, tokenizer, backbone.config)
    words = tuple(mask.config.get("skiplist_words") or ())
    settings = EncoderSettings(
        dim=len(weight),
        passage_tokens=transformer.config.get("document_length") or longest,
        mask_punctuation=bool(words),
        skip_list="token",
        skip_words=words,
        **_markers(folder / CONFIG, tokenizer),
        **_queries(transformer, tokenizer, longest),
    )
    return LateInteractionEncoder(backbone, projection, tokenizer, settings)


def _markers(file: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    config = read_json(file)
    require(file, config, "similarity_fn_name", ["maxsim", "MaxSim", None], "a student's score is the sum, MaxSim")
    refuse_unknown(file, config, KNOWN)
    query, passage = prompts_of(file, config)
    tokens = marks(tokenizer, query), marks(tokenizer, passage)
    if tokens[0] and tokens[1]:
        return {"marker_mode": "insert", "query_marker": tokens[0], "passage_marker": tokens[1]}
    return {"marker_mode": "prompt", "query_marker": query, "passage_marker": passage}


def _queries(module: Module, tokenizer: PreTrainedTokenizerBase, longest: int) -> dict[str, Any]:
    expansion = module.config.get("query_expansion")
    if expansion is None:
        return {"query_expansion": False, "query_tokens": module.config.get("query_length") or longest}
    require(module.file, expansion, "strategy", ["fixed"], "a student's queries are of one length")
    require(
        module.file,
        expansion,
        "token",
        [None, tokenizer.mask_token],
        "a student's queries are padded with the mask token",
    )
    attend = bool(expansion.get("attend", False))
    return {"query_expansion": True, "query_tokens": expansion["length"], "attend_to_mask_tokens": attend}


def write_multi_vector(encoder: LateInteractionEncoder, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write a student that `sentence_transformers.MultiVectorEncoder` loads with the same vectors; `metadata` joins its configuration.

    A student whose tokens no prompt can give is a `ModelError`: with marker mode `overwrite` one whose tokenizer makes two pieces of '. ',
    such as XLM-R's.
    """
    settings = encoder.settings
    tokenizer = _with_markers(encoder)
    prompts = {"query": _prompt(encoder, settings.query_marker), "document": _prompt(encoder, settings.passage_marker)}
    _check_prompts(encoder, tokenizer, prompts)
    write_backbone(encoder.backbone, tokenizer, folder, {}, type(encoder.backbone).__name__, "")
    expansion = {
        "strategy": "fixed",
        "attend": settings.attend_to_mask_tokens,
        "token": None,
        "length": settings.query_tokens,
    }
    transformer: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "max_seq_length": max(settings.query_tokens, settings.passage_tokens),
        "document_length": settings.passage_tokens,
    }
    transformer |= (
        {"query_expansion": expansion} if settings.query_expansion else {"query_length": settings.query_tokens}
    )
    write_json(folder / TRANSFORMER, transformer)
    _write_module(folder / "1_Dense", {
        "in_features": encoder.projection.in_features, "out_features": settings.dim, "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
        "module_input_name": "token_embeddings", "module_output_name": "token_embeddings",
    })  # fmt: skip
    write_weights({"linear.weight": encoder.projection.weight}, folder / "1_Dense")
    _write_module(folder / "2_MultiVectorMask", {
        "skiplist_words": encoder.skipped_tokens, "skiplist_tasks": ["document"], "keep_only_token_ids": None,
    })  # fmt: skip
    names = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    _write_module(folder / "3_Normalize", names)
    write_json(folder / MODULES, [
        {"idx": number, "name": str(number), "path": path, "type": kind} for number, (path, kind) in enumerate(_TYPES.items())
    ])  # fmt: skip
    config = {
        "model_type": "MultiVectorEncoder",
        "prompts": prompts,
        "default_prompt_name": None,
        "similarity_fn_name": "maxsim",
    }
    write_json(folder / CONFIG, config | ({"polyray": dict(metadata)} if metadata else {}))


def _write_module(folder: Path, config: Mapping[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config)


def _prompt(encoder: LateInteractionEncoder, marker: str) -> str:
    return marker if encoder.settings.marker_mode == "prompt" or marker.endswith(" ") else f"{marker} "


def _with_markers(encoder: LateInteractionEncoder) -> PreTrainedTokenizerBase:
    """Return the tokenizer, which reads the markers in a text as one token each."""
    tokenizer = copy.deepcopy(encoder.tokenizer)
    if encoder.settings.marker_mode != "prompt":
        markers = (encoder.settings.query_marker, encoder.settings.passage_marker)
        added: list[Any] = [AddedToken(marker, normalized=False, special=True) for marker in markers]
        tokenizer.add_tokens(added, special_tokens=True)
    return tokenizer


def _check_prompts(
    encoder: LateInteractionEncoder, tokenizer: PreTrainedTokenizerBase, prompts: Mapping[str, str]
) -> None:
    settings = encoder.settings
    for name, rows, length in (
        ("query", encoder.query_rows(_PROBES), settings.query_tokens),
        ("document", encoder.passage_rows(_PROBES), settings.passage_tokens),
    ):
        texts = [prompts[name] + probe for probe in _PROBES]
        found = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        for text, row, other in zip(texts, rows, found, strict=True):
            if row != other:
                raise ModelError(
                    f"sentence-transformers cannot give the tokens of this student (marker_mode '{settings.marker_mode}'): for "
                    f"{text[:30]!r} it has {tokenizer.convert_ids_to_tokens(other)[:5]} where the student has "
                    f"{tokenizer.convert_ids_to_tokens(row)[:5]}; write it as hf_colbert, which PLAID-X reads"
                )
