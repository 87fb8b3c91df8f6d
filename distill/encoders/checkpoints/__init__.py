"""Checkpoints of students: reading and writing the layouts of other projects.

| layout | kind | read | write |
|---|---|---|---|
| `hf_colbert`: Stanford ColBERT, PLAID-X | late interaction | yes | yes, the default |
| `pylate`: PyLate | late interaction | yes | no: PyLate reads `hf_colbert` |
| `multi_vector`: sentence-transformers 6 MultiVectorEncoder | late interaction | yes | yes |
| `sentence_transformers`: SentenceTransformer | single vector | yes | yes, the default |
| plain Hugging Face | a start | `load_backbone` | no |

Scores are those of the project that wrote the checkpoint. What a student cannot have is a `ModelError` that names file, field and value;
weights are safetensors only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.encoders.checkpoints.hf_colbert import METADATA, read_hf_colbert, write_hf_colbert
from distill.encoders.checkpoints.modules import CONFIG, MODULES, read_entries, read_modules
from distill.encoders.checkpoints.multi_vector import read_multi_vector, write_multi_vector
from distill.encoders.checkpoints.notes import reader_notes
from distill.encoders.checkpoints.pylate import read_pylate
from distill.encoders.checkpoints.sentence_transformers import (
    cut,
    read_sentence_transformers,
    write_sentence_transformers,
)
from distill.encoders.checkpoints.weights import backbone_from_state, read_weights, refuse
from distill.encoders.encoder import Encoder
from distill.encoders.late_interaction import LateInteractionEncoder
from distill.encoders.single_vector import SingleVectorEncoder
from distill.models.fetch import fetch_folder
from distill.models.files import read_object
from distill.models.loading import check_tokens, load_tokenizer, positions_of
from distill.models.locate import ModelError

Layout = Literal["hf_colbert", "pylate", "multi_vector", "sentence_transformers", "plain"]
Format = Literal["hf_colbert", "sentence_transformers"]

__all__ = [
    "Format", "Layout", "cut", "is_late_interaction", "layout_of", "load_backbone", "load_encoder",
    "load_late_interaction", "load_single_vector", "reader_notes", "save_encoder",
]  # fmt: skip


def layout_of(folder: str | Path) -> Layout:
    """Return the layout of a local checkpoint, by its files; a `ModelError` for a model that is no retriever, such as a cross-encoder."""
    folder = Path(folder)
    if (folder / MODULES).is_file():
        config = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
        types = [entry["type"] for entry in read_entries(folder / MODULES)]
        kind = config.get("model_type") or ("ColBERT" if "query_prefix" in config else "SentenceTransformer")
        if kind == "ColBERT" or any(name.startswith("pylate.") for name in types):
            return "pylate"
        if kind == "MultiVectorEncoder":
            return "multi_vector"
        if kind == "SentenceTransformer":
            return "sentence_transformers"
        raise refuse(
            folder / CONFIG, "model_type", kind, "a student is a SentenceTransformer, a MultiVectorEncoder or a ColBERT"
        )
    return "hf_colbert" if (folder / METADATA).is_file() else "plain"


def load_encoder(model: str | Path, device: str | torch.device = "cpu", revision: str | None = None) -> Encoder:
    """Load a student's checkpoint of any kind and layout, in float32 and in evaluation mode.

    Args:
        model: a local folder, `bundled:student`, or the name of a repository on the Hugging Face hub.
        device: the device of the weights.
        revision: the commit on the hub; if None, the newest.

    Raises:
        ModelError: the model does not exist, or is not a retriever of a layout in the table above.
    """
    folder = Path(model) if Path(model).is_dir() else Path(fetch_folder(str(model), revision))
    encoder: Encoder
    match layout_of(folder):
        case "hf_colbert":
            encoder = read_hf_colbert(folder)
        case "pylate":
            encoder = read_pylate(folder)
        case "multi_vector":
            encoder = read_multi_vector(folder)
        case "sentence_transformers":
            encoder = read_sentence_transformers(folder)
        case "plain":
            raise ModelError(
                f"'{folder}' is no checkpoint of a student: it has no {METADATA} and no {MODULES}; a plain model can be what a student "
                "starts from (student.start.model)"
            )
        case unknown:
            assert_never(unknown)
    check_tokens(encoder.tokenizer, encoder.backbone.get_input_embeddings(), str(folder))
    _check_lengths(encoder, folder)
    return encoder.to(device).eval()


def _check_lengths(encoder: Encoder, folder: Path) -> None:
    """Raise a `ModelError` where texts may be longer than the backbone has positions: the first long one would fail."""
    positions = positions_of(encoder.backbone.config)
    if positions is None or not isinstance(encoder, LateInteractionEncoder | SingleVectorEncoder):
        return
    for name, tokens in (("queries", encoder.settings.query_tokens), ("passages", encoder.settings.passage_tokens)):
        if tokens > positions:
            raise ModelError(
                f"'{folder}': its settings allow {name} of {tokens} tokens, but the backbone has {positions} positions; lower the length "
                f"in {METADATA if layout_of(folder) == 'hf_colbert' else 'sentence_bert_config.json'}"
            )


def load_late_interaction(folder: str | Path, device: str | torch.device = "cpu") -> LateInteractionEncoder:
    """Read a late-interaction checkpoint as `load_encoder` does; any other is a `ModelError`."""
    if layout_of(folder) == "plain":
        raise ModelError(f"'{folder}' is not a late-interaction checkpoint: it has no {METADATA} and no {MODULES}")
    encoder = load_encoder(folder, device)
    if not isinstance(encoder, LateInteractionEncoder):
        raise ModelError(f"'{folder}' is not a late-interaction checkpoint but one of single vectors")
    return encoder


def load_single_vector(
    folder: str | Path, device: str | torch.device = "cpu", dim: int | None = None
) -> SingleVectorEncoder:
    """Read a single-vector checkpoint as `load_encoder` does, its vectors cut to `dim` numbers if given; any other is a `ModelError`."""
    encoder = load_encoder(folder, device)
    if not isinstance(encoder, SingleVectorEncoder):
        raise ModelError(f"'{folder}' is not a single-vector checkpoint but one of late interaction")
    return encoder if dim is None else cut(encoder, dim).eval()


def is_late_interaction(folder: str | Path) -> bool:
    """Return whether a folder holds a late-interaction checkpoint of a layout that `load_late_interaction` reads."""
    return layout_of(folder) in {"hf_colbert", "pylate", "multi_vector"}


def load_backbone(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read the backbone and tokenizer of a local checkpoint of any layout; projections and heads are left out.

    A pooler that is not among the weights is left out too.
    """
    folder = Path(folder)
    if layout_of(folder) not in {"plain", "hf_colbert"}:
        folder = read_modules(folder)[0].folder
    state, tokenizer = read_weights(folder), load_tokenizer(str(folder))
    backbone = backbone_from_state(folder, state, heads=True)
    check_tokens(tokenizer, backbone.get_input_embeddings(), str(folder))
    return backbone, tokenizer


def save_encoder(
    encoder: Encoder, folder: str | Path, metadata: Mapping[str, Any] | None = None, layout: Format | None = None
) -> None:
    """Write a student in a layout that `load_encoder` reads.

    Args:
        encoder: the student.
        folder: where to; made if it is not there.
        metadata: training facts that join the layout's own settings, ignored by readers.
        layout: `hf_colbert` or `sentence_transformers`. If None, `hf_colbert` for late interaction unless queries and passages are told
            apart by texts, and otherwise `sentence_transformers`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = dict(metadata or {})
    if isinstance(encoder, LateInteractionEncoder):
        by_text = encoder.settings.marker_mode == "prompt"
        if layout == "hf_colbert" or (layout is None and not by_text):
            write_hf_colbert(encoder, folder, facts)
        else:
            write_multi_vector(encoder, folder, facts)
    elif isinstance(encoder, SingleVectorEncoder):
        if layout == "hf_colbert":
            raise ModelError(
                "the hf_colbert layout is of late interaction, but this student has single vectors; write it as sentence_transformers"
            )
        write_sentence_transformers(encoder, folder, facts)
    else:
        raise TypeError(f"no checkpoint layout for a {type(encoder).__name__}")
