"""Adaptive relevance margins by hand and against a derivation with loops over single pairs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distill.train.margins import adaptive_margin, distributed_margin, error, static_margin


def triples(count: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(7)
    parts = [functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1) for _ in range(3)]
    return parts[0].requires_grad_(), parts[1].requires_grad_(), parts[2].requires_grad_()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def target(a: Tensor, b: Tensor) -> Tensor:
    return (1 + cosine(a, b)) / 2


def test_by_hand() -> None:
    """One triple in the plane: q = d+ = (1, 0), d- = (0, 1). Margin 1, similarity of the passages 0, so its target 1/2."""
    q, p, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert static_margin(q, p, n, 0.3).item() == pytest.approx(0.49)
    assert adaptive_margin(q, p, n).item() == pytest.approx(0.25)
    assert distributed_margin(q, p, n).item() == pytest.approx(0.25)
    assert adaptive_margin(q, p, n, kind="absolute").item() == pytest.approx(0.5)
    assert adaptive_margin(q, p, n, kind="soft").item() == pytest.approx(math.log(1 + math.exp(-0.5)))


def test_two_triples_by_hand() -> None:
    """Margins (1, 0.5); target of positive i and negative j: rows (0.5, 1.0), (0.9, 0.5)."""
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    p = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    n = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # s(q, p) = 1, .8; s(q, n) = 0, 0 -> margins 1, .8; g: p1.n1 = 0 -> .5, p1.n2 = 1 -> 1, p2.n1 = .8 -> .9, p2.n2 = .6 -> .8
    code = ((1 - 0.5) ** 2 + (0.8 - 1.0) ** 2 + (1 - 0.9) ** 2 + (0.8 - 0.8) ** 2) / 4
    rows = ((1 - 0.5) ** 2 + (1 - 1.0) ** 2 + (0.8 - 0.9) ** 2 + (0.8 - 0.8) ** 2) / 4
    assert distributed_margin(q, p, n).item() == pytest.approx(code)
    assert distributed_margin(q, p, n, alignment="equation").item() == pytest.approx(rows)
    # in batch, M[i][j]: s(q, n) for query i and negative j is (0, 1), (1, 0); as released the positive's score is that of column j
    margins_code = [[1 - 0, 0.8 - 1], [1 - 1, 0.8 - 0]]
    margins_rows = [[1 - 0, 1 - 1], [0.8 - 1, 0.8 - 0]]
    for margins, alignment in ((margins_code, "code"), (margins_rows, "equation")):
        expected = sum((m - 0.3) ** 2 for row in margins for m in row) / 4
        assert static_margin(q, p, n, 0.3, in_batch=True, alignment=alignment).item() == pytest.approx(expected)


@pytest.mark.parametrize("alignment", ["code", "equation"])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("kind", ["squared", "absolute", "soft"])
@pytest.mark.parametrize("form", ["adaptive", "adaptive_in_batch", "distributed"])
def test_values_and_gradients_against_loops(form: str, kind: str, detach: bool, alignment: str) -> None:
    q, p, n = triples()
    options = {"detach": detach, "kind": kind, "alignment": alignment}
    found = {
        "adaptive": lambda: adaptive_margin(q, p, n, **options),
        "adaptive_in_batch": lambda: adaptive_margin(q, p, n, in_batch=True, **options),
        "distributed": lambda: distributed_margin(q, p, n, **options),
    }[form]()
    terms = []
    for i in range(4):
        for j in range(4) if form != "adaptive" else [i]:
            goal = target(p[i], n[j])
            goal = goal.detach() if detach else goal
            if form == "distributed":
                k = j if alignment == "code" else i
                margin = cosine(q[k], p[k]) - cosine(q[k], n[k])
            elif form == "adaptive_in_batch":
                k = j if alignment == "code" else i
                margin = cosine(q[k], p[k]) - cosine(q[i], n[j])
            else:
                margin = cosine(q[i], p[i]) - cosine(q[i], n[i])
            terms.append(
                {
                    "squared": (margin - goal) ** 2,
                    "absolute": (margin - goal).abs(),
                    "soft": torch.log1p(torch.exp(goal - margin)),
                }[kind]
            )
    expected = torch.stack(terms).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    for a, b in zip(torch.autograd.grad(found, (q, p, n)), torch.autograd.grad(expected, (q, p, n)), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_detached_targets_leave_the_value_and_change_the_gradient() -> None:
    q, p, n = triples()
    attached, detached = distributed_margin(q, p, n), distributed_margin(q, p, n, detach=True)
    assert attached.item() == detached.item()
    assert not torch.allclose(torch.autograd.grad(attached, n)[0], torch.autograd.grad(detached, n)[0])


def test_an_unknown_error_is_named() -> None:
    with pytest.raises(ValueError, match="no error is called 'cubed'"):
        error(torch.zeros(1), "cubed")


def test_targets_have_gradients_unless_detached() -> None:
    """By default as the released code: the gradient of a passage is also that of its similarity to the other one."""
    choices: list[dict[str, Any]] = [{}, {"detach": False}, {"detach": True}]
    for margin in (adaptive_margin, distributed_margin):
        queries, positives, negatives = triples()
        plain, whole, detached = (
            torch.autograd.grad(margin(queries, positives, negatives, **options), positives)[0] for options in choices
        )
        assert torch.equal(plain, whole)
        assert not torch.allclose(plain, detached, atol=1e-3)
