"""The configuration of a job: YAML files, overridden by `POLYRAY_*` environment variables, overridden by the command line.

Field defaults are the papers' own where a paper has one (the docstring says which); `jobs/configs/` holds whole configurations. Nothing
here imports torch or ray, so a configuration can be written, checked and planned anywhere.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

Split = Literal["train", "dev", "test"]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")]
"""A language code as in BCP 47 (`en`, `zh`, `pt-BR`)."""


class ConfigError(ValueError):
    """The configuration cannot be used. The message is one line that names the setting, its value and what was expected."""


class Settings(BaseModel):
    """Base of every group of settings: immutable, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    execution: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how the work is done, not what comes out."""

    def identity(self) -> dict[str, Any]:
        """The settings that decide what comes out, as JSON values: part of a stage's hash."""
        content = self.model_dump(mode="json")
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in self.execution:
                del content[name]
            elif isinstance(value, Settings):
                content[name] = value.identity()
        return content


# --- where text comes from -----------------------------------------------------------------------------------------------------------


class BundledSource(Settings):
    """The parallel corpus in seven languages that ships with the project: no download."""

    type: Literal["bundled"] = "bundled"


class PassageFields(Settings):
    """Names of the fields of a passage in JSONL and Parquet files. TSV files have the columns id, text and optionally title."""

    id: str = "id"
    """Field with the passage id."""
    text: str = "text"
    """Field with the body."""
    title: str | None = None
    """Field with the title; none: passages have no titles."""
    doc_id: str | None = None
    """Field with the document id; none: the passage's own id."""
    lang: str | None = None
    """Field with the language code; none: every passage is in `source_lang`."""


class QueryFields(Settings):
    """Names of the fields of a query in JSONL and Parquet files. TSV files have the columns id and text."""

    id: str = "id"
    """Field with the query id."""
    text: str = "text"
    """Field with the query's text."""
    lang: str | None = None
    """Field with the language code; none: every query is in `source_lang`."""
    split: str | None = None
    """Field with `train`, `dev` or `test`; none: every query is in `split`."""


class FileSource(Settings):
    """Your own files: JSONL, JSONL.gz, TSV (MS MARCO layout) or Parquet, on local disk or s3://."""

    type: Literal["files"] = "files"
    root: str = ""
    """Folder, local or s3://, that relative paths below start from; empty: the current directory."""
    passages: tuple[str, ...] = Field(min_length=1)
    """Passage files, or folders of them. Rows in other languages than `source_lang` are translations, found by their ids."""
    queries: tuple[str, ...] = Field(min_length=1)
    """Query files, or folders of them."""
    qrels: tuple[str, ...] = ()
    """TREC qrels files (query, 0, passage, grade). Needed for queries that are evaluated; training needs none."""
    passage_fields: PassageFields = PassageFields()
    """Names of the passage fields."""
    query_fields: QueryFields = QueryFields()
    """Names of the query fields."""
    split: Split = "train"
    """The split of every query where `query_fields.split` is none."""
    languages: tuple[Language, ...] = ()
    """Keep only rows in these languages (and `source_lang`); empty: `languages` of the job."""


class BeirSource(Settings):
    """A folder in the BEIR layout: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv, each optionally .gz."""

    type: Literal["beir"] = "beir"
    path: str
    """The folder, local or s3://."""


class IrDatasetsSource(Settings):
    """Data sets of the ir_datasets package, by id."""

    type: Literal["ir_datasets"] = "ir_datasets"
    passages: dict[Language, str] = Field(min_length=1)
    """Language to data-set id, for example `{en: msmarco-passage, zh: neumarco/zh}`. Versions of a passage share its id."""
    queries: dict[Split, str] = Field(min_length=1)
    """Split to data-set id, for example `{train: msmarco-passage/train, test: neuclir/1/zh/trec-2022}`. Qrels come along."""


Source = Annotated[BundledSource | FileSource | BeirSource | IrDatasetsSource, Field(discriminator="type")]


# --- stages --------------------------------------------------------------------------------------------------------------------------


class PoolSettings(Settings):
    """The actors of a batch stage."""

    min_actors: int = Field(default=1, ge=1)
    """Actors that start at once."""
    max_actors: int = Field(default=1, ge=1)
    """Actors that the pool may grow to."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each actor. It computes with as many threads, at least one."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs for each actor; fractions share one."""
    max_restarts: int = Field(default=3, ge=0)
    """How often a shard whose actor died is tried again before the stage fails."""

    @model_validator(mode="after")
    def _ordered(self) -> "PoolSettings":
        if self.min_actors > self.max_actors:
            message = f"min_actors {self.min_actors} is more than max_actors {self.max_actors}"
            raise ValueError(message)
        return self


