"""Estimates of a measure with their bootstrap samples: of every system on every fold, by group of languages."""

from collections.abc import Mapping, Sequence
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
        measure: {
            system: _with_all({str(fold): _estimate(one, statistic, seen, fold) for fold, one in folds.items()})
            for system, folds in samples.items()
        }
        for measure, statistic in statistics.items()
    }


def _estimate(sample: Sample, statistic: Statistic, seen: Sequence[str], fold: int) -> Estimate:
    members = groups(sample.columns, seen)
    point, draws = statistic(sample, np.ones((1, len(sample.ids)))), draw(sample, statistic, fold)
    return Estimate(
        {name: float(mean(point, positions)[0]) for name, positions in members.items()},
        {name: mean(draws, positions) for name, positions in members.items()},
        {name: int(sample.present[:, positions].any(axis=1).sum()) for name, positions in members.items()},
    )


def mean(values: Float64[np.ndarray, "B C"], positions: Sequence[int]) -> Float64[np.ndarray, " B"]:
    """Return the mean over columns, for each bootstrap sample of those that have a value in it."""
    chosen = values[:, positions]
    known = np.isfinite(chosen)
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, chosen, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _with_all(folds: dict[str, Estimate]) -> dict[str, Estimate]:
    """Return the folds and, as `all`, their mean over the groups that each fold has."""
    estimates = list(folds.values())
    names = [name for name in estimates[0].point if all(name in one.point for one in estimates)]
    whole = Estimate(
        {name: float(np.mean([one.point[name] for one in estimates])) for name in names},
        {name: np.mean([one.draws[name] for one in estimates], axis=0) for name in names},
        {name: sum(one.items[name] for one in estimates) for name in names},
    )
    return {**folds, ALL_FOLDS: whole}


def interval(draws: Float64[np.ndarray, " B"], confidence: float) -> tuple[float, float]:
    """Return the two ends of the percentile interval of bootstrap samples."""
    low, high = np.nanquantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
