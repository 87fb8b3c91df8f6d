"""Teachers."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import PoolSettings, Settings
from distill.encoders.settings import Dtype, PooledEncoder
from distill.formats.settings import ScoreFormat, ScoreUnit
from distill.settings.base import Language


class TransformersEngine(Settings):
    """The model runs in PyTorch through transformers: the reference of every other engine."""

    type: Literal["transformers"] = "transformers"


class VllmEngine(Settings):
    """The model runs in vLLM, on the token ids that we compose, in an environment of its own (`score.pool.runtime_env`)."""

    execution: ClassVar[frozenset[str]] = frozenset({"tensor_parallel_size"})
    type: Literal["vllm"] = "vllm"
    task: Literal["classify", "generate"] = "classify"
    """`classify` computes the logit in float32, of a causal model from the rows of its output matrix for the two answers; `generate`
    reads the two answers' log-probabilities of a causal model's first token, for architectures that vLLM cannot classify with."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that share one model; `score.pool.num_gpus` is how many each actor reserves."""
    enable_prefix_caching: bool = True
    """Keep what was computed of prompt and query for the next passage (causal models; pairs are sorted by their beginnings for it)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other arguments of `vllm.LLM`, passed as they are (`max_model_len`, `gpu_memory_utilization`, `enforce_eager` ...)."""


Engine = Annotated[TransformersEngine | VllmEngine, Field(discriminator="type")]


class BiEncoderTeacher(PooledEncoder):
    """A single-vector encoder: the score is the inner product of two vectors.

    A sentence-transformers folder says itself how it pools, projects (Dense) and normalises, and which prompts it has. A setting that
    contradicts it is an error.
    """


class LateInteractionTeacher(Settings):
    """A late-interaction model in the HF_ColBERT layout: the score is MaxSim."""

    type: Literal["late_interaction"] = "late_interaction"
    model: str
    """Hugging Face id or local folder, with artifact.metadata; query and passage lengths are its own."""
    revision: str | None = None
    """Commit on the hub."""


class CrossEncoderTeacher(Settings):
    """A sequence-classification model with one label that reads query and passage together; the score is its logit."""

    type: Literal["cross_encoder"] = "cross_encoder"
    model: str
    """Hugging Face id or local folder."""
    revision: str | None = None
    """Commit on the hub."""
    max_tokens: int = Field(default=512, ge=8)
    """Longest pair; only the passage is truncated, never the query."""
    engine: Engine = TransformersEngine()
    """The engine that computes it."""


class MonoT5Teacher(Settings):
    """A T5 or mT5 that answers `Query: ... Document: ... Relevant:` with true or false; the score is the log-odds (arXiv 2003.06713)."""

    type: Literal["monot5"] = "monot5"
    model: str
    """Hugging Face id or local folder."""
    revision: str | None = None
    """Commit on the hub."""
    answers: tuple[str, str] | None = None
    """The tokens of false and true, as the tokenizer spells them (`["▁false", "▁true"]`). If None, those that the published
    checkpoint was trained with, and an error for a checkpoint that is not known."""
    max_tokens: int = Field(default=512, ge=16)
    """Longest input; only the passage is truncated, never the query or `Relevant:`."""


class PromptSettings(Settings):
    """The text around query and passage, for a causal teacher that is not in the table of known ones.

    The whole is tokenised as one text; a prompt whose end of `before_passage` the tokenizer would merge with a passage is refused. No
    special tokens are added, so a model that wants a start token has it in `before_query`.
    """

    before_query: str
    """Text before the query, special tokens spelled out."""
    before_passage: str
    """Text between query and passage."""
    after_passage: str
    """Text after the passage, up to where the answer begins."""
    no: str | None = None
    """The token of the negative answer, as the tokenizer spells it. If None, the score is the logit of `yes` alone."""
    yes: str
    """The token of the positive answer, as the tokenizer spells it (`Ġyes` or `▁yes` where a space comes before it)."""


class CausalTeacher(Settings):
    """A causal language model that answers yes or no; the score is the difference of the two logits, or that of yes alone."""

    type: Literal["causal"] = "causal"
    model: str
    """Hugging Face id or local folder."""
    revision: str | None = None
    """Commit on the hub."""
    prompt: Literal["qwen3", "bge_gemma", "mxbai"] | PromptSettings = "qwen3"
    """Qwen3-Reranker, bge-reranker-v2-gemma, mxbai-rerank-v2, or a prompt of your own."""
    instruction: str | None = None
    """The meaning of relevance, for the known prompts. If None, the model's own default."""
    max_tokens: int = Field(default=1024, ge=32)
    """Longest prompt; only the passage is truncated."""
    engine: Engine = TransformersEngine()
    """The engine that computes it."""

    @model_validator(mode="after")
    def _one_prompt(self) -> "CausalTeacher":
        if self.instruction is not None and isinstance(self.prompt, PromptSettings):
            raise ValueError("instruction is for the known prompts; write it into prompt.before_query")
        return self


