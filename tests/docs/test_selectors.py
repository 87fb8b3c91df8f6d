"""The examples of docs/selectors.md load."""

import re
from pathlib import Path

import pytest

from distill.config import load

DOCUMENT = (Path(__file__).parents[2] / "docs/selectors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("text", BLOCKS)
def test_examples_load(text: str, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(text, encoding="utf-8")
    load([tmp_path / "example.yaml"])


def test_every_selector_is_described() -> None:
    from distill.select.settings import (
        Bm25Selector,
        DenseSelector,
        LateInteractionSelector,
        RunSelector,
        ScoredSelector,
    )

    for kind in (Bm25Selector, DenseSelector, LateInteractionSelector, RunSelector, ScoredSelector):
        assert f"| `{kind.model_fields['type'].default}` |" in DOCUMENT
