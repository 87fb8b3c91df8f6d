"""The training of the student."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import GroupSettings, Settings
from distill.train.loss_settings import KlLoss, LossSettings

Logger = Literal["tensorboard", "wandb", "mlflow"]


class DevSettings(Settings):
    """Retrieval with the student while it is trained: development queries against a pool of passages in every language."""

    every: int = Field(default=2_000, ge=1)
    """Steps between evaluations; a multiple of `checkpoint_every`, because the best checkpoint is kept."""
    queries: int = Field(default=200, ge=1)
    """Development queries, drawn from those with judgements."""
    passages: int = Field(default=5_000, ge=1)
    """Passages of each language in the pool: those judged for the queries, filled up with others."""
    measure: str = "nDCG@20"
    """The measure, in the notation of ir_measures; its mean over the languages chooses the best checkpoint."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many evaluations in a row without a new best. If None, never."""


class GateSettings(Settings):
    """Faults that stop a training early. None switches a gate off."""

    explosion: float | None = Field(default=10.0, gt=1)
    """Stop when the mean loss between two log lines is this many times the first one's."""
    collapse: float | None = Field(default=0.9999, gt=0, le=1)
    """Stop when the mean cosine between the mean vectors of a batch's passages is at least this: they do not depend on the input."""
    one_hot_teacher: float | None = Field(default=0.95, gt=0, le=1)
    """Stop when the teacher's distribution is all on one passage in at least this share of the first examples of a KL loss."""
    constant_scores: bool = True
    """Stop when the student gives all passages of every example of a batch one score."""


class TrainSettings(GroupSettings):
    """The train stage."""

    execution: ClassVar[frozenset[str]] = frozenset({"max_failures", "loggers", "prefetch"})
    loss: LossSettings = KlLoss()
    """The loss."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """AdamW learning rate (5e-6: arXiv 2401.04810)."""
    schedule: Literal["constant", "linear", "exponential"] = "constant"
    """After the warm-up: constant (the papers), linear decay to zero at the last step, or a factor of `decay` at every step."""
    decay: float = Field(default=0.99999, gt=0, le=1)
    """The factor of the exponential schedule (0.99999: the code of arXiv 2407.21515)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up (0: the released models)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW weight decay (0: the released models), of matrices only: normalisation weights and biases have none."""
    max_grad_norm: float = Field(default=2.0, gt=0)
    """Gradients are clipped to this norm (2: PLAID-X)."""
    batch_size: int = Field(default=64, ge=1)
    """Examples in an optimiser step, over all workers (64: 8 on each of 8 GPUs in the papers)."""
    steps: int = Field(default=200_000, ge=1)
    """Optimiser steps (200,000: the papers). The examples are read again from the start when they run out."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder under autocast; vectors, scores and losses are float32."""
    tokens_per_batch: int = Field(default=65_536, ge=1)
    """Most padded tokens that go through the encoder at once. Texts of a step are sorted by length and cut in such chunks; what is computed
    is the same. On CPUs chunks are smaller where larger ones would not fit the caches."""
    accumulate: int = Field(default=1, ge=1)
    """Parts in which a worker goes through its share of a batch, adding up gradients: memory is that of one part. In-batch losses see a
    part's passages only."""
    gradient_cache: bool = False
    """Encode everything without keeping activations, take the loss's gradient by vectors, then encode chunk by chunk again for the weights'
    gradient (arXiv 2101.06983): in-batch losses see the whole share, memory is that of a chunk of `tokens_per_batch`, and a forward pass
    more is computed."""
    activation_checkpointing: bool = False
    """Keep only each layer's input and compute the rest again in the backward pass."""
    compile: bool = False
    """Compile the backbone with torch.compile. Worth it on GPUs for long trainings."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated and kept (0.999 is usual)."""
    dev: DevSettings | None = None
    """Retrieval evaluation during training."""
    gates: GateSettings = GateSettings()
    """The faults that stop a training early."""
    loggers: tuple[Logger, ...] = ()
    """Destinations of the training curve besides its table. W&B and MLflow read their usual environment variables."""
    checkpoint_every: int = Field(default=2_000, ge=1)
    """Steps between checkpoints (2,000: PLAID-X)."""
    log_every: int = Field(default=50, ge=1)
    """Steps between lines of the training log, each the mean over its steps."""
    prefetch: int = Field(default=4, ge=1)
    """Batches that are read and tokenised ahead."""

    @model_validator(mode="after")
    def _whole_shares(self) -> "TrainSettings":
        if self.max_workers is None and self.batch_size % self.workers:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of workers {self.workers}")
        if self.batch_size < self.most_workers * self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is less than {self.most_workers} workers x {self.accumulate} accumulated parts"
            )
        if self.gradient_cache and self.accumulate > 1:
            raise ValueError(
                f"gradient_cache with accumulate {self.accumulate}: both bound memory, the cache without parts; set accumulate to 1"
            )
        if self.checkpoint_every % self.log_every:
            raise ValueError(
                f"checkpoint_every {self.checkpoint_every} is not a multiple of log_every {self.log_every}"
            )
        if self.dev is not None and self.dev.every % self.checkpoint_every:
            raise ValueError(
                f"dev.every {self.dev.every} is not a multiple of checkpoint_every {self.checkpoint_every}"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is not less than steps {self.steps}")
        return self