class HttpTeacher(Settings):
    """A server that scores pairs over HTTP."""

    execution: ClassVar[frozenset[str]] = frozenset(
        {"key_variable", "concurrency", "timeout_s", "attempts", "longest_wait_s"}
    )
    type: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://[^@]+$")
    """The endpoint, with its path (`http://host:8000/score`, `http://host:8080/rerank`). No user or password: see `key_variable`."""
    api: Literal["vllm_score", "tei_rerank", "cohere_rerank"]
    """Its protocol: vLLM's /score; text-embeddings-inference's /rerank; Cohere's /rerank, which Jina and vLLM serve too."""
    model: str = ""
    """The model's name there, sent where the protocol takes it, and recorded."""
    key_variable: str | None = None
    """Environment variable of the workers with a bearer token. If None, no token."""
    concurrency: int = Field(default=8, ge=1)
    """Requests that each actor has open at once."""
    pairs_per_request: int = Field(default=32, ge=1)
    """Passages in a request, all of one query; 32 is text-embeddings-inference's own limit (`--max-client-batch-size`).
    Decides the scores of a listwise reranker, which reads the passages of a request together."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds that a request may take."""
    attempts: int = Field(default=6, ge=1)
    """Number of times that a request is sent before the stage fails, waiting longer each time or as long as Retry-After says."""
    longest_wait_s: float = Field(default=600.0, gt=0)
    """A server that asks for a longer wait than this (Retry-After) fails the stage."""
    raw_scores: bool = True
    """Ask for raw logits (`use_activation: false`, `raw_scores: true`). Cohere's protocol cannot, so it wants `false` here: its scores
    are activated, between 0 and 1 as a rule, and may be saturated."""
    max_passage_tokens: int | None = Field(default=None, ge=1)
    """Longest passage, cut by the server where its protocol can (`max_tokens_per_doc` of vLLM, Cohere). If None, the server's default."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Other fields of each request's JSON, sent as they are (`{instruction: ...}` for vLLM)."""

    @model_validator(mode="after")
    def _protocol_can(self) -> "HttpTeacher":
        if self.api == "cohere_rerank" and self.raw_scores:
            raise ValueError(
                "cohere_rerank has no raw scores; set raw_scores to false and accept activated ones, or use vllm_score or tei_rerank"
            )
        if self.api == "tei_rerank" and self.max_passage_tokens is not None:
            raise ValueError("tei_rerank has no max_passage_tokens: that server cuts pairs at the model's own length")
        return self


class ImportedTeacher(Settings):
    """Scores that exist already."""

    type: Literal["imported"] = "imported"
    files: tuple[str, ...] = Field(min_length=1)
    """Score files, or folders of them, local or s3://, optionally .gz."""
    format: ScoreFormat
    """`tdist`: a JSON list `["query", ["passage", score], ...]` a line, the layout of hltcoe/tdist-msmarco-scores; `trec`: a TREC run."""
    unit: ScoreUnit
    """What the scores are: `log_probability` (log p(true), as monoT5's code and hltcoe/tdist-msmarco-scores hold it), `log_odds` (a logit
    before the sigmoid), or `similarity` (cosines, MaxSim, BM25 and others without a probability)."""
    name: str
    """The teacher that made them, recorded with the scores."""
    missing: Literal["error", "reject"] = "error"
    """The treatment of candidates without a score."""


ModelTeacher = (
    BiEncoderTeacher | LateInteractionTeacher | CrossEncoderTeacher | MonoT5Teacher | CausalTeacher | HttpTeacher
)
"""The teachers that compute scores: all but imported scores and ensembles."""
SingleTeacher = Annotated[ModelTeacher | ImportedTeacher, Field(discriminator="type")]


class EnsembleTeacher(Settings):
    """Several teachers, each of which scores every candidate."""

    type: Literal["ensemble"] = "ensemble"
    teachers: tuple[SingleTeacher, ...] = Field(min_length=2)
    """The teachers. Each has a stage, tables and a part in the teacher report of its own."""
    method: Literal["z_score", "reciprocal_rank"] = "z_score"
    """Mean of the scores after each query's are shifted and scaled to mean 0 and deviation 1, or sum of 1 / (60 + rank)
    (reciprocal rank fusion, Cormack et al. 2009)."""


Teacher = Annotated[ModelTeacher | ImportedTeacher | EnsembleTeacher, Field(discriminator="type")]


def unit_of(teacher: SingleTeacher) -> ScoreUnit:
    """Return the unit of a teacher's raw scores.

    The logit of a cross-encoder is log-odds, as its sigmoid is the probability of relevance. A causal teacher's score is, where it is the
    difference of two answers; the logit of one answer alone says nothing of the others. What a server makes of raw scores is not known.
    """
    match teacher:
        case ImportedTeacher():
            return teacher.unit
        case MonoT5Teacher() | CrossEncoderTeacher():
            return "log_odds"
        case CausalTeacher():
            alone = (
                teacher.prompt.no is None
                if isinstance(teacher.prompt, PromptSettings)
                else teacher.prompt == "bge_gemma"
            )
            return "similarity" if alone else "log_odds"
        case HttpTeacher():
            return "log_odds" if teacher.raw_scores else "similarity"
        case _:
            return "similarity"


