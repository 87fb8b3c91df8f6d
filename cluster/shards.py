"""Shards on a pool of Ray Data actors: computed, committed once, and counted.

A shard's tables are written first and its marker last, so a shard counts whole or not at all. Ray restarts actors without end; two things
limit that: the notes that actors write before they try a shard (`cluster.quarantine`), and the watch on the pool (`cluster.watch`).
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from cluster import interrupts
from cluster.errors import StageError, UserError
from cluster.quarantine import Attempts, Origin, ShardError, compute, is_out_of_memory
from cluster.settings import PoolSettings
from cluster.storage import list_files, open_storage, read_json, write_json, write_table
from cluster.watch import Watch
from cluster.workspace import Count, Shard, Shared

MARKERS = "_shards"
_ATTEMPTS = "_attempts"
_MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Commits:
    """A stage's folder as actors see it, and the driver's run that they work for.

    Attributes:
        storage: URI of the storage.
        folder: the stage's folder below it.
        run: an id of this run of the driver.
    """

    storage: str
    folder: str
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def open(self) -> tuple[pafs.FileSystem, str]:
        """Return the storage's file system and the stage's folder on it."""
        filesystem, root = open_storage(self.storage)
        return filesystem, f"{root}/{self.folder}"


def committed(filesystem: pafs.FileSystem, folder: str) -> list[int]:
    """Return the numbers of a stage's committed shards, in order."""
    files = list_files(filesystem, f"{folder}/{MARKERS}", ".json")
    return sorted(int(path.rsplit("/", 1)[-1].split(".")[0]) for path in files)


def read_marker(filesystem: pafs.FileSystem, folder: str, index: int) -> dict[str, Any] | None:
    """Return a committed shard's marker, None before the commit: `rows` of each table, `seconds`, `args`, and how many rows were `lost`."""
    return read_json(filesystem, f"{folder}/{MARKERS}/{index:05d}.json")


def read_markers(filesystem: pafs.FileSystem, folder: str) -> list[dict[str, Any]]:
    """Return the markers of a stage's committed shards, in order."""
    markers = [read_marker(filesystem, folder, index) for index in committed(filesystem, folder)]
    return [marker for marker in markers if marker is not None]


def commit(
    filesystem: pafs.FileSystem,
    folder: str,
    shard: Shard,
    tables: Mapping[str, pa.Table],
    seconds: float,
    lost: int = 0,
) -> dict[str, Any]:
    """Write a shard's tables and then its marker, with which it counts; return the marker."""
    for name, table in tables.items():
        write_table(filesystem, f"{folder}/{name}/{shard.index:05d}.parquet", table)
    marker = {
        "rows": {name: len(table) for name, table in tables.items()},
        "seconds": round(seconds, 3),
        "args": dict(shard.args),
        "lost": lost,
    }
    write_json(filesystem, f"{folder}/{MARKERS}/{shard.index:05d}.json", marker)
    return marker


class ShardCount:
    """How far a pool is with its shards, in their rows; in shards where these are no ranges of rows.

    Args:
        shards: all of them.
        committed: the numbers of those that are committed.
        unit: the name of the rows.
    """

    def __init__(self, shards: Sequence[Shard], committed: Collection[int], unit: str) -> None:
        in_rows = any(shard.rows for shard in shards)
        sizes = [shard.rows if in_rows else 1 for shard in shards]
        self._unit = unit if in_rows else "shards"
        self._total = sum(sizes)
        self._pending = [size for shard, size in zip(shards, sizes, strict=True) if shard.index not in committed]
        self._done = self._total - sum(self._pending)
        self.watch: Watch | None = None

    def finish(self, work: Iterable[int]) -> None:
        """Note that shards are done, by their positions among those that were not committed."""
        self._done += sum(self._pending[position] for position in work)

    def count(self) -> Count:
        """Return rows, and how many actors there are."""
        return Count(self._done, self._total, self._unit, _staff(self.watch))


class SeriesCount:
    """How far a series is, in the rows of its committed shards.

    Args:
        filesystem: the file system of the stage's folder.
        folder: the stage's folder.
        unit: the name of the rows.
    """

    def __init__(self, filesystem: pafs.FileSystem, folder: str, unit: str) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._unit = unit
        self.watch: Watch | None = None

    def finish(self, work: Iterable[int]) -> None:
        """Do nothing: the markers tell."""

    def count(self) -> Count:
        """Return rows, and that their time is being measured."""
        markers = read_markers(self._filesystem, self._folder)
        rows = sum(marker["args"]["stop"] - marker["args"]["start"] for marker in markers)
        return Count(rows, None, self._unit, f"measuring their time on {_staff(self.watch)}")


