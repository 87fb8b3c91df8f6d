"""The worked examples of docs/adding.md: their diffs apply to the code as it is, and what they add works."""

import json
import os
import re
import shutil
import subprocess
import sys
from math import exp, log1p
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/adding.md").read_text(encoding="utf-8")


def diffs(heading: str) -> list[str]:
    """Return the diffs of a section of the document."""
    section = re.split(rf"^## {heading}$", DOCUMENT, flags=re.MULTILINE)[1].split("\n## ")[0]
    return re.findall(r"```diff\n(.*?)```", section, re.DOTALL)


def patched(heading: str, folder: Path) -> Path:
    """Copy the packages to a folder and apply the diffs of a section to the copy."""
    for package in ("cluster", "distill", "serve", "jobs"):
        left_out = shutil.ignore_patterns("__pycache__", "*.safetensors", "tokenizer.json")
        shutil.copytree(ROOT / package, folder / package, ignore=left_out)
    patch = "".join(diffs(heading))
    assert patch
    done = subprocess.run(
        ["git", "apply", "--whitespace=error", "-"], input=patch, cwd=folder, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, code: str) -> list[float]:
    """Return the numbers that code prints as JSON, with the packages of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_teacher(tmp_path: Path) -> None:
    folder = patched("A teacher", tmp_path)
    (folder / "new.yaml").write_text("score: {teacher: {type: overlap, weight: 2.0}}", encoding="utf-8")
    code = """
import json
from distill import load_teacher, score_pairs
from distill.config import load
from distill.plan.estimates import score_work
from jobs.mtd import pipeline
config = load(["new.yaml"])
assert "score" in [stage.name for stage in pipeline(config).stages]
assert score_work(config.score.teacher, ["a"], ["b"], 1, 5).items == 5
teacher = load_teacher(config.score.teacher)
pairs = [("Bees dance", "The bees dance a dance"), ("Bees dance", "A bridge"), ("Bees dance", "bees")]
print(json.dumps(score_pairs(teacher, pairs).tolist()))
"""
    assert run(folder, code) == [4.0, 0.0, 2.0]


def test_a_loss(tmp_path: Path) -> None:
    folder = patched("A loss", tmp_path)
    (folder / "new.yaml").write_text("train: {loss: {type: ranknet, weight: 2.0}}", encoding="utf-8")
    code = """
import json
from types import SimpleNamespace
import torch
from distill.config import load
from distill.train.objective import Objective
from jobs.mtd import pipeline
config = load(["new.yaml"])
assert "train" in [stage.name for stage in pipeline(config).stages]
loss = config.train.loss
scores, teacher = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[5.0, 2.0, float("nan")]])
values = Objective(loss)(SimpleNamespace(scores=scores, batch=SimpleNamespace(teacher=teacher)))
print(json.dumps([values["ranknet"].item(), float(loss.needs_teacher)]))
"""
    # One pair is known: the first passage above the second, by 1.
    assert run(folder, code) == [pytest.approx(2 * log1p(exp(-1)), rel=1e-6), 1.0]
