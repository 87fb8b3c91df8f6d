"""Settings of the retrieve and evaluate stages."""

from pydantic import Field

from cluster.settings import Settings
from distill.settings.base import Correction, Language, Sides, Split
from distill.sources.settings import Source


class EvaluateSettings(Settings):
    """The evaluate stage."""

    split: Split = "test"
    """Split of the queries to evaluate."""
    query_lang: Language | None = None
    """Language of the queries. If None, `source_lang`."""
    source: Source | None = None
    """Another source of documents, queries and qrels to evaluate on. If None, the job's own."""
    depth: int = Field(default=1000, ge=1)
    """Documents in a run for each query."""
    measures: tuple[str, ...] = Field(default=("nDCG@10", "nDCG@20", "AP", "R@100", "R@1000", "RR@10"), min_length=1)
    """Measures in the notation of ir_measures. Comparisons and tables are of nDCG@20 if it is among them, else of the first."""
    english_baseline: bool = True
    """If true, a second student is trained on passages in the source language only (English-only distillation), to compare with."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the confidence intervals; a difference is significant where its corrected p-value is below 1 - confidence."""
    test: Sides = "two_sided"
    """The paired t-test of the student and a baseline: `two_sided` asks whether they differ, `one_sided` whether the student is better
    (arXiv 2401.04810 and 2405.00977)."""
    correction: Correction = "holm"
    """Correction of the p-values for the number of comparisons, over all collections and baselines of the job: `holm`, or `bonferroni`
    (the papers'), whose p-values are never smaller."""
