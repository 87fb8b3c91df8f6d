"""The public names of the Python API."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import distill
from distill.encoders.checkpoints import load_encoder
from distill.train import losses

ROOT = Path(distill.__file__).parents[1]
SOURCE = Path(distill.__file__).read_text(encoding="utf-8")


def fresh(code: str) -> str:
    """Return what code prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, distill; print(sorted({'numpy', 'pyarrow', 'pydantic', 'ray', 'torch'} & set(sys.modules)))"
    assert fresh(code) == "[]\n"


def test_no_public_name_needs_ray() -> None:
    code = "import sys; sys.modules['ray'] = None; import distill; print(all(getattr(distill, n) for n in distill.__all__))"
    assert fresh(code) == "True\n"


def test_names_are_those_of_their_modules() -> None:
    assert distill.load_encoder is load_encoder
    assert distill.losses is losses
    assert distill.losses.kl_divergence is losses.kl_divergence


def test_type_checkers_see_the_same_names_of_the_same_modules() -> None:
    imports = {}
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distill."):
            imports |= {alias.name: node.module for alias in node.names}
    modules = {
        name: module.removesuffix(f".{name}") if module.endswith(f".{name}") else module
        for name, module in distill._MODULES.items()
    }
    assert imports == modules
    assert sorted(imports) == distill.__all__
    assert set(distill.__all__) <= set(dir(distill))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'distill' has no attribute 'load_decoder'$"):
        distill.load_decoder  # noqa: B018
