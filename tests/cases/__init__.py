"""Small inputs like those that people reported about other retrieval tools; they lie outside the project."""

import os
from pathlib import Path

import pytest

REPORTED = Path(os.environ.get("POLYRAY_CASES", Path(__file__).parents[2].parent / "shared" / "cases"))


def case(name: str) -> Path:
    """Return the folder of a reported input; skip the test where it is absent."""
    folder = REPORTED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist (POLYRAY_CASES names the folder of reported inputs)")
    return folder
