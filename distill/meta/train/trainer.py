"""One outer step of meta-learning or of fine-tuning. Plain torch: runs in a notebook, on one GPU or in a worker group alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, assert_never

import torch
from torch import distributed, nn
from torch.optim import AdamW

from distill.encoders.encoder import Encoder
from distill.meta.settings import MetaTrainSettings
from distill.meta.train.learners import AlignLosses, Inner, Loss, S, align_losses, maml_loss
from distill.numerics.seeds import seed_generators
from distill.train.trainer import TrainingError

TrainedMethod = Literal["fine_tune", "maml", "maml_align"]


class MetaStep(NamedTuple):
    """The numbers of one outer step.

    Attributes:
        loss: the minimised loss, over the tasks of all workers.
        parts: its parts, each a mean over the tasks: of MAML-Align the losses of `teacher` and `student` and the squared `gap` that
            distillation minimises (of sums if it compares sums); of fine-tuning the loss of each set.
        norm: the norm of the outer gradient, in fine-tuning of the last set's.
    """

    loss: float
    parts: dict[str, float]
    norm: float


@dataclass
class MetaTrainer(Generic[S]):
    """A model that is meta-learned, and its optimiser.

    Attributes:
        module: the model, on its device.
        loss: the loss of its parameters on a set of a task.
        settings: how it learns.
        method: the outer loss.
        seed: seed of dropout; each task of each step has its own, whichever worker it is on.
        rank: this worker's number.
        world: the number of workers.
    """

    module: nn.Module
    loss: Loss[S]
    settings: MetaTrainSettings
    method: TrainedMethod
    seed: int
    rank: int = 0
    world: int = 1
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._parameters = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self._inner: Inner[S] = Inner(self.loss, self.settings.inner_rate, self.settings.order == "second")
        self.optimizer = AdamW(
            self._parameters.values(),
            lr=self.settings.learning_rate,
            eps=1e-8,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )

    def meta_step(self, tasks: Sequence[Sequence[S]], first: int = 0) -> MetaStep:
        """Take one outer step on this worker's tasks, which are those from number `first` on of the step's `tasks_per_batch`.

        Gradients are summed over the workers and every task counts alike, so the step is that of all tasks on one worker.

        Raises:
            TrainingError: a loss or a gradient is not finite.

        Memory: the graph of one task; of all of the worker's tasks if distillation compares sums.
        """
        self.module.train()
        match self.method:
            case "maml":
                step = self._maml_step(tasks, first)
            case "maml_align":
                step = self._align_step(tasks, first)
            case "fine_tune":
                step = self._fine_tune_step(tasks, first)
            case unknown:
                assert_never(unknown)
        self.step += 1
        return step

    def _maml_step(self, tasks: Sequence[Sequence[S]], first: int) -> MetaStep:
        total = 0.0
        for number, sets in enumerate(tasks):
            self._seed(first + number)
            loss = maml_loss(self._inner, self._parameters, sets, self.settings.inner_steps)
            (loss / self.settings.tasks_per_batch).backward()
            total += loss.item()
        (mean,) = self._means([total])
        return MetaStep(mean, {"query": mean}, self._apply({"query": mean}))

    def _align_step(self, tasks: Sequence[Sequence[S]], first: int) -> MetaStep:
        """Minimise (A + C) / 2, a mean over the tasks, plus lambda times distillation: see `MetaTrainSettings.variant`."""
        settings, count = self.settings, self.settings.tasks_per_batch
        sums = [0.0, 0.0, 0.0]
        held: list[AlignLosses] = []
        for number, sets in enumerate(tasks):
            self._seed(first + number)
            losses = align_losses(self._inner, self._parameters, sets, settings.inner_steps, settings.adapting_steps)
            parts = (losses.teacher, losses.student, losses.gap if settings.sums_losses else losses.gap**2)
            sums = [total + value.item() for total, value in zip(sums, parts, strict=True)]
            if settings.sums_losses:
                held.append(losses)
            else:
                distillation = settings.distillation_weight * losses.gap**2
                (((losses.teacher + losses.student) / 2 + distillation) / count).backward()
        teacher, student, gap = self._means(sums)
        if settings.sums_losses:
            gap *= count  # the sum over the tasks of all workers
            self._backward_sums(held, gap)
            gap **= 2
        loss = (teacher + student) / 2 + settings.distillation_weight * gap
        means = {"teacher": teacher, "student": student, "gap": gap}
        return MetaStep(loss, means, self._apply(means))

    def _backward_sums(self, held: Sequence[AlignLosses], gap: float) -> None:
        """Add the gradient of distillation that squares the gap of sums: that of gap^2 is 2 gap times the gap's, task by task."""
        if not held:
            return
        weight = 2 * self.settings.distillation_weight * gap
        losses = [
            (task.teacher + task.student) / (2 * self.settings.tasks_per_batch) + weight * task.gap for task in held
        ]
        torch.stack(losses).sum().backward()

    def _fine_tune_step(self, tasks: Sequence[Sequence[S]], first: int) -> MetaStep:
        """Take an optimiser step on every set in turn, support first: the same examples without the meta loop."""
        parts: dict[str, float] = {}
        norm = 0.0
        for position in range(len(tasks[0])):
            total = 0.0
            for number, sets in enumerate(tasks):
                self._seed(first + number, position)
                loss = self._inner.loss(self._parameters, sets[position])
                (loss / self.settings.tasks_per_batch).backward()
                total += loss.item()
            (mean,) = self._means([total])
            parts[f"set_{position}"] = mean
            norm = self._apply(parts)
        return MetaStep(sum(parts.values()) / len(parts), parts, norm)

    def _seed(self, *position: int) -> None:
        seed_generators(hash((self.seed, self.step, *position)))

    def _means(self, sums: Sequence[float]) -> list[float]:
        """Return means over the tasks of all workers, of sums over this worker's tasks."""
        total = torch.tensor(sums, dtype=torch.float64, device=next(iter(self._parameters.values())).device)
        if self.world > 1:
            distributed.all_reduce(total)
        return (total / self.settings.tasks_per_batch).tolist()

    def _apply(self, losses: dict[str, float]) -> float:
        """Add the workers' gradients up, take an optimiser step and return the gradient's norm."""
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        if self.world > 1:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(flat)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])).item()
        if not torch.isfinite(torch.tensor([norm, *losses.values()])).all():
            shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise TrainingError(
                f"step {self.step + 1}: the gradient is not finite (losses: {shown}); lower train.inner_rate or train.learning_rate"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """Return what training continues from, besides the module's weights."""
        return {"step": self.step, "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`. The caller loads the module's weights, in place."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def prepare(encoder: Encoder, settings: MetaTrainSettings) -> None:
    """Set the encoder up for the settings: the fused kernels of attention have no second derivative."""
    if settings.order == "second":
        encoder.backbone.set_attn_implementation("eager")
