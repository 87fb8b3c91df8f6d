"""Batches cut by a token budget: padding costs little, and no batch needs more memory than the budget allows."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

_WIDTHS = ("intermediate_size", "d_ff", "ffn_dim", "hidden_size")
_CACHE_BYTES = 3 * 2**20


def token_budget_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Group the indices of `lengths` into batches whose padded size (longest x count) stays within `tokens_per_batch`.

    The longest come first, so that a batch that does not fit in memory fails at once. Equal lengths keep their order. An item longer than
    the budget is a batch of its own. Cost: one sort.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    longest = 0
    for i in order:
        if batches and longest * (len(batches[-1]) + 1) <= tokens_per_batch:
            batches[-1].append(i)
        else:
            batches.append([i])
            longest = max(lengths[i], 1)
    return batches


def padded(rows: Sequence[Sequence[int]], filler: int) -> Int[Tensor, "B T"]:
    """Return rows of token ids as one tensor; `filler` fills up the shorter ones at their end."""
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows], dtype=torch.long)


def attention_of(lengths: Sequence[int]) -> Int[Tensor, "B T"]:
    """Return the attention mask of rows that `padded` made: 1 for a row's own tokens, 0 for the filler."""
    return (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long()


def fitting_tokens(tokens_per_batch: int, config: Any, device: str) -> int:
    """Return the token budget of a model on a device: `tokens_per_batch`, but on CPUs no more than their caches hold.

    On a CPU a large batch gains nothing, and its intermediate states leave the cache: with 1,536 numbers a token, batches of 16,384 tokens
    took more than twice the time of 512 (benchmarks/teacher_scoring.md). The limit is 3 MiB of the widest states in float32, but at least
    512 tokens, below which matrix products are slower.

    Args:
        tokens_per_batch: the largest budget.
        config: the model's configuration in transformers.
        device: `cpu`, or a GPU's name.
    """
    if device != "cpu":
        return tokens_per_batch
    widest = max(int(getattr(config, name, None) or 0) for name in _WIDTHS) or 4 * 768
    return min(tokens_per_batch, max(512, _CACHE_BYTES // (4 * widest)))
