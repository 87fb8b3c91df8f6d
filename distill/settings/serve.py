"""The index, its evaluation, the endpoint and the cluster."""

from typing import ClassVar

from pydantic import Field

from distill.settings.base import Language, PoolSettings, Settings, Split
from distill.sources.settings import Source


class IndexSettings(Settings):
    """The index stage: token vectors of every passage in every language."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool"})
    passages_per_shard: int = Field(default=10_000, ge=1)
    """Passages in a shard, the unit of commit and retry."""
    tokens_per_batch: int = Field(default=16_384, ge=64)
    """Padded tokens in a batch."""
    pool: PoolSettings = PoolSettings()
    """The actors."""


class EvaluateSettings(Settings):
    """The evaluate stage."""

    split: Split = "test"
    """Queries to evaluate."""
    query_lang: Language | None = None
    """Their language; none: `source_lang`."""
    source: Source | None = None
    """Another source of documents, queries and qrels to evaluate on; none: the job's own."""
    depth: int = Field(default=1000, ge=1)
    """Documents in a run for each query."""
    measures: tuple[str, ...] = ("nDCG@10", "nDCG@20", "AP", "R@100", "R@1000", "RR@10")
    """Measures in the notation of ir_measures."""
    english_baseline: bool = True
    """Whether a second student is trained on source-language passages only (English-only distillation) to compare with."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the confidence intervals."""


class ServeSettings(Settings):
    """The search endpoint."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` opens it to the network."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    replicas: int = Field(default=1, ge=1)
    """Copies of the encoder and of the index."""
    max_k: int = Field(default=1000, ge=1)
    """Most results that a request may ask for."""
    max_query_characters: int = Field(default=4096, ge=1)
    """Longest query that a request may send."""
    max_batch_size: int = Field(default=32, ge=1)
    """Queries encoded at once."""
    batch_wait_s: float = Field(default=0.005, ge=0)
    """How long a query waits for others to be encoded with it."""


class ClusterSettings(Settings):
    """The Ray cluster."""

    address: str | None = None
    """Cluster to connect to; none: RAY_ADDRESS (set inside a submitted job), or else a local Ray that ends with the job."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs of a local Ray; none: those of the machine, and at least two."""
    autoscales: bool = False
    """Whether nodes are added on demand. If not, a job that asks for more than the cluster has is refused at once."""
