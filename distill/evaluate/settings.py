"""Settings of the retrieve and evaluate stages."""

from pydantic import Field

from cluster.settings import Settings
from distill.settings.base import Language, Split
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
    measures: tuple[str, ...] = ("nDCG@10", "nDCG@20", "AP", "R@100", "R@1000", "RR@10")
    """Measures in the notation of ir_measures."""
    english_baseline: bool = True
    """If true, a second student is trained on passages in the source language only (English-only distillation), to compare with."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the confidence intervals."""
