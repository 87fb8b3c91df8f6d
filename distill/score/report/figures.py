"""The figures of the teacher report: a teacher's scores before a student learns from them, and whether they can be trusted.

Statistics are gathered block by block (`Examination.add`), so memory does not depend on the number of pairs: sums and extremes of all
scores, quantiles of a sample of evenly spaced queries. Cost: one pass over the tables, about a million pairs a second on one core.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from distill.numerics.ragged import Ragged
from distill.score.lists import ScoreLists
from distill.tables import TEACHER_REPORT

RANK_EDGES = (1, 2, 6, 11, 21, 51, 101)
"""First ranks of the groups that the selector's ranks are put in."""
RANKS = ("1", "2-5", "6-10", "11-20", "21-50", "51-100", "101-")
"""Their names."""
ALL = "all"
QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
SAMPLED_PAIRS = 500_000
"""Scores that quantiles are taken of, at least, where there are as many."""
_NEAR = 1e-3
"""The distance from 0 or 1 up to which a score counts as saturated where all lie between."""


@dataclass
class Moments:
    """Count, mean and squared deviations of a stream of numbers, merged exactly (Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Float[np.ndarray, " N"]) -> None:
        """Take more numbers."""
        if not len(values):
            return
        exact = values.astype(np.float64)
        mean, count = float(exact.mean()), len(exact)
        shift, total = mean - self.mean, self.count + count
        self.squares += float(((exact - mean) ** 2).sum()) + shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total

    @property
    def deviation(self) -> float:
        """The population standard deviation."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


@dataclass
class Extreme:
    """The smallest number of a stream, and how often it came."""

    value: float = np.inf
    times: int = 0

    def add(self, values: Float[np.ndarray, " N"]) -> None:
        """Take more numbers."""
        if not len(values):
            return
        least = float(values.min())
        if least <= self.value:
            before = self.times if least == self.value else 0
            self.value, self.times = least, before + int((values == least).sum())


