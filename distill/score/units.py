r"""Units of a teacher's scores.

A teacher that answers whether a passage is relevant has a probability p of true. Its score is the log-odds :math:`s = \log p/(1-p)`, or the
log-probability :math:`\log p = -\mathrm{softplus}(-s)`. A softmax over passages is another one in each: of log-probabilities it is
:math:`p_k / \sum_j p_j`, the target of arXiv 2401.04810 and 2405.00977, of log-odds that of the odds. Similarities have no probability.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from distill.formats.settings import ScoreUnit
from distill.score.lists import ScoreLists
from distill.tables import TableError


def log_probability(log_odds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""Return :math:`-\mathrm{softplus}(-s)`, computed in 64 bits.

    Example:
        >>> log_probability(np.array([0.0, 2.0])).round(4).tolist()
        [-0.6931, -0.1269]
    """
    return -np.logaddexp(0.0, -log_odds.astype(np.float64))


def log_odds(log_probability: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""Return :math:`\ell - \log(1 - e^\ell)`, computed in 64 bits; infinite where the log-probability is 0.

    Example:
        >>> log_odds(np.array([-0.6931, -0.1269])).round(3).tolist()
        [0.0, 2.0]
    """
    wide = log_probability.astype(np.float64)
    with np.errstate(divide="ignore"):
        return wide - np.log(-np.expm1(wide))


def in_unit(found: Mapping[str, ScoreLists], held: Mapping[str, ScoreUnit], wanted: ScoreUnit) -> dict[str, ScoreLists]:
    """Return the scores of every stage in one unit. Similarities stay as they are.

    Args:
        found: scores by stage.
        held: the unit in which each stage's are.
        wanted: the unit that they are to have.

    Raises:
        TableError: a log-probability is above 0; or one is 0 where log-odds are wanted, which would be infinite.
    """
    return {stage: _in_unit(stage, lists, held[stage], wanted) for stage, lists in found.items()}


def _in_unit(stage: str, lists: ScoreLists, held: ScoreUnit, wanted: ScoreUnit) -> ScoreLists:
    if held == "log_probability":
        _check(stage, lists, lists.scores <= 0, "no log-probability is above 0; correct score.teacher.unit")
    if held in {wanted, "similarity"}:
        return lists
    if wanted == "log_probability":
        return replace(lists, scores=log_probability(lists.scores).astype(np.float32))
    saturated = "its log-odds are infinite; set score.calibration.unit to log_probability"
    _check(stage, lists, lists.scores != 0, saturated)
    return replace(lists, scores=log_odds(lists.scores).astype(np.float32))


def _check(stage: str, lists: ScoreLists, valid: np.ndarray, what: str) -> None:
    """Raise a TableError that names the first pair whose score is not valid. A score that is NaN is none."""
    wrong = ~valid & ~np.isnan(lists.scores)
    if wrong.any():
        first = np.zeros_like(wrong)
        first[np.flatnonzero(wrong)[0]] = True
        [(query_id, passage_id)] = lists.pair_ids(first)
        raise TableError(
            f"{stage}: {int(wrong.sum())} of {len(wrong)} scores, the first {lists.scores[first][0]:g} of query {query_id!r} "
            f"passage {passage_id!r}: {what}"
        )
