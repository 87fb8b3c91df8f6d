#!/usr/bin/env python3
"""What Ctrl-C and SIGTERM do at every moment of a small job: exit code, what is said, what is left running, and that the job goes on.

    python benchmarks/interrupts.py            # a table in Markdown; about 20 minutes on two cores

One job is interrupted again and again, at later and later moments: each run goes on from what the one before has done. The signal goes to
the whole process group, as a terminal sends it. benchmarks/interrupts.md has the results.
"""

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from distill.models.locate import BUNDLED_TEACHER, locate
from tests.jobs_small import AFTER_TRAINING, STAGES, Driver, SmallJob, descendants, survivors, write_teacher

LIMIT_S = 240.0
GONE_S = 15.0
SAID = re.compile(r"^jobs/mtd\.py: interrupted; the same command goes on from what is done$", re.MULTILINE)
Condition = Callable[[Driver, SmallJob], object]


@dataclass(frozen=True)
class Moment:
    """When a signal is sent.

    Attributes:
        name: in words.
        when: whether it has come.
        arguments: of the command line, besides the configuration.
    """

    name: str
    when: Condition
    arguments: tuple[str, ...] = ()


def after(seconds: float) -> Moment:
    """Return the moment so many seconds after the start."""
    begun: dict[int, float] = {}
    return Moment(
        f"{seconds:g} s after the start",
        lambda driver, _: time.monotonic() - begun.setdefault(driver.pid, time.monotonic()) >= seconds,
    )


def in_ray_start(process: str) -> Moment:
    """Return the moment in which a process of a local Ray appears."""
    return Moment(
        f"Ray starts: {process}",
        lambda driver, _: any(process in command for command in descendants(driver.pid).values()),
    )


def in_stage(stage: str) -> Moment:
    """Return the moment in which a stage has begun and not ended."""

    def begun(_: Driver, job: SmallJob) -> bool:
        folders = [Path(folder) for folder in job.stage_folders(stage)]
        return any((f / "settings.json").exists() and not (f / "manifest.json").exists() for f in folders)

    return Moment(f"stage {stage}", begun)


def in_training(what: str, when: Condition) -> Moment:
    """Return a moment of the training."""
    return Moment(f"training: {what}", when)


def has_worker(driver: Driver, _: SmallJob) -> bool:
    """Return whether a training worker runs."""
    return any("TrainWorker" in command for command in descendants(driver.pid).values())


def has_checkpoint(_: Driver, job: SmallJob) -> bool:
    """Return whether the training wrote a checkpoint."""
    return any(list(Path(folder).glob("ray_train/step-*")) for folder in job.stage_folders("train"))


def printed(text: str) -> Condition:
    """Return the condition that a job printed a text."""
    return lambda driver, _: text in driver.read().out


def moments() -> list[Moment]:
    """Return the moments, in the order in which a job meets them."""
    before = STAGES[: STAGES.index("train")]
    serving = ("--serve", "--serve.port", "18765")
    return [
        *(after(seconds) for seconds in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)),
        in_ray_start("gcs_server"),
        in_ray_start("raylet/raylet"),
        *(in_stage(stage) for stage in before),
        in_stage("train"),
        in_training("its worker", has_worker),
        in_training("after a checkpoint", has_checkpoint),
        *(in_stage(stage) for stage in AFTER_TRAINING[1:]),
        Moment("the report", printed("evaluate  ")),
        Moment("the endpoint starts", printed("starting the endpoint"), serving),
        Moment("serving", printed("serving "), serving),
    ]


def strike(job: SmallJob, moment: Moment, kind: str) -> list[str]:
    """Run the job, send the signals at a moment, and return a row of the table."""
    driver = job.start(*moment.arguments, terminal=True)
    number = signal.SIGTERM if kind == "SIGTERM" else signal.SIGINT
    deadline = time.monotonic() + LIMIT_S
    while driver.running and not moment.when(driver, job) and time.monotonic() < deadline:
        time.sleep(0.003)
    if not driver.running:
        found = driver.read()
        return [moment.name, kind, "ended before", str(found.code), "", "", ""]
    family = descendants(driver.pid)
    started = time.monotonic()
    driver.interrupt(number)
    if kind == "twice":
        time.sleep(0.3)
        if driver.running:
            driver.interrupt(number)
    found = driver.wait(LIMIT_S)
    seconds = time.monotonic() - started
    left = survivors(family, GONE_S)
    said = "the line" if SAID.search(found.err) and "Traceback" not in found.err else found.err.strip()[-300:]
    last = "yes" if found.err.strip().endswith("the same command goes on from what is done") else "no"
    return [
        moment.name,
        kind,
        str(found.code),
        said,
        last,
        f"{seconds:.1f}",
        ", ".join(name.split()[0].rpartition("/")[2] for name in left.values()) or "0",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only moments whose name has this text")
    parser.add_argument("--kinds", default="Ctrl-C,SIGTERM,twice", help="kinds of signals")
    options = parser.parse_args()
    print(
        "| moment | signal | exit code | stderr | the line is last | seconds to the end | processes left |\n|---|---|---|---|---|---|---|"
    )
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory(prefix="interrupts", ignore_cleanup_errors=True) as folder:
            teacher = Path(folder) / "teacher"
            write_teacher(teacher, Path(locate(BUNDLED_TEACHER)), hidden=64, layers=2)
            job = SmallJob(Path(folder), teacher)
            for moment in moments():
                if options.only in moment.name:
                    print("| " + " | ".join(strike(job, moment, kind)) + " |", flush=True)
            finished = job.run()
            print(f"| the same command | {kind} before | {finished.code} | | | {finished.seconds:.1f} | |", flush=True)


if __name__ == "__main__":
    main()