class Bm25Selector(Settings):
    """BM25 over the source-language passages (bm25s, Lucene variant)."""

    type: Literal["bm25"] = "bm25"
    top_k: int = Field(default=50, ge=1)
    """Candidates for each query (50: arXiv 2401.04810)."""
    k1: float = Field(default=0.9, ge=0)
    """Term-frequency saturation (0.9: the Anserini default used by the papers' BM25 runs)."""
    b: float = Field(default=0.4, ge=0, le=1)
    """Length normalisation (0.4: as above)."""
    fill: bool = True
    """Whether queries that share a term with fewer than `top_k` passages get random others, after the found ones."""


class RunSelector(Settings):
    """Candidates from a TREC run file, of any retriever."""

    type: Literal["run"] = "run"
    path: str
    """The run file, local or s3://, optionally .gz."""
    top_k: int = Field(default=50, ge=1)
    """Candidates for each query, by rank."""


Selector = Annotated[Bm25Selector | RunSelector, Field(discriminator="type")]


class SelectSettings(Settings):
    """The select stage: which passages the teacher scores for each query."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool"})
    by: Selector = Bm25Selector()
    """The selector."""
    queries_per_shard: int = Field(default=20_000, ge=1)
    """Queries in a shard, the unit of commit and retry."""
    pool: PoolSettings = PoolSettings()
    """The actors."""


class PrecomputedTranslator(Settings):
    """Translations that exist already, as the papers use neuMARCO."""

    type: Literal["precomputed"] = "precomputed"
    files: dict[Language, tuple[str, ...]] = {}
    """Language to passage files, or folders of them, in that language (formats as for a file source)."""
    fields: PassageFields = PassageFields()
    """Names of the fields in `files`."""
    ir_datasets: dict[Language, str] = {}
    """Language to ir_datasets id, for example `{zh: neumarco/zh}`."""


class TranslateSettings(Settings):
    """The translate stage: passages in every target language, under the ids of their sources."""

    by: PrecomputedTranslator = PrecomputedTranslator()
    """The translator. Parallel passages that came with the source are always used."""
    max_missing: float = Field(default=0.1, ge=0, le=1)
    """Share of the passages that may lack a translation into one language before the stage fails. Each is listed anyway."""


class BiEncoderTeacher(Settings):
    """A single-vector encoder: the score is the inner product of pooled token states."""

    type: Literal["bi_encoder"] = "bi_encoder"
    model: str = "bundled:all-MiniLM-L6-v2"
    """Hugging Face id or local folder; `bundled:all-MiniLM-L6-v2` is the encoder of the `embedded` extra."""
    revision: str | None = None
    """Commit on the hub."""
    pooling: Literal["mean", "cls"] = "mean"
    """How token states become one vector."""
    normalize: bool = True
    """Whether vectors have length 1, so that scores are cosines."""
    query_prefix: str = ""
    """Text before each query (some encoders want an instruction)."""
    passage_prefix: str = ""
    """Text before each passage."""
    max_query_tokens: int = Field(default=64, ge=4)
    """Longer queries are truncated."""
    max_passage_tokens: int = Field(default=256, ge=4)
    """Longer passages are truncated."""


class CrossEncoderTeacher(Settings):
    """A sequence-classification model with one label that reads query and passage together; the score is its logit."""

    type: Literal["cross_encoder"] = "cross_encoder"
    model: str
    """Hugging Face id or local folder."""
    revision: str | None = None
    """Commit on the hub."""
    max_tokens: int = Field(default=512, ge=8)
    """Longest pair; only the passage is truncated, never the query."""


Teacher = Annotated[BiEncoderTeacher | CrossEncoderTeacher, Field(discriminator="type")]


class ScoreSettings(Settings):
    """The score stage: the teacher reads every candidate in the source language."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool"})
    teacher: Teacher = BiEncoderTeacher()
    """The teacher."""
    tokens_per_batch: int = Field(default=16_384, ge=64)
    """Padded tokens in a batch."""
    queries_per_shard: int = Field(default=500, ge=1)
    """Queries in a shard, the unit of commit and retry."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model's body; scores are float32."""
    pool: PoolSettings = PoolSettings()
    """The actors."""


