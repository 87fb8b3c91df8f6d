"""The Python examples of the documents run as they stand there, without Ray, and print what the documents say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from distill.config import Config
from distill.models.locate import BUNDLED_STUDENT, locate
from distill.runs import write_run
from distill.tables import DOCUMENTS, MEASUREMENTS

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
"""A block of Python and, where one follows at once, the block of what it prints."""
RUNNER = """
import contextlib, io, json, sys

sys.modules["ray"] = None  # every import of it fails
scope, printed = {}, []
for example in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(example, "example", "exec"), scope)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def examples(document: str) -> list[tuple[str, str]]:
    """Return each example of a document with what it prints; the examples of a document share their variables."""
    return EXAMPLE.findall((ROOT / document).read_text(encoding="utf-8"))


def run(codes: list[str], folder: Path) -> list[str]:
    """Return what each piece of code prints, one after the other in one process whose working folder is `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(codes), cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def write_small_run(storage: Path) -> None:
    """Write the part of a quickstart's storage that the examples read: run, checkpoint, an index of two documents, measurements."""
    stages = {stage: f"stages/{stage}-0" for stage in ("train", "index", "evaluate")}
    summary = {"metrics": {"student": {"de": {"nDCG@20": 0.763}}}}
    write_run(str(storage), Config(name="quickstart"), stages, summary, "<html></html>")
    shutil.copytree(locate(BUNDLED_STUDENT), storage / stages["train"] / "checkpoint")
    vectors = [vector.half().numpy() for vector in torch.eye(128).split(3)[:2]]
    documents = [{**DOCUMENTS.example, "position": i, "passage_id": str(i), "tokens": 3} for i in range(2)]
    flat = {"position": pa.array(range(2)), "vectors": pa.array([v.ravel() for v in vectors], pa.list_(pa.float16()))}
    tables = {
        ("index", "documents"): DOCUMENTS.from_rows(documents),
        ("index", "vectors"): pa.table(flat),
        ("evaluate", "measurements"): MEASUREMENTS.from_rows([MEASUREMENTS.example]),
    }
    for (stage, name), table in tables.items():
        (storage / stages[stage] / name).mkdir(parents=True)
        pq.write_table(table, storage / stages[stage] / name / "part-0.parquet")
        names = [table for owner, table in tables if owner == stage]
        (storage / stages[stage] / "manifest.json").write_text(json.dumps({"tables": dict.fromkeys(names, 1)}))


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_examples_print_what_the_document_says(document: str, tmp_path: Path) -> None:
    found = examples(document)
    assert found
    write_small_run(tmp_path / "polyray-data")
    printed = run([code for code, _ in found], tmp_path)
    assert printed == [text for _, text in found]


def test_ray_is_blocked(tmp_path: Path) -> None:
    code = "try:\n    import ray.data\nexcept ImportError as error:\n    print(type(error).__name__)"
    assert run([code], tmp_path) == ["ModuleNotFoundError\n"]
