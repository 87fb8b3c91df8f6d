"""Learners that adapt to one set of a task and are judged on another: MAML and MAML-Align, as functions of parameters.

theta are the parameters that are meta-learned, phi those of a learner after its inner steps on a support set:

    phi_0 = theta,  phi_k = phi_{k-1} - alpha * grad L(phi_{k-1}; support)

An outer loss is a loss at phi; its gradient by theta goes through the inner steps (second order), or treats their gradients as constants
(first order), so that it is the loss's gradient at phi.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Parameters = Mapping[str, Tensor]
S = TypeVar("S")
"""A set of a task, of the type that the loss takes."""
Loss = Callable[[Parameters, S], Float[Tensor, ""]]


@dataclass(frozen=True)
class Inner(Generic[S]):
    """The inner steps of a learner.

    Attributes:
        loss: the loss of parameters on a set.
        rate: alpha, their learning rate.
        second_order: whether gradients go through them.
    """

    loss: Loss[S]
    rate: float
    second_order: bool = False

    def adapt(self, parameters: Parameters, support: S, steps: int) -> Parameters:
        """Return phi: the parameters after `steps` gradient steps on a support set. They remain a function of `parameters`.

        Cost: a forward and a backward pass a step. First order keeps nothing of them; second order keeps every step's activations until the
        outer gradient is taken.
        """
        for _ in range(steps):
            value = self.loss(parameters, support)
            gradients = torch.autograd.grad(
                value, tuple(parameters.values()), create_graph=self.second_order, materialize_grads=True
            )
            parameters = {
                name: torch.sub(parameter, gradient, alpha=self.rate)
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
            }
        return parameters


def maml_loss(inner: Inner[S], parameters: Parameters, sets: Sequence[S], steps: int) -> Float[Tensor, ""]:
    """Return L(phi; query), phi being adapted to the support set: the outer loss of a task (MAML, arXiv 1703.03400)."""
    support, query = sets
    return inner.loss(inner.adapt(parameters, support, steps), query)


class AlignLosses(NamedTuple):
    """The losses of MAML-Align's two learners on one task.

    Attributes:
        teacher: of the teacher, adapted to the monolingual set, on the bilingual set.
        student_bilingual: of the student on the bilingual set.
        student: of the student on the multilingual set.
    """

    teacher: Float[Tensor, ""]
    student_bilingual: Float[Tensor, ""]
    student: Float[Tensor, ""]

    @property
    def gap(self) -> Float[Tensor, ""]:
        """The teacher's loss minus the student's on the bilingual set, which distillation squares."""
        return self.teacher - self.student_bilingual


def align_losses(
    inner: Inner[S], parameters: Parameters, sets: Sequence[S], teacher_steps: int, student_steps: int
) -> AlignLosses:
    """Return the losses of MAML-Align on a task of three sets: monolingual, bilingual, multilingual (arXiv 2309.08185).

    The teacher adapts on the first set and is judged on the second; the student adapts on the second and is judged on the third. Both start
    from the same parameters. With `student_steps` 0 the student does not adapt, as in the released code.
    """
    monolingual, bilingual, multilingual = sets
    teacher = inner.adapt(parameters, monolingual, teacher_steps)
    student = inner.adapt(parameters, bilingual, student_steps)
    return AlignLosses(
        inner.loss(teacher, bilingual), inner.loss(student, bilingual), inner.loss(student, multilingual)
    )
