"""Scores out of a finished job's folder, as files that come back the same."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.storage import open_storage, write_json, write_table
from distill.formats.scores import read_scores
from distill.formats.settings import ScoreFormat
from distill.tables import SCORES
from jobs.export import main, stage_of_config

VALUES = np.random.default_rng(0).normal(0, 5, (7, 4)).astype(np.float32)


def write_stage(
    storage: str, folder: str, teacher: str = "t", *, unit: str = "similarity", finished: bool = True
) -> None:
    filesystem, root = open_storage(storage)
    rows = [
        {"query_id": str(q), "passage_ids": [f"p{i}" for i in range(4)], "scores": one.tolist(), "teacher": teacher}
        for q, one in enumerate(VALUES)
    ]
    for number, part in enumerate((rows[:5], rows[5:])):
        write_table(filesystem, f"{root}/{folder}/scores/{number:05d}.parquet", SCORES.from_rows(part))
    if finished:
        write_json(filesystem, f"{root}/{folder}/manifest.json", {"stage": "calibrate", "notes": {"unit": unit}})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "runs" / "mtd"
    folder.mkdir(parents=True)
    stages = {"sources": "stages/sources-1", "calibrate": "stages/calibrate-1", "score": "stages/score-1"}
    (folder / "run.json").write_text(json.dumps({"stages": stages}))
    write_stage(str(tmp_path / "data"), "stages/calibrate-1")
    write_stage(str(tmp_path / "data"), "stages/score-1", finished=False)
    (tmp_path / "data" / "stages" / "sources-1").mkdir()
    write_json(pa.fs.LocalFileSystem(), str(tmp_path / "data/stages/sources-1/manifest.json"), {})
    return folder


@pytest.mark.parametrize(("kind", "name"), [("tdist", "s.jsonl.gz"), ("trec", "s.run")])
def test_a_runs_scores_come_back_the_same(
    run: Path, tmp_path: Path, kind: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / name)
    assert main(["scores", "--run", str(run), "--format", kind, "--out", out]) == 0
    said, *notes = capsys.readouterr().out.splitlines()
    assert said == f"7 queries with 28 scores, unit similarity: {out}"
    assert [note[:40] for note in notes] == (["note: tdist holds log-probabilities as a"] if kind == "tdist" else [])
    found = {
        s.query_id: dict(zip(s.passage_ids, s.scores, strict=True))
        for s in read_scores([out], "tdist" if kind == "tdist" else "trec")
    }
    assert found == {str(q): {f"p{i}": value for i, value in enumerate(one)} for q, one in enumerate(VALUES)}


@pytest.mark.parametrize(
    ("kind", "unit", "written"), [("tdist", "log_probability", -np.logaddexp(0, -VALUES)), ("trec", "log_odds", VALUES)]
)
def test_log_odds_are_written_in_the_layouts_own_unit(
    run: Path, tmp_path: Path, kind: ScoreFormat, unit: str, written: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """tdist holds log p(true), of log-odds s that is -log(1 + exp(-s)); a run has no unit of its own."""
    write_stage(str(tmp_path / "data"), "stages/calibrate-1", unit="log_odds")
    out = str(tmp_path / "out")
    assert main(["scores", "--run", str(run), "--format", kind, "--out", out]) == 0
    assert capsys.readouterr().out == f"7 queries with 28 scores, unit {unit}: {out}\n"
    found = {s.query_id: dict(zip(s.passage_ids, s.scores, strict=True)) for s in read_scores([out], kind)}
    for query, row in enumerate(written):
        assert [found[str(query)][f"p{i}"] for i in range(4)] == pytest.approx(list(row), rel=1e-6)


@pytest.mark.parametrize(
    ("teacher", "unit"),
    [
        ({"type": "monot5", "model": "m"}, "log_probability"),
        ({"type": "causal", "model": "m", "prompt": "bge_gemma"}, "similarity"),
        (
            {"type": "imported", "files": ["f"], "format": "trec", "unit": "log_probability", "name": "n"},
            "log_probability",
        ),
    ],
)
def test_raw_scores_have_their_teachers_unit(
    run: Path, tmp_path: Path, teacher: dict, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = {"stage": "score", "settings": {"score": {"teacher": teacher}}, "notes": {}}
    folder = tmp_path / "data" / "stages" / "score-1"
    if unit == "log_probability" and teacher["type"] == "imported":
        rows = [{"query_id": "0", "passage_ids": ["a"], "scores": [-0.5], "teacher": "n"}]
        for file in (folder / "scores").iterdir():
            file.unlink()
        write_table(pa.fs.LocalFileSystem(), str(folder / "scores" / "0.parquet"), SCORES.from_rows(rows))
    write_json(pa.fs.LocalFileSystem(), str(folder / "manifest.json"), manifest)
    arguments = ["scores", "--run", str(run), "--stage", "score", "--format", "tdist", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert f"unit {unit}: " in capsys.readouterr().out


def test_a_stage_without_a_unit_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(pa.fs.LocalFileSystem(), str(tmp_path / "data/stages/calibrate-1/manifest.json"), {"stage": "calibrate"})
    assert main(["scores", "--run", str(run), "--format", "tdist", "--out", str(tmp_path / "out")]) == 2
    assert "stage 'calibrate' does not say what unit its scores have; run the job again" in capsys.readouterr().err


def test_ids_as_numbers(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl.gz"
    assert main(["scores", "--run", str(run), "--format", "tdist", "--out", str(out), "--whole_number_ids"]) == 0
    assert gzip.decompress(out.read_bytes()).decode().split("\n")[3].startswith('[3, ["p0", ')


def test_a_configured_jobs_scores(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"storage: {tmp_path / 'data'}\n")
    location = stage_of_config([str(config)], ["--select.by.top_k", "9"], "calibrate")
    write_stage(str(tmp_path / "data"), location.removeprefix(f"{tmp_path}/data/"))
    out = tmp_path / "s.run"
    arguments = ["--format", "trec", "--out", str(out)]
    assert main(["scores", "--config", str(config), "--select.by.top_k", "9", *arguments]) == 0
    assert len(out.read_text().splitlines()) == 28
    assert main(["scores", "--config", str(config), *arguments]) == 2


def test_in_an_object_store(s3_bucket: str) -> None:
    write_stage(f"{s3_bucket}/export", "stages/calibrate-1")
    filesystem, root = open_storage(f"{s3_bucket}/export")
    write_json(filesystem, f"{root}/runs/mtd/run.json", {"stages": {"calibrate": "stages/calibrate-1"}})
    out = f"{s3_bucket}/export/out/s.jsonl"
    assert main(["scores", "--run", f"{s3_bucket}/export/runs/mtd", "--format", "tdist", "--out", out]) == 0
    assert len(list(read_scores([out], "tdist"))) == 7


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "name the job by --run FOLDER or by --config FILE"),
        (["--run", "{run}", "--mix.n_way", "2"], "--run takes no settings, found --mix.n_way 2"),
        (["--run", "{run}x"], "there is no run.json"),
        (["--run", "{run}", "--stage", "nothing"], "mtd has no stage 'nothing'; it has sources, calibrate, score"),
        (["--run", "{run}", "--stage", "score"], "stage 'score' is not finished"),
        (["--run", "{run}", "--stage", "sources"], "stage 'sources' has no table 'scores'"),
    ],
)
def test_wrong_usage_is_one_line(
    run: Path, tmp_path: Path, arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(run=run) for argument in arguments]
    assert main(["scores", *given, "--format", "tdist", "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jobs/export.py: ")
    assert fault in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
