"""Run folders: written, moved, opened, and what is told of a folder that is none."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.storage import open_storage, write_json, write_table
from distill.config import Config, load
from distill.runs import Run, keep_other_run, run_folder, write_run
from distill.settings.load import ConfigError

STAGES = {"sources": "stages/sources-1", "train": "stages/train-2", "index": "stages/index-3"}


def write(storage: str) -> str:
    """Write a run with three stages, one of which has a table of two files."""
    filesystem, root = open_storage(storage)
    for folder in STAGES.values():
        tables = {"queries": {"rows": 3}} if "sources" in folder else {}
        write_json(filesystem, f"{root}/{folder}/manifest.json", {"tables": tables, "rows": 3})
    for number, rows in enumerate(([1, 2], [3])):
        write_table(filesystem, f"{root}/stages/sources-1/queries/{number:05d}.parquet", pa.table({"n": rows}))
    return write_run(storage, Config(name="mine", seed=7), STAGES, {"metrics": {"student": 0.5}}, "<html>")


def check(run: Run, storage: str) -> None:
    assert (run.name, run.storage, run.settings["seed"], dict(run.stages)) == ("mine", storage, 7, STAGES)
    assert run.checkpoint == f"{storage}/stages/train-2/checkpoint"
    assert run.index == f"{storage}/stages/index-3"
    assert run.manifest("train")["rows"] == 3
    assert run.table("sources", "queries")["n"].to_pylist() == [1, 2, 3]
    assert run.stored_table("sources", "queries").read(1, 2)["n"].to_pylist() == [2]
    assert run.summary == {"metrics": {"student": 0.5}}


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    location = write(str(tmp_path / "data"))
    assert location == run_folder(str(tmp_path / "data"), "mine") == f"{tmp_path}/data/runs/mine"
    check(Run.open(location), f"{tmp_path}/data")
    assert {file.name for file in Path(location).iterdir()} == {
        "config.yaml",
        "report.html",
        "run.json",
        "summary.json",
    }
    assert Path(location, "report.html").read_text() == "<html>"
    assert load([Path(location, "config.yaml")]) == Config(name="mine", seed=7)


def test_another_run_of_the_same_name_is_kept(tmp_path: Path) -> None:
    storage = str(tmp_path / "data")
    location = write(storage)
    assert keep_other_run(storage, "mine", dict(reversed(STAGES.items()))) == ""  # the same stages
    assert keep_other_run(storage, "yours", STAGES) == ""  # no such run
    other = STAGES | {"train": "stages/train-4"}
    kept = keep_other_run(storage, "mine", other)
    assert kept.startswith(f"{storage}/runs/mine-")
    assert keep_other_run(storage, "mine", other) == kept
    write_run(storage, Config(name="mine"), other, {"metrics": {"student": 0.25}}, "<html>")
    check(Run.open(kept), storage)
    assert Run.open(location).summary == {"metrics": {"student": 0.25}}
    assert Path(kept, "report.html").read_text() == "<html>"
    # A third run leaves the first one's copy as it is.
    assert keep_other_run(storage, "mine", STAGES) not in ("", kept)
    assert Run.open(kept).summary == {"metrics": {"student": 0.5}}


def test_a_damaged_run_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    location = write(str(tmp_path / "data"))
    Path(location, "run.json").write_text("{")
    assert keep_other_run(str(tmp_path / "data"), "mine", {}) == ""


@pytest.mark.parametrize("end", ["", "/"])
def test_a_storage_may_be_moved(tmp_path: Path, end: str) -> None:
    write(str(tmp_path / "data"))
    (tmp_path / "data").rename(tmp_path / "moved")
    check(Run.open(f"{tmp_path}/moved/runs/mine{end}"), f"{tmp_path}/moved")


def test_a_relative_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    check(Run.open("data/runs/mine"), f"{tmp_path}/data")


def test_in_an_object_store(s3_bucket: str) -> None:
    location = write(f"{s3_bucket}/runs-test")
    assert location == f"{s3_bucket}/runs-test/runs/mine"
    check(Run.open(location), f"{s3_bucket}/runs-test")


def test_faults_name_the_run_and_what_to_do(tmp_path: Path) -> None:
    run = Run.open(write(str(tmp_path / "data")))

    def fault(location: str) -> str:
        with pytest.raises(ConfigError) as caught:
            Run.open(location)
        return str(caught.value)

    assert fault("nowhere") == (
        "run nowhere: there is no run.json; give the folder of a finished run, such as polyray-data/runs/mtd"
    )
    broken = tmp_path / "data/runs/broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    assert fault(str(broken)).startswith(f"run {broken}: run.json cannot be read: Expecting property name")
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost/run.json").write_text(json.dumps({"stages": {}}))
    assert fault(f"{tmp_path}/lost") == f"run {tmp_path}/lost: a run's folder lies in a folder 'runs' of its storage"
    with pytest.raises(ConfigError, match=r"mine has no stage 'mix'; it has sources, train, index$"):
        run.folder("mix")
    with pytest.raises(ConfigError, match=r"mine: stage 'sources' has no table 'scores'; it has queries$"):
        run.table("sources", "scores")
    (tmp_path / "data/stages/index-3/manifest.json").unlink()
    with pytest.raises(
        ConfigError, match=r"its stage index is not finished or was deleted \(stages/index-3\); run the job again$"
    ):
        run.manifest("index")
    (Path(run.location) / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"there is no summary.json; run the job again$"):
        _ = run.summary
