"""Faults of a training that show early; a `TrainingError` then says what to change."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill.train.loss_settings import KlLoss, LossSettings, summands
from distill.train.objective import Vectors
from distill.train.settings import GateSettings
from distill.train.trainer import TrainingError

_ONE_HOT = 1 - 1e-4
"""A probability from which on a distribution counts as one passage alone."""
_SAME = 1e-6
"""Scores are equal that differ by less than this share of their size."""


class Gates:
    """The checks of a training.

    Args:
        settings: the limits.
        loss: what is minimised.
    """

    def __init__(self, settings: GateSettings, loss: LossSettings) -> None:
        self._settings = settings
        self._kl = [part for part in summands(loss) if isinstance(part, KlLoss)]

    def check_teacher(self, teacher: Float[Tensor, "B N"]) -> None:
        """Raise a `TrainingError` if a KL loss cannot train on these scores: the teacher puts all on one passage."""
        limit = self._settings.one_hot_teacher
        if limit is None:
            return
        for loss in self._kl:
            scale = loss.teacher_scale
            share = one_hot_share(teacher * scale)
            if share >= limit:
                spread = (
                    (teacher.nan_to_num(-math.inf).amax(-1) - teacher.nan_to_num(math.inf).amin(-1)).median().item()
                )
                raise TrainingError(
                    f"the teacher puts all on one passage in {share:.0%} of the first {len(teacher)} examples: its scores times {scale:g} "
                    f"spread over {spread * scale:.3g} (median), so KL has nothing to teach but the first passage; lower "
                    f"train.loss.teacher_scale (to about {scale * 3 / max(spread * scale, 3):.2g}), or set train.gates.one_hot_teacher "
                    "to null"
                )

    def check_losses(self, step: int, log: Sequence[Mapping[str, Any]]) -> None:
        """Raise a `TrainingError` if the last line of a training log says that the loss explodes."""
        limit = self._settings.explosion
        if limit is None or not log:
            return
        first, last = log[0]["loss"], log[-1]["loss"]
        if last > limit * first:
            raise TrainingError(
                f"step {step}: the loss is {last:g}, {last / first:.3g} times what it was at step {log[0]['step']} ({first:g}); lower "
                "train.learning_rate or lengthen train.warmup_steps (limit: train.gates.explosion)"
            )

    def check_vectors(self, step: int, vectors: Vectors) -> None:
        """Raise a `TrainingError` if passages have one vector, or the passages of each example one score."""
        limit = self._settings.collapse
        if limit is not None and len(vectors.passages) > 1:
            cosine = mean_cosine(vectors.passages, vectors.keep)
            if cosine >= limit:
                raise TrainingError(
                    f"step {step}: the embeddings have collapsed: the mean cosine between different passages is {cosine:.6f} "
                    f"(limit train.gates.collapse {limit:g}); lower train.learning_rate, and check that student.start is a trained encoder"
                )
        if self._settings.constant_scores and all_constant(vectors.scores):
            raise TrainingError(
                f"step {step}: the student gives all passages of every example the same score; check that an example's passages differ "
                "and that the student's input is not truncated away (student.query_tokens, student.passage_tokens)"
            )


def one_hot_share(scores: Float[Tensor, "B N"]) -> float:
    """Return the share of examples whose softmax is all on one passage. Missing scores (NaN) take no part."""
    highest = torch.softmax(scores.nan_to_num(-math.inf), dim=-1).amax(dim=-1)
    return (highest > _ONE_HOT).float().mean().item()


def mean_cosine(passages: Float[Tensor, "U L D"], keep: Bool[Tensor, "U L"]) -> float:
    """Return the mean cosine between the mean vectors of different passages."""
    means = functional.normalize((passages * keep.unsqueeze(-1)).sum(1), dim=-1)
    count = len(means)
    total = means.sum(0).square().sum() - means.square().sum()
    return (total / (count * (count - 1))).item()


def all_constant(scores: Float[Tensor, "B N"]) -> bool:
    """Return whether every example's passages have one score."""
    spread = scores.amax(-1) - scores.amin(-1)
    return bool((spread <= _SAME * scores.abs().amax(-1)).all())
