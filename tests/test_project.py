"""Rules of the whole project: the direction of imports, documents that equal the code, configurations that load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distill.config import load
from distill.tables import TABLES, documentation

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "jobs": {"jobs", "serve", "distill", "cluster"},
    "serve": {"serve", "distill", "cluster"},
    "distill": {"distill"},
    "cluster": {"cluster"},
}
CORES = (
    "batching", "encoder", "losses", "metrics", "mix", "models", "stream", "students", "teachers", "text", "training",
)  # fmt: skip


def imported(file: Path) -> set[str]:
    """The top-level packages that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        str(file.relative_to(ROOT)): bad for file in files if (bad := imported(file) & set(ALLOWED) - ALLOWED[package])
    }
    assert wrong == {}


def test_the_numerical_cores_never_import_ray() -> None:
    files = [ROOT / "distill" / f"{name}.py" for name in CORES] + [ROOT / "serve" / "index.py"]
    assert [file.name for file in files if "ray" in imported(file)] == []


@pytest.mark.parametrize("module", ["distill.config", "distill.tables"])
def test_configuration_and_contracts_import_neither_torch_nor_ray(module: str) -> None:
    script = f"import sys, {module}; print(sorted({{'torch', 'ray', 'transformers'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_data_document_equals_the_contracts() -> None:
    assert (ROOT / "docs" / "data.md").read_text(encoding="utf-8") == documentation()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_example_of_each_table_keeps_its_contract(table) -> None:  # noqa: ANN001
    assert table.from_rows([table.example]).num_rows == 1


@pytest.mark.parametrize("file", sorted((ROOT / "jobs" / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_configuration_loads(file: Path) -> None:
    config = load([file])
    assert config.name == file.stem


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_readmes_configurations_load(tmp_path: Path) -> None:
    for i, block in enumerate(blocks("yaml")):
        (tmp_path / f"{i}.yaml").write_text(block)
        load([tmp_path / f"{i}.yaml"])
    assert blocks("yaml")


def test_the_readme_has_the_two_commands() -> None:
    firsts = [block.splitlines()[0] for block in blocks("bash")]
    assert firsts.count("# try") == 1
    assert firsts.count("# test") == 1


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_jobs_are_executable() -> None:
    for file in (ROOT / "jobs").glob("*.py"):
        if "__main__" in file.read_text(encoding="utf-8"):
            assert file.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n"), file.name
            assert file.stat().st_mode & 0o111, file.name
