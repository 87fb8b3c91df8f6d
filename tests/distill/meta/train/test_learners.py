"""Inner and outer gradients against derivations by hand, in float64, and against finite differences.

The model of the derivations is a linear encoder w of vectors x to numbers, its loss on a set (X, y) the mean of (Xw - y)^2 with gradient
Hw - b, H = 2/N X'X, b = 2/N X'y. So an inner step is phi -> (I - aH) phi + ab, and after K of them dphi/dtheta = (I - aH)^K.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill.meta.settings import MetaTrainSettings
from distill.meta.train.learners import Inner, align_losses, maml_loss
from distill.meta.train.losses import distances, similarities, similarity_loss, triplet_loss
from distill.meta.train.trainer import MetaTrainer

RATE, SIZE = 0.05, 3
Set = tuple[Tensor, Tensor]


def linear_loss(parameters: Mapping[str, Tensor], task_set: Set) -> Tensor:
    inputs, targets = task_set
    return ((inputs @ parameters["weight"].flatten() - targets) ** 2).mean()


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sets(count: int, seed: int) -> list[Set]:
    return [(numbers(4, SIZE, seed=seed + 10 * i), numbers(4, seed=seed + 10 * i + 5)) for i in range(count)]


class ByHand:
    """The derivation above in numpy."""

    def __init__(self, task_set: Set) -> None:
        self.inputs, self.targets = (part.numpy() for part in task_set)
        self.curvature = 2 / len(self.inputs) * self.inputs.T @ self.inputs
        self.slope = 2 / len(self.inputs) * self.inputs.T @ self.targets

    def loss(self, phi: np.ndarray) -> float:
        return float(((self.inputs @ phi - self.targets) ** 2).mean())

    def gradient(self, phi: np.ndarray) -> np.ndarray:
        return self.curvature @ phi - self.slope

    def adapted(self, theta: np.ndarray, steps: int) -> np.ndarray:
        phi = theta
        for _ in range(steps):
            phi = phi - RATE * self.gradient(phi)
        return phi

    def jacobian(self, steps: int, order: str) -> np.ndarray:
        one = np.eye(SIZE)
        return np.linalg.matrix_power(one - RATE * self.curvature, steps) if order == "second" else one


@pytest.fixture
def theta() -> Tensor:
    return numbers(SIZE, seed=1).requires_grad_()


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("steps", [1, 3])
def test_maml_has_the_gradient_of_the_derivation(theta: Tensor, order: str, steps: int) -> None:
    support, query = sets(2, seed=3)
    inner = Inner(linear_loss, RATE, order == "second")
    loss = maml_loss(inner, {"weight": theta}, [support, query], steps)
    (found,) = torch.autograd.grad(loss, theta)
    by_support, by_query = ByHand(support), ByHand(query)
    phi = by_support.adapted(theta.detach().numpy(), steps)
    expected = by_support.jacobian(steps, order).T @ by_query.gradient(phi)
    assert loss.item() == pytest.approx(by_query.loss(phi), rel=1e-12)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11)


def test_first_and_second_order_differ(theta: Tensor) -> None:
    task = sets(2, seed=3)
    first, second = (
        torch.autograd.grad(maml_loss(Inner(linear_loss, RATE, second), {"weight": theta}, task, 3), theta)[0]
        for second in (False, True)
    )
    assert (first - second).abs().max() > 0.1


def derivation(theta: np.ndarray, task: list[Set], order: str, steps: int, student_steps: int) -> dict[str, Any]:
    """MAML-Align's losses A, B, C of a task and their gradients."""
    x, y, z = (ByHand(task_set) for task_set in task)
    teacher, student = x.adapted(theta, steps), y.adapted(theta, student_steps)
    of_teacher, of_student = x.jacobian(steps, order), y.jacobian(student_steps, order)
    return {
        "A": y.loss(teacher), "B": y.loss(student), "C": z.loss(student),
        "dA": of_teacher.T @ y.gradient(teacher), "dB": of_student.T @ y.gradient(student), "dC": of_student.T @ z.gradient(student),
    }  # fmt: skip


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("variant", ["paper", "released_code"])
def test_maml_align_steps_along_the_derived_gradient(order: str, variant: str) -> None:
    """Paper: (sum A + C) / 2n + l/n sum (A - B)^2 with both learners adapted. Released code: the student is not, and l (sum A - B)^2."""
    weight, steps, tasks = 0.7, 2, [sets(3, seed=20), sets(3, seed=50)]
    module = nn.Linear(SIZE, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(numbers(1, SIZE, seed=2))
    start = module.weight.detach().clone().numpy()[0]
    trainer = MetaTrainer(module, linear_loss, align_settings(order, variant, weight, steps), "maml_align", 0)
    seen = gradient_of_step(trainer, tasks)

    student_steps = steps if variant == "paper" else 0
    found = [derivation(start, task, order, steps, student_steps) for task in tasks]
    expected = sum((task["dA"] + task["dC"]) / 4 for task in found)
    gaps = [task["A"] - task["B"] for task in found]
    if variant == "paper":
        expected += sum(weight / 2 * 2 * gap * (task["dA"] - task["dB"]) for task, gap in zip(found, gaps, strict=True))
        gap = sum(gap**2 for gap in gaps) / 2
    else:
        expected += weight * 2 * sum(gaps) * sum(task["dA"] - task["dB"] for task in found)
        gap = sum(gaps) ** 2
    np.testing.assert_allclose(seen["gradient"], expected, rtol=1e-10)
    teacher, student = (sum(task[name] for task in found) / 2 for name in ("A", "C"))
    assert seen["parts"] == pytest.approx({"teacher": teacher, "student": student, "gap": gap}, rel=1e-10)
    assert seen["loss"] == pytest.approx((teacher + student) / 2 + weight * gap, rel=1e-10)


def align_settings(order: str, variant: str, weight: float, steps: int) -> MetaTrainSettings:
    return MetaTrainSettings.model_validate(
        {
            "order": order,
            "variant": variant,
            "distillation_weight": weight,
            "inner_steps": steps,
            "inner_rate": RATE,
            "tasks_per_batch": 2,
        }
    )


def gradient_of_step(trainer: MetaTrainer[Set], tasks: list[list[Set]]) -> dict[str, Any]:
    """What the optimiser was given, and what the step says of itself."""
    given: list[Tensor] = []
    trainer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: given.append(optimizer.param_groups[0]["params"][0].grad.clone())
    )
    step = trainer.meta_step(tasks)
    assert step.norm == pytest.approx(float(given[0].norm()), rel=1e-12)
    return {"gradient": given[0].numpy()[0], "parts": step.parts, "loss": step.loss}


