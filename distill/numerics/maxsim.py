"""Late interaction (MaxSim, ColBERT, arXiv 2004.12832) as a differentiable function that does not keep token similarities.

Shapes: B queries of T vectors, U passages of up to L vectors, N passages of each query, D the size of a vector.

The gradient of a maximum goes to the vector that was the maximum: the backward pass needs the B*N*T positions of the maxima, not the
B*N*T*L similarities that automatic differentiation would keep and go through twice.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ELEMENTS = 2**23
"""Similarities computed at a time."""


def maxsim(
    queries: Float[Tensor, "B T D"], passages: Float[Tensor, "B N L D"], keep: Bool[Tensor, "B N L"]
) -> Float[Tensor, "B N"]:
    r"""Return the late interaction of each query with its own N passages: :math:`\sum_t \max_{l \in keep} \langle q_t, p_l \rangle`.

    Computed in float32. Cost: B*N*T*L*D multiply-adds.
    """
    count = passages.shape[1]
    positions = torch.arange(len(queries) * count, device=queries.device).view(len(queries), count)
    return maxsim_at(queries, passages.flatten(0, 1), keep.flatten(0, 1), positions)


def maxsim_at(
    queries: Float[Tensor, "B T D"],
    passages: Float[Tensor, "U L D"],
    keep: Bool[Tensor, "U L"],
    positions: Int[Tensor, "B N"],
) -> Float[Tensor, "B N"]:
    """Return the late interaction of each query with the passages at its `positions`, which may repeat. Differentiable.

    At least one vector of every passage must be kept. Computed in float32 (float64 stays float64). Where queries share most of their
    passages all pairs are computed, as one matrix product.
    """
    if 2 * positions.shape[1] >= len(passages):
        return maxsim_all(queries, passages, keep).gather(1, positions)
    return _MaxSim.apply(_full(queries), _full(passages), keep, positions)  # pyright: ignore[reportReturnType]


def maxsim_all(
    queries: Float[Tensor, "B T D"], passages: Float[Tensor, "U L D"], keep: Bool[Tensor, "U L"]
) -> Float[Tensor, "B U"]:
    """Return the late interaction of each query with each passage. Differentiable."""
    return _MaxSim.apply(_full(queries), _full(passages), keep, None)  # pyright: ignore[reportReturnType]


def _full(vectors: Tensor) -> Tensor:
    # In half precision scores that are close become equal.
    return vectors if vectors.dtype == torch.float64 else vectors.float()


class _MaxSim(torch.autograd.Function):
    """MaxSim of B queries with the passages at their positions, or with all of them."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, passages: Tensor, keep: Tensor, positions: Tensor | None) -> Tensor:
        count = len(passages) if positions is None else positions.shape[1]
        scores = queries.new_empty(len(queries), count)
        best = torch.empty(len(queries), count, queries.shape[1], dtype=torch.long, device=queries.device)
        with torch.autocast(queries.device.type, enabled=False):
            for rows in _chunks(len(queries), count * passages.shape[1] * (queries.shape[1] + passages.shape[2])):
                similarity = _similarity(queries[rows], passages, None if positions is None else positions[rows])
                kept = keep[None] if positions is None else keep[positions[rows]]
                similarity.masked_fill_(~kept[:, None], torch.finfo(similarity.dtype).min)
                highest, where = similarity.max(dim=-1)
                scores[rows] = highest.sum(dim=1)
                best[rows] = where.transpose(1, 2)
        ctx.save_for_backward(queries, passages, positions, best)
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        [gradient] = gradients
        queries, passages, positions, best = ctx.saved_tensors
        longest = passages.shape[1]
        vectors = passages.reshape(-1, passages.shape[2])
        of_queries, of_vectors = torch.empty_like(queries), torch.zeros_like(vectors)
        every = torch.arange(len(passages), device=queries.device)[None]
        for rows in _chunks(len(queries), best.shape[1] * queries.shape[1] * queries.shape[2]):
            where = (every if positions is None else positions[rows])[:, :, None] * longest + best[rows]
            weight = gradient[rows]
            of_queries[rows] = torch.einsum("bn,bntd->btd", weight, vectors[where])
            parts = weight[:, :, None, None] * queries[rows][:, None]
            of_vectors.index_add_(0, where.flatten(), parts.flatten(0, 2))
        return of_queries, of_vectors.view_as(passages), None, None


def _similarity(
    queries: Float[Tensor, "B T D"], passages: Float[Tensor, "U L D"], positions: Int[Tensor, "B N"] | None
) -> Float[Tensor, "B T N L"]:
    """Return the inner products of every query vector with every vector of the query's passages."""
    if positions is None:
        return torch.einsum("btd,uld->btul", queries, passages)
    own = passages[positions]
    flat = torch.bmm(queries, own.flatten(1, 2).transpose(1, 2))
    return flat.unflatten(2, own.shape[1:3])


def _chunks(rows: int, elements: int) -> Iterator[slice]:
    """Cut rows into slices of at most `_ELEMENTS` elements."""
    size = max(1, _ELEMENTS // max(elements, 1))
    for start in range(0, rows, size):
        yield slice(start, start + size)
