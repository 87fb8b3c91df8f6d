"""The compare stage of meta-learning: quality of every system by fold and language, and what its differences are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from cluster.workspace import Workspace
from distill.measures.correlations import Sample, Statistic, averages, draw, pearson, spearman
from distill.measures.significance import holm, paired_t_test
from distill.meta.settings import Kind, MetaEvaluateSettings
from distill.tables import META_COMPARISONS, META_RESULTS, TableError

SEEN, UNSEEN, MEAN = "seen", "unseen", "mean"
"""Means over the languages, or pairs of languages, that training saw, that it did not, and over all."""
ALL_FOLDS = "all"
_JOINT = "-"


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


def compare(
    workspace: Workspace,
    settings: MetaEvaluateSettings,
    kind: Kind,
    main: str,
    systems: Mapping[str, Mapping[int, str]],
    seen: Sequence[str],
) -> None:
    """Write `meta_results` and `meta_comparisons`.

    A mean is over languages, each counting alike, or over pairs of languages: `seen` over those that training saw (both of a pair),
    `unseen` over the others, `mean` over all. The fold `all` is the mean over folds.

    Intervals are of the percentile bootstrap, 1,000 samples within each fold: of questions with all their language versions together, or
    of sentence pairs. The main system is compared with every other one. Questions: by the paired t-test over the questions of all folds,
    the versions of a question averaged first, in every language and the means. Sentence pairs: by the paired bootstrap of the difference
    of correlations, its p-value that of a normal distribution with the bootstrap's standard error; only the means, as a correction for
    every pair of languages would leave nothing. Holm's correction is for all comparisons.

    Args:
        workspace: with the evaluate stages as inputs.
        settings: depth of AP and level of confidence.
        kind: questions or sentence pairs.
        main: the system to compare.
        systems: system -> fold -> its evaluate stage.
        seen: the languages that training saw.

    Raises:
        TableError: systems were not measured on the same folds and the same questions or pairs.
    """
    if main not in systems:
        raise TableError(
            f"nothing to compare: system '{main}' was not evaluated; there are {', '.join(systems) or 'none'}"
        )
    samples = {
        system: {fold: _sample(workspace, kind, stage) for fold, stage in sorted(folds.items())}
        for system, folds in systems.items()
    }
    _check_alike(samples)
    found = _estimates(samples, kind, f"AP@{settings.depth}", seen)
    _warn_of_constants(workspace, samples)
    workspace.write("meta_results", _results(found, settings.confidence))
    if kind == "retrieval":
        rows = _tested(samples, main, f"AP@{settings.depth}", seen, settings.confidence)
    else:
        rows = _bootstrapped(found, main, settings.confidence)
    corrected = holm([float(str(row["p"])) for row in rows])
    rows = [{**row, "p_corrected": p} for row, p in zip(rows, corrected, strict=True)]
    workspace.write("meta_comparisons", META_COMPARISONS.from_rows(rows))


# --- what was measured -----------------------------------------------------------------------------------------------


def _sample(workspace: Workspace, kind: Kind, stage: str) -> Sample:
    if kind == "retrieval":
        table = workspace.input(stage, "question_precision", ["xling_id", "lang", "value"])
        rows = zip(*(table[name].to_pylist() for name in ("xling_id", "lang", "value")), strict=True)
        return Sample.of([(xling_id, lang, value, None) for xling_id, lang, value in rows])
    columns = ["pair_id", "first_lang", "second_lang", "value", "score"]
    table = workspace.input(stage, "pair_similarity", columns)
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return Sample.of([(pair, f"{first}{_JOINT}{second}", value, score) for pair, first, second, value, score in rows])


def _check_alike(samples: Mapping[str, Mapping[int, Sample]]) -> None:
    (first, expected), *others = samples.items()
    for system, folds in others:
        if list(folds) != list(expected):
            raise TableError(
                f"'{system}' was evaluated on the folds {list(folds)}, '{first}' on {list(expected)}; run the same folds"
            )
        for fold, sample in folds.items():
            one, other = sample, expected[fold]
            same = one.ids == other.ids and one.columns == other.columns
            if not same or not np.array_equal(one.present, other.present):
                raise TableError(
                    f"fold {fold}: '{system}' and '{first}' were not evaluated on the same questions or pairs; run them again"
                )


def groups(columns: Sequence[str], seen: Sequence[str]) -> dict[str, list[int]]:
    """Group -> its columns: every language or pair of languages itself, and the means of which there is something."""
    known = set(seen)
    both = [set(languages_of(column)) <= known for column in columns]
    found = {column: [place] for place, column in enumerate(columns)}
    found[SEEN] = [place for place, inside in enumerate(both) if inside]
    found[UNSEEN] = [place for place, inside in enumerate(both) if not inside]
    found[MEAN] = list(range(len(columns)))
    return {name: places for name, places in found.items() if places}


def languages_of(column: str) -> list[str]:
    """The languages of a group, one or two; codes may hold hyphens themselves (`pt-BR-zh`), but begin with two or three small letters."""
    parts: list[str] = []
    for piece in column.split(_JOINT):
        if not parts or (len(piece) in {2, 3} and piece.isascii() and piece.islower()):
            parts.append(piece)
        else:
            parts[-1] += f"{_JOINT}{piece}"
    return parts


# --- estimates -------------------------------------------------------------------------------------------------------


def _estimates(
    samples: Mapping[str, Mapping[int, Sample]], kind: Kind, precision: str, seen: Sequence[str]
) -> Estimates:
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
        {name: float(_mean(point, places)[0]) for name, places in members.items()},
        {name: _mean(draws, places) for name, places in members.items()},
        {name: int(sample.present[:, places].any(axis=1).sum()) for name, places in members.items()},
    )


def _mean(values: Float64[np.ndarray, "B C"], places: Sequence[int]) -> Float64[np.ndarray, " B"]:
    """The mean over columns, of those that a bootstrap sample has a value for."""
    chosen = values[:, places]
    known = np.isfinite(chosen)
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, chosen, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _with_all(folds: dict[str, Estimate]) -> dict[str, Estimate]:
    """The folds, and their mean over the groups that each fold has."""
    estimates = list(folds.values())
    names = [name for name in estimates[0].point if all(name in one.point for one in estimates)]
    whole = Estimate(
        {name: float(np.mean([one.point[name] for one in estimates])) for name in names},
        {name: np.mean([one.draws[name] for one in estimates], axis=0) for name in names},
        {name: sum(one.items[name] for one in estimates) for name in names},
    )
    return {**folds, ALL_FOLDS: whole}


def _results(found: Estimates, confidence: float) -> pa.Table:
    rows = []
    for measure, systems in found.items():
        for system, folds in systems.items():
            for fold, one in folds.items():
                for group, value in one.point.items():
                    low, high = _interval(one.draws[group], confidence)
                    cell = {"value": value, "low": low, "high": high, "items": one.items[group]}
                    rows.append({"system": system, "fold": fold, "measure": measure, "group": group, **cell})
    return META_RESULTS.from_rows(rows)


def _interval(draws: Float64[np.ndarray, " B"], confidence: float) -> tuple[float, float]:
    low, high = np.nanquantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _warn_of_constants(workspace: Workspace, samples: Mapping[str, Mapping[int, Sample]]) -> None:
    for system, folds in samples.items():
        constant = sorted({name for sample in folds.values() for name in sample.constant_columns()})
        if constant:
            workspace.note(
                warning=f"'{system}' gives all pairs of {', '.join(constant[:3])} the same similarity or all have one score: "
                "their correlation, which has no value, counts as 0"
            )


# --- comparisons -----------------------------------------------------------------------------------------------------


def _tested(
    samples: Mapping[str, Mapping[int, Sample]], main: str, measure: str, seen: Sequence[str], confidence: float
) -> list[dict[str, object]]:
    """Paired t-tests over the questions of all folds, of the mean over each question's versions."""
    rows: list[dict[str, object]] = []
    mine = _by_group(samples[main], seen)
    for baseline, folds in samples.items():
        theirs = {} if baseline == main else _by_group(folds, seen)
        for group, values in theirs.items():
            if len(values) > 1:
                test = paired_t_test(mine[group], values, confidence)
                names = {"system": main, "baseline": baseline, "measure": measure, "group": group}
                rows.append({**names, "items": len(values), **vars(test)})
    return rows


