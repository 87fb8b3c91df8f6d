"""Draws after our seed are those after torch's."""

import pytest
import torch

from distill.numerics.seeds import seed_generators


@pytest.mark.parametrize("seed", [0, 153, -9_000_000_000_000_000_000, 2**63 - 1])
def test_draws_are_those_after_torch_manual_seed(seed: int) -> None:
    torch.manual_seed(seed)
    wanted = torch.rand(3), torch.nn.functional.dropout(torch.ones(20))
    seed_generators(seed)
    drawn = torch.rand(3), torch.nn.functional.dropout(torch.ones(20))
    assert all(torch.equal(a, b) for a, b in zip(wanted, drawn, strict=True))
