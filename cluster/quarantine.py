"""Quarantine: finding the rows that crash their actor.

Before an actor computes a shard it notes so in a file of the stage's folder. If the next actor on the shard reads a note that is still
open, the one before crashed. A shard that was tried whole more often than `max_restarts` is computed carefully: ranges of its rows are
tried by themselves, each noted before; a range that crashes is cut in sixteen, and a row that crashes alone twice is left out with its
reason. A row without fault passes when it is tried, so a search that was not needed rejects no row. A crash that took its node or its
driver along counts a quarter: the node was more likely at fault, as when a spot machine is taken away.

Cost of a careful shard: each row is computed twice, and a row at fault costs `2 + log16(rows)` actors.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.storage import read_json, write_json
from cluster.workspace import SeparableWorker, Shard, ShardWorker

_SPLIT = 16
_CRASHES_ALONE = 2.0
_CRASH_WITH_NODE = 0.25


class ShardError(UserError, RuntimeError):
    """A shard cannot be computed. The message says why, as far as that is known, and what to do."""


@dataclass(frozen=True)
class Origin:
    """The run and the node that a try belongs to.

    Attributes:
        run: the driver's run.
        node: the node's id.
        alive: tells whether the node of an id is alive.
    """

    run: str
    node: str
    alive: Callable[[str], bool]


class Attempts:
    """The record of a shard that was tried and is not done, kept in a file; a file of other `args` is disregarded.

    Attributes:
        whole: crashes of the whole shard.
        apart: crashes of the rows that remain when those at fault are left out.
        careful: True once rows are tried by themselves.
        suspects: ranges `[start, stop, crashes]` of rows that are still to be tried, in order.
        survived: number of rows that were tried without a crash.
        lost: rows at fault, with their reasons.
    """

    def __init__(
        self, filesystem: pafs.FileSystem, path: str, origin: Origin, args: Mapping[str, Any] | None = None
    ) -> None:
        self._filesystem = filesystem
        self._path = path
        self._origin = origin
        self._args = dict(args or {})
        state = read_json(filesystem, path) or {}
        if state.get("args") != self._args:  # another cut of the work had this number
            state = {}
        self.whole: float = state.get("whole", 0.0)
        self.apart: float = state.get("apart", 0.0)
        self.careful: bool = state.get("careful", False)
        self.suspects: list[list[float]] | None = state.get("suspects")
        self.survived: int = state.get("survived", 0)
        self.lost: dict[int, str] = {int(row): reason for row, reason in state.get("lost", {}).items()}
        self._open: dict[str, str] | None = state.get("open")
        self._count_crash()

    def _count_crash(self) -> None:
        """Count a crash if a note is open."""
        if self._open is None:
            return
        here = self._open["run"] == self._origin.run and self._origin.alive(self._open["node"])
        weight = 1.0 if here else _CRASH_WITH_NODE
        match self._open["what"]:
            case "whole":
                self.whole += weight
            case "apart":
                self.apart += weight
            case _ if self.suspects:
                self.suspects[0][2] += weight
        self._open = None

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Note that `what` (`whole`, `apart` or `rows`) is tried. An exception closes the note, and so does the next note."""
        self._open = {"what": what, "run": self._origin.run, "node": self._origin.node}
        self.save()
        try:
            yield
        except BaseException:
            self._open = None
            self.save()
            raise
        self._open = None

    def save(self) -> None:
        """Write the file."""
        state = {
            "args": self._args,
            "whole": self.whole,
            "apart": self.apart,
            "careful": self.careful,
            "suspects": self.suspects,
            "survived": self.survived,
            "lost": {str(row): reason for row, reason in self.lost.items()},
            "open": self._open,
        }
        write_json(self._filesystem, self._path, state)

    def forget(self) -> None:
        """Delete the file, because the shard is done."""
        if self._filesystem.get_file_info(self._path).type == pafs.FileType.File:
            self._filesystem.delete_file(self._path)


