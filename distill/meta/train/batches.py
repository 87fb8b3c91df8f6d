"""Tasks as tensors: the sets of a row of RETRIEVAL_TASKS or SIMILARITY_TASKS, tokenised; and their loss under any parameters.

Shapes: N triplets or pairs of a set, T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import functional_call

from distill.encoders.encoder import Encoder, TokenBatch
from distill.meta.train.learners import Parameters
from distill.meta.train.losses import distances, similarities, similarity_loss, triplet_loss

Row = Mapping[str, Any]


@dataclass(frozen=True)
class TripletSet:
    """Questions, each with a candidate that answers it and one that does not.

    Attributes:
        questions: N questions.
        candidates: the N answers, then the N others.
    """

    questions: TokenBatch
    candidates: TokenBatch

    def to(self, device: torch.device) -> "TripletSet":
        """Return the set on a device."""
        return TripletSet(self.questions.to(device), self.candidates.to(device))


@dataclass(frozen=True)
class PairSet:
    """Pairs of sentences.

    Attributes:
        sentences: the N first sentences, then the N second ones.
        scores: the similarity of each pair's sentences, from 0 to 1.
    """

    sentences: TokenBatch
    scores: Float[Tensor, " N"]

    def to(self, device: torch.device) -> "PairSet":
        """Return the set on a device."""
        return PairSet(self.sentences.to(device), self.scores.to(device))


TaskSet = TripletSet | PairSet


def task_sets(encoder: Encoder, row: Row) -> list[TaskSet]:
    """Return the sets of a task, in order. Cost: its texts are tokenised."""
    positions: dict[int, list[int]] = {}
    for position, number in enumerate(row["sets"]):
        positions.setdefault(number, []).append(position)
    make = _triplets if "questions" in row else _pairs
    return [make(encoder, row, positions[number]) for number in sorted(positions)]


def _triplets(encoder: Encoder, row: Row, positions: Sequence[int]) -> TripletSet:
    texts = {name: [row[name][i] for i in positions] for name in ("questions", "positives", "negatives")}
    return TripletSet(
        encoder.tokenize_queries(texts["questions"]),
        encoder.tokenize_passages(texts["positives"] + texts["negatives"]),
    )


def _pairs(encoder: Encoder, row: Row, positions: Sequence[int]) -> PairSet:
    firsts, seconds = ([row[name][i] for i in positions] for name in ("firsts", "seconds"))
    scores = torch.tensor([row["scores"][i] for i in positions], dtype=torch.float32)
    return PairSet(encoder.tokenize_passages(firsts + seconds), scores)


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a set under parameters that are not the encoder's own.

    Attributes:
        encoder: the encoder.
        margin: margin of the triplet loss.
    """

    encoder: Encoder
    margin: float

    def __call__(self, parameters: Parameters, task_set: TaskSet) -> Float[Tensor, ""]:
        """Return the triplet loss, or the squared error of cosines."""
        if isinstance(task_set, PairSet):
            vectors, keep = self._encode(parameters, task_set.sentences)
            (first, second), (first_keep, second_keep) = vectors.chunk(2), keep.chunk(2)
            return similarity_loss(similarities(first, second, first_keep, second_keep), task_set.scores)
        questions, keep = self._encode(parameters, task_set.questions)
        candidates, kept = self._encode(parameters, task_set.candidates)
        (positives, negatives), (positive_keep, negative_keep) = candidates.chunk(2), kept.chunk(2)
        near = distances(questions, positives, keep, positive_keep)
        far = distances(questions, negatives, keep, negative_keep)
        return triplet_loss(near, far, self.margin)

    def _encode(self, parameters: Parameters, batch: TokenBatch) -> tuple[Float[Tensor, "N V D"], Bool[Tensor, "N V"]]:
        return functional_call(self.encoder, dict(parameters), tuple(batch)), self.encoder.kept(batch)