class MixSettings(Settings):
    """The mix stage: n-way examples from scores and translations (arXiv 2405.00977)."""

    strategy: Literal["mix_passages", "mix_entries", "round_robin", "single"] = "mix_passages"
    """Languages within an example: each passage its own draw; one draw for all; every language in turn; only `language`."""
    languages: tuple[Language, ...] = ()
    """Languages to draw from; empty: the job's `languages`."""
    language: Language | None = None
    """The one language of `single` (Translate-Distill, arXiv 2401.04810)."""
    n_way: int = Field(default=6, ge=2)
    """Passages in an example, drawn at random from the candidates (6 of 50: the released models)."""
    draw_from: int | None = Field(default=None, ge=2)
    """Draw from this many candidates, best first; none: from all of them."""
    group: int = Field(default=1, ge=1)
    """Queries that share their passages: each is scored against all that were drawn for its group (in-batch distillation).
    The teacher must have scored every such pair, which takes a `select.by.top_k` of the whole collection."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the training queries, each with draws of its own."""

    @model_validator(mode="after")
    def _language_of_single(self) -> "MixSettings":
        if self.draw_from is not None and self.draw_from < self.n_way:
            message = f"draw_from {self.draw_from} is less than n_way {self.n_way}"
            raise ValueError(message)
        if self.group > 1 and self.strategy == "round_robin":
            message = f"group {self.group} with strategy 'round_robin', whose examples repeat in every language; group them by batch_size"
            raise ValueError(message)
        if (self.strategy == "single") != (self.language is not None):
            message = f"strategy '{self.strategy}' with language {self.language!r}: 'single' needs a language, the others take none"
            raise ValueError(message)
        return self


class PretrainedStudent(Settings):
    """A student that starts from a checkpoint: HF_ColBERT, or any Hugging Face encoder, to which a projection is added."""

    type: Literal["pretrained"] = "pretrained"
    model: str = "xlm-roberta-large"
    """Hugging Face id or local folder; `bundled:student` is the small multilingual one that ships with the project."""
    revision: str | None = None
    """Commit on the hub."""


class FreshStudent(Settings):
    """A small transformer with random weights and a tokenizer trained on the job's own passages."""

    type: Literal["fresh"] = "fresh"
    vocabulary: int = Field(default=16_000, ge=100)
    """Entries of the tokenizer."""
    layers: int = Field(default=2, ge=1)
    """Transformer layers."""
    hidden: int = Field(default=192, ge=8)
    """Width; must be a multiple of 32, the width of an attention head."""

    @model_validator(mode="after")
    def _whole_heads(self) -> "FreshStudent":
        if self.hidden % 32:
            message = f"hidden {self.hidden} is not a multiple of 32"
            raise ValueError(message)
        return self


class StudentSettings(Settings):
    """The late-interaction student."""

    start: Annotated[PretrainedStudent | FreshStudent, Field(discriminator="type")] = PretrainedStudent()
    """What it starts from."""
    dim: int = Field(default=128, ge=1)
    """Size of a token vector (128: ColBERT-X). A checkpoint with a projection keeps its own."""
    query_tokens: int = Field(default=32, ge=4)
    """Query length in tokens, marker and special tokens included; longer queries are truncated."""
    passage_tokens: int = Field(default=220, ge=4)
    """Longest passage in tokens; longer ones are truncated (220 in training: arXiv 2401.04810)."""
    marker_mode: Literal["insert", "overwrite"] = "insert"
    """How markers enter: inserted at index 1 (colbert-ai, PyLate), or written over it after a '. ' prefix (PLAID-X)."""
    mask_punctuation: bool = True
    """Whether punctuation tokens of passages are left out of the score."""
    attend_to_mask_tokens: bool = False
    """Whether other tokens attend to the [MASK] padding of queries."""
    query_expansion: bool = True
    """Whether queries are padded with [MASK] to `query_tokens` and all of those vectors enter the score (ColBERT), or only the query's own
    tokens do."""


