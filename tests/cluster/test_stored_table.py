"""Tables that are read in parts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from cluster.errors import StorageError
from cluster.stored_table import RowGroup, RowReader, StoredTable


@pytest.fixture
def stored(tmp_path: Path) -> StoredTable:
    """Files of 10, 0 and 7 rows, in groups of 4."""
    for number, (start, stop) in enumerate([(0, 10), (10, 10), (10, 17)]):
        table = pa.table(
            {
                "n": pa.array(range(start, stop), pa.int64()),
                "text": pa.array([str(n) for n in range(start, stop)], pa.string()),
            }
        )
        pq.write_table(table, tmp_path / f"{number:05d}.parquet", row_group_size=4)
    return StoredTable.open(pafs.LocalFileSystem(), str(tmp_path))


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 17), (0, 0), (3, 5), (4, 8), (9, 11), (12, 99), (17, 20), (0, 1), (16, 17)]
)
def test_any_range_of_a_stored_table_is_read(stored: StoredTable, start: int, stop: int) -> None:
    rows = stored.read(start, stop)
    assert rows["n"].to_pylist() == list(range(17))[start:stop]
    assert rows["text"].to_pylist() == [str(n) for n in range(17)][start:stop]
    assert stored.read(start, stop, ["text"]).column_names == ["text"]


def test_a_stored_table_knows_its_size(stored: StoredTable, tmp_path: Path) -> None:
    assert len(stored) == 17
    assert stored.read().num_rows == 17
    with pytest.raises(StorageError, match=f"no table in {tmp_path}/none"):
        StoredTable.open(pafs.LocalFileSystem(), f"{tmp_path}/none")


def test_columns_come_in_the_order_asked_for(stored: StoredTable) -> None:
    for stop in (0, 3, 17):
        assert stored.read(0, stop).column_names == ["n", "text"]
        assert stored.read(0, stop, ["text", "n"]).column_names == ["text", "n"]
        assert stored.read(0, stop, ["text", "n"]).schema.types == [pa.string(), pa.int64()]


def test_row_groups_of_a_range(stored: StoredTable, tmp_path: Path) -> None:
    first, last = f"{tmp_path}/00000.parquet", f"{tmp_path}/00002.parquet"
    assert list(stored.groups()) == [
        RowGroup(first, 0, 0, 4),
        RowGroup(first, 1, 4, 8),
        RowGroup(first, 2, 8, 10),
        RowGroup(last, 0, 10, 14),
        RowGroup(last, 1, 14, 17),
    ]
    assert [group.start for group in stored.groups(4, 11)] == [4, 8, 10]
    assert [group.start for group in stored.groups(8, 10)] == [8]
    assert list(stored.groups(17)) == []


def test_only_the_row_groups_of_a_range_are_read(stored: StoredTable, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []
    original = pq.ParquetFile.read_row_groups

    def record(file: pq.ParquetFile, groups: list[int], **options: object) -> pa.Table:
        read.append(groups)
        return original(file, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", record)
    assert stored.read(5, 11)["n"].to_pylist() == [5, 6, 7, 8, 9, 10]
    assert read == [[1, 2], [0]]


def test_a_reader_holds_its_last_row_groups(stored: StoredTable, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RowReader(stored, ["text"], held=2)
    assert len(reader) == 17
    read: list[int] = []
    original = StoredTable.read

    def record(table: StoredTable, start: int, stop: int, columns: list[str]) -> pa.Table:
        read.append(start)
        return original(table, start, stop, columns)

    monkeypatch.setattr(StoredTable, "read", record)
    for start, stop in ((0, 2), (1, 6), (3, 5), (9, 13), (0, 1), (16, 99)):
        assert reader.read(start, stop).to_pydict() == {"text": [str(n) for n in range(17)][start:stop]}
    assert read == [0, 4, 8, 10, 0, 14]
