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
    """Return the positions of the `count` candidates most like each question, the most like first; fewer where there are not as many.

    Args:
        questions: vectors of any length.
        candidates: what is searched.
        count: candidates for each question.
        excluded: for each question the positions of candidates to leave out.

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
    """Return the position of each question's negative.

    Args:
        which: `hard` is the candidate most like the question; `easy` the least like it; `semi_hard` the most like it among those less
            like it than its positive, and where there is none, as all are more like it, the least like it.
        questions: vectors of any length.
        positives: the candidate that answers each question.
        candidates: what negatives are chosen from.
        excluded: for each question the positions of candidates that answer it, which are no negatives.

    Raises:
        ValueError: all candidates are excluded for some question.

    Cost: as `nearest`.
    """
    if which == "easy":
        chosen = _best(-questions, candidates, 1, excluded, None)
    elif which == "hard":
        chosen = _best(questions, candidates, 1, excluded, None)
    else:
        limits = _in_steps((_unit(questions) * _unit(positives)).sum(dim=1))
        chosen = _best(questions, candidates, 1, excluded, limits)
        left = [i for i, positions in enumerate(chosen) if not positions]
        rest = _best(-questions[left], candidates, 1, [excluded[i] for i in left], None)
        for i, positions in zip(left, rest, strict=True):
            chosen[i] = positions
    empty = [i for i, positions in enumerate(chosen) if not positions]
    if empty:
        raise ValueError(
            f"{len(empty)} questions have no negative: all {len(candidates)} candidates answer question {empty[0]}"
        )
    return [positions[0] for positions in chosen]


def _best(
    questions: Float[Tensor, "Q D"],
    candidates: Float[Tensor, "C D"],
    count: int,
    excluded: Sequence[Sequence[int]],
    limits: Float[Tensor, " Q"] | None,
) -> list[list[int]]:
    """Return the positions of the `count` best candidates of each question, of those whose similarity in steps is below its limit."""
    best: list[list[int]] = []
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        part = slice(start, start + _QUESTIONS_AT_ONCE)
        limit = None if limits is None else limits[part]
        best += _best_of_block(_unit(questions[part]), candidates, count, excluded[part], limit)
    return best


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