class TrainSettings(Settings):
    """The train stage: KL(teacher || student) on raw MaxSim scores."""

    execution: ClassVar[frozenset[str]] = frozenset({"max_failures"})
    learning_rate: float = Field(default=5e-6, gt=0)
    """AdamW learning rate (5e-6: arXiv 2401.04810)."""
    schedule: Literal["constant", "linear"] = "constant"
    """After the warm-up: constant (the papers), or linear decay to zero at the last step."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up (0: the released models)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW weight decay (0: the released models)."""
    max_grad_norm: float = Field(default=2.0, gt=0)
    """Gradients are clipped to this norm (2: PLAID-X)."""
    batch_size: int = Field(default=64, ge=1)
    """Examples in an optimiser step, over all workers (64: 8 on each of 8 GPUs in the papers)."""
    steps: int = Field(default=200_000, ge=1)
    """Optimiser steps (200,000: the papers). The examples are read again from the start when they run out."""
    teacher_scale: float = Field(default=1.0, gt=0)
    """Factor on teacher scores before the softmax (1: the papers, whose teachers give log-probabilities)."""
    student_scale: float = Field(default=1.0, gt=0)
    """Factor on MaxSim scores before the softmax (1: the papers)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder under autocast; scores and losses are float32."""
    checkpoint_every: int = Field(default=2_000, ge=1)
    """Steps between checkpoints (2,000: PLAID-X)."""
    log_every: int = Field(default=50, ge=1)
    """Steps between lines of the training log, each the mean over its steps."""
    workers: int = Field(default=1, ge=1)
    """DDP workers."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs for each worker; it computes with as many threads."""
    gpus_per_worker: float = Field(default=0.0, ge=0)
    """GPUs for each worker: 0 trains on the CPU over gloo, otherwise over NCCL."""
    max_failures: int = Field(default=3, ge=0)
    """Worker failures after which training gives up; each restarts from the last checkpoint."""

    @model_validator(mode="after")
    def _whole_shares(self) -> "TrainSettings":
        if self.batch_size % self.workers:
            message = f"batch_size {self.batch_size} is not a multiple of workers {self.workers}"
            raise ValueError(message)
        if self.checkpoint_every % self.log_every:
            message = f"checkpoint_every {self.checkpoint_every} is not a multiple of log_every {self.log_every}"
            raise ValueError(message)
        if self.warmup_steps >= self.steps:
            message = f"warmup_steps {self.warmup_steps} is not less than steps {self.steps}"
            raise ValueError(message)
        return self


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


