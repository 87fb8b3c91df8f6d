"""Checks of a loaded translation model, against faults that give fluent nonsense instead of an error.

transformers 5 has loaded MADLAD's encoder embedding from its output head (issue 48154) and tied weights that a checkpoint keeps apart
(issue 45005). So what was loaded is compared with the tensors in the files.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from distill.translate.engines.interface import TranslatorError

_ROWS = 8
_MATRICES = ("shared.weight", "embed_tokens.weight", "lm_head.weight")
COMPUTED = ("embed_positions.weight", "embed_positions.weights", "final_logits_bias")
"""How the names of weights end that are computed or zero, and so need not be in the files."""


def check_embeddings(model: PreTrainedModel, folder: str, revision: str | None) -> None:
    """Compare the embedding matrices and the output head with the checkpoint's files, the first and last rows of each.

    A matrix that the files hold under its name must be equal to it; an input embedding that they do not hold must be equal to another
    input embedding of theirs, never to the output head alone where they have both. Cost: a few rows of each matrix are read.
    """
    stored = {name: rows for name, rows in _stored_rows(folder, revision) if name.endswith(_MATRICES)}
    if not stored:
        raise TranslatorError(
            f"model '{folder}' has no embedding matrix in its files; expected one of {', '.join(_MATRICES)}"
        )
    inputs = [rows for name, rows in stored.items() if not name.endswith("lm_head.weight")] or list(stored.values())
    for name, weight in model.state_dict().items():
        if not name.endswith(_MATRICES):
            continue
        loaded = _ends(weight)
        if name in stored:
            good = _equal(loaded, stored[name])
        else:
            candidates = [*stored.values()] if name.endswith("lm_head.weight") else inputs
            good = any(_equal(loaded, rows) for rows in candidates)
        if not good:
            raise TranslatorError(
                f"model '{folder}': transformers loaded '{name}' with other values than its files hold"
                f" ({', '.join(sorted(stored))}); its translations would be nonsense: use another version of transformers"
            )


@torch.inference_mode()
def check_logits(model: PreTrainedModel, name: str) -> None:
    """Check that the model's logits of a few tokens are finite; raise TranslatorError otherwise."""
    start = model.config.decoder_start_token_id
    ids = torch.arange(4, min(12, model.config.vocab_size))[None]
    logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[start, 4, 5]])).logits
    if not bool(torch.isfinite(logits.float()[..., :4]).all()):
        raise TranslatorError(f"model '{name}' gives logits that are not numbers; try another dtype")


def _stored_rows(folder: str, revision: str | None) -> Iterator[tuple[str, Float[Tensor, "R H"]]]:
    """Return the first and last rows of every matrix in a checkpoint's files, by name."""
    for file in _weight_files(folder, revision):
        if file.endswith(".safetensors"):
            from safetensors import safe_open

            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                    part = tensors.get_slice(name)
                    shape = part.get_shape()
                    if len(shape) == 2:
                        yield name, torch.cat([part[:_ROWS], part[max(0, shape[0] - _ROWS) :]])
        else:
            for name, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=True).items():
                if tensor.ndim == 2:
                    yield name, _ends(tensor)


def _weight_files(folder: str, revision: str | None) -> list[str]:
    for pattern in ("model.safetensors", "pytorch_model.bin"):
        for name in (pattern, f"{pattern}.index.json"):
            path = cached_file(
                folder,
                name,
                revision=revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_gated_repo=False,
                _raise_exceptions_for_connection_errors=False,
            )
            if path is None:
                continue
            if not name.endswith(".json"):
                return [path]
            import json

            index = json.loads(Path(path).read_text(encoding="utf-8"))
            parts = sorted(set(index["weight_map"].values()))
            return [str(cached_file(folder, part, revision=revision)) for part in parts]
    raise TranslatorError(f"model '{folder}' has neither model.safetensors nor pytorch_model.bin")


def _ends(weight: Tensor) -> Float[Tensor, "R H"]:
    return torch.cat([weight[:_ROWS], weight[max(0, len(weight) - _ROWS) :]]).float()


def _equal(loaded: Tensor, stored: Tensor) -> bool:
    # A weight that was cast to another precision differs by its rounding.
    return loaded.shape == stored.shape and torch.allclose(loaded.float(), stored.float(), rtol=1e-2, atol=1e-3)
