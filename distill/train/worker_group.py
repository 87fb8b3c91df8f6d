"""A Ray Train worker group for a training: its start, its restarts, and its faults in the driver.

The whole state of a training is in its last checkpoint: after a failure of a worker, a node or the driver, the run continues at
the step after it. Checkpoints are uploaded by `cluster.copying` and looked through before a driver continues from them: one that is not
whole is passed over, with a warning.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import torch

from cluster.atomic import write_bytes
from cluster.copying import LIST, fault_of, upload_whole
from cluster.errors import StorageError, UserError
from cluster.settings import GroupSettings
from cluster.storage import read_bytes, read_json, write_json
from cluster.workspace import Count, Workspace
from distill.train.trainer import TrainingError

_RUN = "ray_train"
"""The folder of Ray Train's run below the stage's: its name makes a restarted driver find the run."""
_SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's record of the checkpoints that it keeps, in the run's folder."""
_REPORT_S = 5.0
"""Seconds between two reports of the step."""


def fit(
    workspace: Workspace,
    settings: GroupSettings,
    run_worker: Callable[[Mapping[str, Any]], None],
    config: Mapping[str, Any],
    kept: Mapping[str, Any] | None = None,
) -> Any:
    """Run `run_worker(config)` on every worker until it ends; return Ray Train's result, with the last checkpoint.

    Args:
        workspace: the stage; the run's checkpoints lie in its folder.
        settings: the workers.
        run_worker: the function of a worker; importable.
        config: its argument.
        kept: arguments of Ray Train's CheckpointConfig besides the number of checkpoints to keep.

    Raises:
        TrainingError: a worker raised one, or the group failed more often than it may.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    class Trainer(TorchTrainer):
        """Ray's trainer without its handler of Ctrl-C, which stays for good, exits with 0 or 1, and tells nobody."""

        def _register_sigint_handler(self, controller: Any) -> None:
            """Leave the process its own handler."""

    _clear_files(workspace)
    drop_broken(workspace)
    on_gpu = settings.gpus_per_worker > 0
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": settings.gpus_per_worker} if on_gpu else {})
    workers = (settings.workers, settings.max_workers) if settings.max_workers else settings.workers
    trainer = Trainer(
        run_worker,
        train_loop_config=dict(config),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=_RUN,
            storage_path=workspace.uri,
            failure_config=FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2, **(kept or {})),
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
    )
    try:
        with workspace.following(partial(steps_done, workspace)):
            result = trainer.fit()
    except TrainingFailedError as error:
        _raise_fault(workspace)
        text = str(error).strip().splitlines()
        raise TrainingError(
            f"training failed more often than train.max_failures allows: {text[-1] if text else type(error).__name__}"
        ) from error
    _raise_fault(workspace)
    _clear_files(workspace)
    return result


def join(settings: GroupSettings) -> tuple[int, int]:
    """Return this worker's number and how many there are; it computes with as many threads as it has CPUs."""
    import ray.train

    torch.set_num_threads(max(1, int(settings.cpus_per_worker)))
    context = ray.train.get_context()
    return context.get_world_rank(), context.get_world_size()


class RayCheckpoints:
    """The checkpoints of a Ray Train run."""

    @contextmanager
    def last(self) -> Iterator[Path | None]:
        """Return a context with the local folder of the last checkpoint; None before the first."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with whole_directory(checkpoint) as folder:
            yield folder

    def report(self, metrics: Mapping[str, Any], rank: int, save: Callable[[Path], None]) -> None:
        """Report the step in `metrics` to Ray Train, on every worker; the first adds the checkpoint that `save` writes."""
        import ray.train

        if rank != 0:
            ray.train.report(dict(metrics))
            return
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(
                dict(metrics),
                checkpoint=checkpoint,
                checkpoint_dir_name=f"step-{metrics['step']:08d}",
                checkpoint_upload_fn=_upload,
            )


def _upload(checkpoint: Any, name: str) -> Any:
    """Upload a local checkpoint into the run's folder, checked; what Ray Train calls in place of its own upload."""
    import ray.train

    storage: Any = ray.train.get_context().get_storage()
    folder = f"{storage.experiment_fs_path}/{name}"
    upload_whole(checkpoint.path, storage.storage_filesystem, folder)
    return ray.train.Checkpoint(folder, storage.storage_filesystem)


@contextmanager
def whole_directory(checkpoint: Any) -> Iterator[Path]:
    """Return a context with a local folder of a checkpoint of Ray Train, which the workers of a node share.

    Raise `StorageError` if its files are not those that were uploaded. Cost: one pass over them.
    """
    with checkpoint.as_directory() as folder:
        fault = fault_of(pafs.LocalFileSystem(), folder, digests=True)
        if fault:
            raise StorageError(
                f"the checkpoint '{checkpoint.path}' is damaged: {fault}; delete its {LIST}, and the same command continues from the "
                "checkpoint before it"
            )
        yield Path(folder)


