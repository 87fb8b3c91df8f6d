"""A job of which no query can be evaluated: it says so at once, trains, and ends with a run that is served and exported as any other."""

import json
from pathlib import Path

import pytest

from jobs.export import main as export
from jobs.serve import locations
from tests.jobs_small import SmallJob

WHY = (
    "0 queries in split 'test' and language 'en' (evaluate.split, evaluate.query_lang), none of them judged; judged queries: 48 in split "
    "'train' and language 'en'; a field can give each query its split (query_fields.split)"
)


@pytest.fixture(scope="module")
def job(ray_session: None, tiny_cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallJob:
    """The small job whose queries are all for training, with a baseline that there is nothing to compare with."""
    overrides = (
        ("source.query_fields", {}),
        ("train.steps", 10),
        ("train.checkpoint_every", 10),
        ("evaluate.english_baseline", True),
    )
    return SmallJob(tmp_path_factory.mktemp("not_evaluated"), tiny_cross_encoder, overrides=overrides)


def test_it_says_so_first_and_ends_with_a_run(job: SmallJob, tmp_path: Path) -> None:
    finished = job.run_here().done()
    lines = finished.out.splitlines()
    [said] = (line for line in lines if line.startswith("left out"))
    assert said == f"left out: english_mix, english_train, english_index, retrieve, evaluate: {WHY}"
    assert list(finished.reused) == ["sources", "translate", "select", "score", "calibrate", "mix", "train", "index"]
    assert f"not evaluated: {WHY}" in lines
    assert not any(line.startswith("TREC files") for line in lines)
    run = Path(job.store) / "runs/small"
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["not_evaluated"] == WHY
    assert f"Nothing was evaluated: {WHY}".replace("'", "&#39;") in (run / "report.html").read_text(encoding="utf-8")
    checkpoint, index = locations(str(run))
    assert f"The student was not evaluated: {WHY}." in Path(checkpoint, "README.md").read_text(encoding="utf-8")
    assert Path(index, "documents").is_dir()
    out = tmp_path / "exported"
    assert export(["student", "--run", str(run), "--format", "sentence_transformers", "--out", str(out)]) == 0
    assert (out / "modules.json").is_file()
    # Of a job that is asked for its evaluation alone it is an error, before anything long.
    until = job.run_here("--until", "evaluate")
    assert (until.code, until.err.strip()) == (1, f"jobs/mtd.py: stage 'evaluate' has nothing to do: {WHY}")
    plan = job.run_here("--plan").done().out.splitlines()
    assert [line.split()[:2] for line in plan if " skip " in line] == [
        [stage, "skip"] for stage in ("english_mix", "english_train", "english_index", "retrieve", "evaluate")
    ]
    assert plan[-1] == "0 of 13 stages to run"


def test_a_source_for_the_evaluation_alone_must_have_judged_queries(job: SmallJob) -> None:
    """It is read before anything is trained, and refused."""
    source = {
        "type": "files",
        "root": str(job.folder / "data"),
        "passages": ["passages.jsonl"],
        "queries": ["queries.jsonl"],
    }
    source["passage_fields"] = {"title": "title", "lang": "lang"}
    other = SmallJob(
        job.folder / "other", job.teacher, overrides=(("evaluate.source", source),), data=job.folder / "data"
    )
    finished = other.run_here()
    assert finished.code == 1
    assert list(finished.reused) == ["sources", "evaluation_sources"]
    assert finished.err.strip() == (
        "jobs/mtd.py: evaluate.source has nothing to evaluate: 0 queries in split 'test' and language 'en' (evaluate.split, "
        "evaluate.query_lang), none of them judged; no query is judged at all"
    )


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (["nDCG@0"], "measure 'nDCG@0' cannot be computed: its cutoff is 0"),
        (["AP", "ERR@10"], "measure 'ERR@10' cannot be computed: gdeval computes it"),
        (["precise"], "measure 'precise' is not in the notation of ir_measures"),
        ([], "evaluate.measures: Tuple should have at least 1 item after validation"),
    ],
)
def test_measures_are_checked_before_the_first_stage(
    ray_session: None, tiny_cross_encoder: Path, tmp_path: Path, measures: list[str], message: str
) -> None:
    job = SmallJob(tmp_path, tiny_cross_encoder, overrides=(("evaluate.measures", measures),))
    finished = job.run_here()
    assert (finished.code, finished.reused) == (1 if measures else 2, {})
    assert message in finished.err
    assert finished.err.count("\n") == 1
