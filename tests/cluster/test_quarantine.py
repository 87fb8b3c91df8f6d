"""Which rows are found at fault when processes really die. Every try is a process of its own, as every restart of an actor is."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from cluster.quarantine import Attempts, Origin, ShardError, compute
from cluster.workspace import Shard
from tests.squares import SeparableSquares, Squares

ROOT = Path(__file__).resolve().parents[2]

TRY = """
import json, sys
import pyarrow.fs as pafs
from cluster.quarantine import Attempts, Origin, ShardError, compute
from cluster.workspace import Shard
from tests.squares import SeparableSquares
facts = json.loads(sys.argv[1])
origin = Origin(facts["run"], facts["node"], lambda node: node not in facts["dead"])
attempts = Attempts(pafs.LocalFileSystem(), facts["path"], origin)
try:
    tables = compute(SeparableSquares(**facts["worker"]), Shard(7, {"start": 0, "stop": facts["rows"]}), attempts, facts["max_restarts"])
except ShardError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({name: table.to_pydict() for name, table in tables.items()}))
"""


@dataclass
class Outcome:
    """What the last process said, and how many died before it."""

    said: dict[str, Any]
    deaths: int

    @property
    def rejected(self) -> dict[str, str]:
        return dict(zip(self.said["rejected"]["id"], self.said["rejected"]["reason"], strict=True))


def attempt(
    tmp_path: Path,
    rows: int,
    *,
    run: str = "a",
    node: str = "n",
    dead: tuple[str, ...] = (),
    max_restarts: int = 0,
    **worker: object,
) -> subprocess.CompletedProcess[str]:
    facts = {
        "run": run, "node": node, "dead": dead, "path": str(tmp_path / "attempts.json"), "rows": rows, "max_restarts": max_restarts,
        "worker": {"log": str(tmp_path / "log"), **worker},
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", TRY, json.dumps(facts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until_it_lives(tmp_path: Path, rows: int, **facts: Any) -> Outcome:
    for deaths in range(30):
        found = attempt(tmp_path, rows, **facts)
        if found.returncode == 0:
            return Outcome(json.loads(found.stdout), deaths)
        assert found.returncode == -9, found.stderr
    pytest.fail("it never ended")


def test_a_row_that_kills_is_found_in_the_fewest_deaths(tmp_path: Path) -> None:
    """1 of the whole, 1 of sixty-four rows in 16 parts of 4, and 2 alone: four deaths."""
    outcome = until_it_lives(tmp_path, 64, poison=(37,))
    assert outcome.deaths == 4
    assert outcome.rejected == {
        "37": "crashed its actor whenever it was computed alone (out of memory, or a fault in a library)"
    }
    assert outcome.said["squares"]["n"] == [n for n in range(64) if n != 37]
    assert outcome.said["squares"]["square"][:3] == [0, 1, 4]


def test_the_whole_is_tried_again_first(tmp_path: Path) -> None:
    assert until_it_lives(tmp_path, 8, poison=(2,), max_restarts=2).deaths == 3 + 2


def test_what_is_said_to_be_out_of_memory_is_found_without_a_death(tmp_path: Path) -> None:
    outcome = until_it_lives(tmp_path, 40, hungry=(0, 39), max_restarts=3)
    assert outcome.deaths == 0
    assert outcome.rejected == {
        "0": "out of memory when it was computed alone: MemoryError: no room for [0]",
        "39": "out of memory when it was computed alone: MemoryError: no room for [39]",
    }


def test_rows_that_fit_only_apart_are_said_to_be_too_many(tmp_path: Path) -> None:
    outcome = until_it_lives(tmp_path, 32, together=8)
    assert outcome.said == {
        "error": "shard 7 (start 0, stop 32) crashes its actor though no row crashes alone: all rows together need too much memory; "
        "give actors more (pool.memory_gb), or make batches or shards smaller"
    }


def test_rows_that_all_kill_are_not_at_fault(tmp_path: Path) -> None:
    outcome = until_it_lives(tmp_path, 10, together=0)
    assert outcome.said["error"].startswith(
        "shard 7 (start 0, stop 10): 3 rows crashed their actor and 0 did not, so the fault is not in the rows"
    )
    assert outcome.deaths == 1 + 3 * 2


@pytest.mark.parametrize("taken", [{"dead": ("n",)}, {"run": "b"}], ids=["node", "driver"])
def test_a_death_that_took_its_node_or_driver_along_counts_a_quarter(tmp_path: Path, taken: dict[str, Any]) -> None:
    attempts = Attempts(pafs.LocalFileSystem(), str(tmp_path / "attempts.json"), Origin("a", "n", lambda _: True))
    with attempts.trying("whole"):
        note = (tmp_path / "attempts.json").read_text()
    (tmp_path / "attempts.json").write_text(note)
    here = Origin(taken.get("run", "a"), "m", lambda node: node not in taken.get("dead", ()))
    assert Attempts(pafs.LocalFileSystem(), str(tmp_path / "attempts.json"), here).whole == 0.25


def test_an_error_that_was_raised_is_no_death(tmp_path: Path) -> None:
    path = str(tmp_path / "attempts.json")
    origin = Origin("a", "n", lambda _: True)
    for _ in range(3):
        attempts = Attempts(pafs.LocalFileSystem(), path, origin)
        assert (attempts.whole, attempts.careful) == (0.0, False)
        worker = Squares(None, str(tmp_path / "log"), fail_at=7)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="shard 7 is wrong"):
            compute(worker, Shard(7, {"start": 0}), attempts, 0)


def test_rows_that_cannot_be_computed_apart_fail_the_shard(tmp_path: Path) -> None:
    attempts = Attempts(pafs.LocalFileSystem(), str(tmp_path / "attempts.json"), Origin("a", "n", lambda _: True))
    attempts.whole = 2.0
    worker = Squares(None, str(tmp_path / "log"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ShardError, match=r"^shard 7 \(start 0\) crashed its actor more often than pool.max_restarts \(out of memory, "
    ):
        compute(worker, Shard(7, {"start": 0}), attempts, 1)


def test_survivors_are_not_tried_again_after_a_death(tmp_path: Path) -> None:
    until_it_lives(tmp_path, 16, poison=(15,))
    counts = {n: (tmp_path / "log").read_text().split().count(str(n)) for n in range(16)}
    # the whole, alone, and the rest together; the last row alone twice instead
    assert counts == dict.fromkeys(range(15), 3) | {15: 3}


def test_no_note_stays(tmp_path: Path) -> None:
    attempts = Attempts(pafs.LocalFileSystem(), str(tmp_path / "attempts.json"), Origin("a", "n", lambda _: True))
    compute(SeparableSquares(str(tmp_path / "log")), Shard(0, {"start": 0, "stop": 2}), attempts, 0)
    assert (tmp_path / "attempts.json").exists()
    attempts.forget()
    assert not (tmp_path / "attempts.json").exists()
    attempts.forget()


def test_notes_on_another_cut_of_the_rows_are_not_heeded(tmp_path: Path) -> None:
    path = str(tmp_path / "attempts.json")
    attempts = Attempts(pafs.LocalFileSystem(), path, Origin("a", "n", lambda _: True), {"stop": 5})
    attempts.lost = {3: "no"}
    attempts.save()
    assert Attempts(pafs.LocalFileSystem(), path, Origin("a", "n", lambda _: True), {"stop": 5}).lost == {3: "no"}
    assert Attempts(pafs.LocalFileSystem(), path, Origin("a", "n", lambda _: True), {"stop": 6}).lost == {}
