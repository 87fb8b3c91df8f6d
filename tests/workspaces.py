"""A workspace on local disk that runs shards in this process: an implementation of `cluster.workspace.Workspace`."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.workspace import Pool, Shard, ShardWorker, Shared


class LocalWorkspace:
    """A stage's folder under `root`, with earlier stages beside it.

    `inputs` maps stage names to their tables by name, or to the workspace of a stage that ran before:

        sources = LocalWorkspace(tmp_path, "sources")
        ingest(sources, ...)
        select(LocalWorkspace(tmp_path, "select", {"sources": sources}), ...)

    Attributes:
        facts: what the stage noted, by name; a fact noted twice keeps the last value.
        warnings: every `warning` that the stage noted, in order.
        computed: the numbers of the shards that were run here, in order; committed shards are not run again.
    """

    def __init__(
        self,
        root: Path,
        stage: str = "stage",
        inputs: Mapping[str, "Mapping[str, pa.Table] | LocalWorkspace"] | None = None,
    ) -> None:
        self.filesystem: pafs.FileSystem = pafs.LocalFileSystem()
        self.folder = str(root / stage)
        self.uri = self.folder
        self.facts: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.computed: list[int] = []
        self._input_folders: dict[str, str] = {}
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        for name, tables in (inputs or {}).items():
            if isinstance(tables, LocalWorkspace):
                self._input_folders[name] = tables.folder
                continue
            self._input_folders[name] = str(root / name)
            for table, data in tables.items():
                _write(root / name / table, 0, data, None)

    def input(self, stage: str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        return _read(Path(self.input_folder(stage)) / table, columns)

    def input_folder(self, stage: str) -> str:
        if stage not in self._input_folders:
            raise KeyError(f"no input stage '{stage}'; this workspace was given {sorted(self._input_folders)}")
        return self._input_folders[stage]

    def write(self, table: str, data: pa.Table, row_group_size: int | None = None) -> None:
        for file in (Path(self.folder) / table).glob("*.parquet"):
            file.unlink()
        _write(Path(self.folder) / table, 0, data, row_group_size)

    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: Pool,
        unit: str,
    ) -> None:
        waiting = [shard for shard in shards if not self._marker(shard.index).exists()]
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
        pool: Pool,
        unit: str,
    ) -> Sequence[Mapping[str, Any]]:
        compute = None
        while (shard := next_shard(self._markers())) is not None:
            compute = compute or worker(**_made(arguments))
            self._commit(compute, shard)
        return self._markers()

    def remember(self, name: str, make: Callable[[], Any]) -> Any:
        file = Path(self.folder) / f"_{name}.json"
        if not file.exists():
            file.write_text(json.dumps(make()))
        return json.loads(file.read_text())

    def _marker(self, index: int) -> Path:
        return Path(self.folder) / "committed" / f"{index:05d}"

    def _markers(self) -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in sorted((Path(self.folder) / "committed").glob("*"))]

    def _commit(self, compute: ShardWorker, shard: Shard) -> None:
        started = time.monotonic()
        for table, data in compute(shard).items():
            _write(Path(self.folder) / table, shard.index, data, None)
        marker = {"args": dict(shard.args), "seconds": time.monotonic() - started}
        self._marker(shard.index).parent.mkdir(exist_ok=True)
        self._marker(shard.index).write_text(json.dumps(marker))
        self.computed.append(shard.index)

    def output(self, table: str) -> pa.Table:
        return _read(Path(self.folder) / table, None)

    def note(self, **facts: object) -> None:
        if "warning" in facts:
            self.warnings.append(str(facts["warning"]))
        self.facts.update(facts)


def _made(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.make() if isinstance(value, Shared) else value for name, value in arguments.items()}


def _write(folder: Path, number: int, data: pa.Table, row_group_size: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(data, folder / f"{number:05d}.parquet", row_group_size=row_group_size)


def _read(folder: Path, columns: Sequence[str] | None) -> pa.Table:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise KeyError(f"no table '{folder.name}' in {folder.parent}")
    return pa.concat_tables([pq.read_table(file, columns=None if columns is None else list(columns)) for file in files])
