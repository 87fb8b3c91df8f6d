"""The k best of scores in one stable order: score descending, equal scores by position ascending.

Shapes: Q queries, N passages of a block, K the best so far.

`torch.topk` alone takes any of the scores that tie at the k-th rank; which ones depends on the device and on how the passages are cut into
blocks. Here the same scores at the same positions give the same list, whatever the blocks, their order, the device and the queries beside.
(The scores themselves may differ in their last bits where a matrix product has another shape.)
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

_ELEMENTS = 2**24
"""Scores that are compared with their bound at a time."""
_NOWHERE = torch.iinfo(torch.long).max
"""The position of what fills up a list."""


def top_k(
    scores: Float[Tensor, "Q N"], k: int, positions: Int[Tensor, "*rows N"] | None = None
) -> tuple[Float[Tensor, "Q K"], Int[Tensor, "Q K"]]:
    """Return the scores and positions of each query's k best, best first, equal scores by position; all N where there are fewer.

    Cost: one `torch.topk`, sorts of K numbers, and one more comparison of the rows whose k-th score ties with a lower-ranked one.

    Args:
        scores: in any precision, on any device. Minus infinity is a score like others, the lowest.
        k: passages to keep of each query.
        positions: of the N passages, of each query's own or one list for all; different within a row. If None, 0 to N - 1.

    Raises:
        ValueError: a score is NaN, which has no rank.
    """
    count, size = scores.shape
    k = min(k, size)
    if not count or k < 1:
        return scores[:, :0], torch.empty(count, 0, dtype=torch.long, device=scores.device)
    if positions is None:
        positions = torch.arange(size, device=scores.device)
    positions = positions.to(scores.device).expand(count, size)
    values, columns = scores.topk(min(k + 1, size), dim=1)
    # NaN counts as the largest number of all: one in a row comes first.
    if bool(values[:, 0].isnan().any()):
        row = int(values[:, 0].isnan().nonzero()[0, 0])
        raise ValueError(
            f"the score of position {int(positions[row, columns[row, 0]])} is NaN, in row {row} of {count}"
        )
    if size > k:
        tied = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]
        for rows in tied.split(max(1, _ELEMENTS // size)):
            columns[rows, :k] = _columns_of_ties(scores[rows], values[rows, :k], columns[rows, :k], positions[rows])
    columns = columns[:, :k]
    ascending, order = positions.gather(1, columns).sort(dim=1)
    best, order = scores.gather(1, columns.gather(1, order)).sort(dim=1, descending=True, stable=True)
    return best, ascending.gather(1, order)


def _columns_of_ties(
    scores: Float[Tensor, "R N"],
    values: Float[Tensor, "R K"],
    columns: Int[Tensor, "R K"],
    positions: Int[Tensor, "R N"],
) -> Int[Tensor, "R K"]:
    """Return `columns`, those of scores equal to the last value replaced by the ones of lowest positions."""
    bounds = values[:, -1:]
    rows, equal = (scores == bounds).nonzero(as_tuple=True)
    at = positions[rows, equal]
    if not bool(((at[1:] > at[:-1]) | (rows[1:] > rows[:-1])).all()):
        order = at.argsort()
        order = order[rows[order].argsort(stable=True)]
        rows, equal = rows[order], equal[order]
    counts = rows.bincount(minlength=len(scores))
    ranks = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    above = (values > bounds).sum(dim=1)
    slots = above[rows] + ranks
    kept = slots < values.shape[1]
    chosen = columns.clone()
    chosen[rows[kept], slots[kept]] = equal[kept]
    return chosen


class Best:
    """The k best passages of each query, over blocks that are shown one after the other, in any order.

    A passage whose score is minus infinity is left out. Memory: k scores and positions of each query, on the CPU.

    Args:
        queries: number of queries.
        k: passages to keep of each.
    """

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        # float64 holds every float32 and every whole number that is a score.
        self._scores = torch.empty(queries, 0, dtype=torch.float64)
        self._positions = torch.empty(queries, 0, dtype=torch.long)

    def add(self, start: int, scores: Float[Tensor, "Q N"], positions: Int[Tensor, " N"]) -> None:
        """Take the scores of the queries from `start` on with the passages at `positions`. A NaN is a `ValueError`."""
        rows = slice(start, start + len(scores))
        values, taken = (part.cpu() for part in top_k(scores, self._k, positions))
        values = torch.cat([self._scores[rows], values.double()], dim=1)
        values, taken = top_k(values, self._k, torch.cat([self._positions[rows], taken], dim=1))
        more = values.shape[1] - self._scores.shape[1]
        if more > 0:
            self._scores = pad(self._scores, (0, more), value=-torch.inf)
            self._positions = pad(self._positions, (0, more), value=_NOWHERE)
        self._scores[rows], self._positions[rows] = values, taken

    def positions(self) -> list[Int[np.ndarray, " K"]]:
        """Return the positions of each query's best passages, best first, equal scores by position."""
        present = (self._scores > -torch.inf).numpy()
        return [row[kept] for row, kept in zip(self._positions.numpy(), present, strict=True)]
