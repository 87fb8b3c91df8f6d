"""Training examples streamed from Parquet, each worker reading its own share of every batch.

The batches of a job are fixed by the table alone: step s reads positions s*B to (s+1)*B, modulo the table, and worker r of W takes the
r-th of W parts that are as equal as can be. So any step can be started from, with any number of workers, and nothing is repeated or
skipped.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import StorageError
from cluster.stored_table import RowReader, StoredTable
from distill.tables import EXAMPLES, Table, TableError
from distill.train.batches import Example

T = TypeVar("T")


class ExampleStream:
    """Random access by position to a table of examples, holding two row groups in memory.

    Args:
        filesystem: where the table is.
        folder: its Parquet files, in the order of their names, positions ascending from 0.
        contract: the table's; it has a column `position`.
    """

    def __init__(self, filesystem: pafs.FileSystem, folder: str, contract: Table = EXAMPLES) -> None:
        try:
            table = StoredTable.open(filesystem, folder)
        except StorageError:
            raise TableError(f"'{folder}' holds no training examples") from None
        self.rows = len(table)
        if not self.rows:
            raise TableError(f"'{folder}' holds no training examples")
        self._reader = RowReader(table, [column.name for column in contract.columns])

    def batch(self, step: int, batch_size: int, rank: int = 0, world: int = 1, unit: int = 1) -> pa.Table:
        """Return worker `rank`'s share of the batch of a step (from 0), in whole units; shares differ by one unit at most."""
        units = batch_size // unit
        begin, end = (units * i // world * unit for i in (rank, rank + 1))
        share = end - begin
        first = (step * batch_size + begin) % self.rows
        parts = []
        while share:
            count = min(share, self.rows - first)
            parts.append(self._slice(first, count))
            share -= count
            first = 0
        return pa.concat_tables(parts)

    def _slice(self, first: int, count: int) -> pa.Table:
        rows = self._reader.read(first, first + count)
        if rows["position"][0].as_py() != first or len(rows) != count:
            raise TableError(
                f"examples {first} to {first + count} are not where their positions say; the table is damaged"
            )
        return rows


def examples_of(table: pa.Table) -> list[Example]:
    """Return the rows of an EXAMPLES table as `make_batch` takes them."""
    columns = [table[name].to_pylist() for name in Example._fields]
    return [Example(*row) for row in zip(*columns, strict=True)]


class Prefetch(Generic[T]):
    """Makes items ahead of time in a thread, so that reading and tokenising overlap with computing.

    Args:
        make: makes the item of a step.
        steps: the steps, in order.
        depth: items held ready.

    An error in `make` is raised where the item was to be taken.
    """

    def __init__(self, make: Callable[[int], T], steps: range, depth: int = 4) -> None:
        self._make = make
        self._steps = steps
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        try:
            for _ in self._steps:
                item, error = self._queue.get()
                if error is not None:
                    raise error
                yield item  # pyright: ignore[reportReturnType]
        finally:
            self._stop.set()

    def _fill(self) -> None:
        for step in self._steps:
            entry: tuple[Any, BaseException | None]
            try:
                entry = (self._make(step), None)
            except Exception as error:  # noqa: BLE001 - handed to the consumer, who raises it
                entry = (None, error)
            while not self._stop.is_set():
                try:
                    self._queue.put(entry, timeout=0.5)
                    break
                except queue.Full:
                    continue
            if self._stop.is_set() or entry[1] is not None:
                return
