"""The HF_ColBERT layout of Stanford ColBERT and PLAID-X, in which late-interaction students are kept.

The backbone's weights under its usual prefix, `linear.weight` [D, H], config.json with the architecture HF_ColBERT, the tokenizer, and the
settings in `artifact.metadata` (https://github.com/stanford-futuredata/ColBERT, https://github.com/hltcoe/ColBERT-X). Keys of Polyray that
others do not know are `marker_mode`, `query_expansion`, `skip_list` and `skip_words`; others ignore them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from distill.encoders.checkpoints.weights import (
    backbone_from_state,
    projection_of,
    read_weights,
    refuse,
    require,
    text,
    texts,
    truth,
    whole_number,
    write_backbone,
    write_json,
)
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder, SkipList
from distill.models.files import read_object
from distill.models.loading import load_tokenizer
from distill.models.locate import ModelError

METADATA = "artifact.metadata"
_SAME_SCORE = (
    "only the cosine of ColBERT's late interaction can be computed; train another projection from this backbone"
)


def read_hf_colbert(folder: Path) -> LateInteractionEncoder:
    """Read a checkpoint with artifact.metadata.

    What it does not say is as in PLAID-X, the only project that trains XLM-R this way: markers overwrite, and the skip-list has first
    pieces. A folder without `linear.weight`, of another similarity or another size than it says is a `ModelError`.
    """
    file = folder / METADATA
    if not file.is_file():
        raise ModelError(f"'{folder}' is not a late-interaction checkpoint: it has no {METADATA}")
    metadata = read_object(file)
    settings = settings_of(file, metadata)
    state = read_weights(folder)
    if "linear.weight" not in state:
        raise ModelError(f"'{folder}' is not a late-interaction checkpoint: its weights have no 'linear.weight'")
    weight = state.pop("linear.weight").float()
    if len(weight) != settings.dim:
        raise refuse(file, "dim", settings.dim, f"but linear.weight gives vectors of {len(weight)}; correct the file")
    projection = projection_of(weight)
    tokenizer = load_tokenizer(str(folder))
    backbone = backbone_from_state(folder, state)
    return LateInteractionEncoder(backbone, projection, tokenizer, settings)


def settings_of(file: Path, metadata: Mapping[str, Any]) -> EncoderSettings:
    """Return the settings in artifact.metadata."""
    require(file, metadata, "similarity", ["cosine"], _SAME_SCORE)
    require(file, metadata, "interaction", ["colbert"], _SAME_SCORE)
    require(file, metadata, "relu", [False, None], _SAME_SCORE)
    require(file, metadata, "marker_mode", ["insert", "overwrite"], "expected insert or overwrite")
    require(file, metadata, "skip_list", list(get_args(SkipList)), f"expected one of {', '.join(get_args(SkipList))}")
    default = EncoderSettings()
    return EncoderSettings(
        dim=whole_number(file, metadata, "dim", default.dim),
        query_tokens=whole_number(file, metadata, "query_maxlen", default.query_tokens),
        passage_tokens=whole_number(file, metadata, "doc_maxlen", default.passage_tokens),
        marker_mode=metadata.get("marker_mode", "overwrite"),
        mask_punctuation=truth(file, metadata, "mask_punctuation", default=default.mask_punctuation),
        attend_to_mask_tokens=truth(file, metadata, "attend_to_mask_tokens", default=default.attend_to_mask_tokens),
        query_expansion=truth(file, metadata, "query_expansion", default=default.query_expansion),
        skip_list=metadata.get("skip_list", "first_piece"),
        skip_words=texts(file, metadata, "skip_words", default.skip_words),
        query_marker=text(file, metadata, "query_token_id", default.query_marker),
        passage_marker=text(file, metadata, "doc_token_id", default.passage_marker),
    )


def write_hf_colbert(encoder: LateInteractionEncoder, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write a student; `metadata` joins artifact.metadata. One that marks by text, not by a token, is a `ModelError`."""
    if encoder.settings.marker_mode == "prompt":
        raise ModelError(
            "the HF_ColBERT layout has marker tokens, but this student's marker_mode is 'prompt'; write it as sentence_transformers"
        )
    prefix = f"{encoder.backbone.base_model_prefix}."
    extra = {"linear.weight": encoder.projection.weight}
    write_backbone(encoder.backbone, encoder.tokenizer, folder, extra, "HF_ColBERT", prefix)
    write_json(folder / METADATA, _to_metadata(encoder.settings) | {"model_name": str(folder.name)} | dict(metadata))


def _to_metadata(settings: EncoderSettings) -> dict[str, Any]:
    metadata = {
        "query_token_id": settings.query_marker,
        "doc_token_id": settings.passage_marker,
        "query_token": "[Q]",
        "doc_token": "[D]",
        "dim": settings.dim,
        "query_maxlen": settings.query_tokens,
        "doc_maxlen": settings.passage_tokens,
        "mask_punctuation": settings.mask_punctuation,
        "attend_to_mask_tokens": settings.attend_to_mask_tokens,
        "query_expansion": settings.query_expansion,
        "similarity": "cosine",
        "interaction": "colbert",
        "marker_mode": settings.marker_mode,
        "skip_list": settings.skip_list,
        "meta": {"version": "colbert-v0.4"},
    }
    if settings.skip_words != EncoderSettings().skip_words:
        metadata["skip_words"] = list(settings.skip_words)
    return metadata
