"""The command line of the jobs: options, configuration, help, plan, stages in order, report, exit codes."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from cluster.errors import UserError
from cluster.locations import shown
from cluster.session import Session
from cluster.stages import Runner, Stage
from cluster.storage import check_reachable, check_writable
from distill.config import Config
from distill.settings.describe import commented, details, overview
from distill.settings.load import ConfigError, JobConfig, load_as, no_such_setting
from jobs.running.programs import Parser, as_typed, help_width, program, run_program

CONFIGS = Path(__file__).parents[1] / "configs"
QUICKSTART = CONFIGS / "quickstart.yaml"
SOURCES = "sources"
"""The kind of the stages that read a source: what can be known of their data is checked when they end."""

C = TypeVar("C", bound=JobConfig)


@dataclass(frozen=True)
class Job(Generic[C]):
    """A configured job.

    Attributes:
        config: its configuration.
        stages: its stages, in an order in which each comes after its inputs.
        last: of a part of a job, the stages that it was asked for.
    """

    config: C
    stages: Sequence[Stage]
    last: Sequence[Stage] = ()

    def until(self, name: str) -> Self:
        """Return the job up to the stages `name`, with the stages that they depend on.

        Those are the stages called `name` or `name_...`; if there are none, all stages of the kind `name`. Raises ConfigError where the job
        has neither.
        """
        last = [stage for stage in self.stages if stage.name == name or stage.name.startswith(f"{name}_")]
        last = last or [stage for stage in self.stages if stage.kind == name]
        if not last:
            raise ConfigError(f"the job has no stage '{name}'; it has {', '.join(stage.name for stage in self.stages)}")
        wanted = {stage.name for stage in last}
        for stage in reversed(self.stages):
            if stage.name in wanted:
                wanted |= {needed.name for needed in stage.inputs}
        return replace(self, stages=[stage for stage in self.stages if stage.name in wanted], last=last)

    def print_plan(self, runner: Runner) -> None:
        """Print what would run and what would be reused."""
        raise NotImplementedError

    def check_service(self) -> None:
        """Check that the endpoint can start; raise UserError if not."""
        raise NotImplementedError

    def write_report(self, runner: Runner) -> None:
        """Report on the terminal and in the run's folder."""
        raise NotImplementedError

    def serve(self) -> None:
        """Serve searches with what the job made."""
        raise NotImplementedError


class Pipeline(Job[Config]):
    """A distillation: it ends with a student, an index and its evaluation."""

    def print_plan(self, runner: Runner) -> None:
        """Print stages, work, GPU-hours and price."""
        from jobs.running.plan import print_plan

        print_plan(self.config, self.stages, runner, self.config.plan)

    def check_service(self) -> None:
        """Check that the endpoint's port is free."""
        from serve.port import check_port

        check_port(self.config.serve.host, self.config.serve.port)

    def write_report(self, runner: Runner) -> None:
        """Report the quality of every system: on the terminal, as HTML, in the model card."""
        from jobs.running.finish import write_report

        write_report(self.config, runner)

    def serve(self) -> None:
        """Serve the student and its index."""
        from jobs.serve import serve_run

        serve_run(self.config)


@dataclass(frozen=True)
class Method(Generic[C]):
    """A method as a program.

    Attributes:
        name: the method's name, that of its script in jobs/.
        kind: its configuration.
        build: makes the job of a configuration.
        description: its help text.
        stages: the names of its stages, in order, for the help text.
        default: the configuration where the command line names none.
    """

    name: str
    kind: type[C]
    build: Callable[[C], Job[C]]
    description: str | None
    stages: str
    default: Path = QUICKSTART


def main(
    method: Method[Any], arguments: Sequence[str], *, script: str = "", until: str = "", description: str | None = None
) -> int:
    """Run a method from its command line; return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    Args:
        method: the method.
        arguments: the command line, without the program.
        script: the script that runs it; empty: the method's own.
        until: the last stage of that script, see `Job.until`; empty: all stages, then the report.
        description: that script's help text.
    """
    script = script or method.name

    def action() -> None:
        parser = options_parser(script, until=not until)
        options, settings = parser.parse_known_args(arguments)
        if options.help is not None:
            text = help_text(method, parser, description or method.description or "")
            print(text if not options.help else group_help(method.kind, options.help))
            return
        files = [find_config(name) for name in options.config or ()] or [method.default]
        config = load_as(method.kind, files, settings, program(script))
        if options.print_config:
            print(commented(config), end="")
            return
        last = until or options.until
        if last and options.serve:
            raise ConfigError("--serve needs all stages; leave out --until, or run the whole job")
        if not options.plan:
            print(f"job '{config.name}', storage {shown(config.storage)}", flush=True)
        check_reachable(config.storage)
        job = method.build(config)
        run(job.until(last) if last else job, plan=options.plan, report=not last, serve=options.serve)

    return run_program(program(script), action)