def drop_broken(workspace: Workspace) -> None:
    """Take checkpoints that are not whole out of Ray Train's record, so that training continues from the last one that is.

    Each is named in a warning. Without a whole one training starts anew. Ray Train itself would fail for a folder that is not there, and
    hand out one that lacks files.
    """
    filesystem, folder = workspace.filesystem, f"{workspace.folder}/{_RUN}"
    record = read_json(filesystem, f"{folder}/{_SNAPSHOT}")
    if record is None:
        return
    known = record["checkpoint_results"]
    names = [row["checkpoint_dir_name"] for row in known]
    faults = {name: fault for name in names if (fault := fault_of(filesystem, f"{folder}/{name}"))}
    if not faults:
        return
    kept = [i for i, name in enumerate(names) if name not in faults]
    indices = record["checkpoint_report_indices"]
    record["checkpoint_results"] = [known[i] for i in kept]
    record["checkpoint_report_indices"] = [indices[i] for i in kept]
    last = max(kept, key=lambda i: indices[i], default=None)
    record["latest_checkpoint_result"] = None if last is None else known[last]
    goes_on = "training starts anew" if last is None else f"training continues from {names[last]}"
    broken = "; ".join(f"{workspace.location}/{_RUN}/{name}: {fault}" for name, fault in faults.items())
    workspace.note(warning=f"broken checkpoints are passed over ({broken}); {goes_on}")
    write_json(filesystem, f"{folder}/{_SNAPSHOT}", record)


class StepReport:
    """How far a training is, left by the first worker in the stage's folder, from where the driver shows it.

    Args:
        filesystem: the file system of the folder.
        folder: the stage's folder.
        rank: this worker's number.
    """

    def __init__(self, filesystem: pafs.FileSystem, folder: str, rank: int) -> None:
        self._filesystem = filesystem
        self._file = _report_file(folder)
        self._rank = rank
        self._next = 0.0

    def tell(self, step: int, steps: int, loss: float) -> None:
        """Write the step and the loss, at most every few seconds."""
        if self._rank == 0 and time.monotonic() >= self._next:
            self._next = time.monotonic() + _REPORT_S
            write_json(self._filesystem, self._file, {"step": step, "steps": steps, "loss": loss})


def steps_done(workspace: Workspace) -> Count | None:
    """Return the last step that the first worker told of, with its loss; None before one."""
    told = read_json(workspace.filesystem, _report_file(workspace.folder))
    return None if told is None else Count(told["step"], told["steps"], "steps", f"loss {told['loss']:.4g}")


@contextmanager
def leaving_faults(filesystem: pafs.FileSystem, folder: str, rank: int) -> Iterator[None]:
    """Leave an error that the user can mend for the driver: it would come again, so it is not a failure after which to restart.

    A `TrainingError` is raised by all workers at the same step. Another may be one worker's alone, whose failure ends the others; they are
    then started once more, and end at once. Storage that fails may work again, so that its errors are left to the restarts.
    """
    try:
        yield
    except TrainingError as error:
        if rank == 0:
            write_bytes(filesystem, _fault_file(folder), str(error).encode())
    except StorageError:
        raise
    except UserError as error:
        write_bytes(filesystem, _fault_file(folder), str(error).encode())
        raise


def has_fault(filesystem: pafs.FileSystem, folder: str) -> bool:
    """Return whether a worker has left an error for the driver, so that there is nothing more to do."""
    return filesystem.get_file_info(_fault_file(folder)).type == pafs.FileType.File


def agree(check: Callable[[], None], world: int) -> None:
    """Run a check that may differ between workers; if one fails, all raise, so that none waits for another."""
    fault = ""
    try:
        check()
    except TrainingError as error:
        fault = str(error)
    found: list[Any] = [fault]
    if world > 1:
        found = [None] * world
        torch.distributed.all_gather_object(found, fault)
    faults = [message for message in found if message]
    if faults:
        raise TrainingError(faults[0])


def _report_file(folder: str) -> str:
    return f"{folder}/step.json"


def _fault_file(folder: str) -> str:
    return f"{folder}/fault.txt"


def _clear_files(workspace: Workspace) -> None:
    """Delete what workers left for the driver."""
    for path in (_fault_file(workspace.folder), _report_file(workspace.folder)):
        if workspace.filesystem.get_file_info(path).type == pafs.FileType.File:
            workspace.filesystem.delete_file(path)


def _raise_fault(workspace: Workspace) -> None:
    if has_fault(workspace.filesystem, workspace.folder):
        raise TrainingError(read_bytes(workspace.filesystem, _fault_file(workspace.folder)).decode())
