"""The command line of the jobs: configuration, plan, stages in order, report; errors of the user's in one line."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.session import Session, SessionError
from cluster.stages import Runner, Stage, StageError
from cluster.storage import StorageError, check_writable
from distill.config import Config, ConfigError, load
from distill.models import ModelError
from distill.tables import TableError

QUICKSTART = Path(__file__).parent / "configs" / "quickstart.yaml"


@dataclass(frozen=True)
class Pipeline:
    """A configured job: its stages in an order in which each comes after its inputs."""

    config: Config
    stages: Sequence[Stage]

    def until(self, name: str) -> "Pipeline":
        """The job up to the stage `name`: that stage and what it depends on."""
        wanted: set[str] = set()
        for stage in reversed(self.stages):
            if stage.name == name or stage.name in wanted:
                wanted |= {stage.name, *(needed.name for needed in stage.inputs)}
        return Pipeline(self.config, [stage for stage in self.stages if stage.name in wanted])


def main(
    build: Callable[[Config], Pipeline],
    file: str,
    description: str | None,
    until: str | None = None,
    default: Path = QUICKSTART,
) -> None:
    """Run a job from its command line and exit: 0 done, 1 failed, 2 wrong usage.

    Args:
        build: makes the job of a configuration.
        file: the job's script, for messages.
        description: its help text.
        until: the last stage to run; None runs all, then reports.
        default: the configuration where the command line names none.
    """
    program = f"jobs/{Path(file).name}"
    try:
        options, rest = _options(program).parse_known_args()
        if {"-h", "--help"} & set(rest):
            print(f"{description}\n")
            _options(program).print_help()
            print("\nEvery setting, with its meaning and default:\n")
        config = load(options.config or [default], rest, program)
        job = build(config)
        run(job.until(until) if until else job, plan=options.plan, report=until is None, serve=options.serve)
    except ConfigError as error:
        sys.exit(_fail(program, error, 2))
    except Exception as error:
        if not isinstance(error, _expected_errors()) or os.environ.get("POLYRAY_TRACEBACK"):
            raise
        sys.exit(_fail(program, error, 1))
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; the same command goes on from what is done", file=sys.stderr)
        sys.exit(130)


def run(job: Pipeline, *, plan: bool = False, report: bool = True, serve: bool = False) -> None:
    """Check what the job asks for, run its stages in order, report, and serve if asked."""
    config = job.config
    with Session(config.cluster.address, config.cluster.num_cpus) as session:
        runner = Runner(config.storage, session, config.max_rejected)
        if plan:
            from jobs.plan import print_plan

            print_plan(job.config, job.stages, runner)
            return
        check_writable(config.storage)
        if serve and session.local:
            from serve.app import check_port

            check_port(config.serve.host, config.serve.port)
        waiting = [stage for stage in job.stages if runner.finished(stage) is None]
        session.check([need for stage in waiting for need in stage.needs], autoscales=config.cluster.autoscales)
        for stage in job.stages:
            runner.run(stage)
        if report:
            from jobs.reporting import write_report

            write_report(config, runner)
    if serve:
        from jobs.serve import serve_run

        serve_run(config)


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


_LAZY_ERRORS = (
    ("distill.readers", "SourceError"),
    ("distill.training", "TrainingError"),
    ("distill.metrics", "MetricsError"),
    ("serve.index", "CorruptIndexError"),
    ("serve.app", "ServeError"),
)


def _expected_errors() -> tuple[type[Exception], ...]:
    """Errors that say themselves what to do. Those of heavy modules count only if the module was loaded."""
    found: list[type[Exception]] = [ConfigError, StageError, SessionError, StorageError, ModelError, TableError]
    found += [getattr(sys.modules[module], name) for module, name in _LAZY_ERRORS if module in sys.modules]
    return tuple(found)


def _fail(program: str, error: BaseException, code: int) -> int:
    text = re.sub(r"\s+", " ", str(error)).strip()
    print(f"{program}: {text}", file=sys.stderr)
    return code
