"""Rows looked up by id in tables of millions, from many actors, without a hash table in each of them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from distill.tables import STRING, TableError


def sorted_ids(ids: pa.ChunkedArray) -> pa.Table:
    """Return an index for `SortedIds`: the columns `id`, sorted, and `row`, the row of each.

    As an Arrow table it lies in shared memory once for all actors of a machine. Cost: one sort; 16 bytes an id and the ids themselves.
    """
    flat = ids.combine_chunks()
    order = pc.sort_indices(flat)
    return pa.table({"id": flat.take(order), "row": order.cast(pa.int64())})


class SortedIds:
    """Look-up of ids in an index that `sorted_ids` made, by binary search.

    Args:
        index: the index.
        what: the name of the ids in messages (`passage_id`).
    """

    def __init__(self, index: pa.Table, what: str) -> None:
        self._ids = index["id"].combine_chunks()
        self._rows = index["row"].combine_chunks()
        self._what = what

    def known(self, ids: Sequence[str]) -> Bool[np.ndarray, " N"]:
        """Return for each of `ids` whether it exists."""
        return self._search(ids)[1]

    def find(self, ids: Sequence[str], source: str) -> Int[np.ndarray, " N"]:
        """Return the rows of `ids`, in their order.

        Raises:
            TableError: ids do not exist; the message begins with `source` and names three.

        Cost: the logarithm of the index's size in vectorised comparisons.
        """
        low, present = self._search(ids)
        if not present.all():
            lost = sorted({name for name, there in zip(ids, present.tolist(), strict=True) if not there})
            raise TableError(f"{source}: {len(lost)} of {self._what} do not exist, among them {lost[:3]}")
        return np.asarray(self._rows.take(pa.array(low)))

    def _search(self, ids: Sequence[str]) -> tuple[Int[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
        """Return for each id its position in the index, and whether it is there."""
        wanted = pa.array(ids, STRING)
        low = np.zeros(len(wanted), np.int64)
        high = np.full(len(wanted), len(self._ids), np.int64)
        for _ in range(len(self._ids).bit_length()):
            middle = np.minimum((low + high) // 2, len(self._ids) - 1)
            before = np.asarray(pc.less(self._ids.take(pa.array(middle)), wanted)) & (low < high)
            low, high = np.where(before, middle + 1, low), np.where(before, high, np.minimum(middle, high))
        present = low < len(self._ids)
        if len(self._ids):
            ids_there = self._ids.take(pa.array(np.minimum(low, len(self._ids) - 1)))
            present &= np.asarray(pc.equal(ids_there, wanted))
        return low, present
