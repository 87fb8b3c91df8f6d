"""The whole job as a user runs it: once, again, with other settings, on more actors, stage by stage."""

import json
from pathlib import Path

import pytest

from tests.jobs_small import AFTER_TRAINING, STAGES, Finished, SmallJob

ROWS = {
    "sources": 24,  # passages
    "select": 48,  # queries
    "translate": 48,  # passages in two languages
    "score": 48,
    "calibrate": 48,
    "mix": 32,  # training queries, one epoch
    "train": 20,  # 200 steps, every tenth logged
    "index": 72,  # passages in three languages
}
TABLES = {
    "select": ["candidates"],
    "translate": ["translations"],
    "score": ["scores"],
    "calibrate": ["scores"],
    "mix": ["examples"],
}


def parquet(job: SmallJob, stage: str, table: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (Path(job.folder_of(stage)) / table).glob("*.parquet")}


def files(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_every_stage_runs_and_says_so(whole: tuple[SmallJob, Finished]) -> None:
    job, finished = whole
    assert finished.reused == dict.fromkeys(STAGES, False)
    assert {stage: job.manifest(stage)["rows"] for stage in ROWS} == ROWS
    assert {job.manifest(stage)["rejected"] for stage in STAGES} == {0}
    assert job.manifest("score")["shards"] == {"total": 8, "computed": 8}
    assert "Traceback" not in finished.err


def test_the_run_folder(whole: tuple[SmallJob, Finished]) -> None:
    job, finished = whole
    folder = Path(job.store) / "runs" / "small"
    assert {file.name for file in folder.iterdir()} == {"config.yaml", "report.html", "run.json", "summary.json"}
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert list(run["stages"]) == list(STAGES)
    assert all((Path(job.store) / stage / "manifest.json").is_file() for stage in run["stages"].values())
    checkpoint = Path(job.folder_of("train")) / "checkpoint"
    assert {"README.md", "artifact.metadata", "config.json", "model.safetensors"} <= {
        f.name for f in checkpoint.iterdir()
    }
    for path in (folder / "report.html", folder / "summary.json", checkpoint, Path(job.folder_of("index"))):
        assert str(path) in finished.out


def test_the_summary(whole: tuple[SmallJob, Finished]) -> None:
    job, finished = whole
    facts = json.loads((Path(job.store) / "runs/small/summary.json").read_text(encoding="utf-8"))
    assert list(facts["stages"]) == list(STAGES)
    assert {stage: facts["stages"][stage]["rows"] for stage in ROWS} == ROWS
    assert set(facts["stages"]["score"]) == {"seconds", "rows", "rejected", "reused"}
    assert set(facts["metrics"]) == {"bm25", "student", "teacher"}
    assert set(facts["metrics"]["student"]) == {"en", "de", "zh", "mixed", "pooled"}
    assert set(facts["metrics"]["student"]["de"]) == {"nDCG@20", "RR@10"}
    assert facts["counts"] == {
        "queries": 8, "trained_on": 0, "passages": 24, "translations": 48, "missing_translations": 0, "rejected": 0,
    }  # fmt: skip
    assert facts["mean_languages"] == ["de", "zh"]
    assert facts["queries_of_collections"] == dict.fromkeys(("en", "de", "zh", "mixed", "pooled"), 8)
    lines = finished.out.splitlines()
    assert "nDCG@20, 8 test queries in en" in lines
    assert any(line.startswith("(mean: over de, zh; the teacher reads the en passages") for line in lines)
    assert f"TREC files  {job.folder_of('evaluate')}/trec" in lines
    shown = next(line.split() for line in lines if line.startswith("student "))
    assert shown[1] == f"{facts['metrics']['student']['de']['nDCG@20']:.3f}"


def test_every_row_is_there_once(whole: tuple[SmallJob, Finished]) -> None:
    job, _ = whole
    queries = sorted(job.table("sources", "queries")["query_id"].to_pylist())
    train = sorted(row["query_id"] for row in job.table("sources", "queries").to_pylist() if row["split"] == "train")
    assert (len(queries), len(train)) == (48, 32)
    assert sorted(job.table("select", "candidates")["query_id"].to_pylist()) == queries
    assert job.table("score", "scores")["query_id"].to_pylist() == queries
    assert {len(ids) for ids in job.table("score", "scores")["passage_ids"].to_pylist()} == {8}
    examples = job.table("mix", "examples")
    assert sorted(examples["query_id"].to_pylist()) == train
    assert examples["position"].to_pylist() == list(range(32))
    assert job.table("train", "training_log")["step"].to_pylist() == list(range(10, 201, 10))
    documents = job.table("index", "documents")
    assert documents["position"].to_pylist() == list(range(72))
    assert len({(row["passage_id"], row["lang"]) for row in documents.to_pylist()}) == 72


def test_the_same_command_again_reuses_every_stage(whole: tuple[SmallJob, Finished]) -> None:
    job, _ = whole
    before = files(Path(job.store) / "stages")
    again = job.run().done()
    assert again.reused == dict.fromkeys(STAGES, True)
    after = files(Path(job.store) / "stages")
    card = str(Path(job.folder_of("train")) / "checkpoint")  # the model card tells of the latest report
    assert {name: time for name, time in after.items() if not name.startswith(card)} == {
        name: time for name, time in before.items() if not name.startswith(card)
    }
    facts = json.loads((Path(job.store) / "runs/small/summary.json").read_text(encoding="utf-8"))
    assert {entry["reused"] for entry in facts["stages"].values()} == {True}


@pytest.mark.parametrize(
    ("setting", "value", "changed"),
    [
        ("train.learning_rate", "2e-3", AFTER_TRAINING),
        ("evaluate.confidence", "0.9", ("evaluate",)),
        ("mix.n_way", "4", ("mix", *AFTER_TRAINING)),
        ("score.pool.max_actors", "4", ()),
    ],
)
def test_the_plan_names_what_a_setting_changes_and_runs_nothing(
    whole: tuple[SmallJob, Finished], setting: str, value: str, changed: tuple[str, ...]
) -> None:
    """That the stages really run, and only they: `test_faults.py`, where training is also killed on the way."""
    job, _ = whole
    before = files(Path(job.store))
    lines = job.run_here(f"--{setting}", value, "--plan").done().out.splitlines()
    assert lines[0] == f"plan of 'small' in {job.store}; each stage's folder is stages/NAME-DIGEST"
    verbs = {line.split()[0]: line.split()[1] for line in lines[1:-1]}
    assert verbs == {stage: "run" if stage in changed else "reuse" for stage in STAGES}
    assert lines[-1] == f"{len(changed)} of 10 stages to run"
    assert files(Path(job.store)) == before


def test_a_changed_file_is_a_changed_source(whole: tuple[SmallJob, Finished], tmp_path: Path) -> None:
    job, _ = whole
    copy = tmp_path / "queries.jsonl"
    copy.write_bytes((job.folder / "data/queries.jsonl").read_bytes())
    with copy.open("a", encoding="utf-8") as file:
        file.write('{"id": "one-more", "text": "dance of the bees", "split": "train"}\n')
    lines = job.run_here("--source.queries", str(copy), "--plan").done().out.splitlines()
    # The copy is counted without running its stage.
    assert lines[-1].startswith("10 of 10 stages to run; ")
    assert " GPU-hours at 40% of 790 TFLOP/s" in lines[-1]
    assert any(line.split()[0] == "select" and "up to 392 candidates" in line for line in lines)


@pytest.fixture(scope="module")
def by_stage(
    ray_session: None, whole: tuple[SmallJob, Finished], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SmallJob, list[Finished]]:
    """The same job from its stage scripts, with four actors a stage, elsewhere."""
    four = {f"{stage}.pool": {"min_actors": 4, "max_actors": 4} for stage in ("select", "score")}
    job = SmallJob(
        tmp_path_factory.mktemp("by_stage"),
        whole[0].teacher,
        data=whole[0].folder / "data",
        overrides=tuple(four.items()),
    )
    scripts = ("sources.py", "translate.py", "score.py", "mix.py")
    return job, [job.run_here(script=script).done() for script in scripts]


def test_stages_run_alone_and_are_found_by_the_others(by_stage: tuple[SmallJob, list[Finished]]) -> None:
    job, finished = by_stage
    assert [one.reused for one in finished] == [
        {"sources": False},
        {"sources": True, "translate": False},
        {"sources": True, "select": False, "score": False, "calibrate": False},
        {"sources": True, "select": True, "translate": True, "score": True, "calibrate": True, "mix": False},
    ]
    lines = job.run_here("--plan").done().out.splitlines()
    assert [line.split()[1] for line in lines[1:-1]] == ["reuse"] * 6 + ["run"] * 4


@pytest.mark.parametrize(("stage", "table"), [(stage, table) for stage, tables in TABLES.items() for table in tables])
def test_four_actors_give_the_bits_that_one_gives(
    whole: tuple[SmallJob, Finished], by_stage: tuple[SmallJob, list[Finished]], stage: str, table: str
) -> None:
    """Two runs, on one actor in a process of its own and on four here: the same folder names, the same tables, the same bytes."""
    one, four = whole[0], by_stage[0]
    assert Path(one.folder_of(stage)).name == Path(four.folder_of(stage)).name
    assert four.table(stage, table).equals(one.table(stage, table))
    assert parquet(four, stage, table) == parquet(one, stage, table)
    assert parquet(one, stage, table)
