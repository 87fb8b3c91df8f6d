"""The stages that write the encoder to start from and that meta-learn it on a Ray Train worker group.

The table alone decides the tasks of a step, whatever the number of workers; after a failure the run continues at the step after its last
checkpoint.
"""

import pyarrow as pa

from cluster.workspace import Workspace
from distill.encoders.checkpoints import load_encoder
from distill.encoders.checkpoints.fetch import upload_encoder
from distill.encoders.settings import StudentSettings
from distill.meta.settings import Kind, MetaTrainSettings
from distill.meta.train.trainer import TrainedMethod
from distill.meta.train.worker import MetaJob, run_worker
from distill.tables import META_LOSSES, TRAINING_LOG, TableError
from distill.train import stage as train_stage
from distill.train.trainer import read_history
from distill.train.worker_group import fit, whole_directory

_SETS = {"maml": 2, "maml_align": 3}
"""Method -> the number of sets that its tasks must have; fine-tuning takes any number."""


def write_start(workspace: Workspace, student: StudentSettings, sources: str, kind: Kind, seed: int) -> None:
    """Write the encoder before training to `start`. The tokenizer of a fresh one reads the texts of the stage `sources`."""
    train_stage.write_start(workspace, student, seed, lambda: _texts(workspace, sources, kind))


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
    with whole_directory(result.checkpoint) as checkpoint:
        history = read_history(checkpoint)
        upload_encoder(load_encoder(checkpoint), workspace.filesystem, f"{workspace.folder}/checkpoint")
    workspace.write("training_log", TRAINING_LOG.from_rows(history["log"]))
    workspace.write("meta_losses", META_LOSSES.from_rows(history["losses"]))


def _check_sets(tasks: pa.Table, method: TrainedMethod) -> None:
    """Check that every task has as many sets as the method needs; raise TableError if not."""
    if method == "fine_tune":
        return
    needed = _SETS[method]
    for row in tasks.to_pylist():
        count = len(set(row["sets"]))
        if count != needed:
            raise TableError(
                f"task {row['position']} ({row['transfer']}) has {count} sets, but {method} takes {needed}: tasks.mode decides how many "
                "there are"
            )
