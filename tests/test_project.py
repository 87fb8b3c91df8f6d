"""The project's documents: what they say of settings, tables and dependencies, and that every example loads."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from distill.config import Config, load
from distill.meta.config import MetaConfig
from distill.settings.load import dump, load_as, setting_names
from distill.tables import TABLES, Table, documentation

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
CONFIGS = sorted((ROOT / "jobs/configs").glob("*.yaml"))


def test_data_documentation_equals_the_tables() -> None:
    assert (ROOT / "docs/data.md").read_text(encoding="utf-8") == documentation()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_example_rows_keep_their_contract(table: Table) -> None:
    assert table.from_rows([table.example]).num_rows == 1


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_configurations_load_and_round_trip(file: Path, tmp_path: Path) -> None:
    kind = MetaConfig if file.stem.startswith("maml_") else Config
    config = load_as(kind, [file])
    (tmp_path / "dumped.yaml").write_text(dump(config), encoding="utf-8")
    assert load_as(kind, [tmp_path / "dumped.yaml"]) == config


def test_there_are_examples() -> None:
    assert len(CONFIGS) >= 3
    assert len(YAML_BLOCKS) >= 4


@pytest.mark.parametrize("text", YAML_BLOCKS)
def test_readme_examples_load(text: str, tmp_path: Path) -> None:
    assert isinstance(yaml.safe_load(text), dict)
    (tmp_path / "example.yaml").write_text(text, encoding="utf-8")
    load([tmp_path / "example.yaml"])


def test_settings_on_the_readmes_command_lines_exist() -> None:
    named = set(re.findall(r"--([a-z_]+(?:\.[a-z_]+)+)", README))
    assert named
    assert named - set(setting_names(Config)) == set()


@pytest.mark.parametrize("mark", ["try", "test"])
def test_readme_has_the_blocks_that_ci_runs(mark: str) -> None:
    assert README.count(f"```bash\n# {mark}\n") == 1


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=;]", name)[0] for name in wanted} - {"polyray"}
    document = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    assert {name for name in names if f"| {name} |" not in document} == set()
