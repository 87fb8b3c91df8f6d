"""The objective of training: the losses of the settings, computed from a batch's vectors.

Shapes: B queries of T vectors, U passages of the batch of up to L vectors, N passages of each query, D the size of a vector.
"""

from collections.abc import Sequence
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
from distill.train.gather import Gathered, gather_passages, gather_rows
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

    def cut(self, size: int, *, normalize: bool = True) -> "Vectors":
        """Return the first `size` numbers of every vector (Matryoshka representations, arXiv 2205.13147), as a student cut so has them.

        `normalize` says whether the student's vectors have unit length: then they are given it again.
        """
        queries, passages = self.queries[..., :size], self.passages[..., :size]
        if normalize:
            queries, passages = functional.normalize(queries, dim=-1), functional.normalize(passages, dim=-1)
        return Vectors(queries, passages, self.keep, self.batch)


class Objective:
    """A loss as a function of a batch's vectors.

    Args:
        settings: the loss.
        sizes: Matryoshka sizes; the loss is the mean over them. Empty: the whole vectors.
        normalize: whether the student's vectors have unit length. Cut ones have it too, so that what is trained is what is served.
    """

    def __init__(self, settings: LossSettings, sizes: tuple[int, ...] = (), *, normalize: bool = True) -> None:
        self.losses = summands(settings)
        self._sizes = sizes
        self._normalize = normalize

    def __call__(self, vectors: Vectors, factors: Sequence[float] | None = None) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted losses by name, each summand times its factor, if given; training minimises their sum."""
        chosen = factors or [1.0] * len(self.losses)
        if not self._sizes:
            return self._at(vectors, chosen)
        found = [self._at(vectors.cut(size, normalize=self._normalize), chosen) for size in self._sizes]
        return {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}

    def _at(self, vectors: Vectors, factors: Sequence[float]) -> dict[str, Float[Tensor, ""]]:
        found: dict[str, Tensor] = {}
        for loss, factor in zip(self.losses, factors, strict=True):
            found[loss.type] = found.get(loss.type, 0.0) + factor * loss.weight * _compute(loss, vectors)
        return found

    def terms(self, batch: TrainingBatch) -> list[int | None]:
        """Return how many terms of a batch each summand is the mean over, None where these are its examples.

        The mean over a batch that is shared out is the mean of the shares' means weighted by their terms.
        """
        return [
            int(losses.known_margins(batch.teacher, loss.pairs)) if isinstance(loss, MarginMseLoss) else None
            for loss in self.losses
        ]


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
    """Compute InfoNCE. Neither the positives of the same query, in any language, nor the second of two equal texts are negatives.

    Passages that share an id or a text are one passage, and queries likewise, however many steps apart; so negatives do not depend on how
    the batch is shared out.
    """
    batch = vectors.batch
    keys = torch.cat([batch.text_keys[:, None], batch.passage_keys], 1)
    passages = Gathered(vectors.passages, vectors.keep, keys, 0)
    query_keys, positives, first_query = batch.query_keys, batch.positions[:, :1], 0
    if loss.across_workers:
        passages = gather_passages(passages.vectors, passages.keep, passages.keys)
        query_keys, first_query = gather_rows(query_keys)
        positives, _ = gather_rows(positives + passages.first)
    texts, ids = passages.keys[:, :1], passages.keys[:, 1:]
    own = slice(first_query, first_query + len(batch.positions))
    relevant = _relevant(same((query_keys[:, :1], query_keys[:, 1:])), same((texts, ids)), positives[:, 0])[own]
    alone = same((texts,))
    negatives = ~relevant & (alone == torch.arange(len(alone), device=alone.device))
    scores = maxsim_all(vectors.queries, passages.vectors, passages.keep)
    return losses.info_nce(scores, positives[own, 0], negatives, loss.scale)


def same(keys: Sequence[Int[Tensor, "A _"]]) -> Int[Tensor, " A"]:
    """Return the position of the first row that each row is one with. Rows that share a key of the same tensor are one, and what follows.

    Example:
        >>> same([torch.tensor([[1], [2], [1], [3]]), torch.tensor([[7, 7], [8, 8], [9, 9], [8, 9]])]).tolist()
        [0, 0, 0, 0]
        >>> same([torch.tensor([[1], [2], [1], [3]])]).tolist()
        [0, 1, 0, 3]
    """
    groups = [torch.unique(part, return_inverse=True)[1] for part in keys]
    labels = torch.arange(len(groups[0]), device=groups[0].device)
    while True:
        found = labels
        for group in groups:
            least = torch.full((int(group.max()) + 1,), len(labels), device=labels.device)
            least.scatter_reduce_(0, group.flatten(), found[:, None].expand_as(group).flatten(), "amin")
            found = least[group].amin(dim=1)
        if torch.equal(found, labels):
            return labels
        labels = found


def _relevant(
    queries: Int[Tensor, " B"], passages: Int[Tensor, " A"], positives: Int[Tensor, " B"]
) -> Bool[Tensor, "B A"]:
    """Return which passages are a positive of each query, given the label of each query and passage and the column of each positive."""
    same_query = queries[:, None] == queries[None, :]
    same_passage = passages[positives][:, None] == passages[None, :]
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
