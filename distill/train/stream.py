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
import pyarrow.parquet as pq

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
        self._filesystem = filesystem
        self._columns = [column.name for column in contract.columns]
        infos = filesystem.get_file_info(pafs.FileSelector(folder))
        self._groups: list[tuple[str, int, int]] = []
        self._starts: list[int] = []
        total = 0
        for path in sorted(info.path for info in infos if info.path.endswith(".parquet")):
            metadata = pq.read_metadata(path, filesystem=filesystem)
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                self._groups.append((path, group, rows))
                self._starts.append(total)
                total += rows
        if not total:
            raise TableError(f"'{folder}' holds no training examples")
        self.rows = total
        self._cache: dict[int, pa.Table] = {}

    def batch(self, step: int, batch_size: int, rank: int = 0, world: int = 1, unit: int = 1) -> pa.Table:
        """Worker `rank`'s share of the batch of a step (from 0), in whole units; shares differ by one unit where they cannot be equal."""
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
        parts = []
        for index, (start, (_, _, rows)) in enumerate(zip(self._starts, self._groups, strict=True)):
            low, high = max(first, start), min(first + count, start + rows)
            if low < high:
                parts.append(self._group(index).slice(low - start, high - low))
        found = pa.concat_tables(parts)
        if found["position"][0].as_py() != first or len(found) != count:
            raise TableError(
                f"examples {first} to {first + count} are not where their positions say; the table is damaged"
            )
        return found

    def _group(self, index: int) -> pa.Table:
        if index not in self._cache:
            path, group, _ = self._groups[index]
            file = pq.ParquetFile(path, filesystem=self._filesystem)
            while len(self._cache) > 1:
                self._cache.pop(next(iter(self._cache)))
            self._cache[index] = file.read_row_group(group).select(self._columns)
        return self._cache[index]


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
