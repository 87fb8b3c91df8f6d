"""Single-vector models as settings name them: with the pooling, the layers and the prompts of their own folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from distill.encoders.checkpoints import layout_of
from distill.encoders.checkpoints.sentence_transformers import read_sentence_transformers, stated_normalize
from distill.encoders.settings import Dtype, PooledEncoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.models.fetch import fetch_folder
from distill.models.loading import check_tokens, load_model, load_tokenizer
from distill.models.locate import ModelError


def load_pooled(wanted: PooledEncoder, dtype: Dtype, device: str | torch.device, setting: str) -> SingleVectorEncoder:
    """Return the encoder that settings name, in evaluation mode; its scores are those of the project that made it.

    Args:
        wanted: the model, and what its folder leaves open.
        dtype: precision of the backbone; pooling, dense layers and vectors are float32.
        device: where it computes.
        setting: the group in the configuration, for messages (`score.teacher`).

    Raises:
        ModelError: a setting contradicts the folder, or the folder holds something else than a single-vector encoder.
    """
    folder = Path(fetch_folder(wanted.model, wanted.revision, pickled=True))
    layout = layout_of(folder)

    def backbone(part: Path) -> PreTrainedModel:
        return _backbone(part, dtype)

    match layout:
        case "plain":
            settings = SingleVectorSettings(
                pooling=wanted.pooling or "mean", normalize=wanted.normalize is None or wanted.normalize
            )
            encoder = SingleVectorEncoder(backbone(folder), load_tokenizer(str(folder)), settings)
        case "sentence_transformers":
            encoder = read_sentence_transformers(folder, backbone)
            _check(wanted, encoder, folder, setting)
        case _:
            raise ModelError(
                f"{setting}.model '{wanted.model}' is a late-interaction checkpoint ({layout}); set type to late_interaction"
            )
    check_tokens(encoder.tokenizer, encoder.backbone.get_input_embeddings(), wanted.model)
    given: dict[str, Any] = {"query_tokens": wanted.max_query_tokens, "passage_tokens": wanted.max_passage_tokens}
    for name in ("normalize", "query_prefix", "passage_prefix"):
        if (value := getattr(wanted, name)) is not None:
            given[name] = value
    encoder.settings = replace(encoder.settings, **given)
    return encoder.to(device).eval()


def _check(wanted: PooledEncoder, encoder: SingleVectorEncoder, folder: Path, setting: str) -> None:
    """Raise a `ModelError` where a setting contradicts the folder."""
    stated = {"pooling": encoder.settings.pooling, "normalize": stated_normalize(folder)}
    for name, own in stated.items():
        value = getattr(wanted, name)
        if value is not None and own is not None and value != own:
            raise ModelError(
                f"{setting}.{name} is {_shown(value)}, but the folder of '{wanted.model}' says {_shown(own)} ({folder}); leave "
                f"{setting}.{name} out"
            )


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"'{value}'"


def _backbone(folder: Path, dtype: Dtype) -> PreTrainedModel:
    """Return the backbone of a folder; a pooler that is not among the weights is left out."""
    backbone, absent = load_model(AutoModel, str(folder), dtype=dtype, absent=("pooler.",))
    if any(name.startswith("pooler.") for name in absent):
        backbone.pooler = None
    return backbone