def test_a_parameter_that_the_loss_does_not_read_stays(theta: Tensor) -> None:
    """An encoder's pooler, for instance; without an order a learner's is the first."""
    support, query = sets(2, seed=1)
    unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
    inner = Inner(linear_loss, RATE)
    adapted = inner.adapt({"weight": theta, "unused": unused}, support, 2)
    assert torch.equal(adapted["unused"], unused)
    expected = ByHand(support).adapted(theta.detach().numpy().flatten(), 2)
    np.testing.assert_allclose(adapted["weight"].detach().numpy().flatten(), expected)
    (gradient,) = torch.autograd.grad(linear_loss(adapted, query), theta)
    np.testing.assert_allclose(gradient.numpy().flatten(), ByHand(query).gradient(expected))


def encoder_loss(kind: str) -> Callable[[Mapping[str, Tensor], Set], Tensor]:
    """The losses of encoders with vectors Wx: of pairs (rows i and i + N), or of triplets."""

    def loss(parameters: Mapping[str, Tensor], task_set: Set) -> Tensor:
        vectors = (task_set[0] @ parameters["weight"].T).unsqueeze(1)
        count = len(vectors) // (2 if kind == "similarity" else 3)
        keep = torch.ones(count, 1, dtype=torch.bool)
        first, second, *third = vectors.split(count)
        if kind == "similarity":
            return similarity_loss(similarities(first, second, keep, keep), task_set[1][:count])
        return triplet_loss(distances(first, second, keep, keep), distances(first, third[0], keep, keep), 1.0)

    return loss


@pytest.mark.parametrize("kind", ["similarity", "triplets"])
@pytest.mark.parametrize("method", ["maml", "paper", "released_code"])
@pytest.mark.parametrize("order", ["first", "second"])
def test_outer_gradients_are_finite_differences(kind: str, method: str, order: str) -> None:
    """Second order: those of the outer loss. First order: those of the outer loss whose inner gradients are held at their values."""
    loss, steps = encoder_loss(kind), 2
    task = [(numbers(6, SIZE, seed=70 + i), numbers(6, seed=80 + i).abs()) for i in range(3)]
    weight = numbers(2, SIZE, seed=4).requires_grad_()

    def outer(parameters: Tensor, inner: Inner[Set]) -> Tensor:
        if method == "maml":
            return maml_loss(inner, {"weight": parameters}, task[:2], steps)
        found = align_losses(inner, {"weight": parameters}, task, steps, steps if method == "paper" else 0)
        return (found.teacher + found.student) / 2 + 0.7 * found.gap**2

    inner = Inner(loss, 0.3, order == "second")
    (gradient,) = torch.autograd.grad(outer(weight, inner), weight)
    if order == "first":
        inner = Held(loss, 0.3)
        outer(weight, inner)
    moved = torch.empty_like(gradient)
    for place in np.ndindex(*weight.shape):
        step = torch.zeros_like(weight)
        step[place] = 1e-5
        ends = []
        for sign in (1, -1):
            if isinstance(inner, Held):
                inner.replay()
            ends.append(outer((weight + sign * step).detach().requires_grad_(), inner).item())
        moved[place] = (ends[0] - ends[1]) / 2e-5
    torch.testing.assert_close(gradient, moved, rtol=1e-6, atol=1e-8)


@dataclass(frozen=True)
class Held(Inner[Set]):
    """Inner steps whose displacements are recorded once and then repeated after each `replay`."""

    shifts: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)

    def replay(self) -> None:
        self.left[:] = self.shifts

    def adapt(self, parameters: Mapping[str, Tensor], support: Set, steps: int) -> Mapping[str, Tensor]:
        if self.left:
            return {"weight": parameters["weight"] + self.left.pop(0)}
        adapted = super().adapt(parameters, support, steps)
        self.shifts.append((adapted["weight"] - parameters["weight"]).detach())
        return adapted
