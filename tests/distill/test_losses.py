import math

import pytest
import torch

from distill.losses import kl_divergence


def test_kl_by_hand() -> None:
    # teacher softmax of (ln 3, 0) is (3/4, 1/4), student softmax of (0, 0) is (1/2, 1/2)
    teacher = torch.tensor([[math.log(3.0), 0.0]])
    student = torch.zeros(1, 2)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert kl_divergence(student, teacher).item() == pytest.approx(expected, abs=1e-7)


def test_kl_is_of_the_teacher_against_the_student() -> None:
    a, b = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.5, 0.0, 1.0]])
    p, q = a.softmax(-1), b.softmax(-1)
    assert kl_divergence(student=b, teacher=a).item() == pytest.approx((p * (p / q).log()).sum().item(), abs=1e-6)
    assert kl_divergence(student=b, teacher=a).item() != pytest.approx((q * (q / p).log()).sum().item(), abs=1e-3)


def test_log_probabilities_of_monot5_become_shares() -> None:
    """With teacher scores log p the softmax is p_k / sum p: the closed form of the released score files."""
    p = torch.tensor([[0.9, 0.3, 0.3]])
    shares = p / p.sum()
    student = torch.tensor([[1.0, 0.0, 0.0]])
    expected = (shares * (shares.log() - student.log_softmax(-1))).sum().item()
    assert kl_divergence(student, p.log()).item() == pytest.approx(expected, abs=1e-6)


def test_mean_is_over_examples_and_scales_multiply_scores() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    rows = [kl_divergence(student[i : i + 1] * 0.5, teacher[i : i + 1] * 20).item() for i in range(4)]
    assert kl_divergence(student, teacher, student_scale=0.5, teacher_scale=20.0).item() == pytest.approx(
        sum(rows) / 4, rel=1e-5
    )


def test_gradient_is_the_difference_of_the_distributions() -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    kl_divergence(student, teacher, student_scale=2.0).backward()
    expected = 2.0 * ((2.0 * student).softmax(-1) - teacher.softmax(-1)) / 3
    assert torch.allclose(student.grad, expected.detach(), atol=1e-6)  # pyright: ignore[reportArgumentType]


def test_scores_that_are_not_finite_are_named() -> None:
    with pytest.raises(ValueError, match="teacher scores are not finite"):
        kl_divergence(torch.zeros(1, 2), torch.tensor([[float("nan"), 0.0]]))


def test_shapes_are_checked() -> None:
    with pytest.raises(Exception, match="teacher"):
        kl_divergence(torch.zeros(2, 3), torch.zeros(2, 1))
