"""Tables of Parquet files, read in parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq


@dataclass(frozen=True)
class StoredTable:
    """A table of Parquet files that is read in parts. Small: it travels to actors instead of the rows.

    Attributes:
        filesystem: where the files are.
        files: their paths in row order, each with its number of rows.
    """

    filesystem: pafs.FileSystem
    files: tuple[tuple[str, int], ...]

    @classmethod
    def open(cls, filesystem: pafs.FileSystem, folder: str) -> "StoredTable":
        """The table in a folder; reads only the files' footers."""
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        paths = sorted(info.path for info in filesystem.get_file_info(selector) if info.path.endswith(".parquet"))
        if not paths:
            raise FileNotFoundError(f"no table in {folder}")
        return cls(filesystem, tuple((path, pq.read_metadata(path, filesystem=filesystem).num_rows) for path in paths))

    def __len__(self) -> int:
        return sum(rows for _, rows in self.files)

    def read(self, start: int = 0, stop: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows start to stop. Reads the row groups that hold them."""
        stop = len(self) if stop is None else min(stop, len(self))
        parts, first = [], 0
        for path, rows in self.files:
            low, high = max(start - first, 0), min(stop - first, rows)
            if low < high or not parts:
                parts.append(_read_rows(self.filesystem, path, low, max(high, low), columns))
            first += rows
        return pa.concat_tables(parts[1:] if len(parts) > 1 and not len(parts[0]) else parts)


def _read_rows(
    filesystem: pafs.FileSystem, path: str, start: int, stop: int, columns: Sequence[str] | None
) -> pa.Table:
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        groups, first, skipped = [], 0, 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first + rows <= start:
                skipped += rows
            elif first < stop:
                groups.append(group)
            first += rows
        return file.read_row_groups(groups, columns=list(columns) if columns else None).slice(
            start - skipped, stop - start
        )
