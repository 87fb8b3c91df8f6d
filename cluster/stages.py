"""Stages that run once.

A stage is a function from input tables and settings to output tables. Its folder's name holds a hash of what decides its content: its
settings, its code version, the state of the files and models that it reads, and the hashes of its inputs. So an unchanged stage is reused
and a changed one gets a folder of its own. Inside, work is cut into shards; a shard counts once its marker is there, written
after its tables. Whatever ends at any time, the same command continues from the committed shards, and every row is written once.
"""

import datetime as dt
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster import interrupts
from cluster.claims import claimed
from cluster.errors import StageError, UserError, one_line, storage_remedy
from cluster.locations import quoted
from cluster.progress import Progress
from cluster.session import Need, Session
from cluster.settings import PoolSettings
from cluster.shards import Commits, SeriesCount, ShardCount, committed, forget_attempts, read_markers, run_shards
from cluster.storage import fingerprint, join, list_files, open_storage, read_json, read_table, write_json
from cluster.stored_table import StoredTable
from cluster.workspace import Count, Shard, ShardWorker, Workspace

_MANIFEST = "manifest.json"


class Work(Protocol):
    """The work of a stage, estimated."""

    @property
    def tokens(self) -> float:
        """Tokens that models read, without padding."""
        ...

    @property
    def operations(self) -> float:
        """Floating-point operations."""
        ...


@dataclass(frozen=True)
class Stage:
    """One step of a job, before it runs.

    Attributes:
        name: the stage's name, the first part of its folder's.
        version: number of the code that computes it; raised by a change that changes results.
        run: the function; it gets a `StageRun`.
        settings: what decides its content, as JSON values.
        inputs: the stages that it reads.
        reads: URIs of files and folders outside the storage whose state decides its content.
        needs: what it asks of the cluster.
        rows: the table whose rows are counted in summaries.
        uses_ray: whether it needs a cluster at all.
        kind: the kind of stage, which stages of several names may share (`score` of `score_0`); empty: the name. Not part of the digest.
        work: the stage's work in words and numbers, for a plan; a function of the runner where it depends on finished stages.
        estimate: a function of the runner that gives the least and the most tokens and operations, or None where they are known only after
            an earlier stage; no function where no model of known cost runs.
        check: raises UserError where the stage cannot succeed, as far as that is known. It is called before the first stage of a job, and
            again after every stage that reads a source, so what depends on data returns quietly until the data are there.
        skip: a function of the runner that says why the stage has nothing to do, empty if it has or where that is not known yet. A job
            leaves such a stage out, and no stage that runs may have it as an input.
        limited: whether its rejected rows, as a share of them and its `rows`, are limited; false where it checks each of its files itself.
    """

    name: str
    version: int
    run: Callable[["StageRun"], None]
    settings: Mapping[str, Any]
    inputs: tuple["Stage", ...] = ()
    reads: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    rows: str = ""
    uses_ray: bool = True
    kind: str = ""
    work: "str | Callable[[Runner], str]" = ""
    estimate: "Callable[[Runner], tuple[Work, Work] | None] | None" = None
    check: "Callable[[Runner], None] | None" = None
    skip: "Callable[[Runner], str] | None" = None
    limited: bool = True

    @cached_property
    def digest(self) -> str:
        """The hash of what decides the stage's content."""
        content = {
            "name": self.name,
            "version": self.version,
            "settings": self.settings,
            "inputs": {stage.name: stage.digest for stage in self.inputs},
            "reads": [fingerprint(uri) for uri in self.reads],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """The stage's folder below the storage."""
        return f"stages/{self.name}-{self.digest}"


@dataclass(frozen=True)
class StageResult:
    """A finished stage: its manifest, and whether it was reused."""

    stage: Stage
    manifest: Mapping[str, Any]
    reused: bool


class StageRun(Workspace):
    """A stage while it runs: a workspace whose shards are computed by Ray actors and committed in the stage's folder.

    Attributes:
        stage: the stage.
        shards_total: shards that the stage's function asked for.
        shards_computed: those of them that were computed by this run.
    """

    def __init__(self, stage: Stage, storage: str, session: Session, progress: Progress) -> None:
        filesystem, root = open_storage(storage)
        inputs = {candidate.name: f"{root}/{candidate.folder}" for candidate in stage.inputs}
        uri = quoted(join(storage if "://" in storage else root, stage.folder))
        super().__init__(stage.name, filesystem, f"{root}/{stage.folder}", uri, inputs)
        self.stage = stage
        self.shards_total = 0
        self.shards_computed = 0
        # Workers run in other folders than the job, so that a relative path would be another place there.
        self._storage = storage if "://" in storage else root
        self._session = session
        self._progress = progress
        self._measured: set[int] = set()

    def following(self, source: Callable[[], Count | None]) -> AbstractContextManager[None]:
        """Return a context in which the stage's progress is what `source` says."""
        return self._progress.following(source)

    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: PoolSettings,
        unit: str,
    ) -> None:
        """Compute the shards that are not committed yet on a pool of Ray Data actors, each made by `worker(**arguments)`."""
        done = set(committed(self.filesystem, self.folder))
        pending = [shard for shard in shards if shard.index not in done]
        self.shards_total += len(shards)
        self.shards_computed += len(pending)
        if before := len(shards) - len(pending) - len(self._measured & done):
            print(f"  {self.name}: {before} of {len(shards)} shards are done", flush=True)
        if pending:
            shards_done = ShardCount(shards, done, unit)
            with self.following(shards_done.count):
                self._run(pending, worker, arguments, pool, shards_done)
            self._check_visible(pending)

    def _check_visible(self, computed: Sequence[Shard]) -> None:
        """Raise StageError where the job does not see what its workers have written."""
        present = set(committed(self.filesystem, self.folder))
        absent = [shard for shard in computed if shard.index not in present]
        if absent:
            raise StageError(
                f"stage '{self.name}': workers wrote {len(absent)} of {len(computed)} shards where the job does not see them; storage"
                f" ({self._storage}) must be the same on every node: a shared disk or s3://bucket/prefix"
            )

    def map_series(
        self,
        next_shard: Callable[[Sequence[Mapping[str, Any]]], Shard | None],
        worker: Callable[..., ShardWorker],
        arguments: Mapping[str, Any],
        pool: PoolSettings,
        unit: str,
    ) -> list[dict[str, Any]]:
        """Compute shards one after the other on one actor, each chosen by the markers of those before it; return all their markers."""
        before = read_markers(self.filesystem, self.folder)
        if next_shard(before) is None:
            return before
        series = SeriesCount(self.filesystem, self.folder, unit)
        with self.following(series.count):
            self._run([next_shard], worker, arguments, pool, series)
        after = read_markers(self.filesystem, self.folder)
        self._measured = set(range(len(before), len(after)))
        self.shards_computed += len(self._measured)
        return after

    def _run(
        self,
        work: Sequence[Any],
        worker: Callable[..., Any],
        arguments: Mapping[str, Any],
        pool: PoolSettings,
        counted: "ShardCount | SeriesCount",
    ) -> None:
        self._session.connect()
        commits = Commits(self._storage, self.stage.folder)
        lost = run_shards(self.name, commits, work, worker, arguments, pool, counted)
        forget_attempts(self.filesystem, self.folder)
        if lost:
            self.note(
                warning=f"{lost} rows crashed their actor or ran out of memory and were left out; see {self.location}/rejected"
            )