def _by_group(folds: Mapping[int, Sample], seen: Sequence[str]) -> dict[str, Float64[np.ndarray, " N"]]:
    found: dict[str, list[Float64[np.ndarray, " M"]]] = {}
    for sample in folds.values():
        for group, places in groups(sample.columns, seen).items():
            means = _mean(sample.values, places)
            found.setdefault(group, []).append(means[np.isfinite(means)])
    return {group: np.concatenate(parts) for group, parts in found.items()}


def _bootstrapped(found: Estimates, main: str, confidence: float) -> list[dict[str, object]]:
    """Differences of correlations over all folds, both from the same bootstrap samples."""
    from scipy import stats

    rows: list[dict[str, object]] = []
    for measure, systems in found.items():
        mine = systems[main][ALL_FOLDS]
        for baseline, folds in systems.items():
            theirs = folds[ALL_FOLDS]
            for group in (SEEN, UNSEEN, MEAN):
                if baseline == main or group not in theirs.point:
                    continue
                difference = mine.point[group] - theirs.point[group]
                draws = mine.draws[group] - theirs.draws[group]
                low, high = _interval(draws, confidence)
                error = float(np.nanstd(draws, ddof=1))
                # Equal systems differ by nothing in every sample.
                p = float(2 * stats.norm.sf(abs(difference) / error)) if error else float(difference == 0)
                names = {"system": main, "baseline": baseline, "measure": measure, "group": group}
                values = {"difference": difference, "low": low, "high": high, "p": p}
                rows.append({**names, "items": theirs.items[group], **values})
    return rows