@dataclass
class Examination:
    """The figures of one teacher's scores.

    Attributes:
        stage: the score stage.
        lang: the languages that the teacher read, as `query-passage`.
        rows: queries in the stage's table; decides which of them are sampled.
        not_finite: pairs that got no finite score.
        truncated: pairs that were cut.
        teachers: what the tables call the teacher.
    """

    stage: str
    lang: str
    not_finite: int = 0
    truncated: int = 0
    teachers: set[str] = field(default_factory=set)
    queries: int = 0
    lists: int = 0
    constant: int = 0
    tied: int = 0
    near_ends: int = 0
    spread: Moments = field(default_factory=Moments)
    moments: dict[str, Moments] = field(default_factory=lambda: {name: Moments() for name in (ALL, *RANKS)})
    least: Extreme = field(default_factory=Extreme)
    most: Extreme = field(default_factory=Extreme)
    best: dict[str, float] = field(default_factory=lambda: dict.fromkeys(RANKS, 0.0))
    judged: int = 0
    judged_found: int = 0
    hits: float = 0.0
    chance: float = 0.0
    variance: float = 0.0
    compared: int = 0
    sampled: dict[str, list[Float[np.ndarray, " N"]]] = field(default_factory=lambda: {name: [] for name in RANKS})

    def add(
        self,
        found: ScoreLists,
        ranks: Int[np.ndarray, " P"],
        relevant: Bool[np.ndarray, " P"],
        judged: Bool[np.ndarray, " Q"],
        sampled: Bool[np.ndarray, " Q"],
    ) -> None:
        """Take a block.

        Args:
            found: the scores.
            ranks: the selector's rank of each pair.
            relevant: whether each pair is judged relevant.
            judged: whether each query has passages judged relevant, among the candidates or not.
            sampled: the queries whose scores quantiles are taken of.
        """
        lists, scores = found.lists, found.scores
        self.teachers.update(found.teachers)
        self._add_scores(lists, scores, np.searchsorted(RANK_EDGES, ranks, side="right") - 1, sampled)
        self._add_lists(lists, scores)
        self._add_judged(lists, scores, relevant, judged)

    @property
    def pairs(self) -> int:
        """Scored pairs."""
        return self.moments[ALL].count

    @property
    def teacher(self) -> str:
        """The teacher's name."""
        return ", ".join(sorted(self.teachers)) or "no teacher"

    def _add_scores(
        self,
        lists: Ragged,
        scores: Float[np.ndarray, " P"],
        groups: Int[np.ndarray, " P"],
        sampled: Bool[np.ndarray, " Q"],
    ) -> None:
        self.moments[ALL].add(scores)
        self.least.add(scores)
        self.most.add(-scores)
        self.near_ends += int(((np.abs(scores) <= _NEAR) | (np.abs(scores - 1) <= _NEAR)).sum())
        best = lists.best(scores)
        shares = best / np.maximum(lists.sums(best), 1)[lists.owners]
        taken = sampled[lists.owners]
        for number, name in enumerate(RANKS):
            here = groups == number
            self.moments[name].add(scores[here])
            self.best[name] += float(shares[here].sum())
            self.sampled[name].append(scores[here & taken])

    def _add_lists(self, lists: Ragged, scores: Float[np.ndarray, " P"]) -> None:
        several = lists.lengths > 1
        high, low = lists.largest(scores)[several], lists.smallest(scores)[several]
        self.queries += len(lists.lengths)
        self.lists += int(several.sum())
        # A difference below rounding orders nothing.
        self.constant += int((high - low <= 1e-6 * np.maximum(np.abs(high), np.abs(low))).sum())
        self.spread.add((high - low).astype(np.float64))
        self.tied += int((lists.ranks(scores)[1] > 1).sum())

    def _add_judged(
        self,
        lists: Ragged,
        scores: Float[np.ndarray, " P"],
        relevant: Bool[np.ndarray, " P"],
        judged: Bool[np.ndarray, " Q"],
    ) -> None:
        shares = lists.means(relevant)
        self.judged += int(judged.sum())
        self.judged_found += int((judged & (shares > 0)).sum())
        # Queries whose candidates are all relevant, or none, tell nothing of the teacher.
        telling = (shares > 0) & (shares < 1)
        best = lists.best(scores)
        hits = lists.sums(best & relevant) / np.maximum(lists.sums(best), 1)
        self.compared += int(telling.sum())
        self.hits += float(hits[telling].sum())
        self.chance += float(shares[telling].sum())
        self.variance += float((shares * (1 - shares))[telling].sum())

    def facts(self) -> dict[str, float]:
        """Return the figures of the whole table by measure; those that are not defined are left out."""
        pairs = self.pairs
        found: dict[str, float] = {"queries": self.queries, "pairs": pairs}
        attempted = pairs + self.not_finite
        if attempted:
            found["not_finite_share"] = self.not_finite / attempted
            found["truncated_share"] = self.truncated / attempted
        if pairs:
            found |= self._score_facts()
        if self.lists:
            found |= {"constant_share": self.constant / self.lists, "spread": self.spread.mean}
        if self.judged:
            found |= {"judged_queries": self.judged, "judged_found_share": self.judged_found / self.judged}
        if self.compared:
            found |= {
                "judged_best_share": self.hits / self.compared,
                "judged_best_by_chance": self.chance / self.compared,
                "judged_best_deviations": (self.hits - self.chance) / float(np.sqrt(self.variance)),
            }
        return {name: float(value) for name, value in found.items()}

    def _score_facts(self) -> dict[str, float]:
        return {
            "mean": self.moments[ALL].mean,
            "deviation": self.moments[ALL].deviation,
            "minimum": self.least.value,
            "maximum": -self.most.value,
            "tied_share": self.tied / self.pairs,
            "saturated_share": self._saturated() / self.pairs,
        }

    def _saturated(self) -> int:
        """Scores at the table's ends, beyond the one that every end has; all near 0 or 1 where nothing lies outside."""
        equal = self.least.value == -self.most.value
        ends = self.least.times - 1 + (0 if equal else self.most.times - 1)
        between = self.least.value >= 0 and -self.most.value <= 1
        return max(ends, self.near_ends if between and not equal else 0)

    def sample(self, ranks: str = ALL) -> Float[np.ndarray, " N"]:
        """Return the sampled scores at some ranks."""
        names = RANKS if ranks == ALL else (ranks,)
        return np.concatenate([np.zeros(0, np.float32), *(part for name in names for part in self.sampled[name])])

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of TEACHER_REPORT."""
        found = [self._row(ALL, name, value, self._counted(name)) for name, value in self.facts().items()]
        found += self._quantiles(ALL)
        for ranks in RANKS:
            moments = self.moments[ranks]
            if moments.count:
                found += [
                    self._row(ranks, "pairs", float(moments.count), moments.count),
                    self._row(ranks, "mean", moments.mean, moments.count),
                    self._row(ranks, "deviation", moments.deviation, moments.count),
                    self._row(ranks, "best_share", self.best[ranks] / sum(self.best.values()), moments.count),
                    *self._quantiles(ranks),
                ]
        return found

    def _quantiles(self, ranks: str) -> list[dict[str, Any]]:
        sample = self.sample(ranks)
        if not len(sample):
            return []
        values = np.quantile(sample.astype(np.float64), list(QUANTILES.values()))
        return [
            self._row(ranks, name, value, len(sample)) for name, value in zip(QUANTILES, values.tolist(), strict=True)
        ]

    def _counted(self, measure: str) -> int:
        if measure in {"not_finite_share", "truncated_share"}:
            return self.pairs + self.not_finite
        if measure in {"queries", "constant_share", "spread"}:
            return self.queries if measure == "queries" else self.lists
        if measure.startswith("judged_best"):
            return self.compared
        return self.judged if measure.startswith("judged") else self.pairs

    def _row(self, ranks: str, measure: str, value: float, count: int) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "teacher": self.teacher,
            "other": "",
            "lang": self.lang,
            "ranks": ranks,
            "measure": measure,
            "value": float(value),
            "count": count,
        }


@dataclass
class Agreement:
    """The agreement of two teachers on the order of the candidates that both scored.

    `spearman` is the mean over queries of the rank correlation, not defined where a teacher gives all candidates the same score;
    `best_agreement` the share of queries for which both have the same best candidate (where several are equally good, the chance that one
    drawn from each teacher's best is the same).
    """

    stage: str
    other: str
    correlated: int = 0
    correlation: float = 0.0
    queries: int = 0
    same: float = 0.0

    def add(self, lists: Ragged, left: Float[np.ndarray, " P"], right: Float[np.ndarray, " P"]) -> None:
        """Take the scores of both teachers for the same lists."""
        found, defined = lists.correlations(lists.ranks(left)[0], lists.ranks(right)[0])
        self.correlated += int(defined.sum())
        self.correlation += float(found.sum())
        several = lists.lengths > 1
        one, two = lists.best(left), lists.best(right)
        same = lists.sums(one & two) / np.maximum(lists.sums(one) * lists.sums(two), 1)
        self.queries += int(several.sum())
        self.same += float(same[several].sum())

    def rows(self, examination: Examination) -> list[dict[str, Any]]:
        """Return the rows of TEACHER_REPORT; `examination` is that of the first teacher."""
        base = {
            "stage": self.stage,
            "teacher": examination.teacher,
            "other": self.other,
            "lang": examination.lang,
            "ranks": ALL,
        }
        found = []
        if self.correlated:
            value = self.correlation / self.correlated
            found.append(base | {"measure": "spearman", "value": value, "count": self.correlated})
        if self.queries:
            found.append(base | {"measure": "best_agreement", "value": self.same / self.queries, "count": self.queries})
        return found


def report_table(examinations: Sequence[Examination], agreements: Sequence[Agreement]) -> pa.Table:
    """Return the table TEACHER_REPORT."""
    by_stage = {examination.stage: examination for examination in examinations}
    rows = [row for examination in examinations for row in examination.rows()]
    rows += [row for agreement in agreements for row in agreement.rows(by_stage[agreement.stage])]
    return TEACHER_REPORT.from_rows(rows)