class Runner:
    """Runs stages in order, each once.

    Args:
        storage: where stages lie, a local folder or s3://bucket/prefix.
        session: the cluster.
        max_rejected: share of a stage's rows that may be rejected.
        progress: whether to show progress.
    """

    def __init__(self, storage: str, session: Session, max_rejected: float = 0.01, *, progress: bool = True) -> None:
        self.storage = storage
        self.session = session
        self._max_rejected = max_rejected
        self._progress = progress
        self._filesystem, self._root = open_storage(storage)
        self.results: dict[str, StageResult] = {}

    def finished(self, stage: Stage) -> Mapping[str, Any] | None:
        """Return the stage's manifest, None if it is not finished."""
        return read_json(self._filesystem, f"{self._root}/{stage.folder}/{_MANIFEST}")

    def skipped(self, stage: Stage) -> str:
        """Return why the stage has nothing to do, empty if it has."""
        return stage.skip(self) if stage.skip is not None else ""

    def check(self, stages: Sequence[Stage]) -> None:
        """Run the checks of the stages that are not finished. Raises UserError where one of them cannot succeed."""
        for stage in stages:
            if stage.check is not None and not self.skipped(stage) and self.finished(stage) is None:
                stage.check(self)

    def rows(self, stage: Stage, table: str) -> int | None:
        """Return the number of rows of a stage's table; None before the stage is finished, 0 where it wrote no such table."""
        manifest = self.finished(stage)
        return None if manifest is None else manifest["tables"].get(table, {}).get("rows", 0)

    def table(self, stage: Stage, table: str) -> StoredTable:
        """Open a table of a stage."""
        return StoredTable.open(self._filesystem, f"{self._root}/{stage.folder}/{table}")

    def run(self, stage: Stage) -> StageResult:
        """Run a stage unless it is finished, and print one summary line."""
        interrupts.check()
        manifest = self.finished(stage)
        reused = manifest is not None
        if manifest is None:
            reused, manifest = self._claim(stage)
        result = StageResult(stage, manifest, reused)
        self.results[stage.name] = result
        print(summary_line(result), flush=True)
        return result

    def _claim(self, stage: Stage) -> tuple[bool, Mapping[str, Any]]:
        """Compute a stage, or wait for the job that does; return whether another did, and the manifest."""

        def wait(holder: str) -> None:
            print(f"  {stage.name}: another job computes this stage ({holder}); waiting for it", flush=True)

        with claimed(
            self._filesystem, f"{self._root}/{stage.folder}", lambda: self.finished(stage) is not None, wait
        ) as own:
            manifest = None if own else self.finished(stage)
            return (True, manifest) if manifest is not None else (False, self._compute(stage))

    def _compute(self, stage: Stage) -> Mapping[str, Any]:
        if stage.uses_ray:
            self.session.connect()
        progress = Progress(stage.name, shown=self._progress)
        run = StageRun(stage, self.storage, self.session, progress)
        started = time.time()
        write_json(
            self._filesystem, f"{run.folder}/settings.json", {"version": stage.version, "settings": stage.settings}
        )
        try:
            with progress:
                stage.run(run)
        except OSError as error:
            remedy = None if isinstance(error, UserError) else storage_remedy(error)
            if remedy is None:
                raise
            raise StageError(
                f"stage '{stage.name}' failed in {run.location}: {one_line(error, 400)}; {remedy}"
            ) from error
        seconds = time.time() - started
        manifest = self._manifest(run, seconds)
        rejected, rows = manifest["rejected"], manifest["rows"]
        if stage.limited and rejected > self._max_rejected * (rows + rejected):
            reasons = read_table(self._filesystem, f"{run.folder}/rejected")["reason"].to_pylist()[:3]
            raise StageError(
                f"stage '{stage.name}' rejected {rejected} of {rows + rejected} rows, max_rejected is {self._max_rejected:g}; "
                f"first reasons: {'; '.join(reasons)}; all of them lie in {run.location}/rejected"
            )
        write_json(self._filesystem, f"{run.folder}/{_MANIFEST}", manifest)
        return manifest

    def _manifest(self, run: StageRun, seconds: float) -> dict[str, Any]:
        stage = run.stage
        tables = {}
        for info in self._filesystem.get_file_info(pafs.FileSelector(run.folder)):
            files = list_files(self._filesystem, info.path, ".parquet") if info.type == pafs.FileType.Directory else []
            if files:
                rows = sum(pq.read_metadata(file, filesystem=self._filesystem).num_rows for file in files)
                tables[info.base_name] = {"rows": rows, "files": len(files)}
        rows = tables.get(stage.rows, {}).get("rows", 0)
        return {
            "stage": stage.name,
            "digest": stage.digest,
            "version": stage.version,
            "settings": stage.settings,
            "inputs": {candidate.name: candidate.folder for candidate in stage.inputs},
            "tables": dict(sorted(tables.items())),
            "rows": rows,
            "rejected": tables.get("rejected", {}).get("rows", 0),
            "shards": {"total": run.shards_total, "computed": run.shards_computed},
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 2),
            "rows_per_second": round(rows / seconds, 2) if seconds else 0.0,
            "software": software(),
            "notes": run.notes,
        }


def summary_line(result: StageResult) -> str:
    """Return one line on a finished stage: rows, rejected rows, time, throughput."""
    manifest = result.manifest
    rows = f"{manifest['rows']:>9,} rows"
    rejected = f"{manifest['rejected']:>5,} rejected"
    time_taken = "   reused" if result.reused else f"{manifest['seconds']:>7.1f} s"
    speed = "" if result.reused else f"{manifest['rows_per_second']:>11,.1f} rows/s"
    return f"{result.stage.name:<14} {rows}  {rejected}  {time_taken}  {speed}".rstrip()


def software() -> dict[str, str]:
    """Return the versions of the libraries that decide results."""
    names = ("polyray", "ray", "torch", "transformers", "tokenizers", "pyarrow", "numpy", "bm25s", "ir_measures")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    return versions
