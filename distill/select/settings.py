"""Selectors: which passages the teacher scores."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cluster.settings import PoolSettings, Settings
from distill.encoders.settings import Dtype, PooledEncoder
from distill.formats.settings import RunOrder, ScoreFormat
from distill.settings.base import Language


class Bm25Selector(Settings):
    """BM25 (bm25s, Lucene variant) over the passages in `select.passage_lang`."""

    type: Literal["bm25"] = "bm25"
    top_k: int = Field(default=50, ge=1)
    """Candidates for each query (50: arXiv 2401.04810)."""
    k1: float = Field(default=0.9, ge=0)
    """Term-frequency saturation (0.9: the Anserini default used by the papers' BM25 runs)."""
    b: float = Field(default=0.4, ge=0, le=1)
    """Length normalisation (0.4: as above)."""
    fill: bool = True
    """If true, queries that share a term with fewer than `top_k` passages get random others, after those that match."""


class RunSelector(Settings):
    """Candidates from a TREC run file, of any retriever."""

    type: Literal["run"] = "run"
    path: str
    """The run file, local or s3://, optionally .gz."""
    top_k: int = Field(default=50, ge=1)
    """Candidates for each query, the best ones."""
    order: RunOrder = "agreed"
    """What says which passages are best. `score`: the scores, as in trec_eval; ranks are not read. `rank`: the ranks; scores are not read.
    `agreed`: the scores, and a query whose ranks contradict them is an error; ranks that are all equal (BEIR writes 0) say nothing."""


class ScoredSelector(Settings):
    """The passages that score files list: candidates for an `imported` teacher that reads the same files."""

    type: Literal["scored"] = "scored"
    files: tuple[str, ...] = Field(min_length=1)
    """Score files, or folders of them, local or s3://, optionally .gz."""
    format: ScoreFormat
    """`tdist`: a JSON list `["query", ["passage", score], ...]` a line, the layout of hltcoe/tdist-msmarco-scores; `trec`: a TREC run."""
    top_k: int = Field(default=50, ge=1)
    """Candidates for each query, highest score first (50: the lists of hltcoe/tdist-msmarco-scores, arXiv 2401.04810)."""
    unknown: Literal["error", "leave_out"] = "error"
    """Treatment of listed passages that the source lacks. `leave_out` counts them: for a source that holds a part of the collection that
    was scored. Listed queries that the source lacks are counted in either case."""


class DenseSelector(Settings):
    """The passages whose vectors have the largest inner product with the query's, by any single-vector encoder."""

    type: Literal["dense"] = "dense"
    encoder: PooledEncoder = PooledEncoder()
    """The encoder (its `type` may be left out)."""
    top_k: int = Field(default=50, ge=1)
    """Candidates for each query."""
    factory: str | None = None
    """A FAISS index by its factory string (`IVF4096,PQ48`, `HNSW32` ...), approximate and held in memory by every actor. If None, the
    search is exact and reads the vectors from storage by the block."""
    nprobe: int = Field(default=64, ge=1)
    """Lists that an IVF index visits for each query."""
    training_vectors: int = Field(default=400_000, ge=1)
    """Vectors that an index is trained on, drawn from all of them; FAISS wants 39 to 256 for each IVF list."""
    passages_per_shard: int = Field(default=20_000, ge=1)
    """Passages encoded in a shard, the unit of commit and retry."""
    tokens_per_batch: int = Field(default=16_384, ge=64)
    """Padded tokens in a batch."""
    dtype: Dtype = "float32"
    """Precision of the encoder; its vectors are float32."""

    @property
    def model(self) -> str:
        """The encoder's model."""
        return self.encoder.model


class LateInteractionSelector(Settings):
    """The passages with the largest MaxSim, exactly, by a late-interaction model in the HF_ColBERT layout.

    Every query meets every token vector, so it is meant for collections of up to some hundred thousand passages, or for GPUs.
    """

    type: Literal["late_interaction"] = "late_interaction"
    model: str
    """Local folder or Hugging Face id, with artifact.metadata; query and passage lengths are its own."""
    revision: str | None = None
    """Commit on the hub."""
    top_k: int = Field(default=50, ge=1)
    """Candidates for each query."""
    passages_per_shard: int = Field(default=5_000, ge=1)
    """Passages encoded in a shard, the unit of commit and retry."""
    tokens_per_batch: int = Field(default=16_384, ge=64)
    """Padded tokens in a batch."""


Selector = Annotated[
    Bm25Selector | RunSelector | ScoredSelector | DenseSelector | LateInteractionSelector,
    Field(discriminator="type"),
]


class SelectSettings(Settings):
    """The select stage: which passages the teacher scores for each query."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool"})
    by: Selector = Bm25Selector()
    """The selector."""
    query_lang: Language | None = None
    """Language in which the selector reads queries. If None, `source_lang`."""
    passage_lang: Language | None = None
    """Language in which the selector reads passages; any but `source_lang` is read from the translations. If None, `source_lang`."""
    add_judged: bool = False
    """If true, passages that are judged relevant join the candidates of training and development queries, after the selected ones, so that
    the teacher scores them too; of documents that are judged relevant all passages do. Test judgements are never read."""
    queries_per_shard: int = Field(default=20_000, ge=1)
    """Queries in a shard, the unit of commit and retry."""
    pool: PoolSettings = PoolSettings()
    """The actors."""
