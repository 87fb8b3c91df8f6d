"""What a stage is given: where to read its inputs, where to write its tables, and how to spread work.

Stages are functions `stage(workspace, settings)`. They see only this protocol, so the methods never import the cluster; the runner that
implements it (`cluster.stages.StageRun`) decides where folders lie, what is already done, and which actors do the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.fs as pafs


@dataclass(frozen=True)
class Pool:
    """How many actors do a stage's shards and what each of them holds.

    Attributes:
        min_actors: actors that start at once.
        max_actors: actors that the pool may grow to while shards wait.
        num_cpus: CPUs that Ray reserves for each actor; also its number of compute threads, at least 1.
        num_gpus: GPUs for each actor; a fraction shares one, a whole number takes several of one node.
        memory_gb: memory that Ray reserves for each actor, in 10^9 bytes.
        accelerator_type: Ray's name of the accelerator that the actors need.
        resources: custom resources of each actor.
        labels: labels that a node must have.
        fallback_labels: other sets of labels, tried in order where no node can have `labels`.
        runtime_env: Ray's runtime environment of the actors.
        max_restarts: how often a shard whose actor died is tried again whole, before its rows are tried apart or the stage fails.
        start_timeout_s: seconds to wait for the first actor before the stage fails.
        stall_timeout_s: seconds that actors may run without finishing a shard before the stage fails; None waits without end.
    """

    min_actors: int = 1
    max_actors: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_gb: float | None = None
    accelerator_type: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    fallback_labels: tuple[Mapping[str, str], ...] = ()
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    max_restarts: int = 3
    start_timeout_s: float = 1800.0
    stall_timeout_s: float | None = 7200.0


@dataclass(frozen=True)
class Shard:
    """A piece of a stage's work whose output is committed whole.

    Attributes:
        index: the shard's number; its output file is named by it.
        args: what the worker needs to find its rows (JSON values only).
    """

    index: int
    args: Mapping[str, Any] = field(default_factory=dict)


def row_shards(count: int, size: int) -> list[Shard]:
    """Shards of `size` consecutive rows each, of a table of `count` rows."""
    return [Shard(i, {"start": start, "stop": start + size}) for i, start in enumerate(range(0, count, size))]


def shard_rows(table: pa.Table, shard: Shard) -> pa.Table:
    """The rows of a shard that `row_shards` made."""
    return table.slice(shard.args["start"], shard.args["stop"] - shard.args["start"])


def planned_shards(
    workspace: "Workspace",
    count: int,
    seconds: float,
    worker: "Callable[..., ShardWorker]",
    arguments: Mapping[str, Any],
    pool: Pool,
    unit: str,
) -> list[Shard]:
    """Shards of consecutive rows that take an actor about `seconds` each, of a table of `count` rows.

    One actor computes and commits the first rows: one, then more as their time allows, until a shard took half of `seconds` or no row is
    left. Time counts from when the worker is made, so loading a model is not in it. The rest is cut by what a row took in the last of them,
    into at least `_SHARDS_PER_ACTOR` shards for each of `pool.max_actors`. The plan is kept with the stage: whoever goes on with it
    has the same shards. Give the result to `map_shards` with the same worker, arguments and pool.
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
    """The next of the first shards, which are there to be measured; `done` are the markers of those before."""
    if not done:
        return Shard(0, {"start": 0, "stop": 1})
    last = done[-1]["args"]
    if last["stop"] >= count or done[-1]["seconds"] >= seconds / 2:
        return None
    size = last["stop"] - last["start"]
    size = max(1, min(_PROBE_GROWTH * size, _rows_in(done[-1], seconds)))
    return Shard(len(done), {"start": last["stop"], "stop": min(last["stop"] + size, count)})


def _rows_in(marker: Mapping[str, Any], seconds: float) -> int:
    """Rows that take `seconds`, as those of a committed shard did."""
    rows = marker["args"]["stop"] - marker["args"]["start"]
    return max(1, int(rows * seconds / max(marker["seconds"], 1e-3)))


@dataclass(frozen=True)
class Shared:
    """A worker's argument that is made once on the cluster, by a task, and lies in shared memory once on each machine.

    It is for tables of a whole collection: they never lie in the driver's memory, and actors read them without a copy.

    Attributes:
        function: makes the value, an Arrow table or what holds Arrow or numpy arrays; must be importable, or a method of such a class.
        arguments: its arguments by name; small.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """The value."""
        return self.function(**self.arguments)


@runtime_checkable
class ShardWorker(Protocol):
    """Computes one shard. Made once in each actor (models load in its constructor), called once a shard.

    The result maps table names to tables and must depend on nothing but the shard: not on the actor, nor on what it did before.
    """

    def __call__(self, shard: Shard) -> Mapping[str, pa.Table]:
        """The shard's tables by name."""
        ...


@runtime_checkable
class SeparableWorker(ShardWorker, Protocol):
    """A worker whose rows can be computed apart, so that a row that kills its actor can be found and left out."""

    def row_ids(self, shard: Shard) -> list[str]:
        """Ids of what can be computed apart, in order. Cheap: nothing is computed."""
        ...

    def try_rows(self, shard: Shard, start: int, stop: int) -> None:
        """Compute rows start to stop of `row_ids` and forget the result: who survives this is not at fault."""
        ...

    def without_rows(self, shard: Shard, lost: Mapping[int, str]) -> Mapping[str, pa.Table]:
        """The shard's tables without some rows; `lost` maps their places in `row_ids` to reasons, which go to `rejected`."""
        ...


@runtime_checkable
class Workspace(Protocol):
    """A stage's view of storage and cluster."""

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The file system of every folder here."""
        ...

    @property
    def folder(self) -> str:
        """This stage's output folder, a path on `filesystem`."""
        ...

    @property
    def uri(self) -> str:
        """The same folder as a local path or an s3:// URI, for libraries that take those."""
        ...

    def input(self, stage: str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A table of an earlier stage, whole."""
        ...

    def input_folder(self, stage: str) -> str:
        """An earlier stage's folder, a path on `filesystem`."""
        ...

    def write(self, table: str, data: pa.Table, row_group_size: int | None = None) -> None:
        """Write a whole table of this stage. A later write of the same table replaces it."""
        ...

    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: Pool,
        unit: str,
    ) -> None:
        """Run the shards that are not committed yet on a pool of actors, each made by `worker(**arguments)`.

        Arrow tables among `arguments` are put into the object store once and shared, and what is `Shared` is made there. `unit` names the
        rows in progress bars.
        """
        ...

    def map_series(
        self,
        next_shard: Callable[[Sequence[Mapping[str, Any]]], Shard | None],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: Pool,
        unit: str,
    ) -> Sequence[Mapping[str, Any]]:
        """Run shards one after the other on one actor, until `next_shard` gives None; the markers of all committed shards, in order.

        `next_shard` gets the markers of the shards that are committed. A marker says a shard's `args` and the `seconds` that it took.
        """
        ...

    def remember(self, name: str, make: Callable[[], Any]) -> Any:
        """A JSON value that is made once and kept in the stage's folder: a stage that is run again finds the same."""
        ...

    def output(self, table: str) -> pa.Table:
        """A table that this stage wrote, whole; shards in the order of their numbers."""
        ...

    def note(self, **facts: Any) -> None:
        """Record facts (counts, versions) in the stage's manifest; a `warning` is also printed."""
        ...
