"""Single-vector checkpoints of sentence-transformers: a Transformer, a Pooling and mostly a Normalize.

The pooler of BERT is there a pooling of the first token and a Dense with tanh, as in LaBSE. Texts that come before queries and passages are
the prompts `query` and `document`, and a Matryoshka size is `truncate_dim`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from distill.encoders.checkpoints.modules import (
    CONFIG,
    KNOWN,
    MODULES,
    TRANSFORMER,
    Module,
    check_transformer,
    expect_kinds,
    longest_text,
    prompts_of,
    read_modules,
    refuse_unknown,
)
from distill.encoders.checkpoints.weights import (
    backbone_from_state,
    read_json,
    read_weights,
    refuse,
    require,
    write_backbone,
    write_json,
    write_weights,
)
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.models.locate import load_tokenizer

_TANH = "torch.nn.modules.activation.Tanh"
_SHAPES = [
    ["Transformer", "Pooling"],
    ["Transformer", "Pooling", "Normalize"],
    ["Transformer", "Pooling", "Dense"],
    ["Transformer", "Pooling", "Dense", "Normalize"],
]
_LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_sentence_transformers(folder: Path) -> SingleVectorEncoder:
    """A single-vector checkpoint, with the scores of its `similarity`.

    That is the cosine where nothing is said, also of models whose vectors are not of unit length; there the vectors here are. Only with
    similarity `dot` do vectors keep their length.
    """
    modules = read_modules(folder)
    expect_kinds(folder, modules, _SHAPES, "single-vector student")
    transformer, pooling = modules[:2]
    dense = next((module for module in modules if module.kind == "Dense"), None)
    check_transformer(transformer)
    state = read_weights(transformer.folder)
    kind: Literal["mean", "cls", "pooler"] = _pooling(pooling)
    if dense is not None:
        kind = "pooler"
        state = {name: value for name, value in state.items() if "pooler." not in name} | _read_pooler(dense, pooling)
    tokenizer = load_tokenizer(str(transformer.folder))
    backbone = backbone_from_state(transformer.folder, state)
    longest = longest_text(transformer, tokenizer, backbone.config)
    settings = SingleVectorSettings(
        pooling=kind,
        query_tokens=transformer.config.get("query_length") or longest,
        passage_tokens=transformer.config.get("document_length") or longest,
        **_whole(folder / CONFIG, unit=modules[-1].kind == "Normalize"),
    )
    return SingleVectorEncoder(backbone, tokenizer, settings)


def _pooling(module: Module) -> Literal["mean", "cls"]:
    module.require("include_prompt", [True], "a student's prefix takes part in the mean")
    found = module.config.get("pooling_mode")
    if found is None:
        found = [mode for name, mode in _LEGACY.items() if module.config.get(name)]
    modes: Sequence[str] = [found] if isinstance(found, str) else list(found)
    if list(modes) not in (["mean"], ["cls"]):
        raise refuse(
            module.file,
            "pooling_mode",
            found,
            "a student's pooling is 'mean', 'cls' or the pooler; train it with one of them",
        )
    return "cls" if modes[0] == "cls" else "mean"


def _read_pooler(module: Module, pooling: Module) -> dict[str, Tensor]:
    if _pooling(pooling) != "cls":
        raise refuse(module.file, "module", "Dense", "after a mean a student has no projection; train it without")
    for field, allowed in {
        "out_features": [module.config["in_features"]],
        "bias": [True],
        "activation_function": [_TANH],
        "use_residual": [False],
        "module_input_name": ["sentence_embedding"],
        "module_output_name": ["sentence_embedding", None],
    }.items():
        module.require(
            field, allowed, "after the first token a student has at most the pooler, a square Dense with bias and tanh"
        )
    state = read_weights(module.folder)
    return {f"pooler.dense.{part}": state[f"linear.{part}"] for part in ("weight", "bias")}


def _whole(file: Path, *, unit: bool) -> dict[str, Any]:
    config = read_json(file) if file.is_file() else {}
    remedy = "a student's score is the cosine or the inner product"
    require(file, config, "similarity_fn_name", ["cosine", "dot", None], remedy)
    refuse_unknown(file, config, KNOWN | {"truncate_dim"})
    query, passage = prompts_of(file, config)
    dim = config.get("truncate_dim")
    dot = config.get("similarity_fn_name") == "dot"
    if dim and unit and dot:
        raise refuse(
            file,
            "truncate_dim",
            dim,
            "a student's vectors have unit length after they are cut; set similarity_fn_name to cosine",
        )
    return {"normalize": unit or not dot, "query_prefix": query, "passage_prefix": passage, "dim": dim}


def write_sentence_transformers(encoder: SingleVectorEncoder, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write a student that `sentence_transformers.SentenceTransformer` loads with the same scores; `metadata` joins its configuration.

    Its vectors are the same too, but for a `dim`, where they are those of `encode(..., normalize_embeddings=True)`.
    """
    settings = encoder.settings
    write_backbone(encoder.backbone, encoder.tokenizer, folder, {}, type(encoder.backbone).__name__, "")
    lengths = {"max_seq_length": max(settings.query_tokens, settings.passage_tokens)}
    # Releases before 6 do not know these two, and refuse them.
    if settings.query_tokens != settings.passage_tokens:
        lengths |= {"query_length": settings.query_tokens, "document_length": settings.passage_tokens}
    write_json(folder / TRANSFORMER, lengths)
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    _write_pooling(encoder, folder / "1_Pooling")
    if settings.pooling == "pooler":
        parts.append(("Dense", "2_Dense"))
        _write_pooler(encoder, folder / "2_Dense")
    if settings.normalize:
        parts.append(("Normalize", f"{len(parts)}_Normalize"))
        (folder / parts[-1][1]).mkdir(exist_ok=True)
        write_json(folder / parts[-1][1] / "config.json", {})
    write_json(folder / MODULES, [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(parts)
    ])  # fmt: skip
    config = {
        "model_type": "SentenceTransformer",
        "prompts": {"query": settings.query_prefix, "document": settings.passage_prefix},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine" if settings.normalize else "dot",
    }
    config |= {"truncate_dim": settings.dim} if settings.dim else {}
    write_json(folder / CONFIG, config | ({"polyray": dict(metadata)} if metadata else {}))


def _write_pooling(encoder: SingleVectorEncoder, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    mode = "mean" if encoder.settings.pooling == "mean" else "cls"
    config = {name: known == mode for name, known in _LEGACY.items()}
    write_json(
        folder / "config.json",
        config | {"word_embedding_dimension": encoder.backbone.config.hidden_size, "include_prompt": True},
    )


def _write_pooler(encoder: SingleVectorEncoder, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    size = encoder.backbone.config.hidden_size
    write_json(
        folder / "config.json",
        {"in_features": size, "out_features": size, "bias": True, "activation_function": _TANH},
    )
    layer = encoder.backbone.get_submodule("pooler.dense")
    write_weights({f"linear.{name}": value for name, value in layer.named_parameters()}, folder)


def cut(encoder: SingleVectorEncoder, dim: int) -> SingleVectorEncoder:
    """The student with its vectors cut to a Matryoshka size, on the same weights."""
    return SingleVectorEncoder(encoder.backbone, encoder.tokenizer, dataclasses.replace(encoder.settings, dim=dim))