def compute(worker: ShardWorker, shard: Shard, attempts: Attempts, max_restarts: int) -> Mapping[str, pa.Table]:
    """Return a shard's tables without the rows that crash their actor or run out of memory; those are in `attempts.lost`.

    Rows are tried apart if the worker is a `SeparableWorker`. Raise `ShardError` if a shard of another worker crashed more often than
    `max_restarts`, or if rows crash though none does alone; other errors of the worker pass through.
    """
    if not attempts.careful and attempts.whole < max_restarts + 1:
        try:
            with attempts.trying("whole"):
                return worker(shard)
        except Exception as error:
            if not isinstance(worker, SeparableWorker) or not is_out_of_memory(error):
                raise
        _free_memory()
        attempts.careful = True
    if not isinstance(worker, SeparableWorker):
        raise ShardError(
            f"shard {shard.index} {_shown(shard)} crashed its actor more often than pool.max_restarts (out of memory, or a fault in a "
            "library): give actors more memory (pool.memory_gb), or make batches or shards smaller"
        )
    attempts.careful = True
    _search(worker, shard, attempts)
    return _compute_rest(worker, shard, attempts, max_restarts)


def _search(worker: SeparableWorker, shard: Shard, attempts: Attempts) -> None:
    """Try the suspects until each row either passed or is lost."""
    if attempts.suspects is None:
        count = len(worker.row_ids(shard))
        attempts.suspects = _split(0, count)
    while attempts.suspects:
        start, stop, crashes = int(attempts.suspects[0][0]), int(attempts.suspects[0][1]), attempts.suspects[0][2]
        alone = stop - start == 1
        if crashes >= (_CRASHES_ALONE if alone else 1.0):
            reason = "crashed its actor whenever it was computed alone (out of memory, or a fault in a library)"
            _narrow(attempts, shard, start, stop, reason)
            continue
        try:
            with attempts.trying("rows"):
                worker.try_rows(shard, start, stop)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = f"out of memory when it was computed alone: {_one_line(error)}"
        else:
            attempts.suspects.pop(0)
            attempts.survived += stop - start
            continue
        _free_memory()
        _narrow(attempts, shard, start, stop, reason)


def _narrow(attempts: Attempts, shard: Shard, start: int, stop: int, reason: str) -> None:
    """Cut a range of rows that failed, or leave out a single row."""
    parts = _split(start, stop) if stop - start > 1 else []
    attempts.suspects = parts + (attempts.suspects or [])[1:]
    if parts:
        return
    attempts.lost[start] = reason
    if (not attempts.survived and len(attempts.lost) >= 3) or len(attempts.lost) > _SPLIT:
        raise ShardError(
            f"shard {shard.index} {_shown(shard)}: {len(attempts.lost)} rows crashed their actor and {attempts.survived} did not, so the "
            f"fault is not in the rows; check the model, its libraries and the memory of the nodes ({reason})"
        )


def _compute_rest(
    worker: SeparableWorker, shard: Shard, attempts: Attempts, max_restarts: int
) -> Mapping[str, pa.Table]:
    alone = f"{len(attempts.lost)} rows that crash alone are left out" if attempts.lost else "no row crashes alone"
    message = (
        f"shard {shard.index} {_shown(shard)} crashes its actor though {alone}: all rows together need too much memory; "
        "give actors more (pool.memory_gb), or make batches or shards smaller"
    )
    if attempts.apart >= max_restarts + 1:
        raise ShardError(message)
    try:
        with attempts.trying("apart"):
            return worker.without_rows(shard, attempts.lost)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ShardError(f"{message} ({_one_line(error)})") from error


def _split(start: int, stop: int) -> list[list[float]]:
    size = -(-(stop - start) // _SPLIT)
    return [[low, min(low + size, stop), 0.0] for low in range(start, stop, size)] if size else []


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out: Python's and Arrow's, PyTorch's on a GPU and on the CPU."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _shown(shard: Shard) -> str:
    return f"({', '.join(f'{name} {value}' for name, value in shard.args.items())})"[:200]


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
