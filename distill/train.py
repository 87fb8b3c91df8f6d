"""The train stage: the student on a Ray Train worker group.

Everything that training goes on from is in its last checkpoint: after a failure of a worker, a node or the driver, the run continues at
the step after it. Steps since then are computed again, with the same examples; none is skipped.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import torch

from distill.encoder import LateInteractionEncoder
from distill.settings.train import StudentSettings, TrainSettings
from distill.stream import ExampleStream, Prefetch
from distill.students import start_student
from distill.tables import TRAINING_LOG
from distill.text import passage_texts
from distill.training import StudentScorer, Trainer, TrainingError, make_batch
from distill.workspace import Workspace


@dataclass(frozen=True)
class TrainingJob:
    """What every worker is given.

    Attributes:
        train: the training's settings.
        start: the folder with the student to start from.
        examples: the folder of the examples.
        seed: seed of dropout.
    """

    train: TrainSettings
    start: str
    examples: str
    seed: int


def train(
    workspace: Workspace,
    settings: TrainSettings,
    student: StudentSettings,
    seed: int,
    examples: str,
    languages: tuple[str, ...],
) -> None:
    """Train a student on the examples of stage `examples`; write the folder `checkpoint` and the table `training_log`."""
    start = f"{workspace.folder}/start"
    _write_start(workspace, start, student, seed, languages)
    job = TrainingJob(settings, start, f"{workspace.input_folder(examples)}/examples", seed)
    result = _fit(workspace, job)
    _keep(workspace, result)


def _write_start(
    workspace: Workspace, folder: str, student: StudentSettings, seed: int, languages: tuple[str, ...]
) -> None:
    """Make the student once, so that every worker and every restart begins with the same weights."""
    if workspace.filesystem.get_file_info(f"{folder}/complete").type == pafs.FileType.File:
        return
    texts: list[str] = []
    if student.start.type == "fresh":
        texts = _all_texts(workspace, languages)
    encoder = start_student(student, texts, seed)
    with tempfile.TemporaryDirectory() as local:
        encoder.save(local)
        _upload(local, workspace.filesystem, folder)
    with workspace.filesystem.open_output_stream(f"{folder}/complete") as stream:
        stream.write(b"")


def _all_texts(workspace: Workspace, languages: tuple[str, ...]) -> list[str]:
    passages = workspace.input("sources", "passages").select(["title", "text"])
    translations = workspace.input("translate", "translations")
    translations = translations.filter(pc.is_in(translations["lang"], pa.array(languages, pa.string()))).select(
        ["title", "text"]
    )
    queries = workspace.input("sources", "queries")
    queries = queries.filter(pc.equal(queries["split"], "train"))["text"].to_pylist()
    return passage_texts(pa.concat_tables([passages, translations])) + queries


def _fit(workspace: Workspace, job: TrainingJob) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = job.train
    on_gpu = settings.gpus_per_worker > 0
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": settings.gpus_per_worker} if on_gpu else {})
    trainer = TorchTrainer(
        run_worker,
        train_loop_config={"job": job, "filesystem": workspace.filesystem},
        scaling_config=ScalingConfig(num_workers=settings.workers, use_gpu=on_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            # The name makes a restarted driver find the run and go on from its last checkpoint.
            name="ray_train",
            storage_path=workspace.uri,
            failure_config=FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
    )
    from ray.train import TrainingFailedError

    try:
        return trainer.fit()
    except TrainingFailedError as error:
        text = str(error).strip().splitlines()
        message = (
            f"training failed more often than train.max_failures allows: {text[-1] if text else type(error).__name__}"
        )
        raise TrainingError(message) from error


def run_worker(config: Mapping[str, Any]) -> None:
    """What one worker of the group does: the loop over steps, from the last checkpoint if there is one."""
    import ray.train
    from ray.train.torch import get_device, prepare_model

    job: TrainingJob = config["job"]
    filesystem: pafs.FileSystem = config["filesystem"]
    settings = job.train
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(max(1, int(settings.cpus_per_worker)))
    device = get_device()
    encoder = LateInteractionEncoder.fetch(filesystem, job.start, device)
    scorer = prepare_model(StudentScorer(encoder)) if world > 1 else StudentScorer(encoder)
    trainer = Trainer(scorer, encoder, settings, torch.device(device), job.seed, rank)
    log: list[dict[str, Any]] = []
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            log = trainer.load(Path(folder))
    stream = ExampleStream(filesystem, job.examples)
    steps = range(trainer.step, settings.steps)
    losses: list[float] = []
    for batch in Prefetch(
        lambda step: make_batch(encoder, stream.batch(step, settings.batch_size, rank, world)), steps
    ):
        loss, rate = trainer.train_step(batch)
        losses.append(loss)
        if trainer.step % settings.log_every == 0 or trainer.step == settings.steps:
            log.append(_log_row(trainer, losses, rate, world))
            losses = []
        if trainer.step % settings.checkpoint_every == 0 or trainer.step == settings.steps:
            _report(trainer, log, rank)


def _log_row(trainer: Trainer, losses: list[float], rate: float, world: int) -> dict[str, Any]:
    mean = torch.tensor(sum(losses) / len(losses), dtype=torch.float64, device=trainer.device)
    if world > 1:
        torch.distributed.all_reduce(mean)
        mean /= world
    examples = trainer.step * trainer.settings.batch_size
    return {"step": trainer.step, "loss": mean.item(), "learning_rate": rate, "examples": examples}


def _report(trainer: Trainer, log: list[dict[str, Any]], rank: int) -> None:
    import ray.train

    metrics = {"step": trainer.step, "loss": log[-1]["loss"]}
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        trainer.save(Path(folder), log)
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(metrics, checkpoint=checkpoint, checkpoint_dir_name=f"step-{trainer.step:08d}")


def _keep(workspace: Workspace, result: Any) -> None:
    """Copy the last checkpoint's student to `checkpoint` and its log to `training_log`."""
    with result.checkpoint.as_directory() as folder:
        state = torch.load(Path(folder) / "training_state.pt", weights_only=True, map_location="cpu")
        workspace.write("training_log", TRAINING_LOG.from_rows(state["log"]))
        with tempfile.TemporaryDirectory() as local:
            LateInteractionEncoder.load(folder).save(local)
            _upload(local, workspace.filesystem, f"{workspace.folder}/checkpoint")


def _upload(local: str, filesystem: pafs.FileSystem, folder: str) -> None:
    filesystem.create_dir(folder, recursive=True)
    pafs.copy_files(local, folder, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem)
