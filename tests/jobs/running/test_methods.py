"""The stage scripts find the method that a configuration is for."""

import importlib
from pathlib import Path

import pytest

from jobs.running.methods import find_method

CONFIGS = Path(__file__).parents[3] / "jobs" / "configs"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_configuration(file: Path) -> None:
    """Translate-Distill is planned by mtd, whose stages are its own."""
    method = file.stem.split("_")[0]
    expected = {"arm": "arm", "maml": "maml_align"}.get(method, "mtd")
    assert find_method([str(file)], []).name == expected
    assert find_method([file.stem], []).name == expected


@pytest.mark.parametrize(
    ("content", "settings", "variable", "name"),
    [
        ("", [], None, "mtd"),
        ("", ["--method", "self_distillation"], None, "arm"),
        ("", ["--method=maml"], None, "maml_align"),
        ("", ["--method", "maml", "--method", "distillation"], None, "mtd"),
        ("", [], "fine_tune", "maml_align"),
        ("method: self_distillation", [], None, "arm"),
        ("method: self_distillation", ["--method", "translate_train"], None, "mtd"),
        ("tasks: {shots: 2}", [], None, "maml_align"),
        ("[1]", [], None, "mtd"),
    ],
)
def test_by_method_and_by_settings_that_one_alone_has(
    content: str, settings: list[str], variable: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv("POLYRAY_METHOD", variable)
    (tmp_path / "job.yaml").write_text(content)
    assert find_method([str(tmp_path / "job.yaml")], settings).name == name


@pytest.mark.parametrize(
    ("script", "arguments", "stages"),
    [
        ("train", ["--config", "td"], ["sources", "translate", "select", "score", "calibrate", "mix", "train"]),
        ("train", ["--config", "arm"], ["sources", "translate", "select", "mix", "train"]),
        ("train", ["--method", "self_distillation"], ["sources", "translate", "select", "mix", "train"]),
        ("mine", ["--config", "arm"], ["sources", "select"]),
        ("sources", ["--config", "maml_align"], ["meta_sources"]),
        (
            "train",
            ["--config", "maml_align", "--tasks.run_folds", "0", "--baselines", "zero_shot"],
            ["meta_sources", "meta_start", "tasks_mono_bi_multi_0", "train_maml_align_0"],
        ),
    ],
)
def test_a_stage_script_plans_the_stages_of_the_method(
    script: str, arguments: list[str], stages: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And they are those of the method's own script: the same digests."""
    module = importlib.import_module(f"jobs.{script}")
    storage = ["--storage", str(tmp_path), "--plan"]
    assert module.main([*arguments, *storage]) == 0
    planned = capsys.readouterr().out.splitlines()[1:-1]
    assert [line.split()[0] for line in planned] == stages
    named = "--config" in arguments
    method, settings = (arguments[1], arguments[2:]) if named else ("arm", [])
    assert importlib.import_module(f"jobs.{method}").main([*settings, *storage]) == 0
    whole = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in planned if line.split() not in whole] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "lost.yaml"], "configuration file lost.yaml does not exist"),
        (["--config", "arm", "--until", "mix"], "command line: no such setting --until"),
        (["--config"], "argument --config: expected one argument; --help lists the options"),
    ],
)
def test_faults_are_one_line_of_the_script(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importlib.import_module("jobs.mix").main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"jobs/mix.py: {message}")
    assert said.count("\n") == 1
