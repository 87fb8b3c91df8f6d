"""Checks of a loaded teacher, against faults that nobody would notice in its scores."""

from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

from distill.models.loading import positions_of
from distill.models.locate import ModelError
from distill.score.teachers.prompts import SETTING


def check_positions(config: Any, max_tokens: int, model: str) -> None:
    """Raise a `ModelError` where a model has fewer positions than `max_tokens`."""
    positions = positions_of(config)
    if positions is not None and positions < max_tokens:
        raise ModelError(f"'{model}' has {positions} positions, fewer than max_tokens {max_tokens}; lower {SETTING}")


def check_agreement(
    ours: Float[Tensor, "B A"], theirs: Float[Tensor, "B A"], size: float, dtype: torch.dtype, model: str
) -> None:
    """Raise a `ModelError` where logits are not those of the model's own whole forward pass.

    Args:
        ours: logits that were computed the short way.
        theirs: the same of the model's own forward pass.
        size: the largest logit of that pass.
        dtype: the precision of the model's body. The tolerance is 1e-4 of `size`, or of 1 if that is more; 2 % of it for bfloat16.
        model: what the message calls the model.
    """
    share = 1e-4 if dtype == torch.float32 else 0.02
    error = float((ours.float() - theirs.float()).abs().max())
    if not error <= share * max(size, 1.0):  # not a number is an error too
        raise ModelError(
            f"the logits of '{model}' differ by {error:.3g} from its own forward pass under"
            f" transformers {transformers.__version__}; its scores cannot be trusted"
        )
