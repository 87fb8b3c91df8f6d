"""Workspaces: a stage's view of storage and cluster.

A stage is a function `stage(workspace, settings)` that reads earlier stages' tables, writes its own, and spreads work over actors, all
through its workspace. `cluster.stages.StageRun` is the one that runs shards on Ray. Nothing here imports Ray.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import StageError, visible
from cluster.locations import shown
from cluster.settings import PoolSettings
from cluster.storage import read_json, read_table, write_json, write_table


@dataclass(frozen=True)
class Shard:
    """A piece of a stage's work whose output is committed whole.

    Attributes:
        index: the shard's number; its output file is named by it.
        args: what the worker needs to find its rows (JSON values only).
    """

    index: int
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The rows that it covers, 0 where its arguments are no range of rows."""
        return self.args.get("stop", 0) - self.args.get("start", 0)


@dataclass(frozen=True)
class Shared:
    """A worker's argument that a task on the cluster makes once and that lies in shared memory once on each machine.

    It is for tables of a whole collection: they never lie in the driver's memory, and actors read them without a copy.

    Attributes:
        function: makes the value, an Arrow table or an object that holds Arrow or numpy arrays; must be importable, or a method of such a
            class.
        arguments: its arguments by name; small.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Return the value, made in this process."""
        return self.function(**self.arguments)


@runtime_checkable
class ShardWorker(Protocol):
    """A worker that computes shards. Each actor makes one (models load in its constructor) and calls it once a shard.

    The result maps table names to tables and must depend on nothing but the shard: not on the actor, nor on what it did before.
    """

    def __call__(self, shard: Shard) -> Mapping[str, pa.Table]:
        """Return the shard's tables by name."""
        ...


@runtime_checkable
class SeparableWorker(ShardWorker, Protocol):
    """A worker that can compute its rows apart, so that a row that ends its actor can be found and left out."""

    def row_ids(self, shard: Shard) -> list[str]:
        """Return the ids of what can be computed apart, in order. Cheap: nothing is computed."""
        ...

    def try_rows(self, shard: Shard, start: int, stop: int) -> None:
        """Compute rows start to stop of `row_ids` and drop the result: rows that the process survives are not at fault."""
        ...

    def without_rows(self, shard: Shard, lost: Mapping[int, str]) -> Mapping[str, pa.Table]:
        """Return the shard's tables without some rows; `lost` maps their positions in `row_ids` to reasons, which go to `rejected`."""
        ...


@dataclass(frozen=True)
class Count:
    """How far a stage is.

    Attributes:
        done: what is done, in `unit`.
        total: what there is to do; None where that is not known.
        unit: the name of what is counted, a plural.
        more: what else there is to say.
    """

    done: int
    total: int | None
    unit: str
    more: str = ""


class Workspace(ABC):
    """A stage's view of storage and cluster.

    Args:
        name: the stage's name.
        filesystem: the file system of every folder here.
        folder: the stage's output folder, a path on `filesystem`.
        uri: the same folder as a local path or an s3:// URI, for libraries that take those.
        inputs: folders of the stages that this one reads, paths on `filesystem`, by the stages' names.

    Attributes:
        notes: facts that the stage noted, by name; `warnings` is a list.
    """

    def __init__(
        self, name: str, filesystem: pafs.FileSystem, folder: str, uri: str, inputs: Mapping[str, str]
    ) -> None:
        self.name = name
        self.filesystem = filesystem
        self.folder = folder
        self.uri = uri
        self.notes: dict[str, Any] = {}
        self._inputs = dict(inputs)

    @property
    def location(self) -> str:
        """The folder's path or URI for messages: without credentials and options."""
        return shown(self.uri)

    @property
    def warnings(self) -> list[str]:
        """Warnings that the stage noted, in order."""
        return self.notes.get("warnings", [])

    def reads(self, stage: str) -> bool:
        """Return whether an earlier stage is an input of this one."""
        return stage in self._inputs

    def input_folder(self, stage: str) -> str:
        """Return an earlier stage's folder, a path on `filesystem`. Raise `StageError` if this stage does not read it."""
        if stage not in self._inputs:
            raise StageError(f"stage '{self.name}' has no input '{stage}'; it has {list(self._inputs)}")
        return self._inputs[stage]

    def input(self, stage: str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a table of an earlier stage, whole, with all columns unless some are named."""
        return read_table(self.filesystem, f"{self.input_folder(stage)}/{table}", list(columns) if columns else None)

    def output(self, table: str) -> pa.Table:
        """Return a table that this stage wrote, whole; shards in the order of their numbers."""
        return read_table(self.filesystem, f"{self.folder}/{table}")

    def write(self, table: str, data: pa.Table, row_group_size: int | None = None) -> None:
        """Write a whole table of this stage. A later write of the same table replaces it."""
        write_table(self.filesystem, f"{self.folder}/{table}/{0:05d}.parquet", data, row_group_size)

    def remember(self, name: str, make: Callable[[], Any]) -> Any:
        """Return a JSON value that is made once and kept in the stage's folder: a stage that is run again gets the same."""
        path = f"{self.folder}/_{name}.json"
        kept = read_json(self.filesystem, path)
        if kept is None:
            kept = {"value": make()}
            write_json(self.filesystem, path, kept)
        return kept["value"]

    def note(self, **facts: Any) -> None:
        """Record facts (counts, versions) in the stage's manifest. A `warning` is also printed, and warnings add up."""
        warning = facts.pop("warning", None)
        self.notes.update(facts)
        if warning:
            self.notes.setdefault("warnings", []).append(warning)
            print(f"  {self.name}: {visible(warning)}", flush=True)

    def following(self, source: Callable[[], Count | None]) -> AbstractContextManager[None]:
        """Return a context in which the stage's progress is what `source` says; it is called from another thread. Here nothing is shown."""
        del source
        return nullcontext()

    @abstractmethod
    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: PoolSettings,
        unit: str,
    ) -> None:
        """Compute the shards that are not committed yet on a pool of actors, each made by `worker(**arguments)`.

        Arrow tables among `arguments` are put into the object store once and shared, and what is `Shared` is made there. `unit` names the
        rows in progress bars.
        """

    @abstractmethod
    def map_series(
        self,
        next_shard: Callable[[Sequence[Mapping[str, Any]]], Shard | None],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: PoolSettings,
        unit: str,
    ) -> Sequence[Mapping[str, Any]]:
        """Compute shards one after the other on one actor, until `next_shard` returns None; return all markers, in order.

        `next_shard` gets the markers of the shards that are committed. A marker holds a shard's `args` and the `seconds` that it took.
        """


