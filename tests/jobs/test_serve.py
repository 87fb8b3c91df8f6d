"""The command line of jobs/serve.py, up to where Ray would start."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jobs.serve as job
from cluster.settings import ClusterSettings
from distill.config import Config
from distill.settings.load import ConfigError
from distill.settings.serve import ServeSettings

SCRIPT = Path(job.__file__)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with finished train and index stages."""
    folder = tmp_path / "data" / "runs" / "mine"
    saved = Config(serve=ServeSettings(port=9000, max_k=50, replicas=2), cluster=ClusterSettings(num_cpus=3))
    stages = {"train": "stages/train-abc", "index": "stages/index-def"}
    put(folder / "run.json", {"name": "mine", "config": saved.model_dump(mode="json"), "stages": stages})
    for stage in stages.values():
        put(tmp_path / "data" / stage / "manifest.json", {})
    return folder


def put(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_saved_settings_variables_and_arguments(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRAY_SERVE__MAX_K", "70")
    monkeypatch.setenv("POLYRAY_SERVE__PORT", "9001")
    folder, serve, cluster = job.configure(["--run", str(run), "--serve.port", "9002"])
    assert folder == str(run)
    assert serve == ServeSettings(port=9002, max_k=70, replicas=2)
    assert cluster == ClusterSettings(num_cpus=3)


def test_stages_are_found_beside_the_runs_wherever_storage_was_moved(run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    stages = tmp_path / "moved" / "stages"
    expected = (str(stages / "train-abc" / "checkpoint"), str(stages / "index-def"))
    assert job.locations(str(tmp_path / "moved/runs/mine")) == expected
    assert job.locations(str(tmp_path / "moved/runs/mine/")) == expected


def test_a_run_without_an_index(run: Path) -> None:
    put(run / "run.json", {"stages": {"train": "stages/train-abc"}})
    with pytest.raises(ConfigError, match=r"mine has no stage index; run the whole job first$"):
        job.locations(str(run))


def test_a_run_whose_stage_was_deleted(run: Path) -> None:
    (run.parents[1] / "stages/index-def/manifest.json").unlink()
    with pytest.raises(
        ConfigError, match=r"its stage index is not finished or was deleted \(stages/index-def\); run the job again"
    ):
        job.locations(str(run))


def test_a_run_outside_a_storage(run: Path, tmp_path: Path) -> None:
    put(tmp_path / "lost" / "run.json", {"stages": {}})
    with pytest.raises(ConfigError, match="a run's folder lies in a folder 'runs' of its storage"):
        job.locations(str(tmp_path / "lost"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--run is missing: give the folder of a run, such as polyray-data/runs/mtd"),
        (
            ["--run", "nowhere"],
            "run nowhere: there is no run.json; give the folder of a finished run, such as polyray-data/runs/mtd",
        ),
        (["--run", "{run}", "--serve.port", "0"], "serve.port: Input should be greater than or equal to 1 (got '0')"),
        (
            ["--run", "{run}", "--train.steps", "3"],
            "command line: no such setting --train.steps; --help lists them",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main([argument.format(run=run) for argument in arguments]) == 2
    assert capsys.readouterr().err == f"jobs/serve.py: {message}\n"


def test_a_broken_run_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "run.json").write_text("{")
    assert job.main(["--run", str(run)]) == 2
    assert capsys.readouterr().err.startswith(
        f"jobs/serve.py: run {run}: run.json cannot be read: Expecting property name"
    )


def test_as_a_script_from_another_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--run", "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jobs/serve.py: run nowhere: there is no run.json")
