"""Settings: what is refused and in which words, and which layer wins."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from distill.config import Config, ConfigError, load, merge
from distill.settings.score import BiEncoderTeacher


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--trin.learning_rate", "1"],
            "command line: no such setting --trin.learning_rate (did you mean --train.learning_rate?); --help lists them",
        ),
        (["--qqqq=1"], "command line: no such setting --qqqq; --help lists them"),
        (
            ["--train.steps", "0"],
            "train.steps: Input should be greater than or equal to 1 (got '0')",
        ),
        (["--languages", "en"], "languages holds the source language 'en'; list only the others"),
        (["--train.workers", "3"], "train: batch_size 64 is not a multiple of workers 3"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load([], arguments)
    assert str(caught.value) == message
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trin: {}", "trin: no such setting; --help lists them"),
        ("train: {step: 3}", "train.step: no such setting; --help lists them (got 3)"),
        ("- 1", "{file} holds a list, expected settings by name"),
        (
            "mix: {strategy: single}",
            "mix: strategy 'single' with language None: 'single' needs a language, the others take none",
        ),
    ],
)
def test_wrong_files(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([file])
    assert str(caught.value) == message.replace("{file}", str(file))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^configuration file lost\.yaml does not exist$"):
        load(["lost.yaml"])


def test_files_then_environment_then_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("seed: 1\ntrain: {steps: 11, log_every: 1, learning_rate: 0.5}")
    monkeypatch.setenv("POLYRAY_TRAIN__STEPS", "22")
    monkeypatch.setenv("POLYRAY_TRAIN__LOG_EVERY", "2")
    config = load([file], ["--train.steps", "33"])
    assert (config.seed, config.train.learning_rate, config.train.log_every, config.train.steps) == (1, 0.5, 2, 33)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_group_of_another_type_is_replaced_whole() -> None:
    below = {"by": {"type": "bm25", "k1": 1}, "n": 1}
    assert merge(below, {"by": {"type": "run", "path": "x"}}) == {"by": {"type": "run", "path": "x"}, "n": 1}
    assert merge(below, {"by": {"k1": 2}}) == {"by": {"type": "bm25", "k1": 2}, "n": 1}


def test_one_setting_of_a_choice_keeps_the_default_type() -> None:
    config = load([], ["--score.teacher.model", "x", "--select.by.top_k", "7"])
    assert isinstance(config.score.teacher, BiEncoderTeacher)
    assert (config.score.teacher.model, config.select.by.top_k) == ("x", 7)
