"""Losses as pure functions of scores.

Shapes: B examples (queries), N passages of each.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def kl_divergence(
    student: Float[Tensor, "B N"], teacher: Float[Tensor, "B N"], student_scale: float = 1.0, teacher_scale: float = 1.0
) -> Float[Tensor, ""]:
    r"""KL(teacher || student) over the N passages of each example, the mean over examples.

    .. math:: \frac1B \sum_b \sum_k p^T_{bk} (\log p^T_{bk} - \log p^S_{bk}),
              \quad p^T = \mathrm{softmax}(\text{teacher\_scale} \cdot t), \; p^S = \mathrm{softmax}(\text{student\_scale} \cdot s)

    The loss of Translate-Distill (arXiv 2401.04810) and of Multilingual Translate-Distill (arXiv 2405.00977), in the direction of their
    released code (PLAID-X 0.3.3) rather than that of the formula in the paper. Scores are raw: log-odds or cosines of the teacher, sums
    of maximal inner products of the student. Computed in float32 whatever the inputs are; scores that are not finite raise a ValueError.
    """
    if not (torch.isfinite(student).all() and torch.isfinite(teacher).all()):
        side = "student" if not torch.isfinite(student).all() else "teacher"
        message = f"{side} scores are not finite"
        raise ValueError(message)
    log_student = functional.log_softmax(student.float() * student_scale, dim=-1)
    log_teacher = functional.log_softmax(teacher.float() * teacher_scale, dim=-1)
    return functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
