"""Examples out of a finished stage's folder, and what is said where they cannot be had. Round trips: `test_td.py`."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.storage import open_storage, write_json, write_table
from distill.tables import EXAMPLES
from jobs.export import main


def write_stage(storage: Path, stage: str, langs: list[str], *, positive: bool, finished: bool = True) -> None:
    filesystem, root = open_storage(str(storage))
    rows = [
        {
            "position": i, "query_id": f"q{i}", "query": f"text {i}", "query_lang": "en", "passage_ids": ["a", "b"],
            "passages": ["A", "B"], "langs": langs, "scores": [0.5, i / 4],
        }
        for i in range(3)
    ]  # fmt: skip
    write_table(filesystem, f"{root}/stages/{stage}-1/examples/00000.parquet", EXAMPLES.from_rows(rows))
    if finished:
        settings = {"mix": {"negatives": {"include_positive": True} if positive else None}}
        write_json(filesystem, f"{root}/stages/{stage}-1/manifest.json", {"settings": settings})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "runs" / "mtd"
    folder.mkdir(parents=True)
    stages = {name: f"stages/{name}-1" for name in ("sources", "mix", "english_mix", "late_mix")}
    (folder / "run.json").write_text(json.dumps({"stages": stages}))
    write_stage(tmp_path / "data", "mix", ["de", "zh"], positive=True)
    write_stage(tmp_path / "data", "english_mix", ["en", "en"], positive=False)
    write_stage(tmp_path / "data", "late_mix", ["en", "en"], positive=False, finished=False)
    filesystem, root = open_storage(str(tmp_path / "data"))
    write_json(filesystem, f"{root}/stages/sources-1/manifest.json", {"settings": {}})
    return folder


def test_ids_have_a_language_where_passages_have_several(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main(["examples", "--run", str(run), "--format", "pylate", "--out", str(out)]) == 0
    said = "train.parquet 3 rows, queries.parquet 3 rows, documents.parquet 2 rows"
    assert capsys.readouterr().out == f"{said}: {out}\n"
    assert pq.read_table(out / "documents.parquet")["document_id"].to_pylist() == ["a@de", "b@zh"]
    assert main(["examples", "--run", str(run), "--stage", "english_mix", "--format", "pylate", "--out", str(out)]) == 0
    assert pq.read_table(out / "documents.parquet")["document_id"].to_pylist() == ["a", "b"]


def test_the_first_passage_is_a_positive_where_the_stage_says_so(run: Path, tmp_path: Path) -> None:
    for stage, names in (("mix", ["positive", "negative_1"]), ("english_mix", ["document_1", "document_2"])):
        out = tmp_path / stage
        arguments = ["--run", str(run), "--stage", stage, "--format", "sentence_transformers", "--out", str(out)]
        assert main(["examples", *arguments]) == 0
        assert pq.read_schema(out / "train.parquet").names == ["query", *names, "label"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--stage", "late_mix"], 2, "stage 'late_mix' is not finished in"),
        (["--stage", "sources"], 2, "stage 'sources' has no table 'examples'; name mix or english_mix"),
        (["--stage", "mixx"], 2, "run {run} has no stage 'mixx'; it has sources, mix, english_mix, late_mix"),
        (["--config", "x.yaml"], 2, "name the job by --run FOLDER or by --config FILE, one of the two"),
        (["--train.steps", "3"], 2, "--run takes no settings, found --train.steps 3"),
    ],
)
def test_faults(
    run: Path, tmp_path: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--run", str(run), "--format", "plaidx", "--out", str(tmp_path / "out"), *arguments]
    assert main(["examples", *given]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"jobs/export.py: {message.format(run=run)}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["examples", "--run", str(run), "--format", "plaidx", "--out", str(tmp_path / "file" / "out")]) == 1
    assert "cannot be written" in capsys.readouterr().err
