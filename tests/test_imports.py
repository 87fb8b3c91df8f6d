"""Who may import whom, how large folders and modules grow, and that a broken rule is noticed.

`jobs` imports `serve`, `serve` imports `distill`, `distill` imports the ground of `cluster` that needs no Ray. Inside `distill` foundations
lie below stages, and a stage may use an earlier stage, never a later one. Numerical cores need only torch, transformers and pydantic.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "jobs": {"serve", "distill", "cluster"},
    "serve": {"distill", "cluster"},
    "distill": {"cluster"},
    "cluster": set[str](),
}
GROUND = {
    f"cluster.{name}"
    for name in ("atomic", "copying", "errors", "locations", "settings", "storage", "stored_table", "workspace")
}
"""The modules of `cluster` that import no Ray."""
STAGES = ("sources", "select", "translate", "score", "mix", "train", "index", "evaluate")
LEVELS = (
    {"settings", "tables", "models", "pages", "measures", "numerics", "text"},
    {"formats"},
    {"encoders"},
    *({stage} for stage in STAGES),
    {"report", "plan", "method", "config", "bundled", "meta", "runs"},
)
"""The children of `distill`, the lowest first: each imports only what is below it or beside it."""
META_STAGES = ("sources", "tasks", "train", "evaluate")
TRAINING = ("losses", "margins", "objective", "trainer", "batches", "gather", "gates", "settings", "loss_settings")
META_TRAINING = ("learners", "losses", "trainer", "batches")
TEACHERS = ("encoders", "monot5", "cross_encoder", "causal", "prompts", "first_token", "checks", "interface", "vllm")
CORES = [
    *(f"distill/{folder}/**/*.py" for folder in ("encoders", "numerics", "models")),
    *(f"distill/train/{name}.py" for name in TRAINING),
    *(f"distill/meta/train/{name}.py" for name in META_TRAINING),
    *(f"distill/score/teachers/{name}.py" for name in TEACHERS),
]
"""What computes, without Ray and Arrow: a step can be run where only torch and transformers are installed."""
NO_CORES = {"distill/encoders/worker.py", "distill/encoders/checkpoints/fetch.py"}
"""Modules in the folders of cores that move tables and files for the stages."""
SIZES = {"modules": 20, "lines": 400}

Imports = Mapping[str, set[str]]


def module_of(file: Path) -> str:
    """Return the dotted name of a file below the root of a tree."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files(root: Path) -> list[Path]:
    """Return every module of the four packages, relative to `root`."""
    return sorted(file.relative_to(root) for package in PACKAGES for file in (root / package).rglob("*.py"))


def imports(root: Path) -> Imports:
    """Return what each module imports, inside functions too: modules of the tree by their whole names, others as written."""
    ours = {module_of(file) for file in files(root)}
    return {module_of(file): _imported((root / file).read_text(encoding="utf-8"), ours) for file in files(root)}


def _imported(source: str, ours: set[str]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole & ours or {node.module}
            if not whole <= ours:
                names.add(node.module)
    return names


def package_faults(found: Imports) -> list[str]:
    """List imports between packages against their direction, and imports of `distill` from what needs Ray."""
    faults = []
    for module, names in found.items():
        package = module.partition(".")[0]
        for name in sorted(names):
            other = name.partition(".")[0]
            if other in PACKAGES and other != package and other not in PACKAGES[package]:
                faults.append(f"{module} imports {name}: {package} must not import {other}")
            elif package == "distill" and other == "cluster" and name not in GROUND:
                faults.append(
                    f"{module} imports {name}, which needs Ray; distill may import {', '.join(sorted(GROUND))}"
                )
    return faults


def level_faults(found: Imports) -> list[str]:
    """List imports inside `distill` that point upwards: a foundation that uses a stage, a stage that uses a later one."""
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    order = {name: number for number, name in enumerate(META_STAGES)}
    faults = []
    for module, names in found.items():
        child = module.split(".")[1] if module.startswith("distill.") else None
        if child is None:
            continue
        assert child in level, f"distill/{child} has no level: name it in LEVELS"
        for name in sorted(names):
            path = name.split(".")
            if path[0] == "distill" and len(path) > 1 and level[path[1]] > level[child]:
                faults.append(f"{module} imports {name}: {child} lies below {path[1]}")
            steps = [
                parts[2] for parts in (module.split("."), path) if parts[:2] == ["distill", "meta"] and len(parts) > 3
            ]
            if len(steps) == 2 and set(steps) <= order.keys() and order[steps[1]] > order[steps[0]]:
                faults.append(f"{module} imports {name}: meta/{steps[0]} comes before meta/{steps[1]}")
    return faults


def circles(found: Imports) -> list[str]:
    """List circles of modules, and of the folders that lie beside each other."""
    graphs: dict[str, dict[str, set[str]]] = {
        "modules": {module: names & found.keys() for module, names in found.items()}
    }
    for module, names in found.items():
        for name in names & found.keys():
            here, there = module.split("."), name.split(".")
            depth = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), None)
            if depth is not None and len(here) > depth + 1 and len(there) > depth + 1:
                graph = graphs.setdefault(f"folders in '{'.'.join(here[:depth]) or '.'}'", {})
                graph.setdefault(here[depth], set()).add(there[depth])
    return [f"{name}: {circle}" for name, graph in graphs.items() if (circle := _circle(graph))]


def _circle(graph: Mapping[str, Iterable[str]]) -> str:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def core_files(root: Path) -> list[Path]:
    """Return the modules of the numerical cores, relative to `root`."""
    return sorted(
        {file.relative_to(root) for pattern in CORES for file in root.glob(pattern)} - {Path(name) for name in NO_CORES}
    )


