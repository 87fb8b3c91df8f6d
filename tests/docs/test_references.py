"""What the documents name exists: links, paths, modules and functions, settings and options; their configurations load."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from distill.config import Config
from distill.meta.config import MetaConfig
from distill.score.settings import Teacher
from distill.select.settings import Selector
from distill.settings.load import ConfigError, load_as, setting_names
from distill.train.loss_settings import LossSettings
from distill.translate.settings import Translator

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
TEXTS = {
    str(file.relative_to(ROOT)): re.sub(r"```diff.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    for file in DOCUMENTS
}
"""The documents without their diffs, which name what does not exist."""
SETTINGS = {*setting_names(Config), *setting_names(MetaConfig)}
GROUPS = {name.split(".")[0] for name in SETTINGS if "." in name}
PARTS = "distill|cluster|serve|jobs"
FOREIGN = {
    "--index-url", "--working-dir", "--runtime-env-json", "--only_top", "--dist", "--check",
}  # fmt: skip
"""Options of other programs."""


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
    return kept.replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Return the anchors of a document: those of its headings."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", plain, re.MULTILINE)}


def broken_links(name: str, text: str) -> list[str]:
    """Return the links of a document whose file or heading does not exist."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        known = file.is_file() and (not anchor or anchor in anchors(file.read_text(encoding="utf-8")))
        if not known and not (file.is_dir() and not anchor):
            broken.append(target)
    return broken


def missing_paths(text: str) -> list[str]:
    """Return the paths below the project's folders that a document names and that do not exist."""
    named = re.findall(rf"(?<![\w/.-])((?:{PARTS}|docs|benchmarks|tests|infra|\.ci)/[\w./*-]*[\w/*])", text)
    return sorted({path for path in set(named) if not list(ROOT.glob(path.rstrip("/")))})


def missing_names(text: str) -> list[str]:
    """Return the dotted names of modules, functions and classes that a document names and that do not exist."""
    named = set(re.findall(rf"(?<![\w/.-])((?:{PARTS})(?:\.[A-Za-z_]\w*)+)", text)) - SETTINGS
    return sorted(name for name in named if not exists(name))


def exists(name: str) -> bool:
    """Tell whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def missing_settings(text: str) -> list[str]:
    """Return the settings that a document names with their group, as `a.b` or as `--a.b`, and that do not exist."""
    named = {name for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", text) if name.split(".")[0] in GROUPS}
    named |= set(re.findall(r"--(?:no-)?([a-z_]+(?:\.[a-z_]+)+)", text))
    files = {name for name in named if name.rsplit(".", 1)[1] in {"py", "yaml", "md", "json", "html", "jsonl"}}
    return sorted(
        name for name in named - SETTINGS - files if not re.match(rf"(?:{PARTS})\.", name) or not exists(name)
    )


def missing_options(text: str) -> list[str]:
    """Return the options without a dot that a document names and that are neither settings nor in the source of a program."""
    source = "\n".join(
        file.read_text(encoding="utf-8") for folder in ("jobs", "benchmarks") for file in (ROOT / folder).rglob("*.py")
    )
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]*(?![\w.-])", text)) - FOREIGN
    return sorted(o for o in named if o.removeprefix("--") not in SETTINGS and f'"{o}"' not in source)


def message_texts() -> str:
    """Return all texts in the source, adjacent literals joined, with `{}` for each inserted value."""
    texts = []
    for file in (file for part in PARTS.split("|") for file in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_messages_of_the_operations_table_exist() -> None:
    table = TEXTS["docs/operations.md"].split("## Errors")[1]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) >= 15
    source = message_texts()
    patterns = {m: re.escape(m).replace(r"\.\.\.", ".*") for m in messages}
    patterns = {m: re.sub(r"\b[NMC]\b", r"\\{\\}", pattern) for m, pattern in patterns.items()}
    assert [m for m, pattern in patterns.items() if not re.search(pattern, source)] == []


@pytest.mark.parametrize("name", TEXTS)
def test_links_resolve(name: str) -> None:
    assert broken_links(name, TEXTS[name]) == []


@pytest.mark.parametrize("name", TEXTS)
def test_paths_exist(name: str) -> None:
    assert missing_paths(TEXTS[name]) == []


@pytest.mark.parametrize("name", TEXTS)
def test_modules_and_functions_exist(name: str) -> None:
    assert missing_names(TEXTS[name]) == []


@pytest.mark.parametrize("name", TEXTS)
def test_settings_exist(name: str) -> None:
    assert missing_settings(TEXTS[name]) == []


@pytest.mark.parametrize("name", TEXTS)
def test_options_exist(name: str) -> None:
    assert missing_options(TEXTS[name]) == []


@pytest.mark.parametrize("name", TEXTS)
def test_configurations_load(name: str, tmp_path: Path) -> None:
    kind = MetaConfig if name == "docs/meta.md" else Config
    for block in re.findall(r"^```yaml\n(.*?)^```", TEXTS[name], re.DOTALL | re.MULTILINE):
        for text in block.split("---\n"):
            assert isinstance(yaml.safe_load(text), dict)
            (tmp_path / "example.yaml").write_text(text, encoding="utf-8")
            load_as(kind, [tmp_path / "example.yaml"])


@pytest.mark.parametrize(
    ("name", "union"),
    [("selectors", Selector), ("teachers", Teacher), ("translators", Translator), ("training", LossSettings)],
)
def test_every_alternative_is_described(name: str, union: Any) -> None:
    types = [kind.model_fields["type"].default for kind in get_args(get_args(union)[0])]
    assert len(types) >= 5
    assert [kind for kind in types if f"| `{kind}` |" not in TEXTS[f"docs/{name}.md"]] == []


def test_every_document_is_in_the_readmes_index() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.]+\.md)", TEXTS["README.md"]))
    assert {str(file.relative_to(ROOT)) for file in (ROOT / "docs").glob("*.md")} - linked == set()


def test_faults_are_found(tmp_path: Path) -> None:
    text = (
        "[a](docs/none.md) [b](docs/meta.md#no-such) [c](docs/meta.md#tasks) `jobs/none.py` `jobs/mtd.py` `distill.train.losses.none` "
        "`distill.train.losses.kl_divergence` `score.none` `score.query_lang` `--mix.none 3 --mix.group 1` `--nothing` `--plan`"
    )
    assert broken_links("README.md", text) == ["docs/none.md", "docs/meta.md#no-such"]
    assert missing_paths(text) == ["docs/none.md", "jobs/none.py"]
    assert missing_names(text) == ["distill.train.losses.none"]
    assert missing_settings(text) == ["mix.none", "score.none"]
    assert missing_options(text) == ["--nothing"]
    (tmp_path / "wrong.yaml").write_text("mix: {none: 1}", encoding="utf-8")
    with pytest.raises(ConfigError):
        load_as(Config, [tmp_path / "wrong.yaml"])