def _staff(watch: Watch | None) -> str:
    alive = watch.alive if watch else 0
    return f"{alive} actor{'' if alive == 1 else 's'}"


def run_shards(
    stage: str,
    commits: Commits,
    work: Sequence[Any],
    worker: Callable[..., Any],
    arguments: Mapping[str, Any],
    pool: PoolSettings,
    counted: ShardCount | SeriesCount,
) -> int:
    """Compute and commit `work` on a pool of actors, each made by `worker(**arguments)`; return the number of rows that were left out.

    A piece of work is a shard, or a function from the markers of what is committed to the next shard or None: such a series is computed
    by one actor, and `counted` is told what is done. `Shared` arguments are made by a task and lie in shared memory, as Arrow tables do.
    """
    import ray
    from ray.exceptions import RayError

    if len(work) > _MOST_SHARDS:
        raise StageError(
            f"stage '{stage}': {len(work):,} shards are more than {_MOST_SHARDS:,}; put more rows into each"
        )
    actors = min(pool.max_actors, len(work))
    lost = 0
    watch = counted.watch = Watch(stage, pool.start_timeout_s, pool.stall_timeout_s)
    try:
        shared = {name: _share(ray, value) for name, value in arguments.items()}
        dataset = ray.data.from_items([{"work": i} for i in range(len(work))], override_num_blocks=len(work))
        _scale(dataset.context, watch)
        dataset = dataset.map_batches(
            ShardActor,
            fn_constructor_kwargs={
                "worker": worker, "arguments": shared, "work": list(work), "commits": commits, "max_restarts": pool.max_restarts,
            },
            batch_size=1,
            batch_format="pyarrow",
            # One shard at a time for each actor: a second in its queue would wait there while other actors have nothing to do.
            compute=ray.data.ActorPoolStrategy(
                min_size=min(pool.min_actors, actors), max_size=actors, max_tasks_in_flight_per_actor=1
            ),
            **actor_options(pool),
        )  # fmt: skip
        results: Iterable[Any] = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in results:
            interrupts.check()
            watch.progress()
            lost += sum(batch["lost"].to_pylist())
            counted.finish(batch["work"].to_pylist())
    except (RayError, ShardError, TimeoutError) as error:
        raise StageError(explain(stage, error)) from error
    return lost


