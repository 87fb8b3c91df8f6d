"""A trained student out of a run's folder, in the layouts of other projects."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.encoders.checkpoints import load_backbone, load_encoder, load_single_vector, save_encoder
from distill.encoders.late_interaction import EncoderSettings
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from jobs.export import main
from tests.tiny_students import QUERIES, late_interaction, save_backbone

SETTINGS = EncoderSettings(dim=16, query_tokens=12, passage_tokens=24, skip_list="token")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose student is a late-interaction one on XLM-R's kind of tokenizer."""
    folder = tmp_path / "data" / "runs" / "mtd"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"stages": {"train": "stages/train-1", "mix": "stages/mix-1"}}))
    student = late_interaction(save_backbone(tmp_path / "xlmr", "xlmr"), SETTINGS)
    save_encoder(student, tmp_path / "data" / "stages" / "train-1" / "checkpoint")
    return folder


@pytest.mark.parametrize(
    ("kind", "file"), [("hf_colbert", "artifact.metadata"), ("sentence_transformers", "modules.json")]
)
def test_a_runs_student_is_the_same(
    run: Path, tmp_path: Path, kind: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["student", "--run", str(run), "--format", kind, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"LateInteractionEncoder of 16 numbers a vector as {kind}: {out}\n")
    assert (out / file).is_file()
    before = load_encoder(run.parents[1] / "stages" / "train-1" / "checkpoint")
    assert torch.equal(load_encoder(out).encode_queries(QUERIES), before.encode_queries(QUERIES))
    # of hf_colbert PLAID-X would make other tokens, sentence-transformers' own layout says everything
    notes = [line for line in said.splitlines() if line.startswith("note: ")]
    assert len(notes) == (2 if kind == "hf_colbert" else 0)
    assert all("PLAID-X" in note for note in notes)


def test_what_the_others_do_differently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def notes(family: str, **settings: object) -> list[str]:
        name = "-".join([family, *settings])
        student = late_interaction(save_backbone(tmp_path / name / "base", family), replace(SETTINGS, **settings))  # pyright: ignore[reportArgumentType]
        save_encoder(student, tmp_path / name / "student")
        arguments = ["--checkpoint", str(tmp_path / name / "student"), "--out", str(tmp_path / name / "out")]
        assert main(["student", *arguments, "--format", "hf_colbert"]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]

    assert notes("bert") == []
    assert "PyLate and sentence-transformers place them differently" in notes("xlmr", marker_mode="overwrite")[0]
    assert "expand queries with [MASK]" in notes("bert", query_expansion=False)[0]
    assert (
        "Punctuation of passages takes part in the score; PyLate leaves it out"
        in notes("bert", mask_punctuation=False)[0]
    )


def test_a_cut_student(tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(save_backbone(tmp_path / "bert", "bert"))
    save_encoder(SingleVectorEncoder(backbone, tokenizer, SingleVectorSettings()), tmp_path / "s")
    arguments = ["--checkpoint", str(tmp_path / "s"), "--format", "sentence_transformers", "--dim", "8"]
    assert main(["student", *arguments, "--out", str(tmp_path / "out")]) == 0
    found = load_single_vector(tmp_path / "out")
    assert found.dim == 8
    expected = load_single_vector(tmp_path / "s", dim=8).encode_queries(QUERIES)
    assert torch.equal(found.encode_queries(QUERIES), expected)


def test_to_an_object_store(run: Path, s3_bucket: str, tmp_path: Path) -> None:
    out = f"{s3_bucket}/export-student/student"
    assert main(["student", "--run", str(run), "--format", "sentence_transformers", "--out", out]) == 0
    assert main(["student", "--checkpoint", out, "--format", "hf_colbert", "--out", str(tmp_path / "back")]) == 0
    assert load_encoder(tmp_path / "back").dim == 16


@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        ([], 2, "name the student by --run FOLDER or by --checkpoint FOLDER"),
        (["--run", "{run}x"], 2, "there is no run.json"),
        (["--run", "{run}", "--train.steps", "9"], 2, "unrecognized arguments: --train.steps 9"),
        (["--run", "{run}", "--stage", "mix"], 2, "holds no checkpoint; run the train stage first"),
        (["--run", "{run}", "--dim", "8"], 2, "--dim 8: only vectors of single-vector students can be cut"),
        (["--checkpoint", "{tmp}/xlmr"], 1, "is no checkpoint of a student"),
        (["--run", "{run}", "--out", "{tmp}/xlmr"], 2, "there is a checkpoint already"),
    ],
)
def test_wrong_usage_is_one_line(
    run: Path, tmp_path: Path, arguments: list[str], code: int, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(run=run, tmp=tmp_path) for argument in arguments]
    out = [] if "--out" in given else ["--out", str(tmp_path / "x")]
    assert main(["student", *given, "--format", "hf_colbert", *out]) == code
    error = capsys.readouterr().err
    assert error.startswith("jobs/export.py: ")
    assert fault in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
