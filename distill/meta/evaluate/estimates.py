"""Estimates of a measure with their bootstrap samples: of every system on every fold, by group of languages."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from distill.measures.correlations import Sample, Statistic, averages, draw, pearson, spearman
from distill.meta.settings import Kind

SEEN, UNSEEN, MEAN = "seen", "unseen", "mean"
"""Means over the languages, or pairs of languages, that training saw, that it did not, and over all."""
ALL_FOLDS = "all"
JOINT = "-"
"""The character between the two languages of a pair."""


@dataclass(frozen=True)
class Estimate:
    """A measure of one system on one fold, or on all.

    Attributes:
        point: group -> value.
        draws: group -> the values of the bootstrap samples, the same samples for every system.
        items: group -> questions or pairs.
    """

    point: Mapping[str, float]
    draws: Mapping[str, Float64[np.ndarray, " B"]]
    items: Mapping[str, int]


Estimates = dict[str, dict[str, dict[str, Estimate]]]
"""measure -> system -> fold -> estimate."""


def groups(columns: Sequence[str], seen: Sequence[str]) -> dict[str, list[int]]:
    """Return group -> positions of its columns: every language or pair of languages itself, and the means that have any."""
    known = set(seen)
    both = [set(languages_of(column)) <= known for column in columns]
    members = {column: [position] for position, column in enumerate(columns)}
    members[SEEN] = [position for position, inside in enumerate(both) if inside]
    members[UNSEEN] = [position for position, inside in enumerate(both) if not inside]
    members[MEAN] = list(range(len(columns)))
    return {name: positions for name, positions in members.items() if positions}


def languages_of(column: str) -> list[str]:
    """Return the languages of a group, one or two. Codes may hold hyphens (`pt-BR-zh`) but begin with two or three small letters."""
    parts: list[str] = []
    for piece in column.split(JOINT):
        if not parts or (len(piece) in {2, 3} and piece.isascii() and piece.islower()):
            parts.append(piece)
        else:
            parts[-1] += f"{JOINT}{piece}"
    return parts


def estimate_all(
    samples: Mapping[str, Mapping[int, Sample]], kind: Kind, precision: str, seen: Sequence[str]
) -> Estimates:
    """Return the estimates of every measure, system and fold, and of all folds together.

    Args:
        samples: system -> fold -> its measured values.
        kind: questions or sentence pairs.
        precision: name of the measure of questions.
        seen: the languages that training saw.
    """
    statistics: dict[str, Statistic] = (
        {precision: averages} if kind == "retrieval" else {"pearson": pearson, "spearman": spearman}
    )
    return {
        measure: {system: _estimates(folds, statistic, seen) for system, folds in samples.items()}
        for measure, statistic in statistics.items()
    }


def _estimates(folds: Mapping[int, Sample], statistic: Statistic, seen: Sequence[str]) -> dict[str, Estimate]:
    """Return the estimates of every fold and of all: a column's value is its mean over the folds that have the column."""
    points = {fold: statistic(sample, np.ones((1, len(sample.ids)))) for fold, sample in folds.items()}
    draws = {fold: draw(sample, statistic, fold) for fold, sample in folds.items()}
    estimates = {
        str(fold): _estimate(sample.columns, points[fold], draws[fold], [sample], seen)
        for fold, sample in folds.items()
    }
    columns = all_columns(folds.values())
    point, drawn = (_over_folds(columns, folds, values) for values in (points, draws))
    return {**estimates, ALL_FOLDS: _estimate(columns, point, drawn, list(folds.values()), seen)}


def _estimate(
    columns: Sequence[str],
    point: Float64[np.ndarray, "1 C"],
    draws: Float64[np.ndarray, "B C"],
    samples: Sequence[Sample],
    seen: Sequence[str],
) -> Estimate:
    members = groups(columns, seen)
    return Estimate(
        {name: float(mean(point, positions)[0]) for name, positions in members.items()},
        {name: mean(draws, positions) for name, positions in members.items()},
        {name: _items(samples, {columns[position] for position in positions}) for name, positions in members.items()},
    )


def _items(samples: Sequence[Sample], columns: Collection[str]) -> int:
    """Return how many questions or pairs have a version in one of the columns."""
    chosen = ((one, [at for at, column in enumerate(one.columns) if column in columns]) for one in samples)
    return sum(int(one.present[:, positions].any(axis=1).sum()) for one, positions in chosen)


def all_columns(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Return the columns that a fold has, sorted."""
    return tuple(sorted({column for sample in samples for column in sample.columns}))


def _over_folds(
    columns: Sequence[str], folds: Mapping[int, Sample], values: Mapping[int, Float64[np.ndarray, "B _"]]
) -> Float64[np.ndarray, "B C"]:
    """Return the mean of each column's values over the folds that have it."""
    parts = np.full((len(folds), len(next(iter(values.values()))), len(columns)), np.nan)
    for part, (fold, sample) in zip(parts, folds.items(), strict=True):
        part[:, [columns.index(column) for column in sample.columns]] = values[fold]
    return np.stack([mean(parts[:, :, at].T, range(len(folds))) for at in range(len(columns))], axis=1)


def mean(values: Float64[np.ndarray, "B C"], positions: Sequence[int]) -> Float64[np.ndarray, " B"]:
    """Return the mean over columns, for each bootstrap sample of those that have a value in it."""
    chosen = values[:, positions]
    known = np.isfinite(chosen)
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, chosen, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def contributions(folds: Mapping[int, Sample], seen: Sequence[str]) -> dict[str, Float64[np.ndarray, " N"]]:
    """Return group -> a value for each question that has a version in the group; their mean is the group's estimate of all folds.

    The estimate is a mean over the group's languages of the means over folds of the means over questions, so a version whose fold has n
    of its language, where f folds have the language and the group has c languages, counts 1 / (c f n). A question's value is the sum over
    its versions times the number of questions: with folds of one size and questions in all languages, the mean over its versions.
    """
    columns = all_columns(folds.values())
    counts = Counter(column for sample in folds.values() for column in sample.columns)
    by_group: dict[str, list[Float64[np.ndarray, " M"]]] = {}
    for group, positions in groups(columns, seen).items():
        names = {columns[position] for position in positions}
        for sample in folds.values():
            inside = [at for at, column in enumerate(sample.columns) if column in names]
            present = sample.present[:, inside]
            shares = np.array([1 / (len(names) * counts[sample.columns[at]]) for at in inside])
            weighed = np.where(present, sample.values[:, inside], 0.0) * (shares / np.maximum(present.sum(axis=0), 1))
            by_group.setdefault(group, []).append(weighed.sum(axis=1)[present.any(axis=1)])
    joined = {group: np.concatenate(parts) for group, parts in by_group.items()}
    return {group: len(values) * values for group, values in joined.items()}


def interval(draws: Float64[np.ndarray, " B"], confidence: float) -> tuple[float, float]:
    """Return the two ends of the percentile interval of bootstrap samples."""
    low, high = np.nanquantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
