"""Finding the row that kills its actor.

Before an actor computes a shard it writes down that it does, in a file of the stage's folder; who comes next and finds the note still open
knows that the actor died of it, or with it. A shard that was tried whole more often than `max_restarts` is computed carefully: ranges of
its rows are tried by themselves, each noted before, a range that dies is cut in sixteen, and a row that dies alone twice is left out with
its reason. Healthy rows survive being tried, so it does no harm to begin this for nothing. A death that took its node or its driver along
counts a quarter: it was more likely the node's, as when a spot machine is taken away.

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
_DEATHS_ALONE = 2.0
_LIKELY_INNOCENT = 0.25


class ShardError(UserError, RuntimeError):
    """A shard cannot be computed. The message says what was found out and what to do."""


@dataclass(frozen=True)
class Place:
    """Where a try runs.

    Attributes:
        run: the driver's run.
        node: the node's id.
        alive: whether a node is alive, by its id.
    """

    run: str
    node: str
    alive: Callable[[str], bool]


class Attempts:
    """What is known of something that was tried and is not done, kept in a file; `args` say what it is.

    Attributes:
        whole: deaths of the whole.
        apart: deaths of what remains when the rows at fault are left out.
        careful: whether rows are tried by themselves.
        suspects: ranges `[start, stop, deaths]` of rows that are still to be tried, in order.
        survived: rows that were tried and did no harm.
        lost: rows at fault, with their reasons.
    """

    def __init__(
        self, filesystem: pafs.FileSystem, path: str, place: Place, args: Mapping[str, Any] | None = None
    ) -> None:
        self._filesystem = filesystem
        self._path = path
        self._place = place
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
        self._bury()

    def _bury(self) -> None:
        """Count the death that an open note tells of."""
        if self._open is None:
            return
        here = self._open["run"] == self._place.run and self._place.alive(self._open["node"])
        weight = 1.0 if here else _LIKELY_INNOCENT
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
        """Note that `what` (`whole`, `apart` or `rows`) is tried. An exception closes the note; so does whatever is noted next."""
        self._open = {"what": what, "run": self._place.run, "node": self._place.node}
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
        """Delete the file: what was tried is done."""
        if self._filesystem.get_file_info(self._path).type == pafs.FileType.File:
            self._filesystem.delete_file(self._path)


def compute(worker: ShardWorker, shard: Shard, attempts: Attempts, max_restarts: int) -> Mapping[str, pa.Table]:
    """A shard's tables; rows that kill their actor or run out of memory are left out of them, and are in `attempts.lost`.

    A worker's rows can be tried apart if it has `row_ids`, `try_rows` and `without_rows`. Raises `ShardError` for a shard of another worker
    that died more often than `max_restarts`, and where no row alone is at fault; what else the worker raises passes through.
    """
    if not attempts.careful and attempts.whole < max_restarts + 1:
        try:
            with attempts.trying("whole"):
                return worker(shard)
        except Exception as error:
            if not isinstance(worker, SeparableWorker) or not _out_of_memory(error):
                raise
        _free_memory()
        attempts.careful = True
    if not isinstance(worker, SeparableWorker):
        raise ShardError(
            "a shard killed its actor more often than pool.max_restarts (memory, or a crash): give actors more memory "
            f"(pool.memory_gb), or make batches or shards smaller; it is shard {shard.index} {_shown(shard)}"
        )
    attempts.careful = True
    _search(worker, shard, attempts)
    return _compute_rest(worker, shard, attempts, max_restarts)


def _search(worker: SeparableWorker, shard: Shard, attempts: Attempts) -> None:
    """Try what is still suspected, until each row either survived or is lost."""
    if attempts.suspects is None:
        count = len(worker.row_ids(shard))
        attempts.suspects = _split(0, count)
    while attempts.suspects:
        start, stop, deaths = int(attempts.suspects[0][0]), int(attempts.suspects[0][1]), attempts.suspects[0][2]
        alone = stop - start == 1
        if deaths >= (_DEATHS_ALONE if alone else 1.0):
            reason = "killed its actor whenever it was computed alone (memory, or a crash)"
            _condemn(attempts, shard, start, stop, reason)
            continue
        try:
            with attempts.trying("rows"):
                worker.try_rows(shard, start, stop)
        except Exception as error:
            if not _out_of_memory(error):
                raise
            reason = f"out of memory when it was computed alone: {_one_line(error)}"
        else:
            attempts.suspects.pop(0)
            attempts.survived += stop - start
            continue
        _free_memory()
        _condemn(attempts, shard, start, stop, reason)


def _condemn(attempts: Attempts, shard: Shard, start: int, stop: int, reason: str) -> None:
    """Leave a row out, or cut a range of rows."""
    parts = _split(start, stop) if stop - start > 1 else []
    attempts.suspects = parts + (attempts.suspects or [])[1:]
    if parts:
        return
    attempts.lost[start] = reason
    if (not attempts.survived and len(attempts.lost) >= 3) or len(attempts.lost) > _SPLIT:
        raise ShardError(
            f"shard {shard.index} {_shown(shard)}: {len(attempts.lost)} rows killed their actor and {attempts.survived} survived: "
            f"it is not the rows; check the model, its libraries and the memory of the nodes ({reason})"
        )


def _compute_rest(
    worker: SeparableWorker, shard: Shard, attempts: Attempts, max_restarts: int
) -> Mapping[str, pa.Table]:
    found = f"{len(attempts.lost)} rows are at fault alone" if attempts.lost else "no row is at fault alone"
    message = (
        f"shard {shard.index} {_shown(shard)} kills its actor though {found}: all rows together need too much memory; "
        "give actors more (pool.memory_gb), or make batches or shards smaller"
    )
    if attempts.apart >= max_restarts + 1:
        raise ShardError(message)
    try:
        with attempts.trying("apart"):
            return worker.without_rows(shard, attempts.lost)
    except Exception as error:
        if not _out_of_memory(error):
            raise
        raise ShardError(f"{message} ({_one_line(error)})") from error


def _split(start: int, stop: int) -> list[list[float]]:
    size = -(-(stop - start) // _SPLIT)
    return [[low, min(low + size, stop), 0.0] for low in range(start, stop, size)] if size else []


def _out_of_memory(error: BaseException) -> bool:
    """Whether a worker ran out of memory and lived to tell: Python's and Arrow's error, PyTorch's on a GPU and on the CPU."""
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