def run(job: Job[Any], *, plan: bool = False, report: bool = True, serve: bool = False) -> None:
    """Check what the job asks for, run its stages in order, report, and serve if asked."""
    config = job.config
    with Session(config.cluster.address, config.cluster.num_cpus) as session:
        runner = Runner(config.storage, session, config.max_rejected)
        if plan:
            job.print_plan(runner)
            runner.check(job.stages)
            return
        check_writable(config.storage)
        if serve and session.local:
            job.check_service()
        runner.check(job.stages)
        waiting = [stage for stage in job.stages if not runner.skipped(stage) and runner.finished(stage) is None]
        uses_ray = any(stage.uses_ray for stage in waiting)
        print(
            f"{len(waiting)} of {len(job.stages)} stages to run{f' on {session.place}' if uses_ray else ''}", flush=True
        )
        session.check([need for stage in waiting for need in stage.needs], autoscales=config.cluster.autoscales)
        for position, stage in enumerate(job.stages):
            if runner.skipped(stage):
                continue
            result = runner.run(stage)
            if stage.kind == SOURCES:
                rest = job.stages[position + 1 :]
                if not result.reused:
                    runner.check(rest)
                print_skipped(runner, rest)
                if not report and (why := runner.skipped(job.stages[-1])):
                    raise UserError(f"stage '{job.stages[-1].name}' has nothing to do: {why}")
        if report:
            job.write_report(runner)
        else:
            from jobs.running.results import print_outputs

            print_outputs(runner, job.last)
    if serve:
        job.serve()


def print_skipped(runner: Runner, stages: Sequence[Stage]) -> None:
    """Print which stages have nothing to do, and why."""
    whys: dict[str, list[str]] = {}
    for stage in stages:
        if why := runner.skipped(stage):
            whys.setdefault(why, []).append(stage.name)
    for why, names in whys.items():
        print(f"left out: {', '.join(names)}: {why}", flush=True)


def find_config(name: str) -> Path:
    """Return the file of a configuration: a file, or the name of a shipped one, such as `td_zh`."""
    shipped = CONFIGS / f"{name}.yaml"
    return shipped if "/" not in name and shipped.is_file() and not Path(name).exists() else Path(name)


def options_parser(script: str, *, until: bool) -> Parser:
    """Return the parser of the options that all jobs share; what it leaves are settings. `until`: whether it can be run whole."""
    words = [
        "[--config FILE ...]",
        "[--plan]",
        *(["[--until STAGE]", "[--serve]"] if until else []),
        "[--SETTING VALUE ...]",
    ]
    parser = Parser(
        prog=program(script), add_help=False, allow_abbrev=False, usage=f"{program(script)} {' '.join(words)}"
    )
    add = parser.add_argument
    add(
        "--config",
        action="append",
        metavar="FILE",
        help="YAML, or the name of a shipped one (td_zh); of several the later wins",
    )
    add("--plan", action="store_true", help="print what would run and what would be reused, and stop")
    if until:
        add(
            "--until",
            metavar="STAGE",
            help="run up to this stage only, with the stages that it needs, without a report",
        )
        add("--serve", action="store_true", help="end by serving the search endpoint")
    else:
        parser.set_defaults(until=None, serve=False)
    add("--print-config", action="store_true", help="print the resolved configuration as YAML with comments, and stop")
    add(
        "-h",
        "--help",
        nargs="?",
        const="",
        metavar="GROUP",
        help="this text; with a group or setting, all of it: --help score.pool",
    )
    return parser


def help_text(method: Method[Any], parser: argparse.ArgumentParser, description: str) -> str:
    """Return a job's help: what it does, options, stages, settings in one line each."""
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, max_help_position=22, width=help_width())
    options = re.sub(r"\n\n(options|optional arguments):\n", "\n\n", parser.format_help().strip())
    default = method.default.relative_to(CONFIGS.parents[1])
    return (
        f"{as_typed(description).strip()}\n\n{options}\n\nstages: {method.stages}\n\n"
        f"Settings and groups of settings. Without --config they start from {default}. Later ones win: files, variables\n"
        f"(POLYRAY_TRAIN__STEPS=9), the command line (--train.steps 9).\n{overview(method.kind, help_width())}"
    )


def group_help(kind: type[JobConfig], path: str) -> str:
    """Return the help on a group of settings or on one setting. Raises ConfigError where there is none of that name."""
    text = details(kind, path, help_width())
    if text is None:
        raise ConfigError(no_such_setting([path], kind))
    return f"{text}\n\nOn the command line --no-NAME sets a switch to false and the value None stands for none; in YAML false and null do."
