"""Errors of the user's: one line, an exit code, and every class of the project among them."""

import importlib
import pkgutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import StageError, StorageError, UserError, how_to_install, one_line, report_error, visible
from cluster.locations import SourceError
from cluster.quarantine import ShardError
from cluster.session import SessionError
from distill.config import Config
from distill.index.reading import CorruptIndexError
from distill.measures.metrics import MetricsError
from distill.models.locate import ModelError
from distill.score.report.suspicions import SuspiciousTeacherError
from distill.settings.load import ConfigError
from distill.tables import TableError
from distill.train.objective import LossError
from distill.train.trainer import TrainingError
from distill.translate.engines.interface import TranslatorError
from jobs.mtd import METHOD
from jobs.running.command import Method, Pipeline, main
from serve.errors import ServeError

FAILED = [
    StorageError, ShardError, SessionError, StageError, SourceError, TableError, MetricsError, ModelError,
    SuspiciousTeacherError, TranslatorError, TrainingError, LossError, CorruptIndexError, ServeError,
]  # fmt: skip

CAUGHT = {
    "MissingFieldError": "becomes the fault of a whole source",
    "RowError": "becomes a rejected row",
    "TooFewError": "becomes a rejected query",
    "_AnswerError": "is tried again",
    "_KeyFault": "becomes a ConfigError",
    "_Passing": "is tried again",
    "BadRequestError": "becomes the answer to an HTTP request",
    "SearchError": "is for programs that use the client",
}
"""Error classes that no command ever shows."""


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", FAILED)
def test_what_fails_exits_with_1(kind: type[UserError]) -> None:
    assert issubclass(kind, UserError)
    assert kind("said").exit_code == 1
    assert str(kind("said")) == "said"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain id-1", "plain id-1"),
        ("\ufeffp3", r"\ufeffp3"),
        ("q\u00a01 \u200d \u202ex \x00", r"q\xa01 \u200d \u202ex \x00"),
        ("\u3164\ufe0f\U000e0100\ud83d", r"\u3164\ufe0f\U000e0100\ud83d"),
        ("Müller 中文 می‌روم", r"Müller 中文 می\u200cروم"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert one_line(ValueError(f" {text}\n more\t ")) == f"{shown} more"


def test_a_wrong_configuration_exits_with_2() -> None:
    assert ConfigError("said").exit_code == 2


def test_every_error_class_is_a_user_error_or_is_caught() -> None:
    named: dict[str, type[Exception]] = {}
    for name in ("cluster", "distill", "serve", "jobs"):
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            for value in vars(importlib.import_module(module.name)).values():
                ours = isinstance(value, type) and issubclass(value, Exception) and value.__module__.startswith(name)
                if ours and not issubclass(value, UserError):
                    named[value.__name__] = value
    assert set(named) == set(CAUGHT)


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLYRAY_TRACEBACK", raising=False)
    assert report_error("jobs/x.py", TableError("a column\n  is missing ")) == 1
    assert report_error("jobs/x.py", ConfigError("no such setting")) == 2
    assert report_error("jobs/x.py", OSError("no space left")) == 1
    said = capsys.readouterr()
    assert said.err == "jobs/x.py: a column is missing\njobs/x.py: no such setting\njobs/x.py: no space left\n"
    assert said.out == ""


def test_the_trace_is_shown_if_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRAY_TRACEBACK", "1")
    with pytest.raises(UserError) as caught:
        raise ConfigError("no such setting")
    assert report_error("jobs/x.py", caught.value) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "distill.settings.files.ConfigError: no such setting"


def failing(error: Exception) -> Method[Config]:
    def build(_: Config) -> Pipeline:
        raise error

    return replace(METHOD, build=build)


def test_a_job_ends_with_its_stages_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And an error that is not the user's comes through with its trace."""
    arguments = ["--storage", str(tmp_path)]
    assert main(failing(StageError("stage 'score' failed:\n no GPU")), arguments) == 1
    assert capsys.readouterr().err == "jobs/mtd.py: stage 'score' failed: no GPU\n"
    with pytest.raises(ZeroDivisionError):
        main(failing(ZeroDivisionError()), arguments)


def test_an_extra_is_installed_in_two_ways() -> None:
    assert how_to_install("mt") == "pip install 'polyray[mt]', in a checkout pip install -e '.[mt]'"


def test_errors_are_cheap_to_import() -> None:
    code = "import sys, cluster.errors; print(sorted({'ray', 'torch', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["jobs/mtd.py", "--train.learning_rat", "1"],
            2,
            "jobs/mtd.py: command line: no such setting --train.learning_rat (did you mean --train.learning_rate?); --help lists them",
        ),
        (
            ["jobs/mtd.py", "--score.teacher.model", "bundled:giant"],
            1,
            "jobs/mtd.py: no model is bundled as 'bundled:giant'; there are 'bundled:all-MiniLM-L6-v2' and 'bundled:student'",
        ),
        (
            ["jobs/export.py", "scores", "--run", "gs://bucket/runs/x", "--format", "trec", "--out", "x"],
            1,
            "jobs/export.py: storage gs://bucket/runs/x: gs:// is not supported; give a local path or s3://bucket/key",
        ),
        (["jobs/export.py", "student", "--format", "hf_colbert", "--out", "x"], 2, "jobs/export.py: name the student by "),
        (["jobs/serve.py"], 2, "jobs/serve.py: --run is missing: give the folder of a run, such as polyray-data/runs/mtd"),
    ],
)  # fmt: skip
def test_commands_end_with_the_code_and_the_line_of_their_error(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    script, *rest = arguments
    storage = ["--storage", str(tmp_path)] if script == "jobs/mtd.py" else []
    found = subprocess.run(
        [sys.executable, str(ROOT / script), *rest, *storage], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == code, found.stderr
    begun = f"job 'quickstart', storage {tmp_path}\n" if code == 1 and storage else ""
    assert found.stdout == begun
    assert found.stderr.startswith(said)
    assert found.stderr.count("\n") == 1
