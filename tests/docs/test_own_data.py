"""The README's "Your own data": its configuration and its command, as they stand there, on a small collection."""

import gzip
import json
import re
import shlex
from pathlib import Path

import pytest

from distill.runs import Run
from distill.sources import corpus
from jobs.mtd import main
from tests.jobs_small import ROOT

PASSAGES = 60


def write_collection(folder: Path) -> None:
    """Write passages in three languages, two queries of each, one of them for training, and the judgements of the others."""
    folder.mkdir()
    rows = corpus.rows()[:PASSAGES]
    with gzip.open(folder / "passages.jsonl.gz", "wt", encoding="utf-8") as file:
        for row in rows:
            for lang in ("en", "de", "zh"):
                passage = {"id": row["id"], "title": row["title"][lang], "text": row["text"][lang], "lang": lang}
                file.write(json.dumps(passage, ensure_ascii=False) + "\n")
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            for kind, text, split in (
                ("q", row["queries"]["question"]["en"], "train"),
                ("k", row["queries"]["keyword"], "test"),
            ):
                file.write(json.dumps({"id": f"{row['id']}-{kind}", "text": text, "split": split}) + "\n")
    (folder / "test.qrels").write_text("".join(f"{row['id']}-k 0 {row['id']} 1\n" for row in rows), encoding="utf-8")


def test_the_example_of_own_data_runs_as_it_stands(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only shorter: the steps of the training come from the environment."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own data")[2].partition("\n## ")[0]
    settings = re.search(r"```yaml\n(name: mine.*?)```", section, re.DOTALL)
    command = re.search(r"```bash\n(python jobs/mtd.py .*?)```", section, re.DOTALL)
    assert settings is not None
    assert command is not None
    (tmp_path / "mine.yaml").write_text(settings[1], encoding="utf-8")
    write_collection(tmp_path / "data")
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    for name, value in (("STEPS", "10"), ("CHECKPOINT_EVERY", "10"), ("WARMUP_STEPS", "1")):
        monkeypatch.setenv(f"POLYRAY_TRAIN__{name}", value)
    code = main(shlex.split(command[1])[2:])
    said = capsys.readouterr()
    assert code == 0, said.err
    run = Run.open("polyray-data/runs/mine")
    assert run.summary["counts"]["queries"] == PASSAGES
    assert run.summary["counts"]["trained_on"] == 0
    assert set(run.summary["metrics"]["student"]) == {"en", "de", "zh", "mixed", "pooled"}
    assert f"nDCG@20, {PASSAGES} test queries in en" in said.out
