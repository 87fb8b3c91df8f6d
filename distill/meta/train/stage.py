"""The stages that make an encoder to start from and that meta-learn it on a Ray Train worker group.

A step's tasks are given by the table alone, whatever the number of workers; after a failure the run continues at the step after its last
checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.workspace import Workspace
from distill.encoders.checkpoints import load_encoder, save_encoder
from distill.encoders.checkpoints.fetch import fetch_encoder, is_whole, upload_encoder, upload_whole
from distill.encoders.encoder import Encoder
from distill.encoders.settings import StudentSettings
from distill.encoders.start import start_student
from distill.meta.settings import Kind, MetaTrainSettings
from distill.meta.train.batches import TaskLoss, TaskSet, task_sets
from distill.meta.train.trainer import MetaStep, MetaTrainer, TrainedMethod
from distill.tables import META_LOSSES, RETRIEVAL_TASKS, SIMILARITY_TASKS, TRAINING_LOG, TableError
from distill.train.stream import ExampleStream, Prefetch
from distill.train.trainer import read_history, read_state, write_state
from distill.train.worker_group import RayCheckpoints, fit, join, leaving_faults

_SETS = {"maml": 2, "maml_align": 3}
"""Sets of the tasks of each method that needs a certain number."""


@dataclass(frozen=True)
class MetaJob:
    """What every worker is given.

    Attributes:
        method: the outer loss.
        settings: how the encoder learns.
        kind: what the tasks are of.
        start: folder of the encoder to start from.
        tasks: folder of the table of tasks.
        folder: the stage's folder.
        seed: seed of dropout.
    """

    method: TrainedMethod
    settings: MetaTrainSettings
    kind: Kind
    start: str
    tasks: str
    folder: str
    seed: int


def write_start(workspace: Workspace, student: StudentSettings, sources: str, kind: Kind, seed: int) -> None:
    """Write the encoder before training to `start`. Only a fresh one's tokenizer reads the texts of the stage `sources`."""
    folder = f"{workspace.folder}/start"
    if is_whole(workspace.filesystem, folder):
        return
    texts = _texts(workspace, sources, kind) if student.start.type == "fresh" else []
    encoder = start_student(student, texts, seed)
    workspace.note(parameters=sum(parameter.numel() for parameter in encoder.parameters()), dim=encoder.dim)
    upload_whole(encoder, workspace.filesystem, folder)


def _texts(workspace: Workspace, sources: str, kind: Kind) -> list[str]:
    columns = {"questions": ["text"], "answers": ["text"]}
    if kind == "similarity":
        columns = {"sentence_pairs": ["first", "second"]}
    tables = [workspace.input(sources, table, names) for table, names in columns.items()]
    return [text for table in tables for column in table.columns for text in column.to_pylist()]


def meta_train(
    workspace: Workspace,
    settings: MetaTrainSettings,
    method: TrainedMethod,
    kind: Kind,
    seed: int,
    *,
    start: str,
    tasks: str,
) -> None:
    """Meta-learn (or fine-tune) the encoder of stage `start` on the tasks of stage `tasks`.

    Writes the folder `checkpoint` and the tables `training_log` and `meta_losses`.

    Raises:
        TableError: a task has fewer sets than the method needs.
        TrainingError: training cannot go on.
    """
    table = "retrieval_tasks" if kind == "retrieval" else "similarity_tasks"
    _check_sets(workspace.input(tasks, table, ["position", "transfer", "sets"]), method)
    folder = f"{workspace.input_folder(tasks)}/{table}"
    job = MetaJob(method, settings, kind, f"{workspace.input_folder(start)}/start", folder, workspace.folder, seed)
    result = fit(workspace, settings, run_worker, {"job": job, "filesystem": workspace.filesystem})
    with result.checkpoint.as_directory() as checkpoint:
        history = read_history(Path(checkpoint))
        upload_encoder(load_encoder(checkpoint), workspace.filesystem, f"{workspace.folder}/checkpoint")
    workspace.write("training_log", TRAINING_LOG.from_rows(history["log"]))
    workspace.write("meta_losses", META_LOSSES.from_rows(history["losses"]))