def row_shards(count: int, size: int) -> list[Shard]:
    """Return shards of `size` consecutive rows each, of a table of `count` rows."""
    starts = range(0, count, size)
    return [Shard(i, {"start": start, "stop": min(start + size, count)}) for i, start in enumerate(starts)]


def shard_rows(table: pa.Table, shard: Shard) -> pa.Table:
    """Return the rows of a shard that `row_shards` made."""
    return table.slice(shard.args["start"], shard.args["stop"] - shard.args["start"])


def planned_shards(
    workspace: Workspace,
    count: int,
    seconds: float,
    worker: Callable[..., ShardWorker],
    arguments: Mapping[str, Any],
    pool: PoolSettings,
    unit: str,
) -> list[Shard]:
    """Return shards of consecutive rows that take an actor about `seconds` each, of a table of `count` rows.

    One actor computes and commits the first rows: one, then more as their time allows, until a shard took half of `seconds` or no row is
    left. Time counts from when the worker is made, so loading a model is not in it. The rest is cut by what a row took in the last of them,
    into at least `_SHARDS_PER_ACTOR` shards for each of `pool.max_actors`. The plan is kept with the stage, so that a run which
    continues it has the same shards. Give the result to `map_shards` with the same worker, arguments and pool.
    """
    if count == 0:
        return []

    def plan() -> dict[str, Any]:
        measured = workspace.map_series(partial(_next_probe, count, seconds), worker, arguments, pool, unit)
        cuts = [0, *(marker["args"]["stop"] for marker in measured)]
        left = count - cuts[-1]
        most = max(1, -(-left // (pool.max_actors * _SHARDS_PER_ACTOR)))
        return {"cuts": cuts, "rows": min(_rows_in(measured[-1], seconds), most)}

    kept = workspace.remember("plan", plan)
    cuts, rows = kept["cuts"], kept["rows"]
    bounds = list(pairwise([*cuts, *range(cuts[-1] + rows, count, rows), count]))
    return [Shard(i, {"start": start, "stop": stop}) for i, (start, stop) in enumerate(bounds) if start < stop]


_SHARDS_PER_ACTOR = 4
_PROBE_GROWTH = 8


def _next_probe(count: int, seconds: float, done: Sequence[Mapping[str, Any]]) -> Shard | None:
    """Return the next of the first shards, which are measured; `done` are the markers of those before."""
    if not done:
        return Shard(0, {"start": 0, "stop": 1})
    last = done[-1]["args"]
    if last["stop"] >= count or done[-1]["seconds"] >= seconds / 2:
        return None
    size = last["stop"] - last["start"]
    size = max(1, min(_PROBE_GROWTH * size, _rows_in(done[-1], seconds)))
    return Shard(len(done), {"start": last["stop"], "stop": min(last["stop"] + size, count)})


def _rows_in(marker: Mapping[str, Any], seconds: float) -> int:
    """Return the number of rows that take `seconds`, at the speed of a committed shard."""
    rows = marker["args"]["stop"] - marker["args"]["start"]
    return max(1, int(rows * seconds / max(marker["seconds"], 1e-3)))