def core_faults(root: Path) -> list[str]:
    """List imports of ray and pyarrow in numerical cores, inside functions too."""
    found = imports(root)
    return [
        f"{file} imports {name}"
        for file in core_files(root)
        for name in sorted(found[module_of(file)])
        if name.partition(".")[0] in {"ray", "pyarrow"}
    ]


def size_faults(root: Path) -> list[str]:
    """List folders with too many modules and modules with too many lines."""
    per_folder: dict[Path, int] = {}
    faults = []
    for file in files(root):
        per_folder[file.parent] = per_folder.get(file.parent, 0) + (file.name != "__init__.py")
        lines = len((root / file).read_text(encoding="utf-8").splitlines())
        if lines > SIZES["lines"]:
            faults.append(f"{file} has {lines} lines, at most {SIZES['lines']} are allowed")
    faults += [
        f"{folder} has {count} modules, at most 20" for folder, count in per_folder.items() if count > SIZES["modules"]
    ]
    return faults


def test_packages_import_one_way() -> None:
    assert package_faults(imports(ROOT)) == []


def test_stages_use_only_earlier_stages_and_foundations() -> None:
    assert level_faults(imports(ROOT)) == []


def test_no_modules_or_folders_stand_in_a_circle() -> None:
    assert circles(imports(ROOT)) == []


def test_folders_and_modules_stay_small() -> None:
    assert size_faults(ROOT) == []


def test_numerical_cores_name_neither_ray_nor_pyarrow() -> None:
    assert core_faults(ROOT) == []
    assert {"distill/train/losses.py", "distill/encoders/single_vector.py"} <= {str(file) for file in core_files(ROOT)}


BLOCK = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is not installed here")

sys.meta_path.insert(0, Blocked())
# `datasets`, where it is installed, brings pyarrow into transformers' own optional imports.
sys.modules.update(dict.fromkeys(("datasets", "pandas", "sklearn"), None))
for name in {modules}:
    importlib.import_module(name)
print({after})
"""


def _run(modules: Iterable[str], blocked: set[str], after: str = "''") -> str:
    code = BLOCK.format(blocked=sorted(blocked), modules=sorted(modules), after=after)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    return done.stdout.strip()


def test_numerical_cores_import_where_ray_and_pyarrow_are_not_installed() -> None:
    _run((module_of(file) for file in core_files(ROOT)), {"ray", "pyarrow", "fastapi"})


def test_settings_and_tables_import_neither_torch_nor_ray() -> None:
    settings = [
        module_of(file) for file in files(ROOT) if file.name.endswith("settings.py") or "settings" in file.parts
    ]
    modules = [*settings, "distill.config", "distill.meta.config", "distill.tables", "distill.method"]
    after = "sorted({'torch', 'ray', 'transformers'} & set(sys.modules))"
    assert _run(modules, set(), after) == "[]"


BROKEN = {
    "a package against its direction": (
        "distill/mix/stage.py", "import serve.app",
        package_faults, "distill must not import serve",
    ),
    "Ray through cluster": (
        "distill/train/stage.py", "from cluster.session import Session",
        package_faults, "cluster.session, which needs Ray",
    ),
    "a later stage": (
        "distill/select/bm25.py", "def f():\n    from distill.score.stage import score",
        level_faults, "select lies below score",
    ),
    "a foundation that uses a stage": (
        "distill/numerics/best.py", "import distill.index.exact",
        level_faults, "numerics lies below index",
    ),
    "a later stage of meta-learning": (
        "distill/meta/tasks/draws.py", "import distill.meta.train.stage",
        level_faults, "meta/tasks comes before meta/train",
    ),
    "a circle of folders": ("distill/pages/page.py", "import distill.tables.contract", circles, "folders in 'distill'"),
    "a circle of modules": ("distill/tables/contract.py", "import distill.tables.meta", circles, "modules: "),
}  # fmt: skip
SAMPLE = {
    "serve/app.py": "",
    "cluster/session.py": "",
    "distill/score/stage.py": "",
    "distill/index/exact.py": "",
    "distill/meta/train/stage.py": "",
    "distill/tables/contract.py": "import distill.pages.plots",
    "distill/tables/meta.py": "import distill.tables.contract",
    "distill/pages/plots.py": "",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_rule_is_noticed(kind: str, tmp_path: Path) -> None:
    file, source, rule, message = BROKEN[kind]
    _write(tmp_path, SAMPLE)
    assert rule(imports(tmp_path)) == []
    _write(tmp_path, {file: source})
    (fault,) = rule(imports(tmp_path))
    assert message in fault


@pytest.mark.parametrize("source", ["import ray", "def f():\n    import pyarrow.parquet"])
def test_ray_or_arrow_in_a_core_is_noticed(source: str, tmp_path: Path) -> None:
    _write(tmp_path, {"distill/train/losses.py": "import torch", "distill/encoders/worker.py": source})
    assert core_faults(tmp_path) == []
    _write(tmp_path, {"distill/train/losses.py": source})
    assert [fault.partition(" imports ")[0] for fault in core_faults(tmp_path)] == ["distill/train/losses.py"]


def test_too_large_modules_and_folders_are_noticed(tmp_path: Path) -> None:
    _write(tmp_path, {f"distill/mix/m{number}.py": "" for number in range(20)} | {"distill/mix/m0.py": "\n" * 400})
    assert size_faults(tmp_path) == []
    _write(tmp_path, {"distill/mix/m0.py": "\n" * 401, "distill/mix/one_more.py": ""})
    assert size_faults(tmp_path) == [
        "distill/mix/m0.py has 401 lines, at most 400 are allowed",
        "distill/mix has 21 modules, at most 20",
    ]


def _write(root: Path, sources: Mapping[str, str]) -> None:
    for name, source in sources.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source, encoding="utf-8")