def _check_sets(tasks: pa.Table, method: TrainedMethod) -> None:
    """Refuse tasks that a method cannot be trained on."""
    if method == "fine_tune":
        return
    needed = _SETS[method]
    for row in tasks.to_pylist():
        found = len(set(row["sets"]))
        if found != needed:
            raise TableError(
                f"task {row['position']} ({row['transfer']}) has {found} sets, but {method} takes {needed}: tasks.mode decides how many "
                "there are"
            )


def run_worker(config: Mapping[str, Any]) -> None:
    """What one worker of the group does: the steps that are left, from the last checkpoint if there is one."""
    from ray.train.torch import get_device

    job: MetaJob = config["job"]
    filesystem: pafs.FileSystem = config["filesystem"]
    rank, world = join(job.settings)
    encoder = fetch_encoder(filesystem, job.start, get_device())
    prepare(encoder, job.settings)
    loss = TaskLoss(encoder, job.settings.margin)
    trainer = MetaTrainer(encoder, loss, job.settings, job.method, job.seed, rank, world)
    with leaving_faults(filesystem, job.folder, rank):
        MetaLoop(job, filesystem, encoder, trainer).run()


def prepare(encoder: Encoder, settings: MetaTrainSettings) -> None:
    """Set the encoder up: the fused kernels of attention have no second derivative."""
    if settings.order == "second":
        encoder.backbone.set_attn_implementation("eager")


class MetaLoop:
    """The steps of a meta-training on one worker: tasks, log, checkpoints."""

    def __init__(
        self, job: MetaJob, filesystem: pafs.FileSystem, encoder: Encoder, trainer: MetaTrainer[TaskSet]
    ) -> None:
        self._job = job
        self._encoder = encoder
        self._settings = job.settings
        self._filesystem = filesystem
        self._trainer = trainer
        self._log: list[dict[str, Any]] = []
        self._losses: list[dict[str, Any]] = []
        self._since: list[MetaStep] = []
        share = job.settings.tasks_per_batch
        self._first = share * trainer.rank // trainer.world
        """Number of this worker's first task among a step's."""

    def run(self) -> None:
        """All steps that are left."""
        self._resume()
        contract = RETRIEVAL_TASKS if self._job.kind == "retrieval" else SIMILARITY_TASKS
        stream = ExampleStream(self._filesystem, self._job.tasks, contract)
        steps = range(self._trainer.step, self._settings.steps)
        for tasks in Prefetch(lambda step: self._tasks(stream, step), steps, self._settings.prefetch):
            there = [[task_set.to(self._encoder.device) for task_set in sets] for sets in tasks]
            self._since.append(self._trainer.meta_step(there, self._first))
            done, last = self._trainer.step, self._trainer.step == self._settings.steps
            if done % self._settings.log_every == 0 or last:
                self._log_line()
            if done % self._settings.checkpoint_every == 0 or last:
                self._report()

    def _resume(self) -> None:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            self._encoder.load_state_dict(load_encoder(folder).state_dict())
            state = read_state(Path(folder), self._encoder.device)
        self._trainer.restore(state)
        self._log, self._losses = state["history"]["log"], state["history"]["losses"]

    def _tasks(self, stream: ExampleStream, step: int) -> Sequence[Sequence[TaskSet]]:
        """This worker's share of a step's tasks."""
        trainer = self._trainer
        rows = stream.batch(step, self._settings.tasks_per_batch, trainer.rank, trainer.world).to_pylist()
        return [task_sets(self._encoder, row) for row in rows]

    def _log_line(self) -> None:
        """Add means over the steps since the last line. All workers have the same."""
        steps, trainer = self._since, self._trainer
        self._log.append(
            {
                "step": trainer.step,
                "loss": sum(step.loss for step in steps) / len(steps),
                "learning_rate": self._settings.learning_rate,
                "examples": trainer.step * self._settings.tasks_per_batch,
                "gradient_norm": sum(step.norm for step in steps) / len(steps),
            }
        )
        for part in steps[0].parts:
            value = sum(step.parts[part] for step in steps) / len(steps)
            self._losses.append({"step": trainer.step, "part": part, "value": value})
        self._since = []

    def _report(self) -> None:
        trainer = self._trainer
        metrics = {"step": trainer.step, "loss": self._log[-1]["loss"]}
        RayCheckpoints().report(metrics, trainer.rank, self._save)

    def _save(self, folder: Path) -> None:
        save_encoder(self._encoder, folder)
        history = {"log": self._log, "losses": self._losses}
        write_state(folder, self._trainer.state() | {"history": history})
