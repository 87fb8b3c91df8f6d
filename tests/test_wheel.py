"""The wheel: what is in it, and that it runs where there is no checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("jobs", "cluster", "distill", "serve")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hatchling.builders.wheel import WheelBuilder

    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(path)


@pytest.fixture(scope="module")
def polyray(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the installed wheel, in an environment that has the packages of this one, but not the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, env=environment())
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "polyray"


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "RAY_ADDRESS"}}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )


def test_everything_that_is_read_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted - names == set()
    strange = {name for name in names - wanted if not name.startswith("polyray-")}
    assert strange == set()
    for name in ("jobs/configs/quickstart.yaml", "serve/page.html", "distill/sources/corpus/corpus.jsonl"):
        assert name in names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(name.startswith("distill/") and name.endswith("student/model.safetensors") for name in names)
    assert sum(name.endswith(".html.j2") for name in names) >= 3


def test_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (folder,) = {name.split("/")[0] for name in file.namelist() if name.startswith("polyray-")}
        facts = Parser().parsestr(file.read(f"{folder}/METADATA").decode())
        assert (
            file.read(f"{folder}/entry_points.txt").decode()
            == "[console_scripts]\npolyray = jobs.running.polyray:main\n"
        )
    assert facts["Requires-Python"] == ">=3.11"
    versions = {line.rsplit(" ", 1)[1] for line in facts.get_all("Classifier", []) if ":: 3." in line}
    assert versions == {"3.11", "3.12", "3.13"}
    assert "faiss-gpu>=1.14.3; (sys_platform == 'linux') and extra == 'gpu'" in facts.get_all("Requires-Dist", [])


def test_the_command_runs_in_any_folder(polyray: Path, tmp_path: Path) -> None:
    """Its messages name it as it was typed, and everything comes from the wheel."""
    found = run([str(polyray), "--help"], tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert "usage: polyray COMMAND [OPTIONS]" in found.stdout
    assert "  mtd           Multilingual Translate-Distill (arXiv 2405.00977)" in found.stdout
    found = run([str(polyray), "mtd", "--plan"], tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[0].startswith("plan of 'quickstart' in polyray-data")
    assert lines[1].split()[:2] == ["sources", "run"]
    assert list(tmp_path.iterdir()) == []
    found = run([str(polyray), "td", "--config", "td_zh", "--train.step", "1"], tmp_path)
    assert found.returncode == 2
    assert found.stderr.startswith(
        "polyray td: command line: no such setting --train.step (did you mean --train.steps?)"
    )
    where = [
        str(polyray.with_name("python")),
        "-c",
        "import jobs, distill, cluster, serve; print(jobs.__file__, serve.__file__)",
    ]
    assert run(where, tmp_path).stdout.count(str(polyray.parents[1])) == 2
