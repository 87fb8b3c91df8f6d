"""Two jobs that need the same stage at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from cluster import claims
from cluster.claims import claimed

ROOT = Path(__file__).resolve().parents[2]
JOB = """
import sys, time
import pyarrow as pa
from cluster.session import Session
from cluster.stages import Runner, Stage
def numbers(run):
    print("computing", flush=True)
    time.sleep({seconds})
    {end}
    run.write("numbers", pa.table({{"n": [1, 2, 3]}}))
Runner(sys.argv[1], Session(), progress=False).run(Stage("numbers", 1, numbers, {{}}, uses_ray=False, rows="numbers"))
"""


def start(store: Path, seconds: float, end: str = "pass") -> "subprocess.Popen[str]":
    source = JOB.format(seconds=seconds, end=end)
    return subprocess.Popen(
        [sys.executable, "-c", source, str(store)], env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def claim_of(store: Path) -> Path:
    deadline = time.monotonic() + 60
    while not (found := list(store.glob("stages/numbers-*/_claim.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[0]


def test_the_second_of_two_jobs_waits_and_reuses_what_the_first_made(tmp_path: Path) -> None:
    first = start(tmp_path, 5)
    claim = claim_of(tmp_path)
    second = start(tmp_path, 0)
    said = [process.communicate(timeout=60) for process in (first, second)]
    assert said[0][0].startswith("computing\nnumbers ")
    holder = f"process {first.pid} on {claims._process()['host']}"
    waited = f"  numbers: another job computes this stage ({holder}); waiting for it\nnumbers "
    assert said[1][0].startswith(waited)
    assert "reused" in said[1][0]
    assert not claim.exists()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "raise ValueError('no')"])
def test_a_job_that_ended_without_a_result_holds_nothing(tmp_path: Path, end: str) -> None:
    first = start(tmp_path, 0, f"import os; {end}")
    first.communicate(timeout=60)
    assert first.returncode != 0
    second = start(tmp_path, 0)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, "waiting" in out) == (0, False), err


@pytest.mark.parametrize(("age", "waits"), [(5.0, True), (61.0, False)])
def test_a_claim_of_another_machine_counts_until_it_is_not_renewed(tmp_path: Path, age: float, waits: bool) -> None:
    other = {"host": "elsewhere", "space": "", "pid": 7, "started": "1", "renewed": time.time() - age}
    (tmp_path / "_claim.json").write_text(json.dumps(other))

    class WaitsError(Exception):
        pass

    def wait(holder: str) -> None:
        assert holder == "process 7 on elsewhere"
        raise WaitsError

    def claim() -> bool:
        with claimed(pafs.LocalFileSystem(), str(tmp_path), lambda: False, wait) as own:
            assert json.loads((tmp_path / "_claim.json").read_text())["pid"] == os.getpid()
            return own

    if waits:
        with pytest.raises(WaitsError):
            claim()
    else:
        assert claim()
        assert not (tmp_path / "_claim.json").exists()
