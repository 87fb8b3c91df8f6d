"""The report of a meta-learning: `summary.json` for programs and one self-contained HTML file for people; no Ray, only data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from distill.meta.evaluate.estimates import ALL_FOLDS, MEAN, SEEN, UNSEEN, languages_of
from distill.meta.settings import Kind
from distill.pages import plots
from distill.report.facts import RunFacts, training_summary
from distill.tables import META_COMPARISONS, META_RESULTS, TRAINING_LOG

_NAMES = {"zero_shot": "zero-shot", "fine_tune": "fine-tuning", "maml_align": "MAML-Align"}
_MEANS = (MEAN, SEEN, UNSEEN)
_WORDS: dict[Kind, dict[str, str]] = {
    "retrieval": {
        "groups": "language",
        "all": "all languages",
        "each": "languages",
        "rows": "",
        "items": "questions",
        "measured": "Every test question, in its language, against the candidates of all languages in one pool.",
        "tested": "Two-sided paired t-tests over the questions of all folds, the versions of a question averaged first.",
    },
    "similarity": {
        "groups": "languages",
        "all": "all pairs of languages",
        "each": "pairs",
        "rows": (
            "The rows below the means, and the bars, are of each language with itself; the means are over pairs of different languages, "
            "too, which follow."
        ),
        "items": "sentence pairs",
        "measured": (
            "Correlation of the encoder's similarity with the graded score, the first sentence in the first language, the second in the "
            "second. A pair of languages counts as seen if both are."
        ),
        "tested": "Paired bootstrap over the sentence pairs, the p-value by its standard error.",
    },
}


@dataclass(frozen=True, kw_only=True)
class MetaReportInput(RunFacts):
    """All that the report of a meta-learning shows.

    Attributes:
        kind: questions or sentence pairs.
        main: the system that the others are compared with.
        seen: the languages that training saw.
        counts: numbers of rows that were read, by name (`questions`, `candidates` ...).
        results: META_RESULTS.
        comparisons: META_COMPARISONS.
        training_logs: system -> fold -> TRAINING_LOG, of systems that were trained.
    """

    kind: Kind
    main: str
    seen: tuple[str, ...]
    counts: Mapping[str, int]
    results: pa.Table
    comparisons: pa.Table
    training_logs: Mapping[str, Mapping[int, pa.Table]] = field(default_factory=dict)

    @property
    def systems(self) -> list[str]:
        """The measured systems, in the order of the results."""
        return pc.unique(self.results["system"]).to_pylist()

    @property
    def measures(self) -> list[str]:
        """The measures, the one to compare by first."""
        return pc.unique(self.results["measure"]).to_pylist()

    @property
    def groups(self) -> list[str]:
        """The groups in the order of tables: the means, languages, pairs within a language, other pairs."""
        names = pc.unique(self.results["group"]).to_pylist()
        rest = sorted(set(names) - set(_MEANS))
        return [
            *(name for name in _MEANS if name in names),
            *(name for name in rest if not _is_crossed(name)),
            *(name for name in rest if _is_crossed(name)),
        ]


def mean_names(groups: Sequence[str], seen: Sequence[str], kind: Kind) -> dict[str, str]:
    """Return the names of the means among the groups of results, with what they are over: "mean of all 121 pairs"."""
    known = set(seen)
    inside = [set(languages_of(group)) <= known for group in groups if group not in _MEANS]
    names = {
        MEAN: f"mean of all {len(inside)} {_WORDS[kind]['each']}",
        SEEN: f"mean of the {sum(inside)} seen",
        UNSEEN: f"mean of the {len(inside) - sum(inside)} unseen",
    }
    return {name: names[name] for name in _MEANS if name in groups}


def _is_crossed(group: str) -> bool:
    """Return whether a group is a pair of different languages."""
    return len(set(languages_of(group))) > 1


def system_name(system: str) -> str:
    """Return the name of a system in the report: `maml_mono_bi` is "MAML mono_bi"."""
    return _NAMES.get(system) or (f"MAML {system.removeprefix('maml_')}" if system.startswith("maml_") else system)


def summary(inputs: MetaReportInput) -> dict[str, Any]:
    """Return the content of `summary.json`: JSON values only.

    - `metrics`: system -> measure -> group -> value, the mean over the folds
    - `intervals`: the same with the two ends of the bootstrap interval
    - `by_fold`: system -> measure -> fold -> mean over languages or pairs of languages
    - `comparisons`: the rows of META_COMPARISONS
    - `training`: system -> fold -> steps, first_loss, last_loss
    - `counts`: questions or sentence pairs that were `evaluated`, `rejected` rows, and what was read
    - `folds`: numbers of the folds, as strings
    - `stages`: stage -> seconds, rows, rejected, reused
    - `name`, `kind`, `main`, `seen`, `confidence`, `versions`
    """
    rows = META_RESULTS.check(inputs.results).to_pylist()
    metrics: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    by_fold: dict[str, Any] = {}
    items = 0
    for row in rows:
        system, fold, measure, group = (row[key] for key in META_RESULTS.key)
        if fold == ALL_FOLDS:
            metrics.setdefault(system, {}).setdefault(measure, {})[group] = row["value"]
            intervals.setdefault(system, {}).setdefault(measure, {})[group] = [row["low"], row["high"]]
            items = max(items, row["items"])
        elif group == MEAN:
            by_fold.setdefault(system, {}).setdefault(measure, {})[fold] = row["value"]
    return inputs.shared_summary() | {
        "kind": inputs.kind,
        "main": inputs.main,
        "seen": list(inputs.seen),
        "metrics": metrics,
        "intervals": intervals,
        "by_fold": by_fold,
        "folds": [fold for fold in pc.unique(inputs.results["fold"]).to_pylist() if fold != ALL_FOLDS],
        "comparisons": META_COMPARISONS.check(inputs.comparisons).to_pylist(),
        "training": {
            system: {str(fold): training_summary(log) for fold, log in folds.items() if len(log)}
            for system, folds in inputs.training_logs.items()
        },
        "counts": {
            **inputs.counts,
            "evaluated": items,
            "rejected": inputs.rejected_count,
        },
    }


def report(inputs: MetaReportInput, numbers: Mapping[str, Any]) -> str:
    """Return the HTML report: one file that loads nothing, for light and dark, wide and narrow screens; all text is escaped.

    Args:
        inputs: tables and facts.
        numbers: `summary(inputs)`.
    """
    systems, measures = inputs.systems, inputs.measures
    short = [group for group in inputs.groups if not _is_crossed(group)]
    rest = [group for group in inputs.groups if _is_crossed(group)]
    return inputs.page(
        "meta/report.html.j2",
        numbers,
        _figures(inputs, numbers, short),
        systems=systems,
        measures=measures,
        labels={system: system_name(system) for system in {*systems, *inputs.training_logs, inputs.main}},
        colours={system: plots.series_number(system, systems) for system in systems},
        words=_WORDS[inputs.kind],
        means=mean_names(inputs.groups, inputs.seen, inputs.kind),
        headline={system: numbers["metrics"][system][measures[0]][MEAN] for system in systems},
        by_fold={system: numbers["by_fold"][system][measures[0]] for system in systems},
        tables={
            name: {"short": _rows(numbers, systems, name, short), "rest": _rows(numbers, systems, name, rest)}
            for name in measures
        },
    )


@dataclass(frozen=True)
class _Cell:
    value: float
    low: float
    high: float
    best: bool


def _rows(
    numbers: Mapping[str, Any], systems: Sequence[str], measure: str, groups: Sequence[str]
) -> list[tuple[str, list[_Cell | None]]]:
    """Return a row for each group, with a cell for each system."""
    rows = []
    for group in groups:
        values = {system: numbers["metrics"][system][measure].get(group) for system in systems}
        best = max(value for value in values.values() if value is not None)
        cells: list[_Cell | None] = []
        for system, value in values.items():
            low, high = numbers["intervals"][system][measure].get(group, (0.0, 0.0))
            cells.append(None if value is None else _Cell(value, low, high, value == best))
        rows.append((group, cells))
    return rows


def _figures(inputs: MetaReportInput, numbers: Mapping[str, Any], groups: Sequence[str]) -> dict[str, str]:
    """Return title -> SVG of the figures for which there are numbers."""
    names = {system: system_name(system) for system in inputs.systems}
    measure = inputs.measures[0]
    means = mean_names(inputs.groups, inputs.seen, inputs.kind)
    # Ticks have room for a word or two in a line.
    ticks = {
        group: means[group].replace("mean of ", "mean of\n") if group in means else group for group in inputs.groups
    }
    intervals: dict[str, dict[str, plots.Interval]] = {
        system: {
            ticks[group]: (value, *numbers["intervals"][system][measure][group]) for group, value in by[measure].items()
        }
        for system, by in numbers["metrics"].items()
    }
    figures = {
        "quality": plots.quality_bars(intervals, [ticks[group] for group in groups], names, measure, inputs.systems),
        "folds": plots.fold_values(
            {system: numbers["by_fold"][system][measure] for system in inputs.systems}, names, f"mean {measure}"
        ),
    }
    logs = {system: mean_log(list(folds.values())) for system, folds in inputs.training_logs.items()}
    logs = {system: log for system, log in logs.items() if len(log)}
    if logs:
        # A system has the same colour in all figures, also where untrained systems are missing.
        figures["training"] = plots.training_curves(logs, names, inputs.systems)
    return figures


def mean_log(logs: Sequence[pa.Table]) -> pa.Table:
    """Return the mean over TRAINING_LOG tables, at every step that one of them has."""
    if not logs:
        return TRAINING_LOG.empty()
    columns = [name for name in TRAINING_LOG.schema.names if name != "step"]
    means = pa.concat_tables(logs).group_by("step").aggregate([(name, "mean") for name in columns])
    named = means.rename_columns([name.removesuffix("_mean") for name in means.column_names])
    return named.sort_by("step")
