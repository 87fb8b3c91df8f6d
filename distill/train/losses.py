r"""Losses as pure functions of scores.

Shapes: B examples (queries), N passages of each, U passages of the batch, L languages of an entry, E entries.

Scores are raw: log-odds or cosines of the teacher, MaxSim or inner products of the student. A teacher's score that is missing is NaN: its
pair takes no part in a loss. Everything is computed in float32 at least; a loss of scores that are not finite is not finite.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def kl_divergence(
    student: Float[Tensor, "B N"], teacher: Float[Tensor, "B N"], student_scale: float = 1.0, teacher_scale: float = 1.0
) -> Float[Tensor, ""]:
    r"""Return KL(teacher || student) over the N passages of each example, the mean over examples.

    .. math:: \frac1B \sum_b \sum_k p^T_{bk} (\log p^T_{bk} - \log p^S_{bk}),
              \quad p^T = \mathrm{softmax}(\text{teacher\_scale} \cdot t), \; p^S = \mathrm{softmax}(\text{student\_scale} \cdot s)

    The loss of Translate-Distill (arXiv 2401.04810) and of Multilingual Translate-Distill (arXiv 2405.00977), in the direction of their
    released code (PLAID-X 0.3.3) rather than that of the formula in the paper.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])  # B 1, N 3
        >>> round(kl_divergence(student, teacher).item(), 4)
        0.1233
    """
    log_student, log_teacher = _log_distributions(student * student_scale, teacher * teacher_scale)
    return _divergence(log_teacher, log_student).sum() / len(student)


def reverse_kl_divergence(
    student: Float[Tensor, "B N"], teacher: Float[Tensor, "B N"], student_scale: float = 1.0, teacher_scale: float = 1.0
) -> Float[Tensor, ""]:
    r"""Return KL(student || teacher), the direction of the formula in arXiv 2401.04810: `kl_divergence` with the distributions exchanged.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])  # B 1, N 3
        >>> round(reverse_kl_divergence(student, teacher).item(), 4)
        0.1196
    """
    log_student, log_teacher = _log_distributions(student * student_scale, teacher * teacher_scale)
    return _divergence(log_student, log_teacher).sum() / len(student)


def margin_mse(student: Float[Tensor, "B N"], teacher: Float[Tensor, "B N"], pairs: str = "first") -> Float[Tensor, ""]:
    r"""Return the mean squared error of score margins (Hofstätter et al., arXiv 2010.02666).

    .. math:: \mathrm{mean}_{b,(i,j)} \left( (s_{bi} - s_{bj}) - (t_{bi} - t_{bj}) \right)^2

    Args:
        student: the student's scores.
        teacher: the teacher's, in the same unit.
        pairs: `first` for the pairs (0, j) of a positive and its negatives, `all` for i < j.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])  # B 1, N 3
        >>> margin_mse(student, teacher).item()  # margins (1, 2) and (0, 1)
        1.0
    """
    difference = _full(student) - _full(teacher)
    first, second = _pairs(difference, pairs)
    errors = difference[:, first] - difference[:, second]
    unknown = torch.isnan(teacher[:, first] - teacher[:, second])
    return errors.masked_fill(unknown, 0.0).square().sum() / known_margins(teacher, pairs).clamp(min=1)


def known_margins(teacher: Float[Tensor, "B N"], pairs: str = "first") -> Int[Tensor, ""]:
    """Return how many margins `margin_mse` is the mean over: those of two scores that the teacher gave.

    Example:
        >>> known_margins(torch.tensor([[1.0, 0.0, 0.5], [2.0, 0.0, float("nan")]])).item()
        3
    """
    first, second = _pairs(teacher, pairs)
    return (~torch.isnan(teacher[:, first] - teacher[:, second])).sum()


def _pairs(scores: Float[Tensor, "B N"], pairs: str) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Return the positions of both passages of each margin."""
    count = scores.shape[1]
    first, second = torch.triu_indices(count, count, 1, device=scores.device)
    return (first[: count - 1], second[: count - 1]) if pairs == "first" else (first, second)


