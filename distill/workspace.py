"""What a stage is given: where to read its inputs, where to write its tables, and how to spread work.

Stages are functions `stage(workspace, settings)`. They see only this protocol, so the methods never import the cluster; the runner that
implements it (`cluster.stages.StageRun`) decides where folders lie, what is already done, and which actors do the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.fs as pafs


@dataclass(frozen=True)
class Pool:
    """How many actors do a stage's shards and what each of them holds.

    Attributes:
        min_actors: actors that start at once.
        max_actors: actors that the pool may grow to.
        num_cpus: CPUs that Ray reserves for each actor; also its number of compute threads, at least 1.
        num_gpus: GPUs for each actor; a fraction shares one.
        max_restarts: how often an actor that dies is started again before the stage fails.
    """

    min_actors: int = 1
    max_actors: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_restarts: int = 3


@dataclass(frozen=True)
class Shard:
    """A piece of a stage's work whose output is committed whole.

    Attributes:
        index: the shard's number; its output file is named by it.
        args: what the worker needs to find its rows (JSON values only).
    """

    index: int
    args: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ShardWorker(Protocol):
    """Computes one shard. Made once in each actor (models load in its constructor), called once a shard.

    The result maps table names to tables and must depend on nothing but the shard: not on the actor, nor on what it did before.
    """

    def __call__(self, shard: Shard) -> Mapping[str, pa.Table]:
        """The shard's tables by name."""
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

        Arrow tables among `arguments` are put into the object store once and shared. `unit` names the rows in progress bars.
        """
        ...

    def output(self, table: str) -> pa.Table:
        """A table that this stage wrote, whole; shards in the order of their numbers."""
        ...

    def note(self, **facts: Any) -> None:
        """Record facts (counts, versions) in the stage's manifest; a `warning` is also printed."""
        ...
