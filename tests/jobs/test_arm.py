"""Self-distillation with adaptive relevance margins from its script: from raw text to measures, without a teacher."""

import json
from pathlib import Path

import pytest

from tests.jobs_small import Finished, SmallJob

STUDENT = {
    "type": "single_vector", "start": {"type": "fresh", "vocabulary": 500, "layers": 1, "hidden": 32},
    "query_tokens": 8, "passage_tokens": 24,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallJob, Finished]:
    overrides = {
        "name": "arm", "method": "self_distillation", "student": STUDENT, "train.steps": 40,
        "mix": {"strategy": "mix_passages", "sampling": "pairs", "n_way": 2, "epochs": 5},
    }  # fmt: skip
    job = SmallJob(tmp_path_factory.mktemp("arm"), Path("no-teacher"), overrides=tuple(overrides.items()))
    return job, job.run_here(script="arm.py").done()


def test_no_teacher_takes_part(run: tuple[SmallJob, Finished]) -> None:
    job, finished = run
    stages = ("sources", "translate", "select", "mix", "train", "index", "retrieve", "evaluate")
    assert finished.reused == dict.fromkeys(stages, False)
    facts = json.loads((Path(job.store) / "runs/arm/summary.json").read_text(encoding="utf-8"))
    assert set(facts["metrics"]) == {"bm25", "student"}
    assert set(facts["metrics"]["student"]) == {"en", "de", "zh", "mixed", "pooled"}
    assert "teacher" not in finished.out
    assert (Path(job.store) / "runs/arm/report.html").is_file()
    card = (Path(job.folder_of("train")) / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "Teacher:" not in card
    assert "a positive and a negative, 5 different pairs of each query" in card


def test_each_query_has_as_many_pairs_as_epochs(run: tuple[SmallJob, Finished]) -> None:
    job, _ = run
    judged = {
        (row["query_id"], row["passage_id"])
        for row in job.table("sources", "qrels").to_pylist()
        if row["relevance"] > 0
    }
    pairs: dict[str, set[tuple[str, ...]]] = {}
    for row in job.table("mix", "examples").to_pylist():
        positive, negative = row["passage_ids"]
        assert (row["query_id"], positive) in judged
        assert (row["query_id"], negative) not in judged
        assert row["scores"] == [None, None]
        pairs.setdefault(row["query_id"], set()).add((positive, negative))
    assert len(pairs) == 32
    assert {len(found) for found in pairs.values()} == {5}


def test_the_stages_are_found_by_the_stage_scripts(run: tuple[SmallJob, Finished]) -> None:
    job, _ = run
    lines = job.run_here("--plan", script="train.py").done().out.splitlines()
    assert [line.split()[:2] for line in lines[1:-1]] == [
        [stage, "reuse"] for stage in ("sources", "translate", "select", "mix", "train")
    ]
