"""Vectors of all workers' passages, with gradients: negatives across a worker group.

Shapes: U passages of this worker, A passages of all workers, L vectors of a passage, D the size of a vector, K keys of a passage; R rows of
this worker, G rows of all workers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed
from torch.nn import functional


class Gathered(NamedTuple):
    """Passages in the order of the workers' ranks, and the position of this worker's first."""

    vectors: Float[Tensor, "A L D"]
    keep: Bool[Tensor, "A L"]
    keys: Int[Tensor, "A K"]
    first: int


def gather_passages(vectors: Float[Tensor, "U L D"], keep: Bool[Tensor, "U L"], keys: Int[Tensor, "U K"]) -> Gathered:
    """Return the passages of all workers; without a worker group, or in a group of one, those of this one.

    In the backward pass a worker's vectors get the sum of the gradients of all workers, so that after DDP's average the step is that of
    the mean of the workers' losses. Every worker must call it as often as the others. Cost: A*L*D numbers are sent in each direction.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return Gathered(vectors, keep, keys, 0)
    counts = _all(torch.tensor(vectors.shape[:2], device=vectors.device))
    most, longest = int(counts[:, 0].max()), int(counts[:, 1].max())
    padding = (longest - vectors.shape[1], most - vectors.shape[0])
    wide = functional.pad(vectors, (0, 0, 0, padding[0], 0, padding[1]))
    gathered: Tensor = _Gather.apply(wide)  # pyright: ignore[reportAssignmentType]
    kept = _all(functional.pad(keep, (0, padding[0], 0, padding[1])).to(torch.uint8)).bool()
    all_keys, first = gather_rows(keys)
    real = torch.cat([torch.arange(most, device=vectors.device) < count for count in counts[:, 0].tolist()])
    return Gathered(gathered.flatten(0, 1)[real], kept.flatten(0, 1)[real], all_keys, first)


def gather_rows(rows: Int[Tensor, "R K"]) -> tuple[Int[Tensor, "G J"], int]:
    """Return the rows of all workers in the order of their ranks, and the position of this worker's first; alone, those of this one.

    Rows of different width are filled up by their first value.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return rows, 0
    counts = _all(torch.tensor(rows.shape, device=rows.device))
    most, widest = int(counts[:, 0].max()), int(counts[:, 1].max())
    wide = torch.cat([rows, rows[:, :1].expand(-1, widest - rows.shape[1])], dim=1)
    gathered = _all(functional.pad(wide, (0, 0, 0, most - len(rows))))
    first = int(counts[: distributed.get_rank(), 0].sum())
    return torch.cat([part[:count] for part, count in zip(gathered, counts[:, 0].tolist(), strict=True)]), first


def all_sum(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the sums of numbers over all workers; without a worker group the numbers themselves."""
    total = torch.tensor(values, dtype=torch.float64, device=device)
    if distributed.is_initialized():
        distributed.all_reduce(total)
    return total.tolist()


def _all(part: Tensor) -> Tensor:
    """Return the tensors of all workers, stacked."""
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return torch.stack(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        del ctx
        return _all(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        total = gradients[0].contiguous()
        distributed.all_reduce(total)
        return total[distributed.get_rank()]
