"""Small checkpoints of every family, made once."""

from pathlib import Path

import pytest

from tests.distill.translate import checkpoints

FAMILIES = ("marian", "marian_several", "marian_trained", "nllb", "m2m100", "t5", "t5_tied", "mt5")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each family in `FAMILIES`, by name. Their translations are nonsense, and differ from sentence to sentence."""
    root = tmp_path_factory.mktemp("translation_models")
    return {
        "marian": checkpoints.save_marian(root / "marian"),
        "marian_several": checkpoints.save_marian(root / "marian_several", ("deu", "fra", "cmn_Hans")),
        "marian_trained": checkpoints.save_marian(root / "marian_trained", moved_padding=True),
        "nllb": checkpoints.save_nllb(root / "nllb"),
        "m2m100": checkpoints.save_m2m100(root / "m2m100"),
        "t5": checkpoints.save_t5(root / "t5"),
        "t5_tied": checkpoints.save_t5(root / "t5_tied", tied=True),
        "mt5": checkpoints.save_t5(root / "mt5", kind="mt5"),
    }
