"""Late interaction (MaxSim, ColBERT, arXiv 2004.12832) without gradients, by blocks of passages of like lengths.

Shapes: Q queries of T vectors, N passages of a block, L vectors of the longest of them, V vectors of all of them, D the size of a vector.

A block holds the first vectors of all its passages, then all second ones and so on: the maximum then runs over the slowest axis, which
vectorises over all others. A passage that is shorter than the longest repeats its first vector, which changes no maximum.
`distill.numerics.maxsim` has the form with a gradient.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from distill.numerics.best import Best

_SIMILARITIES = 2**26
"""Similarities in memory at once: 256 MiB in float32."""
_CACHED_VECTORS = 2**15
"""Passage vectors of one matrix product whose results stay in a CPU's cache."""


@torch.no_grad()
def block_maxsim(queries: Float[Tensor, "Q T D"], block: Float[Tensor, "L N D"]) -> Float[Tensor, "Q N"]:
    r"""Return the score of every query with every passage of a block: :math:`\sum_t \max_l \langle q_t, p_l \rangle`.

    Vectors are multiplied in the block's type and on its device; sums are float32, of float64 float64. A query vector of zeros adds 0.
    Cost: Q*T*L*N*D multiply-adds, and memory for the Q*T*L*N products.
    """
    count, tokens, size = queries.shape
    products = block.reshape(-1, size) @ queries.reshape(-1, size).to(block.device, block.dtype).T
    best = products.view(len(block), -1).amax(dim=0).view(-1, count, tokens)
    return best.sum(dim=2, dtype=torch.float64 if block.dtype == torch.float64 else torch.float32).T


def maxsim_of_each(
    queries: Float[Tensor, "Q T D"], passages: Sequence[Float[Tensor, "_ D"]]
) -> Float[Tensor, "Q {len(passages)}"]:
    """Return the score of every query with passages of any lengths; minus infinity where a passage has no vector.

    Computed in float32 (float64 stays float64) on the device of the vectors. Memory: the scores and 256 MiB.
    """
    dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
    scores = torch.full((len(queries), len(passages)), -torch.inf, dtype=dtype, device=queries.device)
    lengths = np.array([len(passage) for passage in passages], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    for chosen in like_lengths(order[lengths[order] > 0], lengths, _CACHED_VECTORS):
        block = stacked([passages[i] for i in chosen]).to(dtype)
        for rows in _chunks(queries, block):
            scores[rows, torch.from_numpy(chosen)] = block_maxsim(queries[rows], block)
    return scores


def best_by_maxsim(
    queries: Float[Tensor, "Q T D"], blocks: Iterable[tuple[Int[Tensor, " N"], Float[Tensor, "L N D"]]], k: int
) -> list[Int[np.ndarray, " K"]]:
    """Return the positions of each query's k best passages, best first, equal scores by position.

    Every query meets every passage. For one vector each the score is their inner product. Cost: Q*T*L*D multiply-adds for each passage;
    memory: a block, 256 MiB of similarities and the k best of each query.

    Args:
        queries: their vectors; zeros fill up those that have fewer.
        blocks: the positions of passages and their vectors, in any order.
        k: passages to keep of each query.

    Raises:
        ValueError: a score is NaN.
    """
    best = Best(len(queries), k)
    for positions, block in blocks:
        passages = block.to(queries.device)
        for rows in _chunks(queries, passages):
            best.add(rows.start, block_maxsim(queries[rows], passages), positions)
    return best.positions()


def _chunks(queries: Tensor, block: Tensor) -> Iterator[slice]:
    """Cut the queries so that their similarities with a block stay within `_SIMILARITIES`."""
    size = max(1, _SIMILARITIES // (queries.shape[1] * block.shape[0] * block.shape[1]))
    for start in range(0, len(queries), size):
        yield slice(start, start + size)


def filled(queries: Sequence[Float[Tensor, "_ D"]]) -> Float[Tensor, "Q T D"]:
    """Return the vectors of queries as one tensor; zeros, which add nothing to a score, fill up the shorter ones. T is at least 1."""
    vectors = pad_sequence(list(queries), batch_first=True)
    return vectors if vectors.shape[1] else vectors.new_zeros(len(vectors), 1, vectors.shape[2])


def stacked(passages: Sequence[Float[Tensor, "_ D"]]) -> Float[Tensor, "L N D"]:
    """Return the vectors of passages, at least one each, as a block."""
    block = pad_sequence(list(passages))
    repeat_first(block, torch.tensor([len(passage) for passage in passages]))
    return block


def repeat_first(block: Float[Tensor, "L N D"], lengths: Int[Tensor, " N"]) -> None:
    """Fill up each passage of a block, from its length on, with its first vector."""
    short = torch.arange(len(block))[:, None] >= lengths[None, :]
    rows, columns = short.nonzero(as_tuple=True)
    block[rows, columns] = block[0, columns]


def blocks_of(
    vectors: Float[np.ndarray, "V D"], lengths: Int[np.ndarray, " N"], limit: int
) -> Iterator[tuple[Int[Tensor, " n"], Float[Tensor, "L n D"]]]:
    """Cut passages, whose vectors lie one passage after the other, into blocks of at most `limit` vectors, after their positions.

    A passage without a vector has one of zeros, and so scores 0. Blocks are float32.
    """
    padded = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), vectors.dtype)])
    starts = np.cumsum(lengths) - lengths
    starts[lengths == 0] = len(vectors)
    for chosen in like_lengths(np.argsort(lengths, kind="stable"), lengths, limit):
        steps = np.arange(max(1, int(lengths[chosen].max())))[:, None]
        rows = starts[chosen][None, :] + np.where(steps < lengths[chosen][None, :], steps, 0)
        yield torch.from_numpy(chosen), torch.from_numpy(padded[rows]).float()


def like_lengths(
    order: Int[np.ndarray, " M"], lengths: Int[np.ndarray, " N"], limit: int
) -> Iterator[Int[np.ndarray, " n"]]:
    """Cut positions, by ascending length, into runs of like lengths.

    Padded to its longest a run has at most `limit` vectors, and its longest has at most 1.5 times as many as its shortest.
    """
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
