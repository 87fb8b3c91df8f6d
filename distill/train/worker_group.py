"""A Ray Train worker group for a training: its start, its restarts, and its faults in the driver.

The whole state of a training is in its last checkpoint: after a failure of a worker, a node or the driver, the run continues at
the step after it.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import torch

from cluster.atomic import write_bytes
from cluster.settings import GroupSettings
from cluster.workspace import Workspace
from distill.train.trainer import TrainingError


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

    _clear_fault(workspace)
    on_gpu = settings.gpus_per_worker > 0
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": settings.gpus_per_worker} if on_gpu else {})
    workers = (settings.workers, settings.max_workers) if settings.max_workers else settings.workers
    trainer = TorchTrainer(
        run_worker,
        train_loop_config=dict(config),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            # The name makes a restarted driver find the run and continue from its last checkpoint.
            name="ray_train",
            storage_path=workspace.uri,
            failure_config=FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2, **(kept or {})),
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        text = str(error).strip().splitlines()
        raise TrainingError(
            f"training failed more often than train.max_failures allows: {text[-1] if text else type(error).__name__}"
        ) from error
    _raise_fault(workspace)
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
        with checkpoint.as_directory() as folder:
            yield Path(folder)

    def report(self, metrics: Mapping[str, Any], rank: int, save: Callable[[Path], None]) -> None:
        """Report the step in `metrics` to Ray Train, on every worker; the first adds the checkpoint that `save` writes."""
        import ray.train

        if rank != 0:
            ray.train.report(dict(metrics))
            return
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(dict(metrics), checkpoint=checkpoint, checkpoint_dir_name=f"step-{metrics['step']:08d}")


@contextmanager
def leaving_faults(filesystem: pafs.FileSystem, folder: str, rank: int) -> Iterator[None]:
    """Leave a `TrainingError` for the driver.

    All workers raise it at the same step, and would raise it again: it is not a failure after which to restart.
    """
    try:
        yield
    except TrainingError as error:
        if rank == 0:
            write_bytes(filesystem, _fault_file(folder), str(error).encode())


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


def _fault_file(folder: str) -> str:
    return f"{folder}/fault.txt"


def _clear_fault(workspace: Workspace) -> None:
    path = _fault_file(workspace.folder)
    if workspace.filesystem.get_file_info(path).type == pafs.FileType.File:
        workspace.filesystem.delete_file(path)


def _raise_fault(workspace: Workspace) -> None:
    path = _fault_file(workspace.folder)
    if workspace.filesystem.get_file_info(path).type == pafs.FileType.File:
        with workspace.filesystem.open_input_stream(path) as stream:
            raise TrainingError(stream.readall().decode())