def cross_entropy(student: Float[Tensor, "B N"], scale: float = 1.0) -> Float[Tensor, ""]:
    r"""Return the cross-entropy of the first passage of each example among its own: :math:`-\frac1B \sum_b \log \mathrm{softmax}(s_b)_0`.

    The loss of Translate-Train (Nair et al., arXiv 2201.08471).

    Example:
        >>> round(cross_entropy(torch.tensor([[2.0, 1.0, 0.0]])).item(), 4)  # -log of exp(2) / (exp(2) + exp(1) + exp(0))
        0.4076
    """
    return -functional.log_softmax(_full(student) * scale, dim=-1)[:, 0].mean()


def info_nce(
    student: Float[Tensor, "B U"],
    positives: Int[Tensor, " B"],
    negatives: Bool[Tensor, "B U"],
    scale: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Return the cross-entropy of each query's positive among the passages of a batch (InfoNCE, arXiv 1807.03748).

    Args:
        student: scores of every query with every passage.
        positives: the column of each query's positive.
        negatives: which passages are negatives of which query; other versions of its positive are not.
        scale: factor on the scores.

    Example:
        >>> scores = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]])  # B 2, U 3
        >>> positives = torch.tensor([0, 1])
        >>> negatives = torch.tensor([[False, True, True], [True, False, True]])
        >>> round(info_nce(scores, positives, negatives).item(), 4)
        0.2887
    """
    logits = _full(student) * scale
    own = functional.one_hot(positives, student.shape[1]).bool()
    logits = logits.masked_fill(~(negatives | own), float("-inf"))
    return functional.cross_entropy(logits, positives)


def language_divergence(student: Float[Tensor, "E L N"]) -> Float[Tensor, ""]:
    r"""Return the divergence between the score distributions of an entry's languages: the regulariser of PLAID-X 0.3.3.

    With :math:`\ell` the log-softmax over an entry's N passages in one language: the symmetric divergence of :math:`\ell_i` and
    :math:`\ell_j`, the mean over all entries and passages, and over all pairs of languages i <= j, those of a language with itself
    (which are 0) included:

    .. math:: \frac{2}{L(L+1)} \sum_{i \le j} \frac{1}{2EN} \sum_{e,k}
              \left( p_{eik} (\ell_{eik} - \ell_{ejk}) + p_{ejk} (\ell_{ejk} - \ell_{eik}) \right)

    The sum over k is a divergence of distributions; the released code takes it over rows of one passage each, hence the division by N.

    Example:
        >>> same = torch.tensor([[[2.0, 1.0], [2.0, 1.0]]])  # E 1, L 2, N 2
        >>> language_divergence(same).item()
        0.0
        >>> round(language_divergence(torch.tensor([[[2.0, 1.0], [1.0, 2.0]]])).item(), 4)
        0.077
    """
    logs = functional.log_softmax(_full(student), dim=-1)
    count = logs.shape[1]
    first, second = torch.triu_indices(count, count, 1, device=logs.device)
    difference = logs[:, first] - logs[:, second]
    symmetric = 0.5 * (logs[:, first].exp() - logs[:, second].exp()) * difference
    return symmetric.sum() / (student.shape[0] * student.shape[2]) / (count * (count + 1) / 2)


def _log_distributions(
    student: Float[Tensor, "B N"], teacher: Float[Tensor, "B N"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
    """Return the log-softmax of both sides over the pairs that the teacher has scored; elsewhere minus infinity."""
    unknown = torch.isnan(teacher)
    if torch.isinf(teacher).any() or unknown.all(dim=-1).any():
        raise ValueError("teacher scores are not finite")
    lowest = float("-inf")
    log_student = functional.log_softmax(_full(student).masked_fill(unknown, lowest), dim=-1)
    log_teacher = functional.log_softmax(_full(teacher).masked_fill(unknown, lowest), dim=-1)
    return log_student, log_teacher


def _divergence(log_p: Float[Tensor, "B N"], log_q: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Return the terms of KL(p || q), zero where both are minus infinity: the unknown pairs."""
    unknown = torch.isinf(log_p) & torch.isinf(log_q)
    difference = log_p.masked_fill(unknown, 0.0) - log_q.masked_fill(unknown, 0.0)
    return log_p.exp() * difference


def _full(scores: Tensor) -> Tensor:
    return scores if scores.dtype == torch.float64 else scores.float()
