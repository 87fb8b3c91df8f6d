"""The objective of training: the losses of the settings, computed from a batch's vectors.

Shapes: B queries of T vectors, U passages of the batch of up to L vectors, N passages of each query, D the size of a vector.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from cluster.errors import UserError
from distill.numerics.maxsim import maxsim_all, maxsim_at
from distill.train import losses, margins
from distill.train.batches import TrainingBatch
from distill.train.gather import Gathered, gather_passages
from distill.train.loss_settings import (
    AnyLoss,
    CrossEntropyLoss,
    InfoNceLoss,
    KlLoss,
    LanguageLoss,
    LossSettings,
    MarginMseLoss,
    RelevanceMarginLoss,
    summands,
)


class LossError(UserError, ValueError):
    """A loss cannot be computed on the examples at hand. The message says which and what it needs."""


@dataclass
class Vectors:
    """A batch's vectors, and the scores that the losses share.

    Attributes:
        queries: vectors of the queries, those that take no part being zero.
        passages: vectors of the distinct passages.
        keep: which passage vectors take part in the score.
        batch: the batch that they are vectors of.
    """

    queries: Float[Tensor, "B T D"]
    passages: Float[Tensor, "U L D"]
    keep: Bool[Tensor, "U L"]
    batch: TrainingBatch

    @cached_property
    def scores(self) -> Float[Tensor, "B N"]:
        """The scores of each query with its own passages."""
        return maxsim_at(self.queries, self.passages, self.keep, self.batch.positions)

    def cut(self, size: int) -> "Vectors":
        """Return the first `size` numbers of every vector, of unit length again (Matryoshka representations, arXiv 2205.13147)."""
        queries, passages = (
            functional.normalize(vectors[..., :size], dim=-1) for vectors in (self.queries, self.passages)
        )
        return Vectors(queries, passages, self.keep, self.batch)


class Objective:
    """A loss as a function of a batch's vectors.

    Args:
        settings: the loss.
        sizes: Matryoshka sizes; the loss is the mean over them. Empty: the whole vectors.
    """

    def __init__(self, settings: LossSettings, sizes: tuple[int, ...] = ()) -> None:
        self.losses = summands(settings)
        self._sizes = sizes

    def __call__(self, vectors: Vectors) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted losses by name; training minimises their sum."""
        if not self._sizes:
            return self._at(vectors)
        found = [self._at(vectors.cut(size)) for size in self._sizes]
        return {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}

    def _at(self, vectors: Vectors) -> dict[str, Float[Tensor, ""]]:
        found: dict[str, Tensor] = {}
        for loss in self.losses:
            found[loss.type] = found.get(loss.type, 0.0) + loss.weight * _compute(loss, vectors)
        return found


def _compute(loss: AnyLoss, vectors: Vectors) -> Float[Tensor, ""]:
    match loss:
        case KlLoss():
            divergence = losses.kl_divergence if loss.direction == "teacher_student" else losses.reverse_kl_divergence
            return divergence(
                vectors.scores,
                vectors.batch.teacher,
                loss.student_scale,
                loss.teacher_scale,
            )
        case MarginMseLoss():
            scaled = vectors.scores * loss.student_scale, vectors.batch.teacher * loss.teacher_scale
            return losses.margin_mse(*scaled, pairs=loss.pairs)
        case CrossEntropyLoss():
            return losses.cross_entropy(vectors.scores, loss.scale)
        case InfoNceLoss():
            return _info_nce(loss, vectors)
        case LanguageLoss():
            return _language(vectors)
        case RelevanceMarginLoss():
            return _relevance_margin(loss, vectors)
        case _:
            assert_never(loss)


def _info_nce(loss: InfoNceLoss, vectors: Vectors) -> Float[Tensor, ""]:
    """Compute InfoNCE; positives of the same query, in any language, are no negatives, and a text of several workers counts once."""
    batch = vectors.batch
    passages = Gathered(vectors.passages, vectors.keep, torch.stack([batch.passage_keys, batch.text_keys], 1), 0)
    if loss.across_workers:
        passages = gather_passages(passages.vectors, passages.keep, passages.keys)
    columns = batch.positions[:, 0] + passages.first
    keys, texts = passages.keys.unbind(1)
    negatives = ~_relevant(batch.query_keys, batch.passage_keys[batch.positions[:, 0]], keys) & _first(texts)
    scores = maxsim_all(vectors.queries, passages.vectors, passages.keep)
    return losses.info_nce(scores, columns, negatives, loss.scale)


def _first(keys: Int[Tensor, " U"]) -> Bool[Tensor, " U"]:
    """Return which keys are the first of their value."""
    same = keys[:, None] == keys[None, :]
    return ~same.tril(-1).any(dim=1)


def _relevant(
    query_keys: Int[Tensor, " B"], positive_keys: Int[Tensor, " B"], passage_keys: Int[Tensor, " U"]
) -> Bool[Tensor, "B U"]:
    same_query = query_keys[:, None] == query_keys[None, :]
    same_passage = positive_keys[:, None] == passage_keys[None, :]
    return (same_query.float() @ same_passage.float()) > 0


def _language(vectors: Vectors) -> Float[Tensor, ""]:
    versions = vectors.batch.versions
    if versions.shape[1] < 2:
        raise LossError(
            "the loss 'language' compares an entry's language versions: it needs mix.strategy round_robin with two languages or more"
        )
    return losses.language_divergence(vectors.scores[versions])


def _relevance_margin(loss: RelevanceMarginLoss, vectors: Vectors) -> Float[Tensor, ""]:
    positions = vectors.batch.positions
    if positions.shape[1] != 2 or vectors.queries.shape[1] != 1:
        raise LossError(
            "the loss 'relevance_margin' compares single vectors of a positive and one negative: it needs student.type single_vector "
            f"and mix.n_way 2, found {vectors.queries.shape[1]} vectors a query and {positions.shape[1]} passages"
        )
    triples = vectors.queries[:, 0], vectors.passages[positions[:, 0], 0], vectors.passages[positions[:, 1], 0]
    options = {"kind": loss.error, "alignment": loss.alignment}
    detach = loss.detach_targets
    match loss.margin:
        case "static":
            return margins.static_margin(*triples, loss.tau, in_batch=loss.in_batch, **options)
        case "adaptive":
            return margins.adaptive_margin(*triples, in_batch=loss.in_batch, detach=detach, **options)
        case "distributed":
            return margins.distributed_margin(*triples, detach=detach, **options)
