"""The compare stage of meta-learning: the quality of every system by fold and language, and tests of the differences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from cluster.workspace import Workspace
from distill.measures.correlations import Sample
from distill.measures.significance import holm, paired_t_test
from distill.meta.evaluate.estimates import (
    ALL_FOLDS,
    JOINT,
    MEAN,
    SEEN,
    UNSEEN,
    Estimates,
    contributions,
    estimate_all,
    interval,
)
from distill.meta.settings import Kind, MetaEvaluateSettings
from distill.tables import META_COMPARISONS, META_RESULTS, TableError


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
    `unseen` over the others, `mean` over all. In the fold `all`, a language's value is its mean over the folds that have it, each fold
    counting alike however many questions it holds. A difference in `meta_comparisons` is that of the two values in `meta_results`.

    Intervals are of the percentile bootstrap, 1,000 samples within each fold: of questions with all their language versions together, or
    of sentence pairs. The main system is compared with every other one. Questions: by the paired t-test over the questions of all folds,
    each question's versions added up with the weights that they have in the mean (`contributions`), in every language and the means.
    Sentence pairs: by the paired bootstrap of the difference
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
    estimates = estimate_all(samples, kind, f"AP@{settings.depth}", seen)
    _warn_of_constants(workspace, samples)
    workspace.write("meta_results", _results(estimates, settings.confidence))
    if kind == "retrieval":
        rows = _tested(samples, main, f"AP@{settings.depth}", seen, settings.confidence)
    else:
        rows = _bootstrapped(estimates, main, settings.confidence)
    corrected = holm([float(str(row["p"])) for row in rows])
    rows = [{**row, "p_corrected": p} for row, p in zip(rows, corrected, strict=True)]
    workspace.write("meta_comparisons", META_COMPARISONS.from_rows(rows))


def _sample(workspace: Workspace, kind: Kind, stage: str) -> Sample:
    if kind == "retrieval":
        table = workspace.input(stage, "question_precision", ["xling_id", "lang", "value"])
        rows = zip(*(table[name].to_pylist() for name in ("xling_id", "lang", "value")), strict=True)
        return Sample.of([(xling_id, lang, value, None) for xling_id, lang, value in rows])
    columns = ["pair_id", "first_lang", "second_lang", "value", "score"]
    table = workspace.input(stage, "pair_similarity", columns)
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return Sample.of([(pair, f"{first}{JOINT}{second}", value, score) for pair, first, second, value, score in rows])


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


def _results(estimates: Estimates, confidence: float) -> pa.Table:
    rows = []
    for measure, systems in estimates.items():
        for system, folds in systems.items():
            for fold, one in folds.items():
                for group, value in one.point.items():
                    low, high = interval(one.draws[group], confidence)
                    cell = {"value": value, "low": low, "high": high, "items": one.items[group]}
                    rows.append({"system": system, "fold": fold, "measure": measure, "group": group, **cell})
    return META_RESULTS.from_rows(rows)


def _warn_of_constants(workspace: Workspace, samples: Mapping[str, Mapping[int, Sample]]) -> None:
    for system, folds in samples.items():
        constant = sorted({name for sample in folds.values() for name in sample.constant_columns()})
        if constant:
            workspace.note(
                warning=f"'{system}' gives all pairs of {', '.join(constant[:3])} the same similarity or all have one score: "
                "their correlation, which has no value, counts as 0"
            )


def _tested(
    samples: Mapping[str, Mapping[int, Sample]], main: str, measure: str, seen: Sequence[str], confidence: float
) -> list[dict[str, object]]:
    """Return paired t-tests over the questions of all folds, of their contributions to the means in `meta_results`."""
    rows: list[dict[str, object]] = []
    mine = contributions(samples[main], seen)
    for baseline, folds in samples.items():
        theirs = {} if baseline == main else contributions(folds, seen)
        for group, values in theirs.items():
            if len(values) > 1:
                test = paired_t_test(mine[group], values, confidence)
                names = {"system": main, "baseline": baseline, "measure": measure, "group": group}
                rows.append({**names, "items": len(values), **vars(test)})
    return rows


def _bootstrapped(estimates: Estimates, main: str, confidence: float) -> list[dict[str, object]]:
    """Return differences of correlations over all folds, both from the same bootstrap samples."""
    from scipy import stats

    rows: list[dict[str, object]] = []
    for measure, systems in estimates.items():
        mine = systems[main][ALL_FOLDS]
        for baseline, folds in systems.items():
            theirs = folds[ALL_FOLDS]
            for group in (SEEN, UNSEEN, MEAN):
                if baseline == main or group not in theirs.point:
                    continue
                difference = mine.point[group] - theirs.point[group]
                draws = mine.draws[group] - theirs.draws[group]
                low, high = interval(draws, confidence)
                error = float(np.nanstd(draws, ddof=1))
                # Two equal systems have no difference in any sample, and so no standard error.
                p = float(2 * stats.norm.sf(abs(difference) / error)) if error else float(difference == 0)
                names = {"system": main, "baseline": baseline, "measure": measure, "group": group}
                values = {"difference": difference, "low": low, "high": high, "p": p}
                rows.append({**names, "items": theirs.items[group], **values})
    return rows