class CalibrationSettings(Settings):
    """From raw scores to those that examples are made of: `score / temperature`, of the score in `unit`.

    Turn `temperature` to set what examples, thresholds on scores (`mix.negatives`) and exported files hold, `fit` to let the judgements
    decide it. To change only how sharp the teacher's distribution is in the loss, turn `train.loss.teacher_scale`: then no score is
    computed again.
    """

    unit: Literal["log_odds", "log_probability"] = "log_odds"
    """The score of teachers that have a probability p of relevance (monoT5, cross-encoders, causal ones with two answers, imported scores
    that are either): `log_odds` is log p/(1-p), which does not saturate; `log_probability` is log p, the target of arXiv 2401.04810 and
    2405.00977 and of the released score files. An ensemble joins its teachers' scores in this unit. Similarities stay as they are."""
    temperature: float | Literal["fit"] = 1.0
    """Divides the scores; `fit` takes the one that gives the judged passages of `split` queries the highest likelihood under the
    softmax over each query's candidates (temperature scaling, arXiv 1706.04599)."""
    split: Literal["train", "dev"] = "dev"
    """The queries that `fit` looks at."""

    @model_validator(mode="after")
    def _positive(self) -> "CalibrationSettings":
        if self.temperature != "fit" and not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature {self.temperature} is not a number above 0, nor 'fit'")
        return self


class TeacherCheckSettings(Settings):
    """When a teacher is suspicious. Each limit holds for the whole table of its scores."""

    execution: ClassVar[frozenset[str]] = frozenset({"allow"})
    allow: tuple[Literal["constant", "random", "saturated", "not_finite", "truncated"], ...] = ()
    """Suspicions that do not stop the job."""
    constant_share: float = Field(default=0.5, gt=0, le=1)
    """`constant`: more than this share of the queries with several candidates have scores that are all equal (to 1e-6 of their size)."""
    random_margin: float = Field(default=2.0, ge=0)
    """`random`: where judgements exist, the share of queries whose best candidate is judged relevant is within so many standard errors
    of what a random order gives."""
    random_queries: int = Field(default=20, ge=1)
    """Fewest judged queries to look at for `random`."""
    saturated_share: float = Field(default=0.2, gt=0, le=1)
    """`saturated`: more than this share of the scores lie at exactly the table's smallest or largest value."""
    not_finite_share: float = Field(default=0.001, ge=0, le=1)
    """`not_finite`: more than this share of the pairs got no finite score."""
    truncated_share: float = Field(default=0.5, gt=0, le=1)
    """`truncated`: more than this share of the pairs were cut."""


class ScoreSettings(Settings):
    """The score stage: the teacher reads every candidate."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool", "shard_seconds", "check", "calibration"})
    teacher: Teacher = BiEncoderTeacher()
    """The teacher."""
    query_lang: Language | None = None
    """Language in which the teacher reads queries. If None, `source_lang`."""
    passage_lang: Language | None = None
    """Language in which the teacher reads passages. If None, `source_lang`."""
    tokens_per_batch: int = Field(default=16_384, ge=64)
    """Padded tokens in a batch."""
    queries_per_shard: int | None = Field(default=None, ge=1)
    """Queries in a shard, the unit of commit and retry. If None, as many as take `shard_seconds`, measured on the first ones."""
    shard_seconds: float = Field(default=60.0, gt=0)
    """Seconds that a shard should take an actor."""
    dtype: Dtype = "float32"
    """Precision of the model's body; scores are float32."""
    calibration: CalibrationSettings = CalibrationSettings()
    """The treatment of raw scores before examples are made of them."""
    check: TeacherCheckSettings = TeacherCheckSettings()
    """The teacher report's limits."""
    pool: PoolSettings = PoolSettings()
    """The actors."""

    @model_validator(mode="after")
    def _has_probability(self) -> "ScoreSettings":
        lacking = [
            teacher.type for teacher, unit in zip(self.teachers, self.units, strict=True) if unit == "similarity"
        ]
        if self.calibration.unit == "log_probability" and lacking:
            raise ValueError(
                f"calibration.unit 'log_probability', but the scores of a {lacking[0]} teacher, as it is set, are no log-odds; leave it out"
            )
        return self

    @property
    def teachers(self) -> tuple[SingleTeacher, ...]:
        """The teachers: the members of an ensemble, or the only one."""
        return self.teacher.teachers if isinstance(self.teacher, EnsembleTeacher) else (self.teacher,)

    @property
    def units(self) -> tuple[ScoreUnit, ...]:
        """The unit of each teacher's raw scores."""
        return tuple(unit_of(teacher) for teacher in self.teachers)
