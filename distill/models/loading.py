"""Loading of transformers' models and tokenizers: every fault is one line that names the model, and no weight is random or no number."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from cluster.errors import UserError, one_line
from distill.models.files import beyond_embeddings, check_folder, check_texts
from distill.models.locate import ModelError, locate
from distill.models.reach import check_hub

_SHIFTED = ("roberta", "camembert", "longformer", "mpnet")
"""Families whose first positions stand for padding."""


@contextmanager
def named_faults(model: str) -> Iterator[None]:
    """Turn the errors that transformers, tokenizers and safetensors have for a model into a `ModelError` of one line."""
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error):
            raise
        if Path(model).is_dir():
            check_texts(Path(model))
        raise ModelError(
            f"model '{model}' cannot be loaded by transformers {transformers.__version__}: {_reason(error)}"
        ) from error


def _reason(error: BaseException) -> str:
    """Return what an error says, its first sentences; its class too where that says more."""
    text = one_line(error, 300) or type(error).__name__
    return f"it lacks {text}" if isinstance(error, KeyError) else text


def _found(model: str, revision: str | None) -> str:
    """Return what `from_pretrained` takes; a `ModelError` at once for a name on the hub that cannot be had."""
    found = locate(model)
    if not Path(found).is_dir():
        check_hub(found, revision)
    return found


def load_config(model: str, revision: str | None = None) -> Any:
    """Return the configuration of a model, a local folder or a name on the hub; a `ModelError` for one that transformers does not know."""
    found = _found(model, revision)
    with named_faults(model):
        return AutoConfig.from_pretrained(found, revision=revision)


def load_model(
    kind: Any,
    model: str,
    revision: str | None = None,
    *,
    dtype: str = "float32",
    absent: tuple[str, ...] = (),
    pickled: bool = True,
    **options: Any,
) -> tuple[Any, frozenset[str]]:
    """Load a model and see that every weight is among its files, in its shape, and a number; return it, and the `absent` weights.

    transformers fills in random weights for missing ones, with no more than a line in its log.

    Args:
        kind: one of transformers' auto classes.
        model: a local folder, or a name on the hub.
        revision: commit on the hub.
        dtype: precision of the weights.
        absent: how the names of weights begin or end that need not be among the files, because they are computed or not used.
        pickled: whether weights may be those of `torch.save`.
        options: more arguments of `from_pretrained`.

    Raises:
        ModelError: a file is damaged, or weights are missing, of another shape, NaN or infinite.
    """
    found = _found(model, revision)
    if Path(found).is_dir():
        check_folder(found, pickled=pickled)
    with named_faults(model):
        loaded, info = kind.from_pretrained(
            found,
            revision=revision,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **options,
        )
    _check_loaded(loaded, info, model, absent)
    check_finite(loaded.named_parameters(), f"model '{model}'")
    return loaded, frozenset(info["missing_keys"])


def _check_loaded(loaded: PreTrainedModel, info: Mapping[str, Any], model: str, absent: tuple[str, ...]) -> None:
    """Raise a `ModelError` for weights that the files do not have, or have in another shape."""
    for row in sorted(info["mismatched_keys"], key=str):
        name, *shapes = (row,) if isinstance(row, str) else row
        sizes = f": {tuple(shapes[0])} in its files, {tuple(shapes[1])} by its config.json" if len(shapes) == 2 else ""
        raise ModelError(
            f"model '{model}' has '{name}' in another shape than its config.json says{sizes}; fetch it again"
        )
    weights = dict(loaded.named_parameters(remove_duplicate=False))
    missing = set(info["missing_keys"])
    stored = {weight.data_ptr() for name, weight in weights.items() if name not in missing}
    lacking = sorted(
        name
        for name in missing
        if not name.startswith(absent or ("\n",))
        and not name.endswith(absent or ("\n",))
        and not (name in weights and weights[name].data_ptr() in stored)  # tied to one that is there
    )
    if lacking:
        raise ModelError(
            f"model '{model}' lacks {len(lacking)} weights of {type(loaded).__name__}, among them {', '.join(lacking[:3])}, which would be "
            "random; name a model of this kind that is trained"
        )


def check_finite(weights: Any, what: str) -> None:
    """Raise a `ModelError` for a weight that is NaN or infinite. Cost: one pass over the weights, without a copy.

    Args:
        weights: pairs of name and tensor.
        what: the model or file, for the message.
    """
    for name, weight in weights:
        if weight.is_floating_point() and weight.numel() and not _is_finite(weight):
            raise ModelError(
                f"{what}: '{name}' holds NaN or infinite numbers; training broke it, or the file is damaged: take another checkpoint"
            )


@torch.no_grad()
def _is_finite(weight: Tensor) -> bool:
    low, high = torch.aminmax(weight.detach())  # NaN if any is
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))


def load_tokenizer(model: str, revision: str | None = None, **options: Any) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a model, a local folder or a name on the hub.

    Without one it is a `ModelError`: slow ones do not say which tokens are whose, and of a folder without tokenizer files transformers 5
    makes one with an empty vocabulary.
    """
    tokenizer = load_any_tokenizer(model, revision, **options)
    if not tokenizer.is_fast:
        raise ModelError(f"'{model}' has no fast tokenizer; save one beside it (tokenizer.json)")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"'{model}' has no tokenizer files; save its tokenizer beside it")
    return tokenizer


def load_any_tokenizer(model: str, revision: str | None = None, **options: Any) -> Any:
    """Load the tokenizer of a model, fast or slow; a `ModelError` of one line if it cannot be."""
    found = _found(model, revision)
    with named_faults(model):
        return AutoTokenizer.from_pretrained(found, revision=revision, **options)


def check_tokens(tokenizer: Any, embeddings: nn.Module, model: str) -> None:
    """Raise a `ModelError` where a tokenizer has tokens beyond a model's embeddings: the first text with one would fail."""
    rows = getattr(embeddings, "num_embeddings", None)
    largest = max(tokenizer.get_vocab().values(), default=0)
    if isinstance(rows, int) and largest >= rows:
        raise beyond_embeddings(f"the tokenizer of '{model}'", largest, rows)


def positions_of(config: Any) -> int | None:
    """Return the longest input in tokens that a model's configuration allows; None where it has no absolute limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    if any(name in config.model_type for name in _SHIFTED):
        positions -= (config.pad_token_id or 0) + 1
    return positions
