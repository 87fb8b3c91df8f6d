"""The command line of the jobs: configuration, plan, stages in order, report; errors of the user's in one line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from cluster.errors import UserError, report_error
from cluster.session import Session
from cluster.stages import Runner, Stage
from cluster.storage import check_writable
from distill.config import Config
from distill.settings.load import JobConfig, load_as

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


C = TypeVar("C", bound=JobConfig)


@dataclass(frozen=True)
class Job(Generic[C]):
    """A configured job: its stages in an order in which each comes after its inputs."""

    config: C
    stages: Sequence[Stage]

    def until(self, name: str) -> Self:
        """The job up to the stages `name` (or `name_...`): those and what they depend on."""
        wanted: set[str] = set()
        for stage in reversed(self.stages):
            if stage.name == name or stage.name.startswith(f"{name}_") or stage.name in wanted:
                wanted |= {stage.name, *(needed.name for needed in stage.inputs)}
        return replace(self, stages=[stage for stage in self.stages if stage.name in wanted])

    def print_plan(self, runner: Runner) -> None:
        """Say what would run and what would be reused."""
        raise NotImplementedError

    def check_service(self) -> None:
        """Refuse an endpoint that cannot be had, before anything runs."""
        raise NotImplementedError

    def write_report(self, runner: Runner) -> None:
        """Say how it went, on the terminal and in the run's folder."""
        raise NotImplementedError

    def serve(self) -> None:
        """Answer searches with what the job made."""
        raise NotImplementedError


class Pipeline(Job[Config]):
    """A distillation: it ends with a student, an index and its evaluation."""

    def print_plan(self, runner: Runner) -> None:
        """Stages, work, GPU-hours and price."""
        from jobs.running.plan import print_plan

        print_plan(self.config, self.stages, runner, self.config.plan)

    def check_service(self) -> None:
        """The endpoint's port must be free."""
        from serve.launch import check_port

        check_port(self.config.serve.host, self.config.serve.port)

    def write_report(self, runner: Runner) -> None:
        """Quality of every system, HTML report, model card."""
        from jobs.running.finish import write_report

        write_report(self.config, runner)

    def serve(self) -> None:
        """The student and its index."""
        from jobs.serve import serve_run

        serve_run(self.config)


def main(
    build: Callable[[Config], Pipeline],
    file: str,
    description: str | None,
    until: str | None = None,
    default: Path = QUICKSTART,
) -> None:
    """`main_of` a distillation."""
    main_of(Config, build, file, description, until, default)


def main_of(
    kind: type[C], build: Callable[[C], Job[C]], file: str, description: str | None, until: str | None, default: Path
) -> None:
    """Run a job from its command line and exit: 0 done, 1 failed, 2 wrong usage.

    Args:
        kind: the job's configuration.
        build: makes the job of a configuration.
        file: the job's script, for messages.
        description: its help text.
        until: the last stage to run, see `Job.until`; None runs all, then reports.
        default: the configuration where the command line names none.
    """
    program = f"jobs/{Path(file).name}"
    try:
        options, rest = _options(program).parse_known_args()
        if {"-h", "--help"} & set(rest):
            print(f"{description}\n")
            _options(program).print_help()
            print("\nEvery setting, with its meaning and default:\n")
        config = load_as(kind, options.config or [default], rest, program)
        job = build(config)
        run(job.until(until) if until else job, plan=options.plan, report=until is None, serve=options.serve)
    except UserError as error:
        sys.exit(report_error(program, error))
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; the same command goes on from what is done", file=sys.stderr)
        sys.exit(130)


def run(job: Job[Any], *, plan: bool = False, report: bool = True, serve: bool = False) -> None:
    """Check what the job asks for, run its stages in order, report, and serve if asked."""
    config = job.config
    with Session(config.cluster.address, config.cluster.num_cpus) as session:
        runner = Runner(config.storage, session, config.max_rejected)
        if plan:
            job.print_plan(runner)
            return
        check_writable(config.storage)
        if serve and session.local:
            job.check_service()
        waiting = [stage for stage in job.stages if runner.finished(stage) is None]
        session.check([need for stage in waiting for need in stage.needs], autoscales=config.cluster.autoscales)
        for stage in job.stages:
            runner.run(stage)
        if report:
            job.write_report(runner)
    if serve:
        job.serve()


def _options(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        add_help=False,
        allow_abbrev=False,
        usage=f"{program} [--config FILE ...] [--plan] [--serve] [--SETTING VALUE ...]",
    )
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="YAML file; may be repeated, later ones win (default: the job's own for the bundled corpus)",
    )
    parser.add_argument("--plan", action="store_true", help="print what would run and what would be reused, and stop")
    parser.add_argument("--serve", action="store_true", help="end by serving the search endpoint")
    return parser
