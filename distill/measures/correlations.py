"""Means and correlations of bootstrap samples, all samples of a block at once: plain functions on arrays.

Shapes: B samples, N questions or pairs, C languages or pairs of languages. A sample is a row of weights: how often each question was drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int

RESAMPLES = 1000
"""Bootstrap samples."""
_SEED = 153
_BLOCK = 2**21
"""Weights in memory at once."""


@dataclass(frozen=True)
class Sample:
    """The measurements of one fold.

    Attributes:
        ids: questions or pairs, whose versions in all languages are drawn together; sorted.
        columns: languages or pairs of languages; sorted.
        values: AP, or the encoder's similarity; NaN where a question has no version.
        scores: the graded scores of pairs, likewise; None for questions.
    """

    ids: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float64[np.ndarray, "N C"]
    scores: Float64[np.ndarray, "N C"] | None

    @classmethod
    def of(cls, rows: Sequence[tuple[str, str, float, float | None]]) -> "Sample":
        """Build a sample from rows of id, column, value and score."""
        ids, columns = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
        row_of, column_of = ({name: number for number, name in enumerate(names)} for names in (ids, columns))
        values, scores = np.full((2, len(ids), len(columns)), np.nan)
        for name, column, value, score in rows:
            values[row_of[name], column_of[column]] = value
            scores[row_of[name], column_of[column]] = np.nan if score is None else score
        scored = any(row[3] is not None for row in rows)
        return cls(tuple(ids), tuple(columns), values, scores if scored else None)

    @cached_property
    def present(self) -> Bool[np.ndarray, "N C"]:
        """Where there is a version."""
        return np.isfinite(self.values)

    def constant_columns(self) -> list[str]:
        """Return the columns whose correlation has no value: all similarities or all scores are equal."""
        if self.scores is None:
            return []
        spans = [np.nanmax(side, axis=0) - np.nanmin(side, axis=0) for side in (self.values, self.scores)]
        return [name for name, *span in zip(self.columns, *spans, strict=True) if min(span) == 0]


Statistic = Callable[[Sample, Float64[np.ndarray, "B N"]], Float64[np.ndarray, "B C"]]


def draw(sample: Sample, statistic: Statistic, fold: int) -> Float64[np.ndarray, "B C"]:
    """Return a statistic of `RESAMPLES` bootstrap samples. They depend on the number of rows and the fold alone, so systems share them."""
    random, count = np.random.default_rng([_SEED, fold]), len(sample.ids)
    block = max(1, _BLOCK // count)
    shares = np.full(count, 1 / count)
    parts = [
        statistic(sample, random.multinomial(count, shares, size=min(block, RESAMPLES - done)).astype(np.float64))
        for done in range(0, RESAMPLES, block)
    ]
    return np.concatenate(parts)


def averages(sample: Sample, weights: Float64[np.ndarray, "B N"]) -> Float64[np.ndarray, "B C"]:
    """Return the mean of each column; NaN where a sample drew none of its versions."""
    counts = weights @ sample.present.astype(np.float64)
    sums = weights @ np.where(sample.present, sample.values, 0.0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def pearson(sample: Sample, weights: Float64[np.ndarray, "B N"]) -> Float64[np.ndarray, "B C"]:
    """Return Pearson's correlation of similarities and scores in each column; 0 where either is constant."""
    there = sample.present.astype(np.float64)
    one, other = (_centred(side, sample.present) for side in (sample.values, _scores(sample)))
    counts = np.maximum(weights @ there, 1)
    means = [weights @ side / counts for side in (one, other)]
    covariance = weights @ (one * other) / counts - means[0] * means[1]
    variances = [weights @ side**2 / counts - mean**2 for side, mean in zip((one, other), means, strict=True)]
    return _ratio(covariance, variances[0], variances[1])


def spearman(sample: Sample, weights: Float64[np.ndarray, "B N"]) -> Float64[np.ndarray, "B C"]:
    """Return Spearman's correlation in each column: Pearson's of the ranks within a sample, equal values sharing their mean rank."""
    values = np.empty((len(weights), len(sample.columns)))
    scores = _scores(sample)
    known: dict[bytes, Float64[np.ndarray, "B M"]] = {}
    for column in range(len(sample.columns)):
        rows = np.flatnonzero(sample.present[:, column])
        drawn, graded = weights[:, rows], scores[rows, column]
        # The scores of a pair are the same in all languages, so their ranks mostly serve every column.
        key = rows.tobytes() + graded.tobytes()
        if key not in known:
            known = {key: ranks(graded, drawn)}
        values[:, column] = _weighted_correlation(ranks(sample.values[rows, column], drawn), known[key], drawn)
    return values


def ranks(values: Float64[np.ndarray, " M"], weights: Float64[np.ndarray, "B M"]) -> Float64[np.ndarray, "B M"]:
    """Return the rank of each value within each sample, smallest first, from 1; values that occur several times share their mean rank.

    Cost: one sort, and a few passes over the weights.
    """
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    middles = np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2
    return middles[:, group]


def _weighted_correlation(
    one: Float64[np.ndarray, "B M"], other: Float64[np.ndarray, "B M"], weights: Float64[np.ndarray, "B M"]
) -> Float64[np.ndarray, " B"]:
    counts = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    # Ranks of a sample of n have the mean (n + 1) / 2.
    left, right = (side - (counts + 1) / 2 for side in (one, other))
    heavy = weights * left
    covariance = np.einsum("bm,bm->b", heavy, right)
    return _ratio(covariance, np.einsum("bm,bm->b", heavy, left), np.einsum("bm,bm,bm->b", weights, right, right))


def _ratio(
    covariance: Float64[np.ndarray, "..."], one: Float64[np.ndarray, "..."], other: Float64[np.ndarray, "..."]
) -> Float64[np.ndarray, "..."]:
    product = np.maximum(one, 0.0) * np.maximum(other, 0.0)
    # Rounding leaves constants a variance that is not quite 0.
    usable = product > 1e-28
    return np.where(usable, covariance / np.sqrt(np.where(usable, product, 1.0)), 0.0)


def _centred(values: Float64[np.ndarray, "N C"], present: Bool[np.ndarray, "N C"]) -> Float64[np.ndarray, "N C"]:
    """Return values less their column's mean, so that sums of squares keep their digits; 0 where there is none."""
    counts: Int[np.ndarray, " C"] = np.maximum(present.sum(axis=0), 1)
    means = np.where(present, values, 0.0).sum(axis=0) / counts
    return np.where(present, values - means, 0.0)


def _scores(sample: Sample) -> Float64[np.ndarray, "N C"]:
    if sample.scores is None:
        raise ValueError("questions have no graded scores to correlate with")
    return sample.scores
