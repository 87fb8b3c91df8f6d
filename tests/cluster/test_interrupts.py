"""Signals in a process of its own: before, in and after its program."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE = "jobs/mtd.py: interrupted; the same command goes on from what is done\n"
PROGRAM = """
import os, signal, sys, time
from cluster import interrupts
sys.argv[0] = "jobs/mtd.py"
interrupts.begin()
def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
def action():
    {action}
{before}
from jobs.running.programs import run_program
code = run_program("jobs/mtd.py", action)
print("ended", flush=True)
sys.exit(code)
"""


def run(action: str = "pass", before: str = "", listen: bool = True) -> subprocess.CompletedProcess[str]:
    """A program in whose action, or before it, something happens."""
    source = PROGRAM.format(action=action.replace("\n", "\n    "), before=before)
    kind = signal.SIG_DFL if listen else signal.SIG_IGN
    return subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False, preexec_fn=lambda: signal.signal(signal.SIGINT, kind),
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_before_the_program_runs(number: str, code: int) -> None:
    """While its modules are imported, for example."""
    done = run(before=f"send(signal.{number})")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", LINE)


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_while_the_program_runs(number: str, code: int) -> None:
    done = run(f"send(signal.{number})\ntime.sleep(9)")
    assert (done.returncode, done.stdout, done.stderr) == (code, "ended\n", LINE)


@pytest.mark.parametrize(
    "library",
    [
        pytest.param("try: send(); time.sleep(9)\nexcept BaseException: pass", id="swallows the interruption"),
        pytest.param(
            "from cluster.errors import StageError\ntry: send(); time.sleep(9)\nexcept BaseException: raise StageError('actor')",
            id="makes another error of it",
        ),
        pytest.param(
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)); send(signal.SIGTERM)", id="exits by itself"
        ),
        pytest.param(
            "signal.signal(signal.SIGINT, lambda *_: None); send()", id="installs a handler that does nothing"
        ),
    ],
)
def test_a_library_that_keeps_the_interruption_for_itself(library: str) -> None:
    done = run(library)
    assert done.returncode == (143 if "SIGTERM" in library else 130)
    assert (done.stdout, done.stderr) == ("ended\n", LINE)


def test_what_ends_the_job_is_not_interrupted() -> None:
    """The first signal is kept for the end of the section; a third one does not wait for it."""
    section = "with interrupts.shielded():\n    send()\n    print('closed', flush=True)\nprint('not here', flush=True)"
    done = run(section)
    assert (done.returncode, done.stdout, done.stderr) == (130, "closed\nended\n", LINE)
    done = run(section.replace("send()", "send(); send(); send()"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", LINE)


def test_a_second_signal_changes_nothing() -> None:
    closing = (
        "try: send(); time.sleep(9)\nfinally:\n    with interrupts.shielded(): send(); print('closed', flush=True)"
    )
    done = run(closing)
    assert (done.returncode, done.stdout, done.stderr) == (130, "closed\nended\n", LINE)


def test_a_program_in_the_background_of_a_shell_is_not_interrupted() -> None:
    """A shell without job control lets its background ignore Ctrl-C, which is meant for the foreground."""
    done = run("send(); print('goes on', flush=True)", listen=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\nended\n", "")


def test_an_end_that_takes_too_long_is_cut_short() -> None:
    started = time.monotonic()
    done = run(
        "interrupts._LAST_S = 0.5\ntry: send(); time.sleep(9)\nfinally:\n    with interrupts.shielded(): time.sleep(30)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", LINE)
    assert time.monotonic() - started < 25


def test_the_handlers_of_before_come_back() -> None:
    from jobs.running.programs import run_program

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_program("x", lambda: None) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
