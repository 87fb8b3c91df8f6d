"""Ensembles: one score from those of several teachers."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from distill.numerics.ragged import Ragged
from distill.score.lists import ScoreLists, common

Method = Literal["z_score", "reciprocal_rank"]
RECIPROCAL_RANK_OFFSET = 60
"""Added to ranks: the constant of reciprocal rank fusion (Cormack et al. 2009)."""


def combine(method: Method, lists: Ragged, scores: Sequence[Float[np.ndarray, " P"]]) -> Float[np.ndarray, " P"]:
    """Return one score for each candidate, from those of several teachers for the same lists.

    - z_score: the mean of the teachers' scores after each query's are shifted to mean 0 and scaled to (population) standard deviation 1.
      A teacher that gives all of a query's candidates the same score, or has only one, contributes 0.
    - reciprocal_rank: the sum of 1 / (60 + rank) (Cormack et al. 2009); candidates that a teacher scores alike
      have the mean of their ranks.
    """
    if method == "z_score":
        return np.mean([lists.z_scores(one) for one in scores], axis=0)
    return np.sum([1 / (RECIPROCAL_RANK_OFFSET + lists.ranks(one)[0]) for one in scores], axis=0)


def combined(method: Method | None, found: dict[str, ScoreLists]) -> ScoreLists:
    """Return the scores of the one teacher, or of an ensemble for the candidates that every teacher scored."""
    first = next(iter(found.values()))
    if method is None:
        return first
    aligned = common(found)
    base = next(iter(aligned.values()))
    scores = combine(method, base.lists, [lists.scores for lists in aligned.values()])
    names = f"{method}({', '.join(name for lists in found.values() for name in lists.teachers)})"
    return ScoreLists(base.query_ids, base.passage_ids, base.lists, scores, (names,) if first.teachers else ())
