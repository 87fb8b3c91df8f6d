import math
from collections.abc import Callable
from itertools import combinations_with_replacement

import pytest
import torch
from torch import Tensor, nn

from distill.train.losses import (
    cross_entropy,
    info_nce,
    kl_divergence,
    known_margins,
    language_divergence,
    margin_mse,
    reverse_kl_divergence,
)


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


def test_pairs_that_the_teacher_has_not_scored_take_no_part() -> None:
    student = torch.tensor([[1.0, 7.0, -0.5], [0.2, 0.1, 9.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, math.nan, 0.0], [1.0, 3.0, math.nan]])
    known = [kl_divergence(student[:1, [0, 2]], teacher[:1, [0, 2]]), kl_divergence(student[1:, :2], teacher[1:, :2])]
    found = kl_divergence(student, teacher)
    assert found.item() == pytest.approx((known[0] + known[1]).item() / 2, rel=1e-6)
    [gradient] = torch.autograd.grad(found, student)
    assert gradient[0, 1] == 0
    assert gradient[1, 2] == 0
    assert torch.isfinite(gradient).all()


def test_teacher_scores_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="teacher scores are not finite"):
        kl_divergence(torch.zeros(1, 2), torch.tensor([[math.inf, 0.0]]))
    with pytest.raises(ValueError, match="teacher scores are not finite"):
        kl_divergence(torch.zeros(1, 2), torch.tensor([[math.nan, math.nan]]))
    with pytest.raises(ValueError, match="teacher scores are not finite"):
        kl_divergence(torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 3.0], [math.nan] * 3]))


def test_student_scores_that_are_not_finite_make_the_loss_so() -> None:
    assert not math.isfinite(kl_divergence(torch.tensor([[math.nan, 0.0]]), torch.zeros(1, 2)).item())


def test_the_reverse_divergence_exchanges_the_sides() -> None:
    a, b = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.5, 0.0, 1.0]])
    p, q = a.softmax(-1), b.softmax(-1)
    assert reverse_kl_divergence(student=b, teacher=a).item() == pytest.approx(
        (q * (q / p).log()).sum().item(), abs=1e-6
    )
    p, q = (0.5 * a).softmax(-1), (3 * b).softmax(-1)
    scaled = reverse_kl_divergence(student=b, teacher=a, student_scale=3.0, teacher_scale=0.5)
    assert scaled.item() == pytest.approx((q * (q / p).log()).sum().item(), abs=1e-6)


def test_margin_mse_by_hand() -> None:
    student = torch.tensor([[3.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0, 0.5], [2.0, 0.0, math.nan]])
    # margins to the first: (2, 3) and (0, 0) against (1, 0.5) and (2, unknown)
    assert margin_mse(student, teacher).item() == pytest.approx(((2 - 1) ** 2 + (3 - 0.5) ** 2 + (0 - 2) ** 2) / 3)
    # and of the second to the third: 1 against -0.5
    assert margin_mse(student, teacher, pairs="all").item() == pytest.approx((1 + 6.25 + 1.5**2 + 4) / 4)


def test_student_scores_that_are_not_finite_make_margins_so() -> None:
    """A margin that the teacher knows counts, whatever the student's scores are."""
    assert not math.isfinite(margin_mse(torch.tensor([[math.nan, 0.0]]), torch.zeros(1, 2)).item())


def test_known_margins_by_hand() -> None:
    teacher = torch.tensor([[1.0, 0.0, 0.5], [2.0, 0.0, math.nan], [math.nan, 1.0, 2.0]])
    assert known_margins(teacher).item() == 2 + 1 + 0
    assert known_margins(teacher, "all").item() == 3 + 1 + 1


def test_margin_mse_ignores_what_is_added_to_all_scores() -> None:
    torch.manual_seed(2)
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    shift = torch.randn(3, 1)
    assert margin_mse(student + shift, teacher).item() == pytest.approx(margin_mse(student, teacher).item(), rel=1e-5)


def test_cross_entropy_by_hand() -> None:
    student = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert cross_entropy(student).item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    assert cross_entropy(student, scale=2.0).item() == pytest.approx(-(math.log(0.9) + math.log(0.5)) / 2)


def test_info_nce_by_hand() -> None:
    """Of the first query's passages the third is another version of its positive and is left out."""
    student = torch.tensor([[math.log(2.0), 0.0, 5.0], [0.0, math.log(6.0), 0.0]])
    negatives = torch.tensor([[False, True, False], [True, False, True]])
    found = info_nce(student, torch.tensor([0, 1]), negatives)
    assert found.item() == pytest.approx(-(math.log(2 / 3) + math.log(6 / 8)) / 2)


def test_language_divergence_by_hand() -> None:
    """Two languages: (3/4, 1/4) and (1/2, 1/2). Of the three pairs i <= j only one differs."""
    student = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0]]])
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    backward = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    # PLAID-X takes the mean over entries and passages: here 1 x 2.
    assert language_divergence(student).item() == pytest.approx((forward + backward) / 2 / 3 / 2)


def plaidx_language_loss(scores: Tensor) -> Tensor:
    """The regulariser as PLAID-X 0.3.3 states it, on scores [L, E, N]: a row for each passage of each entry, a column for each language.

    Every pair of columns i <= j has 0.5 KLDivLoss(i, j) + 0.5 KLDivLoss(j, i), both of log-probabilities with reduction `batchmean`, which
    divides by the rows; the loss is the mean over the pairs.
    """
    languages, entries, ways = scores.shape
    rows = scores.log_softmax(-1).reshape(languages, entries * ways).T
    divergence = nn.KLDivLoss(reduction="batchmean", log_target=True)
    pairs = combinations_with_replacement(rows.unbind(1), 2)
    return torch.stack([0.5 * divergence(a, b) + 0.5 * divergence(b, a) for a, b in pairs]).mean()


@pytest.mark.parametrize(("entries", "languages", "ways"), [(1, 2, 2), (3, 3, 6), (4, 6, 3)])
def test_language_divergence_is_that_of_plaidx(entries: int, languages: int, ways: int) -> None:
    torch.manual_seed(4)
    student = torch.randn(entries, languages, ways, dtype=torch.float64, requires_grad=True)
    found, expected = language_divergence(student), plaidx_language_loss(student.transpose(0, 1))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(torch.autograd.grad(found, student)[0], torch.autograd.grad(expected, student)[0], atol=1e-14)


def test_languages_that_agree_cost_nothing() -> None:
    scores = torch.randn(4, 1, 6).expand(4, 3, 6)
    assert language_divergence(scores).item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("loss", [kl_divergence, reverse_kl_divergence, margin_mse])
def test_gradients_against_the_plain_formula_in_float64(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(3)
    student, teacher = (
        torch.randn(4, 5, dtype=torch.float64, requires_grad=True),
        torch.randn(4, 5, dtype=torch.float64),
    )
    p, q = teacher.softmax(-1), student.softmax(-1)
    plain = {
        kl_divergence: (p * (p.log() - q.log())).sum() / 4,
        reverse_kl_divergence: (q * (q.log() - p.log())).sum() / 4,
        margin_mse: ((student[:, :1] - student[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])).square().mean(),
    }[loss]
    found = loss(student, teacher)
    assert found.item() == pytest.approx(plain.item(), abs=1e-12)
    assert torch.allclose(torch.autograd.grad(found, student)[0], torch.autograd.grad(plain, student)[0], atol=1e-12)


def test_shapes_are_checked() -> None:
    with pytest.raises(Exception, match="teacher"):
        kl_divergence(torch.zeros(2, 3), torch.zeros(2, 1))
