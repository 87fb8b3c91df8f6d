"""MaxSim of blocks of passages, without gradients."""

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cluster.stored_table import StoredTable

_BLOCK_VECTORS = 2**18
"""Passage vectors in memory at once: 128 MiB of 128 float32 numbers."""


def block_maxsim(queries: Float[Tensor, "Q T D"], passages: Float[Tensor, "L N D"]) -> Float[Tensor, "Q N"]:
    r"""Late interaction of every query with every passage: :math:`\sum_t \max_l \langle q_t, p_l \rangle`, in float32.

    Passages lie with all first vectors before all second ones, so that the maximum runs over the slowest axis, which vectorises. Shorter
    ones are filled up with a vector of their own, which changes no maximum.
    """
    count, tokens, size = queries.shape
    similarity = queries.float().reshape(count * tokens, size) @ passages.float().reshape(-1, size).T
    return similarity.view(count, tokens, *passages.shape[:2]).amax(dim=2).sum(dim=1)


def passage_blocks(
    vectors: StoredTable, dim: int, limit: int = _BLOCK_VECTORS
) -> Iterator[tuple[Int[Tensor, " N"], Float[Tensor, "L N D"]]]:
    """The passages of a VECTORS table in blocks of similar lengths and at most `limit` vectors, with their places in the table."""
    rows = max(1, limit // 128)
    for first in range(0, len(vectors), rows):
        column = vectors.read(first, first + rows, ["vectors"])["vectors"].combine_chunks()
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False) // dim
        # A passage without a vector would score minus infinity; one of zeros scores 0.
        flat = np.concatenate([np.asarray(pc.list_flatten(column)).reshape(-1, dim), np.zeros((1, dim), np.float16)])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        starts[lengths == 0] = len(flat) - 1
        order = np.argsort(lengths, kind="stable")
        for chosen in _cut(order, lengths, limit):
            longest = max(1, int(lengths[chosen].max()))
            steps = np.minimum(np.arange(longest)[:, None], np.maximum(lengths[chosen] - 1, 0)[None, :])
            block = torch.from_numpy(flat[starts[chosen][None, :] + steps])
            yield torch.from_numpy(first + chosen), block.float()


def _cut(order: np.ndarray, lengths: np.ndarray, limit: int) -> Iterator[np.ndarray]:
    """Rows by length, in runs whose padded size stays within `limit` vectors and whose longest is at most 1.5 times the shortest."""
    start = 0
    while start < len(order):
        shortest = max(1, int(lengths[order[start]]))
        stop = start + 1
        while stop < len(order):
            longest = int(lengths[order[stop]])
            if longest > 1.5 * shortest or longest * (stop - start + 1) > limit:
                break
            stop += 1
        yield order[start:stop]
        start = stop