def actor_options(pool: PoolSettings) -> dict[str, Any]:
    """Return a pool's resources under the names that Ray Data has for them, without those that are not set."""
    options = {
        "num_cpus": pool.num_cpus,
        "num_gpus": pool.num_gpus or None,
        "memory": int(pool.memory_gb * 1e9) if pool.memory_gb else None,
        "accelerator_type": pool.accelerator_type,
        "resources": dict(pool.resources) or None,
        "label_selector": dict(pool.labels) or None,
        "fallback_strategy": [{"label_selector": dict(labels)} for labels in pool.fallback_labels] or None,
        "runtime_env": dict(pool.runtime_env) or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _scale(context: Any, watch: Watch) -> None:
    """Let the pool grow to what waits, at once.

    Ray Data would divide the machines that are there among a data set's operators and let none exceed its part, so that a pool does not
    grow onto nodes which are yet to come. There is one operator here, and its actors that wait for resources make an autoscaler
    add nodes. Actors leave when no shard waits, not before: their models took long to load.
    """
    context.op_resource_reservation_enabled = False
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.0
    context.execution_no_progress_timeout_s = -1  # the watch decides when a pool stands still
    context.custom_execution_callback_classes = [lambda: watch]


def _share(ray: Any, value: Any) -> Any:
    if isinstance(value, pa.Table):
        return ray.put(value)
    if not isinstance(value, Shared):
        return value
    # Made on the cluster, so that it never lies in the driver's own memory; made again where its node is lost.
    return ray.remote(Shared.make).options(num_cpus=0, max_retries=-1).remote(value)


class ShardActor:
    """Makes the worker once, then computes and commits shards."""

    def __init__(
        self,
        worker: Callable[..., Any],
        arguments: Mapping[str, Any],
        work: Sequence[Any],
        commits: Commits,
        max_restarts: int,
    ) -> None:
        import ray

        context = ray.get_runtime_context()
        self._work = work
        self._max_restarts = max_restarts
        self._filesystem, self._folder = commits.open()
        self._origin = Origin(commits.run, context.get_node_id(), _node_is_alive)
        resolved = {
            name: ray.get(value) if isinstance(value, ray.ObjectRef) else value for name, value in arguments.items()
        }
        # Ray restarts a crashed actor under the same id, also one that crashes here.
        starts = self._attempts(f"actor-{context.get_actor_id()}")
        if starts.whole >= max_restarts + 1:
            raise ShardError(
                "an actor crashed whenever it made its worker (out of memory, or a fault in a library): check the model and its libraries, "
                "and give actors more memory (pool.memory_gb)"
            )
        self._fault: Exception | None = None
        with starts.trying("whole"):
            try:
                self._worker = worker(**resolved)
            except Exception as error:
                # Ray makes an actor that fails here again and again, and puts pages around its error. Its first shard raises it at once.
                if is_out_of_memory(error):
                    raise
                self._fault = error
        starts.forget()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Compute and commit the work that the batch names; raise what kept the worker from being made."""
        if self._fault is not None:
            raise self._fault
        done = [self._do(self._work[number]) for number in batch["work"].to_pylist()]
        columns = {
            name: pa.array([counts[i] for counts in done], pa.int64()) for i, name in enumerate(("rows", "lost"))
        }
        return pa.table({"work": batch["work"], **columns})

    def _do(self, work: Any) -> tuple[int, int]:
        return self._commit_series(work) if callable(work) else self._commit(work)

    def _commit_series(self, work: Callable[..., Any]) -> tuple[int, int]:
        rows = lost = 0
        while (shard := work(read_markers(self._filesystem, self._folder))) is not None:
            counts = self._commit(shard)
            rows, lost = rows + counts[0], lost + counts[1]
        return rows, lost

    def _commit(self, shard: Shard) -> tuple[int, int]:
        marker = read_marker(self._filesystem, self._folder, shard.index)
        if marker is None:  # an actor may crash between its commit and its answer
            marker = self._compute(shard)
        return next(iter(marker["rows"].values()), 0), marker["lost"]

    def _compute(self, shard: Shard) -> dict[str, Any]:
        attempts = self._attempts(f"{shard.index:05d}", shard.args)
        started = time.monotonic()
        tables = compute(self._worker, shard, attempts, self._max_restarts)
        seconds = time.monotonic() - started
        marker = commit(self._filesystem, self._folder, shard, tables, seconds, len(attempts.lost))
        attempts.forget()
        return marker

    def _attempts(self, name: str, args: Mapping[str, Any] | None = None) -> Attempts:
        return Attempts(self._filesystem, f"{self._folder}/{_ATTEMPTS}/{name}.json", self._origin, args)


def forget_attempts(filesystem: pafs.FileSystem, folder: str) -> None:
    """Delete the notes of a stage whose shards are all committed."""
    path = f"{folder}/{_ATTEMPTS}"
    if filesystem.get_file_info(path).type == pafs.FileType.Directory:
        filesystem.delete_dir(path)


def _node_is_alive(node: str) -> bool:
    import ray

    return any(known["NodeID"] == node and known["Alive"] for known in ray.nodes())


_RETRY_ADVICE = "Failed to apply UDF transform after"
"""How the text begins that Ray Data puts after a worker's message."""


def explain(stage: str, error: BaseException) -> str:
    """Return in one line what failed on an actor: the worker's own error, or the actor's crash."""
    cause = getattr(error, "cause", None) or error
    text = str(cause).split(_RETRY_ADVICE)[0]
    lines = [line for line in text.strip().splitlines() if line.strip()] or [type(cause).__name__]
    if isinstance(cause, (UserError, TimeoutError)):
        return f"stage '{stage}': {' '.join(text.split())[:1000]}"
    if "creation task" in str(cause):
        last = lines[-1].strip()
        return f"stage '{stage}' failed: {last.removeprefix('cluster.quarantine.ShardError: ')[:500]}"
    if isinstance(cause, _deaths()):
        return f"stage '{stage}': an actor crashed and Ray did not restart it: {' '.join(lines)[:400]}"
    return f"stage '{stage}' failed: {type(cause).__name__}: {' '.join(lines)[:400]}"


def _deaths() -> tuple[type[BaseException], ...]:
    from ray.exceptions import (
        ActorDiedError,
        ActorUnavailableError,
        NodeDiedError,
        OutOfMemoryError,
        WorkerCrashedError,
    )

    return (ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError, WorkerCrashedError)