class Config(BaseSettings):
    """A Polyray job: sources, select, translate, score, mix, train, index, evaluate, report, serve."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix="POLYRAY_",
        env_nested_delimiter="__",
        env_nested_max_split=4,
    )
    sections: ClassVar[tuple[str, ...]] = (
        "source",
        "select",
        "translate",
        "score",
        "mix",
        "student",
        "train",
        "index",
        "evaluate",
        "serve",
    )

    name: str = Field(default="mtd", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run and of its folder."""
    storage: str = "polyray-data"
    """Where stages and runs lie: a local folder or s3://bucket/prefix."""
    seed: int = 153
    """Seed of every draw: sampling, languages, new weights."""
    source_lang: Language = "en"
    """The language of the training queries, and the one in which the teacher reads."""
    languages: tuple[Language, ...] = Field(default=("de", "fr", "es", "zh", "fa", "ru"), min_length=1)
    """The other languages, in which the student learns to find passages."""
    max_rejected: float = Field(default=0.01, ge=0, le=1)
    """Share of a stage's rows that may be rejected before the stage fails. Each is listed with its reason in any case."""
    source: Source = BundledSource()
    """Queries and passages."""
    select: SelectSettings = SelectSettings()
    """Candidates for the teacher."""
    translate: TranslateSettings = TranslateSettings()
    """Translations of the passages."""
    score: ScoreSettings = ScoreSettings()
    """The teacher's scores."""
    mix: MixSettings = MixSettings()
    """Training examples."""
    student: StudentSettings = StudentSettings()
    """The model that is trained."""
    train: TrainSettings = TrainSettings()
    """Training."""
    index: IndexSettings = IndexSettings()
    """The index."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """Evaluation."""
    serve: ServeSettings = ServeSettings()
    """The endpoint."""
    cluster: ClusterSettings = ClusterSettings()
    """Ray."""

    @model_validator(mode="after")
    def _languages_agree(self) -> "Config":
        if self.source_lang in self.languages:
            message = f"languages holds the source language '{self.source_lang}'; list only the others"
            raise ValueError(message)
        if len(set(self.languages)) != len(self.languages):
            message = f"languages {list(self.languages)} names a language twice"
            raise ValueError(message)
        share, group = self.train.batch_size // self.train.workers, self.mix.group
        if share % group:
            message = f"train.batch_size / train.workers = {share} is not a multiple of mix.group {group}, which no worker may cut"
            raise ValueError(message)
        known = {self.source_lang, *self.languages}
        drawn = {*self.mix.languages, *([self.mix.language] if self.mix.language else [])}
        if drawn - known:
            message = f"mix draws from {sorted(drawn - known)}, which are neither source_lang nor in languages {sorted(known)}"
            raise ValueError(message)
        return self

    @property
    def mixed_languages(self) -> tuple[str, ...]:
        """The languages that examples are drawn in."""
        if self.mix.language:
            return (self.mix.language,)
        return self.mix.languages or self.languages

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: `load` decides the sources, so that a configuration made in code depends on nothing around it."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def load(files: Sequence[str | Path] = (), arguments: Sequence[str] = (), program: str = "polyray") -> Config:
    """Read a configuration: YAML files in order, then `POLYRAY_*` variables, then command-line arguments, the last word winning.

    Unknown names, wrong types and impossible combinations raise a `ConfigError` of one line for each fault.
    `--help` among the arguments prints every setting and exits.
    """
    layers: list[dict[str, Any]] = [_yaml(Path(file)) for file in files]
    try:
        layers.append(EnvSettingsSource(Config)())
    except ValueError as error:
        message = f"environment: {error}"
        raise ConfigError(message) from error
    try:
        layers.append(CliSettingsSource(Config, cli_parse_args=list(arguments), cli_prog_name=program, **_CLI)())
    except ValueError as error:
        raise ConfigError(_explain_arguments(str(error))) from None
    # From the defaults up, so that `--score.teacher.model X` alone finds the teacher's type.
    merged: dict[str, Any] = Config().model_dump(mode="json")
    for layer in layers:
        merged = merge(merged, layer)
    try:
        return Config(**merged)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


_CLI: dict[str, Any] = {
    "cli_implicit_flags": True,
    "cli_use_class_docs_for_groups": True,
    "cli_avoid_json": True,
    "cli_hide_none_type": True,
    "cli_exit_on_error": False,
}


def _explain_arguments(fault: str) -> str:
    """What argparse says of the command line, as one line; a name that is close to an unknown one is suggested."""
    fault = " ".join(fault.split()).removeprefix("error parsing CLI: ")
    unknown = fault.removeprefix("unrecognized arguments: ")
    names = [word.split("=")[0] for word in unknown.split() if word.startswith("--")]
    if unknown == fault or not names:
        return f"command line: {fault}; --help lists every setting"
    close = difflib.get_close_matches(names[0].removeprefix("--"), setting_names(Config), n=1)
    hint = f" (did you mean --{close[0]}?)" if close else ""
    return f"command line: no such setting {', '.join(names)}{hint}; --help lists them"


def setting_names(kind: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings of a group, those of every alternative where there is a choice."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return [name for alternative in get_args(kind) for name in setting_names(alternative, prefix)]
    names = []
    for name, information in kind.model_fields.items():
        names += [prefix + name, *setting_names(information.annotation, f"{prefix}{name}.")]
    return list(dict.fromkeys(names))


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one nested dictionary over another. A group whose `type` changes is replaced whole: the old type's settings mean nothing."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        same_type = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type")
        )
        merged[key] = merge(old, value) if same_type else value  # pyright: ignore[reportArgumentType]
    return merged


def explain(error: ValidationError) -> str:
    """A validation error as one line: `train.learning_rate: Input should be greater than 0 (got -1.0)`, faults joined by semicolons."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        got = f" (got {fault['input']!r})" if isinstance(fault["input"], str | int | float | bool | None) else ""
        text = (
            "no such setting; --help lists them"
            if fault["type"] == "extra_forbidden"
            else fault["msg"].removeprefix("Value error, ")
        )
        faults.append(f"{place}: {text}{got}" if place else text)
    return "; ".join(faults)


def dump(config: BaseModel) -> str:
    """The resolved configuration as YAML, which `load` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        message = f"configuration file {file} does not exist"
        raise ConfigError(message)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        message = f"{file} is not YAML: {' '.join(str(error).split())}"
        raise ConfigError(message) from error
    if content is not None and not isinstance(content, dict):
        message = f"{file} holds a {type(content).__name__}, expected settings by name"
        raise ConfigError(message)
    return content or {}
