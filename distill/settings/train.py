"""Examples, the student and its training."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from distill.settings.base import Language, Settings


class NegativeSettings(Settings):
    """Which candidates an example may be drawn from.

    A judged passage is one with a grade above 0. The positives of a query are those of its judged passages with a score that have the
    highest grade; its negatives are the candidates that are not judged relevant. Scores are those that examples hold, after temperature and
    scale.
    """

    first_rank: int = Field(default=1, ge=1)
    """Skip negatives that the selector ranked before this (1: none are skipped). The first ones are often relevant without being judged."""
    last_rank: int | None = Field(default=None, ge=1)
    """Skip negatives that the selector ranked after this."""
    margin: float | None = Field(default=None, ge=0)
    """Drop negatives that score higher than the positive's score minus this; of several positives the lowest counts. 0 leaves those that
    score at most as high as the positive."""
    relative_margin: float | None = Field(default=None, ge=0, le=1)
    """The same with a margin of this share of the positive's score, its sign aside (0.05: NV-Retriever, arXiv 2407.15831). For cosines;
    of log-odds near 0 a share is next to nothing."""
    min_score: float | None = None
    """Drop negatives that score lower: they are too easy."""
    max_score: float | None = None
    """Drop negatives that score higher: the teacher finds them relevant."""
    include_positive: bool = True
    """Whether each example holds one of the query's positives, drawn at random, and n - 1 negatives. Without it n passages are drawn from
    judged passages and negatives alike."""

    @model_validator(mode="after")
    def _ranges(self) -> "NegativeSettings":
        if self.last_rank is not None and self.last_rank < self.first_rank:
            message = f"last_rank {self.last_rank} is before first_rank {self.first_rank}"
            raise ValueError(message)
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            message = f"min_score {self.min_score:g} is above max_score {self.max_score:g}"
            raise ValueError(message)
        return self


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
    negatives: NegativeSettings | None = None
    """Which candidates are drawn from; none: all of them alike, as the papers do. Queries that have too few left are rejected."""
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
        if self.group > 1 and self.negatives is not None:
            message = f"group {self.group} with negatives: a group's queries share all that was drawn for them, so no choice would hold"
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
