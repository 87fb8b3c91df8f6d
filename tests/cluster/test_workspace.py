"""How work is cut, and how tables are read in parts."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import StageError, StorageError
from cluster.settings import PoolSettings
from cluster.workspace import Shard, Shared, _next_probe, planned_shards, row_shards
from tests.workspaces import LocalWorkspace


def marker(start: int, stop: int, seconds: float) -> dict[str, Any]:
    return {"args": {"start": start, "stop": stop}, "seconds": seconds}


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], (0, 0, 1)),
        ([marker(0, 1, 0.01)], (1, 1, 9)),  # 6000 would take a minute; at most eight times the last
        ([marker(0, 1, 0.01), marker(1, 9, 0.8)], (2, 9, 73)),
        ([marker(0, 1, 10.0)], (1, 1, 7)),  # six of ten seconds are a minute
        ([marker(0, 1, 0.0)], (1, 1, 9)),
        ([marker(0, 1, 0.01), marker(1, 999, 3.0)], (2, 999, 1000)),  # no more rows than there are
        ([marker(0, 1, 30.0)], None),  # half a minute says enough
        ([marker(0, 1000, 3.0)], None),
    ],
)
def test_the_first_shards_grow_until_one_says_enough(
    done: list[Mapping[str, Any]], expected: tuple[int, int, int] | None
) -> None:
    found = _next_probe(1000, 60.0, done)
    assert found == (None if expected is None else Shard(expected[0], {"start": expected[1], "stop": expected[2]}))


class Measured(LocalWorkspace):
    """A workspace where each row takes a given time."""

    seconds_a_row = 1.0

    def _markers(self) -> list[dict[str, Any]]:
        cuts = [found["args"] for found in super()._markers()]
        return [{"args": cut, "seconds": (cut["stop"] - cut["start"]) * self.seconds_a_row} for cut in cuts]


class Range:
    """The numbers of its rows."""

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        return {"numbers": pa.table({"n": list(range(shard.args["start"], shard.args["stop"]))})}


def plan(workspace: LocalWorkspace, count: int, seconds: float, actors: int = 1) -> list[tuple[int, int]]:
    pool = PoolSettings(max_actors=actors)
    shards = planned_shards(workspace, count, seconds, Range, {}, pool, "numbers")
    assert [shard.index for shard in shards] == list(range(len(shards)))
    workspace.map_shards(shards, Range, {}, pool, "numbers")
    return [(shard.args["start"], shard.args["stop"]) for shard in shards]


def test_shards_take_the_seconds_asked_for(tmp_path: Path) -> None:
    """One row a second: 1 row, then 8, which is more than half of ten; then ten each."""
    workspace = Measured(tmp_path)
    assert plan(workspace, 60, 10.0) == [(0, 1), (1, 9), (9, 19), (19, 29), (29, 39), (39, 49), (49, 59), (59, 60)]
    assert workspace.output("numbers")["n"].to_pylist() == list(range(60))
    assert workspace.computed == list(range(8))


def test_every_actor_gets_shards(tmp_path: Path) -> None:
    """51 rows are left for three actors of four shards each: five rows a shard, though ten would take the time."""
    sizes = [stop - start for start, stop in plan(Measured(tmp_path), 60, 10.0, actors=3)]
    assert sizes == [1, 8, *[5] * 10, 1]


def test_a_row_that_takes_longer_than_a_shard_is_one(tmp_path: Path) -> None:
    workspace = Measured(tmp_path)
    workspace.seconds_a_row = 100.0
    assert plan(workspace, 4, 10.0) == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10])
def test_little_work_is_all_done_while_it_is_measured(tmp_path: Path, count: int) -> None:
    workspace = Measured(tmp_path)
    bounds = plan(workspace, count, 10_000.0)
    assert [n for start, stop in bounds for n in range(start, stop)] == list(range(count))
    assert len(bounds) <= 3


def test_a_plan_is_not_made_again(tmp_path: Path) -> None:
    first = plan(Measured(tmp_path), 60, 10.0)
    again = Measured(tmp_path)
    again.seconds_a_row = 5.0
    assert plan(again, 60, 20.0, actors=9) == first
    assert again.computed == []


def test_what_is_shared_is_made_of_its_arguments() -> None:
    assert Shared(row_shards, {"count": 3, "size": 2}).make() == row_shards(3, 2)


def test_workspaces_and_their_ground_need_no_ray() -> None:
    code = "import sys, cluster.workspace, cluster.stored_table, cluster.atomic; print(sorted({'ray', 'torch'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_an_unknown_input_and_a_table_that_was_not_written_are_named(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "mix", {"sources": {"passages": pa.table({"a": [1, 2], "b": [3, 4]})}})
    assert workspace.input("sources", "passages", ["b"]).to_pydict() == {"b": [3, 4]}
    with pytest.raises(StageError, match=r"^stage 'mix' has no input 'select'; it has \['sources'\]$"):
        workspace.input_folder("select")
    with pytest.raises(StorageError, match="/mix/examples' holds no Parquet files"):
        workspace.output("examples")


def test_what_is_written_twice_keeps_the_last(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path)
    workspace.write("numbers", pa.table({"n": [1, 2]}))
    workspace.write("numbers", pa.table({"n": [3, 4, 5]}), row_group_size=2)
    assert workspace.output("numbers")["n"].to_pylist() == [3, 4, 5]
    assert pq.read_metadata(f"{workspace.folder}/numbers/00000.parquet").num_row_groups == 2


def test_a_remembered_value_is_made_once(tmp_path: Path) -> None:
    first, again = LocalWorkspace(tmp_path), LocalWorkspace(tmp_path)
    assert first.remember("cut", lambda: {"rows": 3}) == {"rows": 3}
    assert again.remember("cut", lambda: {"rows": 4}) == {"rows": 3}
    assert first.remember("nothing", lambda: None) is None
    assert again.remember("nothing", lambda: 1) is None


def test_notes_keep_the_last_fact_and_every_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = LocalWorkspace(tmp_path, "mix")
    workspace.note(rows=1, warning="few")
    workspace.note(rows=2, warning="fewer", langs=["de"])
    assert workspace.notes == {"rows": 2, "langs": ["de"], "warnings": ["few", "fewer"]}
    assert workspace.warnings == ["few", "fewer"]
    assert capsys.readouterr().out == "  mix: few\n  mix: fewer\n"
