"""One training step, and the state from which a training continues. Plain torch: runs in a notebook, on one GPU or under DDP alike."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from cluster.errors import UserError
from distill.encoders.checkpoints import load_encoder, save_encoder
from distill.encoders.encoder import Encoder, TokenBatch
from distill.numerics.seeds import seed_generators
from distill.train.batches import TrainingBatch
from distill.train.gather import all_sum
from distill.train.objective import Objective, Vectors
from distill.train.settings import TrainSettings

_STATE = "training_state.pt"


class TrainingError(UserError, RuntimeError):
    """Training cannot continue. The message names the step and what to do."""


class Step(NamedTuple):
    """The facts of a step.

    Attributes:
        loss: the minimised loss of this worker's examples. The mean over workers, weighted by their examples, is that of the whole batch.
        losses: its weighted parts by name.
        rate: the learning rate.
        norm: the gradient's norm before it was clipped.
        tokens: tokens encoded here, padding not counted.
    """

    loss: float
    losses: dict[str, float]
    rate: float
    norm: float
    tokens: int


@dataclass
class Trainer:
    """A student, its optimiser and its schedule.

    Attributes:
        model: the student, wrapped in DDP where there are several workers.
        encoder: the student itself.
        settings: the training's settings.
        objective: the loss.
        seed: seed of dropout; each chunk of each step of each rank has its own, so that a resumed run repeats what the first would have
            done, and a chunk that is encoded twice gives the same vectors.
        rank: this worker's number.
        world: the number of workers.
        last: the vectors of the last step's last part, detached, for the gates.
    """

    model: nn.Module
    encoder: Encoder
    settings: TrainSettings
    objective: Objective
    seed: int
    rank: int = 0
    world: int = 1
    step: int = field(default=0, init=False)
    last: Vectors | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        decayed = [p for p in self.encoder.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in self.encoder.parameters() if p.requires_grad and p.ndim <= 1]
        self._parameters = decayed + others
        groups = [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = AdamW(groups, lr=self.settings.learning_rate, eps=1e-8, fused=True)
        self.schedule = LambdaLR(self.optimizer, lambda step: rate_factor(step, self.settings))
        self._averages = [p.detach().clone() for p in self._parameters] if self.settings.ema else []

    def train_step(self, parts: Sequence[TrainingBatch]) -> Step:
        """Take one optimiser step on this worker's share of the batch, given in parts whose gradients are added up.

        Every example counts alike, and every margin of `margin_mse`, however the batch is shared out and cut: the step is that of the mean
        over the whole batch. A loss or gradient that is not finite is a `TrainingError`.
        """
        self.encoder.train()
        totals: dict[str, Tensor] = {}
        for number, (part, factors) in enumerate(zip(parts, self._factors(parts), strict=True)):
            losses = self._backward(part.to(self.encoder.device), factors, number, last=number == len(parts) - 1)
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach()
        norm = nn.utils.clip_grad_norm_(self._parameters, self.settings.max_grad_norm)
        # The parts' losses are this worker's share of the batch's, times the number of workers.
        share = sum(len(part.positions) for part in parts) * self.world / self.settings.batch_size
        found = {name: float(loss) / share for name, loss in totals.items()}
        if not torch.isfinite(norm):
            raise TrainingError(
                f"step {self.step + 1}: gradients are not finite (loss {sum(found.values()):g}); lower train.learning_rate"
            )
        rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.settings.ema:
            self._average(1 - self.settings.ema)
        self.step += 1
        return Step(sum(found.values()), found, rate, float(norm), sum(part.tokens for part in parts))

    def _factors(self, parts: Sequence[TrainingBatch]) -> list[list[float]]:
        """Return the factor of each loss of each part: its share of what the loss is the mean over in the whole batch.

        DDP takes the mean over workers, hence the number of workers. Examples are known to be `batch_size`; other terms are counted.
        """
        terms = [self.objective.terms(part) for part in parts]
        sums = [float(sum(count or 0 for count in counts)) for counts in zip(*terms, strict=True)]
        if self.world > 1 and any(count is not None for count in terms[0]):
            sums = all_sum(sums, self.encoder.device)
        return [
            [
                self.world
                * (len(part.positions) / self.settings.batch_size if count is None else count / max(total, 1.0))
                for count, total in zip(counts, sums, strict=True)
            ]
            for part, counts in zip(parts, terms, strict=True)
        ]

    def _average(self, weight: float) -> None:
        with torch.no_grad():
            for average, parameter in zip(self._averages, self._parameters, strict=True):
                average.lerp_(parameter, weight)

    def _backward(self, part: TrainingBatch, factors: Sequence[float], number: int, *, last: bool) -> dict[str, Tensor]:
        """Add a part's gradient; return its losses times their factors."""
        if self.settings.gradient_cache:
            return self._backward_cached(part, factors, number, last=last)
        with nullcontext() if last else self._unsynchronised():
            vectors = self._vectors(part, [self._encode(batch, number, i) for i, batch in enumerate(_batches(part))])
            losses = self._losses(vectors, factors)
            sum(losses.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        return losses

    def _backward_cached(
        self, part: TrainingBatch, factors: Sequence[float], number: int, *, last: bool
    ) -> dict[str, Tensor]:
        """Do the same in three passes (GradCache, Gao et al., arXiv 2101.06983): vectors, their gradients, the weights' gradients."""
        batches = _batches(part)
        with torch.no_grad():
            cached = [self._encode(batch, number, i) for i, batch in enumerate(batches)]
        for vectors in cached:
            vectors.requires_grad_()
        losses = self._losses(self._vectors(part, cached), factors)
        sum(losses.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        for i, (batch, vectors) in enumerate(zip(batches, cached, strict=True)):
            with nullcontext() if last and i == len(batches) - 1 else self._unsynchronised():
                self._encode(batch, number, i).backward(vectors.grad)
        return losses

    def _losses(self, vectors: Vectors, factors: Sequence[float]) -> dict[str, Tensor]:
        self.last = Vectors(vectors.queries.detach(), vectors.passages.detach(), vectors.keep, vectors.batch)
        try:
            return self.objective(vectors, factors)
        except ValueError as error:
            raise TrainingError(f"step {self.step + 1}: {error}") from error

    def _encode(self, batch: TokenBatch, number: int, chunk: int) -> Float[Tensor, "n V D"]:
        seed_generators(hash((self.seed, self.step, self.rank, number, chunk)))
        bfloat16 = self.settings.dtype == "bfloat16"
        with torch.autocast(self.encoder.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return self.model(*batch)

    def _vectors(self, part: TrainingBatch, chunks: Sequence[Tensor]) -> Vectors:
        """Join the vectors of a part's chunks."""
        queries = len(part.queries.batches)
        keep = [self.encoder.kept(batch) for batch in part.passages.batches]
        return Vectors(_joined(chunks[:queries])[part.queries.order], _joined(chunks[queries:]), _joined(keep), part)

    def _unsynchronised(self) -> AbstractContextManager[None]:
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    @contextmanager
    def averaged(self) -> Iterator[Encoder]:
        """Yield the student in evaluation mode, with averaged weights as long as the context lasts; without `ema` with its own."""
        self.encoder.eval()
        if not self._averages:
            yield self.encoder
            return
        own = [parameter.detach().clone() for parameter in self._parameters]
        _assign(self._parameters, self._averages)
        try:
            yield self.encoder
        finally:
            _assign(self._parameters, own)

    def save(self, folder: Path, history: dict[str, Any]) -> None:
        """Write the student, and in training_state.pt the state of the training; `load` returns `history`."""
        with self.averaged() as student:
            save_encoder(student, folder)
        state = {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": history,
        }
        if self._averages:
            state |= {"weights": [p.detach().cpu() for p in self._parameters], "averages": self._averages}
        write_state(folder, state)

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from `save`d state (the encoder's weights are loaded in place); return the history."""
        self.encoder.load_state_dict(load_encoder(folder).state_dict())
        state = read_state(folder, self.encoder.device)
        if self._averages:
            _assign(self._parameters, state["weights"])
            _assign(self._averages, state["averages"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]
        return state["history"]


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of a training into a checkpoint: tensors and plain values."""
    torch.save(state, folder / _STATE)


def read_state(folder: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Return the state of a training in a checkpoint."""
    return torch.load(folder / _STATE, weights_only=True, map_location=device)


def read_history(folder: Path) -> dict[str, Any]:
    """Return the history in a training's checkpoint."""
    return read_state(folder)["history"]


def prepare(encoder: Encoder, settings: TrainSettings) -> None:
    """Set the encoder up as the settings say: recomputed activations, compiled layers."""
    if settings.activation_checkpointing:
        # Older versions of transformers have it under its other name.
        backbone = encoder.backbone
        enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if settings.compile:
        encoder.backbone.compile(dynamic=True)


def rate_factor(step: int, settings: TrainSettings) -> float:
    """Return the factor on the learning rate at a step (from 0): linear warm-up, then the schedule."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    match settings.schedule:
        case "constant":
            return 1.0
        case "exponential":
            return settings.decay ** (step - settings.warmup_steps)
        case "linear":
            return max(0.0, (settings.steps - step) / (settings.steps - settings.warmup_steps))


def _batches(part: TrainingBatch) -> tuple[TokenBatch, ...]:
    return part.queries.batches + part.passages.batches


def _joined(chunks: Sequence[Tensor]) -> Tensor:
    """Join chunks of texts with different numbers of vectors in one tensor, filled up with zeros."""
    longest = max(chunk.shape[1] for chunk in chunks)
    fill = [(0, 0) * (chunk.ndim - 2) + (0, longest - chunk.shape[1]) for chunk in chunks]
    return torch.cat([functional.pad(chunk, padding) for chunk, padding in zip(chunks, fill, strict=True)])


def _assign(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(targets, values, strict=True):
            target.copy_(value)
