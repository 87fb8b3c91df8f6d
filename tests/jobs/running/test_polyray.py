"""The command `polyray`: every script is a subcommand, and messages name it as it was typed. Installed: `tests/test_wheel.py`."""

import sys
from pathlib import Path

import pytest

from jobs.running import polyray

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["trian"], 2, "polyray: there is no command 'trian'; there are mtd, td, arm, maml_align, sources,"),
        (["serve"], 2, "polyray serve: --run is missing: give the folder of a run"),
        (["export", "scores", "--format", "trec", "--out", "x"], 2, "polyray export: name the job by --run FOLDER or"),
        (["init_student"], 2, "polyray init_student: the following arguments are required: --out"),
    ],
)
def test_messages_name_the_command(
    arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/polyray", *arguments])
    assert polyray.run(arguments) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith(said)


def test_every_script_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And help shows its examples with the command."""
    scripts = {file.stem for file in (ROOT / "jobs").glob("*.py")} - {"__init__"}
    assert set(polyray.SCRIPTS) == scripts
    assert len(polyray.SCRIPTS) == len(scripts)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/polyray", "arm", "--help"])
    assert polyray.run(["arm", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "\npolyray arm --plan " in shown
    assert "usage: polyray arm [--config FILE ...]" in shown
    assert polyray.run([]) == 0
    shown = capsys.readouterr().out
    assert [name for name in scripts if f"\n  {name:<13} " not in shown] == []
