"""Tables of Parquet files, read in parts by the positions of their rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.errors import StorageError


class RowGroup(NamedTuple):
    """A row group: the unit in which Parquet files are read.

    Attributes:
        path: its file.
        number: its number in the file, from 0.
        start: the position of its first row in the table.
        stop: the position after its last row.
    """

    path: str
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class StoredTable:
    """A table of Parquet files that is read in parts. Small: it travels to actors instead of the rows.

    Attributes:
        filesystem: the file system of the files.
        files: their paths in row order, each with the numbers of rows of its row groups.
    """

    filesystem: pafs.FileSystem
    files: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def open(cls, filesystem: pafs.FileSystem, folder: str) -> "StoredTable":
        """Open the table in a folder; this reads only the files' footers. Raise `StorageError` if there is no file."""
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        paths = sorted(info.path for info in filesystem.get_file_info(selector) if info.path.endswith(".parquet"))
        if not paths:
            raise StorageError(f"no table in {folder}")
        return cls(filesystem, tuple((path, _rows_of_groups(filesystem, path)) for path in paths))

    def __len__(self) -> int:
        return sum(sum(rows) for _, rows in self.files)

    def groups(self, start: int = 0, stop: int | None = None) -> Iterator[RowGroup]:
        """Yield the row groups that hold rows of `start` to `stop`, in order."""
        position = 0
        for path, counts in self.files:
            for number, rows in enumerate(counts):
                if rows and (stop is None or position < stop) and position + rows > start:
                    yield RowGroup(path, number, position, position + rows)
                position += rows

    def read(self, start: int = 0, stop: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows `start` to `stop`, or to the end, with all columns or those named. Reads the row groups that hold them."""
        stop = len(self) if stop is None else min(stop, len(self))
        groups = list(self.groups(start, stop)) if start < stop else []
        if not groups:
            schema = pq.read_schema(self.files[0][0], filesystem=self.filesystem)
            return schema.empty_table().select(list(columns or schema.names))
        parts = []
        for path, members in groupby(groups, key=lambda group: group.path):
            with pq.ParquetFile(path, filesystem=self.filesystem) as file:
                part = file.read_row_groups(
                    [group.number for group in members], columns=list(columns) if columns else None
                )
                parts.append(part.select(list(columns)) if columns else part)
        return pa.concat_tables(parts).slice(start - groups[0].start, stop - start)


class RowReader:
    """Random access to the rows of a stored table, with its last row groups in memory.

    Args:
        table: the table.
        columns: the columns to read.
        held: row groups that memory holds at once.
    """

    def __init__(self, table: StoredTable, columns: Sequence[str], held: int = 2) -> None:
        self._table = table
        self._columns = list(columns)
        self._held = held
        self._groups: dict[RowGroup, pa.Table] = {}

    def __len__(self) -> int:
        return len(self._table)

    def read(self, start: int, stop: int) -> pa.Table:
        """Return rows `start` to `stop`, at least one."""
        groups = list(self._table.groups(start, stop))
        return pa.concat_tables(
            [
                self._group(group).slice(max(start - group.start, 0), min(stop, group.stop) - max(start, group.start))
                for group in groups
            ]
        )

    def _group(self, group: RowGroup) -> pa.Table:
        if group not in self._groups:
            while len(self._groups) >= self._held:
                self._groups.pop(next(iter(self._groups)))
            self._groups[group] = self._table.read(group.start, group.stop, self._columns)
        return self._groups[group]


def _rows_of_groups(filesystem: pafs.FileSystem, path: str) -> tuple[int, ...]:
    metadata = pq.read_metadata(path, filesystem=filesystem)
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
