"""One training step, and the state that a training goes on from. Plain torch: runs in a notebook, on one GPU or under DDP alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from distill.encoder import LateInteractionEncoder, TokenBatch, maxsim
from distill.losses import kl_divergence
from distill.settings.train import TrainSettings


class TrainingBatch(NamedTuple):
    """B queries, the U distinct texts among their passages, which of those each query's N passages are, and the teacher's scores."""

    queries: TokenBatch
    passages: TokenBatch
    places: Int[Tensor, "B N"]
    teacher: Float[Tensor, "B N"]


def make_batch(encoder: LateInteractionEncoder, examples: pa.Table) -> TrainingBatch:
    """Tokenise examples, each distinct passage text once. Examples of unequal n are an error: the table was made with one n_way."""
    scores = examples["scores"].to_pylist()
    if len({len(row) for row in scores}) != 1:
        message = f"examples of a batch have different numbers of passages: {sorted({len(row) for row in scores})}"
        raise ValueError(message)
    passages = examples["passages"].to_pylist()
    place = {text: i for i, text in enumerate(dict.fromkeys(text for texts in passages for text in texts))}
    return TrainingBatch(
        encoder.tokenize_queries(examples["query"].to_pylist()),
        encoder.tokenize_passages(list(place)),
        torch.tensor([[place[text] for text in texts] for texts in passages]),
        torch.tensor(scores, dtype=torch.float32),
    )


class StudentScorer(nn.Module):
    """The student as a function from a batch's tokens to its scores: one forward pass, which is what DDP wraps."""

    def __init__(self, encoder: LateInteractionEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, queries: TokenBatch, passages: TokenBatch, places: Int[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """MaxSim of each query with its own passages, those at `places`."""
        query_vectors = self.encoder(*queries)
        passage_vectors = self.encoder(*passages)
        return maxsim(query_vectors, passage_vectors[places], passages.keep[places])


@dataclass
class Trainer:
    """A student, its optimiser and its schedule.

    Attributes:
        scorer: the student's scorer, wrapped in DDP where there are several workers.
        encoder: the student itself.
        settings: the training's settings.
        device: where it computes.
        seed: seed of dropout; each step of each rank has its own, so that a resumed run repeats what the first would have done.
        rank: this worker's number.
    """

    scorer: nn.Module
    encoder: LateInteractionEncoder
    settings: TrainSettings
    device: torch.device
    seed: int
    rank: int = 0

    def __post_init__(self) -> None:
        parameters = [p for p in self.encoder.parameters() if p.requires_grad]
        self.optimizer = AdamW(
            parameters, lr=self.settings.learning_rate, eps=1e-8, weight_decay=self.settings.weight_decay
        )
        self.schedule = LambdaLR(self.optimizer, lambda step: rate_factor(step, self.settings))
        self.step = 0

    def train_step(self, batch: TrainingBatch) -> tuple[float, float]:
        """One optimiser step on this worker's share; returns (loss, learning rate used).

        DDP averages gradients over workers, so with equal shares the step is that of the whole batch. A loss or gradient that is not
        finite is a `TrainingError`.
        """
        self.encoder.train()
        torch.manual_seed(hash((self.seed, self.step, self.rank)))
        queries = TokenBatch(*(part.to(self.device) for part in batch.queries))
        passages = TokenBatch(*(part.to(self.device) for part in batch.passages))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.dtype == "bfloat16"):
            student = self.scorer(queries, passages, batch.places.to(self.device))
        loss = kl_divergence(
            student, batch.teacher.to(self.device), self.settings.student_scale, self.settings.teacher_scale
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), self.settings.max_grad_norm)
        if not torch.isfinite(norm):
            message = (
                f"step {self.step + 1}: gradients are not finite (loss {loss.item():g}); lower train.learning_rate"
            )
            raise TrainingError(message)
        rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return float(loss.item()), rate

    def save(self, folder: Path, log: Sequence[dict[str, Any]]) -> None:
        """Write the student (HF_ColBERT layout) and, in training_state.pt, what training goes on from."""
        self.encoder.save(folder)
        state = {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "log": list(log),
        }
        torch.save(state, folder / "training_state.pt")

    def load(self, folder: Path) -> list[dict[str, Any]]:
        """Go on from `save`d state (the encoder's weights are loaded in place); returns the log so far."""
        saved = LateInteractionEncoder.load(folder)
        self.encoder.load_state_dict(saved.state_dict())
        state = torch.load(folder / "training_state.pt", weights_only=True, map_location=self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]
        return state["log"]


class TrainingError(RuntimeError):
    """Training cannot go on. The message names the step and what to do."""


def rate_factor(step: int, settings: TrainSettings) -> float:
    """The factor on the learning rate at a step (from 0): linear warm-up, then constant or linear decay to 0 at the last step."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    return max(0.0, (settings.steps - step) / (settings.steps - settings.warmup_steps))
