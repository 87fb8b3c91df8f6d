"""Translate-Distill from its script, its examples as files, and a training on those files alone."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs_small import STAGES, Finished, SmallJob


@pytest.fixture(scope="module")
def run(
    ray_session: None, tiny_cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SmallJob, Finished]:
    """English queries, German passages."""
    overrides = {
        "name": "td", "languages": ["de"], "mix": {"strategy": "single", "language": "de", "n_way": 3},
        "train.steps": 40,
    }  # fmt: skip
    job = SmallJob(tmp_path_factory.mktemp("td"), tiny_cross_encoder, overrides=tuple(overrides.items()))
    return job, job.run_here(script="td.py").done()


def test_the_student_reads_one_language_and_the_teacher_another(run: tuple[SmallJob, Finished]) -> None:
    job, finished = run
    assert finished.reused == dict.fromkeys(STAGES, False)
    [provenance] = {(row["query_lang"], row["passage_lang"]) for row in job.table("score", "provenance").to_pylist()}
    assert provenance == ("en", "en")
    texts = {
        (row["passage_id"], row["lang"]): f"{row['title']} {row['text']}"
        for row in job.table("translate", "translations").to_pylist()
    }
    examples = job.table("mix", "examples").to_pylist()
    assert len(examples) == 32
    for row in examples:
        assert (row["query_lang"], row["langs"]) == ("en", ["de"] * 3)
        assert row["passages"] == [texts[i, "de"] for i in row["passage_ids"]]
    facts = json.loads((Path(job.store) / "runs/td/summary.json").read_text(encoding="utf-8"))
    assert set(facts["metrics"]) == {"bm25", "student", "teacher"}
    card = (Path(job.folder_of("train")) / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "[Translate-Distill](https://arxiv.org/abs/2401.04810)" in card


def test_its_examples_are_trained_on_from_files_alone(
    run: tuple[SmallJob, Finished], tmp_path: Path, tiny_student: Path
) -> None:
    from jobs.export import main

    job, _ = run
    out = tmp_path / "pylate"
    assert main(["examples", "--run", f"{job.store}/runs/td", "--format", "pylate", "--out", str(out)]) == 0
    files = {name: [str(out / f"{name}.parquet")] for name in ("train", "queries", "documents")}
    imported = {"type": "pylate", **files, "passage_lang": "de"}
    start = {"type": "pretrained", "model": str(tiny_student)}
    overrides = {
        "mix": {"n_way": 3, "sampling": "first", "imported": imported},
        "student.start": start,
        "train.steps": 20,
    }
    again = SmallJob(tmp_path / "again", job.teacher, overrides=tuple(overrides.items()), data=job.folder / "data")
    finished = again.run_here(script="train.py").done()
    assert finished.reused == {"mix": False, "train": False}
    before, after = ({row["query_id"]: row for row in one.table("mix", "examples").to_pylist()} for one in (job, again))
    assert {q: row | {"position": 0} for q, row in after.items()} == {
        q: row | {"position": 0} for q, row in before.items()
    }
    assert again.table("train", "training_log")["step"].to_pylist() == [10, 20]


def test_examples_are_named_by_configuration_too(run: tuple[SmallJob, Finished], tmp_path: Path) -> None:
    from jobs.export import main

    job, _ = run
    out = tmp_path / "st"
    assert (
        main(["examples", "--config", str(job.config()), "--format", "sentence_transformers", "--out", str(out)]) == 0
    )
    table = pq.read_table(out / "train.parquet")
    assert table.column_names == ["query", "document_1", "document_2", "document_3", "label"]
    examples = job.table("mix", "examples")
    assert table["query"].to_pylist() == examples["query"].to_pylist()
    assert table["label"].to_pylist() == examples["scores"].to_pylist()
