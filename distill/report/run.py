"""The report of a distillation: `summary.json` for programs and one self-contained HTML file for people; no Ray, only data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill.evaluate.collections import ordered, target_languages
from distill.evaluate.stage import primary_measure
from distill.measures.significance import bootstrap_interval
from distill.pages import plots
from distill.report.facts import RunFacts, training_summary
from distill.tables import COMPARISONS, MEASUREMENTS

SYSTEMS = {
    "bm25": "BM25",
    "english_distillation": "English-only distillation",
    "student": "student",
    "teacher": "teacher",
}
"""Systems in the order of tables and figures, with their names there."""
_CEILING = "teacher"
_LETTERS = {"bm25": "b", "english_distillation": "e", "student": "s", "teacher": "t"}
_MEASURE_WORDS = {
    "nDCG": "normalised discounted cumulative gain: graded relevance, better ranks counting more",
    "AP": "average precision; its mean is MAP",
    "R": "recall: share of the relevant passages found so far",
    "RR": "reciprocal rank of the first relevant passage",
    "P": "precision: share of relevant passages so far",
}

_SAME = 1e-12
_TEST_WORDS = {
    "two_sided": "two-sided paired t-test",
    "one_sided": "one-sided paired t-test (is the student better)",
}
_CORRECTION_WORDS = {"holm": "Holm's correction", "bonferroni": "Bonferroni's correction"}


@dataclass(frozen=True)
class DataFacts:
    """The numbers of rows that a run read.

    Attributes:
        passages: passages in the source language.
        queries: split -> language -> number of queries.
        translations: language -> number of translated passages.
        missing: language -> number of passages without a translation.
    """

    passages: int
    queries: Mapping[str, Mapping[str, int]]
    translations: Mapping[str, int]
    missing: Mapping[str, int]

    @classmethod
    def count(cls, passages: int, queries: pa.Table, translations: pa.Table, missing: pa.Table) -> "DataFacts":
        """Count the rows of QUERIES (columns split, lang), TRANSLATIONS (lang) and MISSING_TRANSLATIONS (lang)."""
        by_split: dict[str, dict[str, int]] = {}
        for row in queries.group_by(["split", "lang"]).aggregate([([], "count_all")]).sort_by("lang").to_pylist():
            by_split.setdefault(row["split"], {})[row["lang"]] = row["count_all"]
        return cls(passages, by_split, _counts(translations["lang"]), _counts(missing["lang"]))


@dataclass(frozen=True, kw_only=True)
class ReportInput(RunFacts):
    """All that the report of a distillation shows.

    Attributes:
        source_lang: language of the training queries and of the teacher.
        languages: the other languages.
        data: numbers of rows that were read.
        measurements: MEASUREMENTS.
        comparisons: COMPARISONS.
        training_logs: TRAINING_LOG of `student` and, where it was trained, `english_distillation`.
        scores: SCORES of the teacher, whole or a sample. If None, their figure is left out.
        language_shares: system -> language -> share among the ten best of the pooled collection; may be empty.
        asked: the measures in the order of the settings, which decides the one to compare by.
        trained_on: number of evaluated queries that the student was trained with.
        not_evaluated: why nothing was evaluated; empty where something was.
    """

    source_lang: str
    languages: tuple[str, ...]
    data: DataFacts
    measurements: pa.Table
    comparisons: pa.Table
    training_logs: Mapping[str, pa.Table] = field(default_factory=dict)
    scores: pa.Table | None = None
    language_shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    trained_on: int = 0
    not_evaluated: str = ""

    @property
    def collections(self) -> list[str]:
        """The measured collections in the order of tables: the source language, the others, mixed, pooled."""
        return ordered(pc.unique(self.measurements["collection"]).to_pylist(), self.source_lang, self.languages)

    @property
    def mean_languages(self) -> list[str]:
        """The measured languages other than the source language, over which means are taken."""
        return target_languages(self.collections, self.source_lang, self.languages)

    @property
    def queries_of_collections(self) -> dict[str, int]:
        """The number of queries that each collection is measured by."""
        pairs = self.measurements.select(["collection", "query_id"]).group_by(["collection", "query_id"]).aggregate([])
        counts = _counts(pairs["collection"])
        return {name: counts[name] for name in self.collections}

    @property
    def systems(self) -> list[str]:
        """The measured systems, those of `SYSTEMS` first."""
        return sorted(
            pc.unique(self.measurements["system"]).to_pylist(),
            key=lambda system: ([*SYSTEMS, system].index(system), system),
        )

    @property
    def measures(self) -> list[str]:
        """The measures, the one to compare by first."""
        names = pc.unique(self.measurements["measure"]).to_pylist()
        first = primary_measure([*(name for name in self.asked if name in names), *sorted(names)]) if names else ""
        # Other cut-offs of the first measure follow it.
        return sorted(
            names, key=lambda name: (name != first, _family(name) != _family(first), _family(name), len(name), name)
        )


Intervals = dict[str, dict[str, dict[str, plots.Interval]]]
"""system -> collection -> measure -> mean, low, high."""


def summary(inputs: ReportInput) -> dict[str, Any]:
    """Return the content of `summary.json`: JSON values only, none of them NaN.

    - `primary`: the measure to compare by; empty where nothing was evaluated
    - `metrics`: system -> collection -> measure -> mean over the queries
    - `stages`: stage -> seconds, rows, rejected, reused
    - `means`: system -> measure -> mean over `mean_languages`, for systems measured in each of them
    - `mean_languages`: the measured languages other than the source language
    - `queries_of_collections`: collection -> number of its queries: those to which a document in it is relevant
    - `intervals`: as `metrics`, with the two ends of the bootstrap interval; of one query both are its value
    - `comparisons`: the rows of COMPARISONS
    - `training`: system -> steps, first_loss, last_loss
    - `counts`: queries evaluated, those of them that were trained on, passages, translations, missing translations, rejected rows
    - `not_evaluated`: why nothing was evaluated, empty where something was
    - `name`, `source_lang`, `languages`, `confidence`, `versions`
    """
    intervals = _intervals(inputs)
    return inputs.shared_summary() | {
        "source_lang": inputs.source_lang,
        "languages": list(inputs.languages),
        "primary": inputs.measures[0] if inputs.measures else "",
        "metrics": _each(intervals, lambda interval: interval[0]),
        "means": _language_means(intervals, inputs.mean_languages),
        "mean_languages": inputs.mean_languages,
        "queries_of_collections": inputs.queries_of_collections,
        "intervals": _each(intervals, lambda interval: list(interval[1:])),
        "comparisons": COMPARISONS.check(inputs.comparisons).to_pylist(),
        "not_evaluated": inputs.not_evaluated,
        "training": {system: training_summary(log) for system, log in inputs.training_logs.items() if len(log)},
        "counts": {
            "queries": len(pc.unique(inputs.measurements["query_id"])),
            "trained_on": inputs.trained_on,
            "passages": inputs.data.passages,
            "translations": sum(inputs.data.translations.values()),
            "missing_translations": sum(inputs.data.missing.values()),
            "rejected": inputs.rejected_count,
        },
    }


def report(inputs: ReportInput, numbers: Mapping[str, Any]) -> str:
    """Return the HTML report: one file that loads nothing, for light and dark, wide and narrow screens; all text is escaped.

    Args:
        inputs: tables and facts.
        numbers: `summary(inputs)`.
    """
    intervals = {
        system: {
            c: {m: (mean, *numbers["intervals"][system][c][m]) for m, mean in by.items()} for c, by in metrics.items()
        }
        for system, metrics in numbers["metrics"].items()
    }
    name = numbers["primary"]
    primary = (
        {system: {c: by[name] for c, by in intervals[system].items()} for system in inputs.systems} if name else {}
    )
    competitors = [system for system in numbers["means"] if system != _CEILING]
    return inputs.page(
        "report/report.html.j2",
        numbers,
        _figures(inputs, primary, name),
        best_mean=max(competitors, key=lambda system: numbers["means"][system][name], default=""),
        labels=SYSTEMS,
        letters=_LETTERS,
        primary=name,
        rows=_headline(inputs, primary, name),
        intervals=intervals,
        share_languages=ordered(
            {inputs.source_lang, *inputs.languages, *(lang for by in inputs.language_shares.values() for lang in by)},
            inputs.source_lang,
            inputs.languages,
        ),
        uneven=len(set(numbers["queries_of_collections"].values())) > 1,
        test_words=_TEST_WORDS,
        correction_words=_CORRECTION_WORDS,
        measure_words=_measure_words(inputs.measures),
        splits=[split for split in ("train", "dev", "test") if split in inputs.data.queries],
    )


@dataclass(frozen=True)
class _Cell:
    interval: plots.Interval | None
    best: bool = False
    beats: tuple[str, ...] = ()


def _headline(
    inputs: ReportInput, primary: Mapping[str, Mapping[str, plots.Interval]], name: str
) -> list[tuple[str, list[_Cell]]]:
    """Return the first table: a row for each collection, a cell for each system."""
    rows = []
    alpha = 1 - inputs.confidence
    significant = [
        row for row in inputs.comparisons.to_pylist() if row["measure"] == name and row["p_corrected"] < alpha
    ]
    for collection in inputs.collections:
        # The teacher reads the source language only, and costs too much for a search engine: it is a ceiling, not a competitor.
        best = max(
            (by[collection][0] for system, by in primary.items() if system != _CEILING and collection in by),
            default=-1.0,
        )
        cells = []
        for system in inputs.systems:
            interval = primary[system].get(collection)
            wins = [
                str(row["baseline"] if row["difference"] > 0 else row["system"])
                for row in significant
                if row["collection"] == collection
                and system == (row["system"] if row["difference"] > 0 else row["baseline"])
            ]
            # Sums of the same values in another order differ in their last bits.
            is_best = interval is not None and abs(interval[0] - best) < _SAME
            cells.append(_Cell(interval, is_best, tuple(_LETTERS.get(loser, loser) for loser in wins)))
        rows.append((collection, cells))
    return rows


def _figures(inputs: ReportInput, primary: Mapping[str, Mapping[str, plots.Interval]], name: str) -> dict[str, str]:
    """Return title -> SVG of the figures for which there are numbers."""
    figures = {}
    if primary:
        figures["quality"] = plots.quality_bars(primary, inputs.collections, SYSTEMS, name)
    logs = {system: log for system, log in inputs.training_logs.items() if len(log)}
    if logs:
        figures["training"] = plots.training_curves(logs, SYSTEMS)
    if inputs.scores is not None and pc.sum(pc.list_value_length(inputs.scores["scores"])).as_py():
        figures["scores"] = plots.score_distribution(inputs.scores)
    return figures


def _intervals(inputs: ReportInput) -> Intervals:
    """Return mean and bootstrap interval of every system, collection and measure, in the order of tables."""
    table = MEASUREMENTS.check(inputs.measurements).sort_by(
        [(key, "ascending") for key in ("system", "collection", "measure", "query_id")]
    )
    values: dict[tuple[str, str, str], list[float]] = {}
    columns = (table[column].to_pylist() for column in ("system", "collection", "measure", "value"))
    for system, collection, measure, value in zip(*columns, strict=True):
        values.setdefault((system, collection, measure), []).append(value)
    intervals: Intervals = {}
    for system in inputs.systems:
        for collection in inputs.collections:
            for measure in inputs.measures:
                if (system, collection, measure) in values:
                    numbers = np.array(values[system, collection, measure])
                    interval = (float(numbers.mean()), *bootstrap_interval(numbers, inputs.confidence))
                    intervals.setdefault(system, {}).setdefault(collection, {})[measure] = interval
    return intervals


def _each(intervals: Intervals, part: Callable[[plots.Interval], float | list[float]]) -> dict[str, Any]:
    return {
        system: {c: {m: part(i) for m, i in by.items()} for c, by in collections.items()}
        for system, collections in intervals.items()
    }


def _language_means(intervals: Intervals, languages: Sequence[str]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for system, collections in intervals.items():
        if languages and all(language in collections for language in languages):
            measures = collections[languages[0]]
            means[system] = {
                m: float(np.mean([collections[language][m][0] for language in languages])) for m in measures
            }
    return means


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {
        row["values"]: row["counts"]
        for row in sorted(pc.value_counts(column).to_pylist(), key=lambda row: row["values"])
    }


def _family(measure: str) -> str:
    """Return a measure's name without cut-off and parameters: `nDCG` of `nDCG@20`, `AP` of `AP(rel=2)@100`."""
    return measure.partition("@")[0].partition("(")[0]


def _measure_words(measures: Sequence[str]) -> dict[str, str]:
    """Return names of measures -> their meaning, those of one kind together."""
    together: dict[str, list[str]] = {}
    for measure in measures:
        together.setdefault(_family(measure), []).append(measure)
    return {", ".join(names): _MEASURE_WORDS[family] for family, names in together.items() if family in _MEASURE_WORDS}
