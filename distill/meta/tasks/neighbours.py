"""Nearest neighbours and hard negatives by cosine: exact, in blocks, and the same however the work is cut.

Shapes: Q questions, C candidates, D the size of a vector, B and W the questions and candidates of a block.

Similarities are computed in float64 and compared in steps of 1e-7, equal ones by the candidates' order: a matrix product's last bits depend
on how many rows it has, and no result may depend on the size of a block or a shard.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from distill.numerics.best import Best

Negatives = Literal["hard", "semi_hard", "easy"]

_STEPS = 10_000_000
_QUESTIONS_AT_ONCE = 256
_CANDIDATES_AT_ONCE = 8192


def nearest(
    questions: Float[Tensor, "Q D"],
    candidates: Float[Tensor, "C D"],
    count: int,
    excluded: Sequence[Sequence[int]],
) -> list[list[int]]:
    """The places of the `count` candidates most like each question, the most like first; fewer where there are not as many.

    Args:
        questions: vectors of any length.
        candidates: what is searched.
        count: how many are wanted.
        excluded: for each question the places of candidates that are passed over.

    Cost: Q C D multiplications; memory for 256 x 8,192 similarities, whatever Q and C.
    """
    return _best(questions, candidates, count, excluded, None)


def hardest(
    which: Negatives,
    questions: Float[Tensor, "Q D"],
    positives: Float[Tensor, "Q D"],
    candidates: Float[Tensor, "C D"],
    excluded: Sequence[Sequence[int]],
) -> list[int]:
    """The place of each question's negative.

    Args:
        which: `hard` is the candidate most like the question; `easy` the least like it; `semi_hard` the most like it among those less
            like it than its positive, and where there is none, as all are more like it, the least like it.
        questions: vectors of any length.
        positives: the candidate that answers each question.
        candidates: what negatives are chosen from.
        excluded: for each question the places of candidates that are no negatives, as they answer it.

    Raises:
        ValueError: all candidates are excluded for some question.

    Cost: as `nearest`.
    """
    if which == "easy":
        found = _best(-questions, candidates, 1, excluded, None)
    elif which == "hard":
        found = _best(questions, candidates, 1, excluded, None)
    else:
        limits = _in_steps((_unit(questions) * _unit(positives)).sum(dim=1))
        found = _best(questions, candidates, 1, excluded, limits)
        lost = [i for i, places in enumerate(found) if not places]
        rest = _best(-questions[lost], candidates, 1, [excluded[i] for i in lost], None)
        for i, places in zip(lost, rest, strict=True):
            found[i] = places
    empty = [i for i, places in enumerate(found) if not places]
    if empty:
        raise ValueError(
            f"{len(empty)} questions have no negative: all {len(candidates)} candidates answer question {empty[0]}"
        )
    return [places[0] for places in found]


def _best(
    questions: Float[Tensor, "Q D"],
    candidates: Float[Tensor, "C D"],
    count: int,
    excluded: Sequence[Sequence[int]],
    limits: Float[Tensor, " Q"] | None,
) -> list[list[int]]:
    """The places of the `count` best candidates of each question, of those whose similarity in steps is below its limit."""
    found: list[list[int]] = []
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        part = slice(start, start + _QUESTIONS_AT_ONCE)
        limit = None if limits is None else limits[part]
        found += _best_of_block(_unit(questions[part]), candidates, count, excluded[part], limit)
    return found


def _best_of_block(
    questions: Float[Tensor, "B D"],
    candidates: Float[Tensor, "C D"],
    count: int,
    excluded: Sequence[Sequence[int]],
    limits: Float[Tensor, " B"] | None,
) -> list[list[int]]:
    best = Best(len(questions), count)
    rows = torch.tensor([i for i, positions in enumerate(excluded) for _ in positions], dtype=torch.int64)
    columns = torch.tensor([position for positions in excluded for position in positions], dtype=torch.int64)
    for first in range(0, len(candidates), _CANDIDATES_AT_ONCE):
        block = candidates[first : first + _CANDIDATES_AT_ONCE]
        similarities = _in_steps(questions @ _unit(block).T)
        if limits is not None:
            similarities[similarities >= limits[:, None]] = -torch.inf
        here = (columns >= first) & (columns < first + len(block))
        similarities[rows[here], columns[here] - first] = -torch.inf
        best.add(0, similarities, torch.arange(first, first + len(block)))
    return [row.tolist() for row in best.positions()]


def _unit(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    return functional.normalize(vectors.double(), dim=1)


def _in_steps(similarities: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return (similarities * _STEPS).round()
