"""The loop over steps: what happens at which step, and how it continues from a checkpoint."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from distill.train.loop import History, Loop


class Settings(NamedTuple):
    steps: int = 7
    log_every: int = 2
    checkpoint_every: int = 4
    prefetch: int = 2


class Counter:
    """A trainer whose weights are the sum of what it was given."""

    def __init__(self) -> None:
        self.step, self.rank, self.world, self.total = 0, 0, 1, 0

    def add(self, value: int) -> None:
        self.total += value
        self.step += 1

    def save(self, folder: Path, history: History) -> None:
        (folder / "state.json").write_text(json.dumps([self.step, self.total, history]))

    def load(self, folder: Path) -> History:
        self.step, self.total, history = json.loads((folder / "state.json").read_text())
        return history


class Folder:
    """Checkpoints in a local folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reported: list[dict[str, Any]] = []

    @contextmanager
    def last(self) -> Iterator[Path | None]:
        steps = sorted(self.folder.iterdir())
        yield steps[-1] if steps else None

    def report(self, metrics: Mapping[str, Any], rank: int, save: Callable[[Path], None]) -> None:
        assert rank == 0
        self.reported.append(dict(metrics))
        folder = self.folder / f"{metrics['step']:04d}"
        folder.mkdir()
        save(folder)


class Sum(Loop[int]):
    """Adds up the steps' numbers plus one."""

    measure_every = 3
    stop_at: int | None = None
    fails_at: int | None = None

    def __init__(self, counter: Counter, settings: Settings, checkpoints: Folder) -> None:
        super().__init__(counter, settings, checkpoints, ("log", "sums"))
        self.counter = counter
        self.events: list[str] = []

    def item(self, step: int) -> int:
        return step + 1

    def take_step(self, item: int) -> None:
        if item == self.fails_at:
            raise RuntimeError("a worker died")
        self.counter.add(item)

    def log_line(self) -> None:
        self.events.append(f"log {self.counter.step}")
        self.history["log"].append({"step": self.counter.step, "loss": float(self.counter.total)})

    def measure(self) -> None:
        self.events.append(f"measure {self.counter.step}")
        self.history["sums"].append({"step": self.counter.step})

    def is_over(self) -> bool:
        return self.stop_at is not None and self.counter.step >= self.stop_at

    def metrics(self) -> dict[str, Any]:
        return {"total": self.counter.total}


def test_everything_is_due_at_its_steps_and_at_the_last(tmp_path: Path) -> None:
    checkpoints = Folder(tmp_path)
    loop = Sum(Counter(), Settings(), checkpoints)
    loop.run()
    assert loop.events == ["log 2", "measure 3", "log 4", "log 6", "measure 6", "log 7", "measure 7"]
    assert checkpoints.reported == [
        {"step": 4, "loss": 10.0, "total": 10},
        {"step": 7, "loss": 28.0, "total": 28},
    ]


def test_a_loop_continues_after_its_last_checkpoint(tmp_path: Path) -> None:
    failing = Sum(Counter(), Settings(), Folder(tmp_path))
    failing.fails_at = 6
    with pytest.raises(RuntimeError, match="a worker died"):
        failing.run()
    again = Sum(Counter(), Settings(), Folder(tmp_path))
    again.run()
    assert again.events == ["log 6", "measure 6", "log 7", "measure 7"]
    assert again.counter.total == 28
    assert [row["step"] for row in again.history["log"]] == [2, 4, 6, 7]
    assert [row["step"] for row in again.history["sums"]] == [3, 6, 7]


def test_a_finished_loop_takes_no_step(tmp_path: Path) -> None:
    Sum(Counter(), Settings(), Folder(tmp_path)).run()
    again = Sum(Counter(), Settings(), Folder(tmp_path))
    again.run()
    assert (again.events, again.counter.total) == ([], 28)


def test_a_loop_stops_early_where_it_is_over(tmp_path: Path) -> None:
    loop = Sum(Counter(), Settings(), Folder(tmp_path))
    loop.stop_at = 4
    loop.run()
    assert (loop.counter.step, loop.events) == (4, ["log 2", "measure 3", "log 4"])
