"""Single-vector checkpoints of sentence-transformers: a Transformer, a Pooling, Dense layers and mostly a Normalize.

The pooler of BERT is there a pooling of the first token and one square Dense with tanh, as in LaBSE. Texts that come before queries and
passages are the prompts `query` and `document`, and a Matryoshka size is `truncate_dim`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import nn
from transformers import PreTrainedModel

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
    read_weights,
    refuse,
    require,
    write_backbone,
    write_json,
    write_weights,
)
from distill.encoders.settings import Pooling
from distill.encoders.single_vector import Dense, SingleVectorEncoder, SingleVectorSettings
from distill.models.files import read_json
from distill.models.loading import load_tokenizer

_TANH = "torch.nn.modules.activation.Tanh"
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.linear.Identity": nn.Identity,
    _TANH: nn.Tanh,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.Sigmoid": nn.Sigmoid,
}
_LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_sentence_transformers(
    folder: Path, load_backbone: Callable[[Path], PreTrainedModel] | None = None
) -> SingleVectorEncoder:
    """Read a single-vector checkpoint; the encoder gives the scores of its `similarity`.

    That is the cosine where nothing is said, also of models whose vectors are not of unit length; there the vectors here are. Only with
    similarity `dot` do vectors keep their length.

    Args:
        folder: the checkpoint.
        load_backbone: reads the backbone from the Transformer's folder. If None, it is read in float32, and a square Dense with tanh after
            the first token becomes its pooler, which can be trained.
    """
    modules = read_modules(folder)
    count = sum(module.kind == "Dense" for module in modules)
    shape = ["Transformer", "Pooling", *["Dense"] * count]
    expect_kinds(folder, modules, [shape, [*shape, "Normalize"]], "single-vector student")
    transformer, pooling, *dense = (module for module in modules if module.kind != "Normalize")
    check_transformer(transformer)
    how = _pooling(pooling)
    if load_backbone is not None:
        backbone = load_backbone(transformer.folder)
    else:
        state = read_weights(transformer.folder)
        if how == "cls" and len(dense) == 1 and _is_pooler(dense[0]):
            weights = read_weights(dense[0].folder)
            state = {name: value for name, value in state.items() if "pooler." not in name}
            state |= {f"pooler.dense.{part}": weights[f"linear.{part}"] for part in ("weight", "bias")}
            how, dense = "pooler", []
        backbone = backbone_from_state(transformer.folder, state)
    tokenizer = load_tokenizer(str(transformer.folder))
    longest = longest_text(transformer, tokenizer, backbone.config)
    settings = SingleVectorSettings(
        pooling=how,
        query_tokens=transformer.config.get("query_length") or longest,
        passage_tokens=transformer.config.get("document_length") or longest,
        **_whole(folder / CONFIG, unit=modules[-1].kind == "Normalize"),
    )
    return SingleVectorEncoder(backbone, tokenizer, settings, [_read_dense(module) for module in dense])


def stated_normalize(folder: Path) -> bool | None:
    """Return whether a checkpoint says that its vectors have unit length; None where it says nothing."""
    if read_modules(folder)[-1].kind == "Normalize":
        return True
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return {"cosine": True, "dot": False}.get(config.get("similarity_fn_name") or "")


def _pooling(module: Module) -> Pooling:
    module.require("include_prompt", [True], "a student's prefix takes part in the pooling")
    stated = module.config.get("pooling_mode")
    if stated is None:
        stated = [mode for name, mode in _LEGACY.items() if module.config.get(name)]
    modes: Sequence[str] = [stated] if isinstance(stated, str) else list(stated)
    for pooling in get_args(Pooling):
        if modes == [pooling] and pooling != "pooler":
            return pooling
    known = ", ".join(f"'{pooling}'" for pooling in get_args(Pooling) if pooling != "pooler")
    raise refuse(module.file, "pooling_mode", stated, f"a student has one pooling: {known} or the pooler")


def _is_pooler(module: Module) -> bool:
    config = module.config
    return config["in_features"] == config["out_features"] and config.get("bias", True) and _activation(module) == _TANH


def _activation(module: Module) -> str:
    return module.config.get("activation_function") or _TANH


def _read_dense(module: Module) -> Dense:
    for field, allowed in {
        "activation_function": [*_ACTIVATIONS],
        "use_residual": [False],
        "module_input_name": ["sentence_embedding"],
        "module_output_name": ["sentence_embedding", None],
    }.items():
        module.require(
            field, allowed, "a student's Dense is one layer after the pooling, with one of the usual activations"
        )
    state = read_weights(module.folder)
    size, width = state["linear.weight"].shape
    for field, own in {"in_features": width, "out_features": size}.items():
        module.require(field, [own], f"its weights have {own}")
    layer = nn.Linear(width, size, bias="linear.bias" in state)
    layer.load_state_dict({name.removeprefix("linear."): value.float() for name, value in state.items()})
    return Dense(layer, _ACTIVATIONS[_activation(module)]())


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
    layers = _layers(encoder)
    if settings.pooling == "pooler":
        layers.insert(0, _pooler_layer(encoder))
    for layer in layers:
        parts.append(("Dense", f"{len(parts)}_Dense"))
        _write_dense(layer, folder / parts[-1][1])
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
    mode = "cls" if encoder.settings.pooling == "pooler" else encoder.settings.pooling
    config = {name: known == mode for name, known in _LEGACY.items()}
    write_json(
        folder / "config.json",
        config | {"word_embedding_dimension": encoder.backbone.config.hidden_size, "include_prompt": True},
    )


def _layers(encoder: SingleVectorEncoder) -> list[Dense]:
    return [layer for layer in encoder.dense if isinstance(layer, Dense)]


def _pooler_layer(encoder: SingleVectorEncoder) -> Dense:
    layer: Any = encoder.backbone.get_submodule("pooler.dense")
    return Dense(layer, nn.Tanh())


def _write_dense(layer: Dense, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    activation = next(name for name, kind in _ACTIVATIONS.items() if type(layer.activation) is kind)
    linear = layer.linear
    write_json(
        folder / "config.json",
        {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": activation,
        },
    )
    write_weights({f"linear.{name}": value for name, value in linear.named_parameters()}, folder)


def cut(encoder: SingleVectorEncoder, dim: int) -> SingleVectorEncoder:
    """Return the student with its vectors cut to a Matryoshka size, on the same weights."""
    settings = dataclasses.replace(encoder.settings, dim=dim)
    return SingleVectorEncoder(encoder.backbone, encoder.tokenizer, settings, _layers(encoder))
