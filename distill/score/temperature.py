"""The temperature of a teacher's scores: given, or fitted to judgements (Guo et al., arXiv 1706.04599)."""

from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Bool, Float

from cluster.stored_table import StoredTable
from cluster.workspace import Workspace
from distill.formats.settings import ScoreUnit
from distill.numerics.ragged import Ragged
from distill.score.ensemble import Method, combined
from distill.score.lists import blocks, read_judgements
from distill.score.settings import CalibrationSettings
from distill.score.units import in_unit
from distill.tables import TableError

_FITTED_QUERIES = 20_000


def find_temperature(
    workspace: Workspace,
    tables: dict[str, StoredTable],
    method: Method | None,
    settings: CalibrationSettings,
    held: Mapping[str, ScoreUnit],
) -> float:
    """Return the temperature that the settings give, or the one that fits the judged queries of their split.

    `held` is the unit of each table's scores; it is fitted to them in the unit of the settings. At most 20,000 evenly spaced queries are
    read.
    """
    if settings.temperature != "fit":
        return settings.temperature
    judgements = read_judgements(workspace, (settings.split,))
    step = max(1, -(-len(pc.unique(judgements.query_ids)) // _FITTED_QUERIES))
    parts: list[tuple[Ragged, Float[np.ndarray, " P"], Bool[np.ndarray, " P"]]] = []
    seen = 0
    for _, found in blocks(tables):
        lists = combined(method, in_unit(found, held, settings.unit))
        relevant, _ = judgements.relevant(lists)
        kept = judgements.representatives(lists, relevant)
        if not kept.all():
            lists, relevant = lists.take(kept), relevant[kept]
        shares = lists.lists.means(relevant)
        usable = (shares > 0) & (shares < 1)
        chosen = usable & ((seen + np.cumsum(usable) - 1) % step == 0)
        seen += int(usable.sum())
        if chosen.any():
            kept = chosen[lists.lists.owners]
            full = Ragged(np.concatenate([[0], np.cumsum(lists.lists.lengths[chosen])]))
            parts.append((full, lists.scores[kept].astype(np.float64), relevant[kept]))
    if not parts:
        raise TableError(
            f"score.calibration.temperature 'fit' finds no {settings.split} query with a judged and another passage among its candidates; "
            "give a number, or another score.calibration.split"
        )
    lengths = np.concatenate([lists.lengths for lists, _, _ in parts])
    scores = np.concatenate([part for _, part, _ in parts])
    relevant = np.concatenate([part for _, _, part in parts])
    return fit_temperature(Ragged(np.concatenate([[0], np.cumsum(lengths)])), scores, relevant)


def fit_temperature(lists: Ragged, scores: Float[np.ndarray, " P"], relevant: Bool[np.ndarray, " P"]) -> float:
    """Return the temperature T that maximises the likelihood of the relevant candidates under softmax(score / T) over each list.

    With b = 1 / T a list's log-likelihood, the mean over its relevant candidates of `b * score - log sum exp(b * scores)`, is concave in b;
    its derivative is their mean score minus the softmax's. The root of the sum over lists is found by Brent's method. Temperature scaling
    is of Guo et al. (arXiv 1706.04599).

    There is no such T where relevant candidates score no better than others on average (the best T is infinite) or where they are the
    best everywhere (it is 0): a `TableError` that says which.
    """
    from scipy.optimize import brentq

    high = lists.largest(scores)
    judged = float((lists.sums(scores * relevant) / lists.sums(relevant)).sum())

    def slope(inverse: float) -> float:
        weights = np.exp(inverse * (scores - high[lists.owners]))
        return judged - float((lists.sums(weights * scores) / lists.sums(weights)).sum())

    if slope(0.0) <= 0:
        raise TableError(
            "score.calibration.temperature 'fit': the judged passages score no better than the other candidates on average, so that no "
            "temperature fits; look at the teacher report, or give a number"
        )
    upper = 1.0 / max(float(np.std(scores)), 1e-12)
    for _ in range(60):
        if slope(upper) < 0:
            root = brentq(slope, 0.0, upper, xtol=1e-12 * upper)
            return 1.0 / float(root)  # pyright: ignore[reportArgumentType]
        upper *= 2
    raise TableError(
        "score.calibration.temperature 'fit': the judged passage is the best candidate of every query, so that the smallest temperature "
        "fits best; give a number"
    )
