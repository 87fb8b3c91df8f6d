"""The k best passages of each query, over blocks of passages."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class Best:
    """The k best passages of each query, over blocks that are shown one after the other.

    Args:
        queries: number of queries.
        k: passages to keep of each.
    """

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._scores = torch.empty(queries, 0)
        self._places = torch.empty(queries, 0, dtype=torch.long)

    def add(self, start: int, scores: Float[Tensor, "Q N"], places: Int[Tensor, " N"]) -> None:
        """Take the scores of queries from `start` on with passages `places`. Every query sees the same blocks in the same order."""
        kept, order = scores.topk(min(self._k, scores.shape[1]), dim=1)
        stop = start + len(scores)
        joined = torch.cat([self._scores[start:stop], kept.cpu()], dim=1)
        found = torch.cat([self._places[start:stop], places[order.cpu()]], dim=1)
        best, order = joined.topk(min(self._k, joined.shape[1]), dim=1)
        if self._scores.shape[1] < best.shape[1]:
            self._scores = _widened(self._scores, best.shape[1], -torch.inf)
            self._places = _widened(self._places, best.shape[1], -1.0)
        self._scores[start:stop], self._places[start:stop] = best, found.gather(1, order)

    def places(self) -> list[Int[np.ndarray, " K"]]:
        """The places of each query's best passages, best first, equal scores by place."""
        scores, places = self._scores.numpy(), self._places.numpy()
        order = np.lexsort((places, -scores), axis=1)
        ranked = np.take_along_axis(places, order, axis=1)
        return [row[row >= 0] for row in ranked]


def _widened(values: Tensor, width: int, filler: float) -> Tensor:
    more = torch.full((len(values), width - values.shape[1]), filler, dtype=values.dtype)
    return torch.cat([values, more], dim=1)
