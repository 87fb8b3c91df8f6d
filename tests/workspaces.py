"""A workspace on local disk that computes shards in this process."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.settings import PoolSettings
from cluster.shards import commit, committed, read_markers
from cluster.storage import write_table
from cluster.workspace import Shard, ShardWorker, Shared, Workspace


class LocalWorkspace(Workspace):
    """A stage's folder under `root`, with earlier stages beside it.

    `inputs` maps stage names to their tables by name, or to the workspace of a stage that ran before:

        sources = LocalWorkspace(tmp_path, "sources")
        ingest(sources, ...)
        select(LocalWorkspace(tmp_path, "select", {"sources": sources}), ...)

    Attributes:
        computed: the numbers of the shards that were run here, in order; committed shards are not run again.
    """

    def __init__(
        self,
        root: Path,
        stage: str = "stage",
        inputs: Mapping[str, "Mapping[str, pa.Table] | LocalWorkspace"] | None = None,
    ) -> None:
        folder = root / stage
        folder.mkdir(parents=True, exist_ok=True)
        before = {
            name: given.folder if isinstance(given, LocalWorkspace) else str(root / name)
            for name, given in (inputs or {}).items()
        }
        super().__init__(stage, pafs.LocalFileSystem(), str(folder), str(folder), before)
        self.computed: list[int] = []
        for name, tables in (inputs or {}).items():
            if not isinstance(tables, LocalWorkspace):
                for table, data in tables.items():
                    write_table(self.filesystem, f"{before[name]}/{table}/00000.parquet", data)

    @property
    def facts(self) -> dict[str, Any]:
        """What the stage noted beside warnings, by name; a fact noted twice keeps the last value."""
        return {name: value for name, value in self.notes.items() if name != "warnings"}

    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: PoolSettings,
        unit: str,
    ) -> None:
        done = committed(self.filesystem, self.folder)
        waiting = [shard for shard in shards if shard.index not in done]
        if not waiting:
            return
        compute = worker(**_made(arguments))
        for shard in waiting:
            self._commit(compute, shard)

    def map_series(
        self,
        next_shard: Callable[[Sequence[Mapping[str, Any]]], Shard | None],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: PoolSettings,
        unit: str,
    ) -> Sequence[Mapping[str, Any]]:
        compute = None
        while (shard := next_shard(self._markers())) is not None:
            compute = compute or worker(**_made(arguments))
            self._commit(compute, shard)
        return self._markers()

    def _markers(self) -> list[dict[str, Any]]:
        return read_markers(self.filesystem, self.folder)

    def _commit(self, compute: ShardWorker, shard: Shard) -> None:
        started = time.monotonic()
        tables = compute(shard)
        commit(self.filesystem, self.folder, shard, tables, time.monotonic() - started)
        self.computed.append(shard.index)


def _made(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.make() if isinstance(value, Shared) else value for name, value in arguments.items()}
