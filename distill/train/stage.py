"""The train stage: the student on a Ray Train worker group.

After a failure the run continues at the step after its last checkpoint. Steps since then are computed again, with the same examples;
none is skipped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.copying import is_whole
from cluster.workspace import Workspace
from distill.encoders.checkpoints import load_encoder
from distill.encoders.checkpoints.fetch import upload_encoder
from distill.encoders.settings import SingleVectorStudent, StudentSettings
from distill.encoders.start import start_student
from distill.measures.truncation import note_truncated
from distill.tables import DEV_MEASUREMENTS, TRAINING_LOG
from distill.text import passage_texts
from distill.train.dev import best_step, write_dev
from distill.train.settings import TrainSettings
from distill.train.trainer import read_history
from distill.train.worker import TrainingJob, run_worker
from distill.train.worker_group import fit, whole_directory


@dataclass(frozen=True)
class TrainingTask:
    """The inputs of a training.

    Attributes:
        examples: the stage whose table `examples` it reads.
        source_lang: the language of the source passages.
        query_lang: the language in which the student reads queries.
        languages: the other languages of the job.
        unit: examples in a row that no worker may cut apart: a group of in-batch distillation, an entry's language versions.
        without_own: leave the passage with a query's own id out of what is found for it during training.
    """

    examples: str
    source_lang: str
    query_lang: str
    languages: tuple[str, ...]
    unit: int = 1
    without_own: bool = False


def train(
    workspace: Workspace, settings: TrainSettings, student: StudentSettings, seed: int, task: TrainingTask
) -> None:
    """Train a student; write the folder `checkpoint` and the tables `training_log` and `dev_measurements`."""
    write_start(workspace, student, seed, lambda: _all_texts(workspace, (task.source_lang, *task.languages)))
    if settings.dev is not None:
        folder = f"{workspace.folder}/dev"
        write_dev(workspace, settings.dev, task.query_lang, task.languages, folder, without_own=task.without_own)
    sizes = student.sizes if isinstance(student, SingleVectorStudent) else ()
    examples = f"{workspace.input_folder(task.examples)}/examples"
    job = TrainingJob(settings, sizes, workspace.folder, examples, task.unit, seed)
    kept = {"checkpoint_score_attribute": "dev", "checkpoint_score_order": "max"} if settings.dev else {}
    result = fit(workspace, settings, run_worker, {"job": job, "filesystem": workspace.filesystem}, kept)
    _keep(workspace, settings, result)


def write_start(workspace: Workspace, student: StudentSettings, seed: int, texts: Callable[[], Iterable[str]]) -> None:
    """Write the student before training to `start`, once, so that every worker and every restart begins with the same weights.

    Args:
        workspace: the stage.
        student: what the student starts from.
        seed: seed of new weights.
        texts: what a fresh student's tokenizer is made of; not called for others.
    """
    folder = f"{workspace.folder}/start"
    if is_whole(workspace.filesystem, folder):
        return
    encoder = start_student(student, texts() if student.start.type == "fresh" else (), seed)
    workspace.note(parameters=sum(parameter.numel() for parameter in encoder.parameters()), dim=encoder.dim)
    upload_encoder(encoder, workspace.filesystem, folder, whole=True)


def _all_texts(workspace: Workspace, languages: tuple[str, ...]) -> list[str]:
    passages = workspace.input("sources", "passages").select(["title", "text"])
    translations = workspace.input("translate", "translations")
    translations = translations.filter(pc.is_in(translations["lang"], pa.array(languages, pa.string()))).select(
        ["title", "text"]
    )
    queries = workspace.input("sources", "queries")
    queries = queries.filter(pc.equal(queries["split"], "train"))["text"].to_pylist()
    return passage_texts(pa.concat_tables([passages, translations])) + queries


def _keep(workspace: Workspace, settings: TrainSettings, result: Any) -> None:
    """Copy the best checkpoint's student, without a development set the last one's, to `checkpoint`; and write the tables."""
    with whole_directory(result.checkpoint) as folder:
        history = read_history(folder)
    workspace.write("training_log", TRAINING_LOG.from_rows(history["log"]))
    for role, what in (("passage", "training passages"), ("query", "training queries")):
        read = [row for row in history.get("read", []) if row["role"] == role]
        counts = {row["lang"]: {"texts": row["texts"], "truncated": row["truncated"]} for row in read}
        note_truncated(workspace, what, counts)
    measure = settings.dev.measure if settings.dev else ""
    rows = [row | {"measure": measure} for row in history["dev"]]
    workspace.write("dev_measurements", DEV_MEASUREMENTS.from_rows(rows))
    chosen = result.checkpoint
    if history["dev"]:
        step, value = best_step(history["dev"])
        found = {metrics["step"]: checkpoint for checkpoint, metrics in result.best_checkpoints}
        if step not in found:  # it was broken, and passed over
            best = step
            step, value = best_step([row for row in history["dev"] if row["step"] in found])
            workspace.note(warning=f"the best checkpoint, of step {best}, is lost; that of step {step} is kept")
        chosen = found[step]
        workspace.note(kept_step=step, kept_dev={measure: round(value, 4)}, stopped_at=history["log"][-1]["step"])
    with whole_directory(chosen) as folder:
        upload_encoder(load_encoder(folder), workspace.filesystem, f"{workspace.folder}/checkpoint")
