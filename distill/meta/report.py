"""The report of a meta-learning run: `summary.json` for programs and one self-contained HTML file for people; no Ray, only data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from distill.meta.evaluate.compare import ALL_FOLDS, MEAN, SEEN, UNSEEN, languages_of
from distill.meta.settings import Kind
from distill.pages import plots
from distill.pages.page import page
from distill.report.facts import StageFacts, joined_versions, p_value, training_summary
from distill.tables import META_COMPARISONS, META_RESULTS, TRAINING_LOG

_REJECTED_SHOWN = 20
_NAMES = {"zero_shot": "zero-shot", "fine_tune": "fine-tuning", "maml_align": "MAML-Align"}
_MEANS = {MEAN: "mean", SEEN: "mean of seen", UNSEEN: "mean of unseen"}
_WORDS: dict[Kind, dict[str, str]] = {
    "retrieval": {
        "groups": "language",
        "all": "all languages",
        "what": "questions",
        "measured": "Every test question, in its language, against the candidates of all languages in one pool.",
        "tested": "Two-sided paired t-tests over the questions of all folds, the versions of a question averaged first.",
    },
    "similarity": {
        "groups": "languages",
        "all": "all pairs of languages",
        "what": "sentence pairs",
        "measured": (
            "Correlation of the encoder's similarity with the graded score, the first sentence in the first language, the second in the "
            "second. A pair of languages counts as seen where both are."
        ),
        "tested": "Paired bootstrap over the sentence pairs, the p-value by its standard error.",
    },
}


@dataclass(frozen=True)
class MetaReportInput:
    """All that a report shows.

    Attributes:
        name: the run's name.
        kind: questions or sentence pairs.
        main: the system that the others are compared with.
        seen: the languages that training saw.
        settings: the resolved configuration as YAML.
        counts: what was read (`questions`, `candidates` ...) by name.
        stages: facts of every stage by name, in the order in which they ran.
        results: META_RESULTS.
        comparisons: META_COMPARISONS.
        training_logs: system -> fold -> TRAINING_LOG, of systems that were trained.
        rejected: stage -> REJECTED, of stages that rejected rows.
        confidence: level of the confidence intervals.
    """

    name: str
    kind: Kind
    main: str
    seen: tuple[str, ...]
    settings: str
    counts: Mapping[str, int]
    stages: Mapping[str, StageFacts]
    results: pa.Table
    comparisons: pa.Table
    training_logs: Mapping[str, Mapping[int, pa.Table]] = field(default_factory=dict)
    rejected: Mapping[str, pa.Table] = field(default_factory=dict)
    confidence: float = 0.95

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
        found = [name for name in _MEANS if name in names]
        rest = sorted(set(names) - set(_MEANS))
        return [
            *found,
            *(name for name in rest if not _is_crossed(name)),
            *(name for name in rest if _is_crossed(name)),
        ]


def _is_crossed(group: str) -> bool:
    """Whether a group is a pair of different languages."""
    return len(set(languages_of(group))) > 1


def system_name(system: str) -> str:
    """What a system is called: `maml_mono_bi` is MAML mono_bi."""
    return _NAMES.get(system) or (f"MAML {system.removeprefix('maml_')}" if system.startswith("maml_") else system)


def summary(inputs: MetaReportInput) -> dict[str, Any]:
    """What `summary.json` holds: JSON values only.

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
    return {
        "name": inputs.name,
        "kind": inputs.kind,
        "main": inputs.main,
        "seen": list(inputs.seen),
        "confidence": inputs.confidence,
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
            "rejected": sum(facts.rejected for facts in inputs.stages.values()),
        },
        "stages": {
            stage: {"seconds": facts.seconds, "rows": facts.rows, "rejected": facts.rejected, "reused": facts.reused}
            for stage, facts in inputs.stages.items()
        },
        "versions": joined_versions(inputs.stages),
    }


def report(inputs: MetaReportInput, numbers: Mapping[str, Any]) -> str:
    """The HTML report: one file that loads nothing, for light and dark, wide and narrow screens; all text is escaped.

    Args:
        inputs: tables and facts.
        numbers: `summary(inputs)`.
    """
    systems, measures = inputs.systems, inputs.measures
    short = [group for group in inputs.groups if not _is_crossed(group)]
    rest = [group for group in inputs.groups if _is_crossed(group)]
    rejected = [row | {"stage": stage} for stage, table in inputs.rejected.items() for row in table.to_pylist()]
    return page(
        "meta/report.html.j2",
        inputs=inputs,
        summary=numbers,
        systems=systems,
        measures=measures,
        labels={system: system_name(system) for system in {*systems, *inputs.training_logs, inputs.main}},
        colours={system: plots.series_number(system, systems) for system in systems},
        words=_WORDS[inputs.kind],
        means=_MEANS,
        headline={system: numbers["metrics"][system][measures[0]][MEAN] for system in systems},
        by_fold={system: numbers["by_fold"][system][measures[0]] for system in systems},
        tables={
            name: {"short": _rows(numbers, systems, name, short), "rest": _rows(numbers, systems, name, rest)}
            for name in measures
        },
        figures=_figures(inputs, numbers, short),
        p_value=p_value,
        rejected=rejected[:_REJECTED_SHOWN],
        rejected_count=numbers["counts"]["rejected"],
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
    """A row for each group, a cell for each system."""
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
    """Title -> SVG, of those figures for which there is something to show."""
    from markupsafe import Markup

    names = {system: system_name(system) for system in inputs.systems}
    measure = inputs.measures[0]
    intervals: dict[str, dict[str, plots.Interval]] = {
        system: {group: (value, *numbers["intervals"][system][measure][group]) for group, value in by[measure].items()}
        for system, by in numbers["metrics"].items()
    }
    figures = {
        "quality": plots.quality_bars(intervals, groups, names, measure, inputs.systems),
        "folds": plots.fold_values(
            {system: numbers["by_fold"][system][measure] for system in inputs.systems}, names, f"mean {measure}"
        ),
    }
    logs = {system: mean_log(list(folds.values())) for system, folds in inputs.training_logs.items()}
    logs = {system: log for system, log in logs.items() if len(log)}
    if logs:
        # Each keeps the colour that it has elsewhere, though untrained systems are not among them.
        figures["training"] = plots.training_curves(logs, names, inputs.systems)
    if inputs.stages:
        seconds = {stage: facts.seconds for stage, facts in inputs.stages.items()}
        figures["stages"] = plots.stage_bars(seconds, [stage for stage, facts in inputs.stages.items() if facts.reused])
    return {title: Markup(svg) for title, svg in figures.items()}  # noqa: S704 - drawn here, its label is escaped


def mean_log(logs: Sequence[pa.Table]) -> pa.Table:
    """The mean over TRAINING_LOG tables, at every step that one of them has."""
    if not logs:
        return TRAINING_LOG.empty()
    columns = [name for name in TRAINING_LOG.schema.names if name != "step"]
    means = pa.concat_tables(logs).group_by("step").aggregate([(name, "mean") for name in columns])
    named = means.rename_columns([name.removesuffix("_mean") for name in means.column_names])
    return named.sort_by("step")
