import time
from pathlib import Path

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from distill.tables import EXAMPLES, TableError
from distill.train.stream import ExampleStream, Prefetch


def write(folder: Path, count: int, per_file: int, group: int) -> None:
    folder.mkdir(parents=True)
    rows = [
        {
            "position": i, "query_id": f"q{i}", "query": "q", "query_lang": "en", "passage_ids": ["p"], "passages": ["t"], "langs": ["de"],
            "scores": [float(i)],
        }
        for i in range(count)
    ]  # fmt: skip
    for file, start in enumerate(range(0, count, per_file)):
        table = EXAMPLES.from_rows(rows[start : start + per_file])
        pq.write_table(table, folder / f"{file:05d}.parquet", row_group_size=group)


def positions(stream: ExampleStream, step: int, size: int, rank: int = 0, world: int = 1) -> list[int]:
    return stream.batch(step, size, rank, world)["position"].to_pylist()


def test_batches_are_consecutive_across_groups_and_files_and_wrap(tmp_path: Path) -> None:
    write(tmp_path / "examples", 10, per_file=4, group=3)
    stream = ExampleStream(pafs.LocalFileSystem(), str(tmp_path / "examples"))
    assert stream.rows == 10
    assert [positions(stream, step, 4) for step in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5]]


def test_workers_share_each_batch_whatever_their_number(tmp_path: Path) -> None:
    write(tmp_path / "examples", 10, per_file=10, group=4)
    stream = ExampleStream(pafs.LocalFileSystem(), str(tmp_path / "examples"))
    for step in range(5):
        whole = positions(stream, step, 6)
        for world in (2, 3, 6):
            assert [i for rank in range(world) for i in positions(stream, step, 6, rank, world)] == whole


def test_a_batch_may_be_larger_than_the_table(tmp_path: Path) -> None:
    write(tmp_path / "examples", 3, per_file=3, group=3)
    stream = ExampleStream(pafs.LocalFileSystem(), str(tmp_path / "examples"))
    assert positions(stream, 1, 7) == [1, 2, 0, 1, 2, 0, 1]


def test_a_damaged_table_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "examples", 8, per_file=4, group=4)
    (tmp_path / "examples" / "00000.parquet").unlink()
    stream = ExampleStream(pafs.LocalFileSystem(), str(tmp_path / "examples"))
    with pytest.raises(TableError, match="examples 0 to 2 are not where their positions say"):
        stream.batch(0, 2)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="holds no training examples"):
        ExampleStream(pafs.LocalFileSystem(), str(tmp_path))


def test_prefetch_keeps_order_and_makes_ahead() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * step

    items = iter(Prefetch(make, range(3, 9), depth=2))
    assert next(items) == 9
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made[:4] == [3, 4, 5, 6]
    assert list(items) == [16, 25, 36, 49, 64]


def test_prefetch_raises_where_the_item_was_to_come() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("bad row")
        return step

    items = iter(Prefetch(make, range(5)))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="bad row"):
        next(items)
