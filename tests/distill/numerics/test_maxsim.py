"""MaxSim and its gradient against automatic differentiation of the plain formula in float64."""

import pytest
import torch
from torch import Tensor

from distill.numerics import maxsim as module
from distill.numerics.maxsim import maxsim, maxsim_all, maxsim_at


def vectors(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    queries = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    passages = torch.randn(9, 5, 2, dtype=torch.float64, requires_grad=True)
    keep = torch.rand(9, 5) > 0.3
    keep[:, 0] = True
    return queries, passages, keep


def plain(queries: Tensor, passages: Tensor, keep: Tensor) -> Tensor:
    similarity = torch.einsum("btd,uld->btul", queries, passages)
    return similarity.masked_fill(~keep[None, None], -1e30).amax(-1).sum(1)


def test_by_hand() -> None:
    queries = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    passages = torch.tensor([[[[3.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [9.0, 9.0]]]])
    keep = torch.tensor([[[True, True], [True, False]]])
    # first passage: max(3, 0) + max(0, 2); of the second only (0.5, 0.5) is kept: 0.5 + 1
    assert maxsim(queries, passages, keep).tolist() == [[5.0, 1.5]]


@pytest.mark.parametrize("elements", [1, 2**23])
def test_scores_and_gradients_of_own_passages(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passage at several places gets the sum of their gradients; the number of rows computed at a time changes nothing."""
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    queries, passages, keep = vectors()
    places = torch.tensor([[0, 1], [1, 8], [1, 1]])
    expected = plain(queries, passages, keep).gather(1, places)
    found = maxsim_at(queries, passages, keep, places)
    assert torch.allclose(found, expected, atol=1e-12)
    weight = torch.tensor([[1.0, -2.0], [0.5, 3.0], [1.5, 0.25]], dtype=torch.float64)
    gradients = torch.autograd.grad((found * weight).sum(), (queries, passages))
    for gradient, wanted in zip(
        gradients, torch.autograd.grad((expected * weight).sum(), (queries, passages)), strict=True
    ):
        assert torch.allclose(gradient, wanted, atol=1e-12)


@pytest.mark.parametrize("elements", [1, 2**23])
def test_scores_and_gradients_of_all_pairs(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    queries, passages, keep = vectors(1)
    expected, found = plain(queries, passages, keep), maxsim_all(queries, passages, keep)
    assert torch.allclose(found, expected, atol=1e-12)
    weight = torch.randn(3, 9, dtype=torch.float64)
    gradients = torch.autograd.grad((found * weight).sum(), (queries, passages))
    for gradient, wanted in zip(
        gradients, torch.autograd.grad((expected * weight).sum(), (queries, passages)), strict=True
    ):
        assert torch.allclose(gradient, wanted, atol=1e-12)


def test_queries_that_share_most_passages_have_the_same_scores() -> None:
    queries, passages, keep = vectors(2)
    places = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 8, 7, 6], [0, 0, 1, 2, 5]])
    assert torch.allclose(maxsim_at(queries, passages, keep, places), plain(queries, passages, keep).gather(1, places))


def test_autocast_does_not_round_the_product() -> None:
    queries, passages, keep = (part.float() if part.is_floating_point() else part for part in vectors(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = maxsim_all(queries, passages, keep)
    assert torch.allclose(found, plain(queries, passages, keep), atol=1e-5)
