#!/usr/bin/env python3
"""Make the meta-tasks of MAML-Align and show some, with the stages that this needs.

python jobs/tasks.py --tasks.mode mixed --method maml
python jobs/tasks.py --config my.yaml --show 5     # print the first five tasks of every mode, of the first fold (default: 3)

The same settings and storage as jobs/maml_align.py, so that nothing is computed twice.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from cluster import interrupts

    interrupts.begin()

from cluster.stages import Runner
from cluster.storage import open_storage
from distill.meta.config import MetaConfig
from distill.settings.load import ConfigError
from jobs.maml_align import METHOD, MetaPipeline, pipeline
from jobs.running.command import main as run_method
from jobs.running.programs import Parser, program, run_program


@dataclass(frozen=True)
class TaskPipeline(MetaPipeline):
    """A meta-learning up to its tasks. Its report is some of them."""

    show: int = 3

    def write_report(self, runner: Runner) -> None:
        """Print the first tasks of every mode, those of the first fold that is run."""
        from distill.meta.tasks.readable import readable

        number = self.config.tasks.wanted_folds(self.config.source.kind)[0]
        for stage in self.stages:
            if stage.name.startswith("tasks_") and stage.name.endswith(f"_{number}"):
                table = runner.table(stage, stage.rows)
                folder = f"{open_storage(runner.storage)[1]}/{stage.folder}/{stage.rows}"
                print(f"\n{stage.name}: {len(table)} tasks in {folder}")
                for row in table.read(0, self.show).to_pylist():
                    print(f"\n{readable(row)}")


def take_show(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Return the number after `--show` on a command line, 3 where there is none, and the other arguments."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--show", type=int, default=3, metavar="N")
    options, rest = parser.parse_known_args(arguments)
    if options.show < 0:
        raise ConfigError(f"--show {options.show}: give a number of tasks, 0 or more")
    return options.show, rest


def main(arguments: Sequence[str]) -> int:
    """Run the job up to its tasks and show some; return the exit code."""
    taken: list[tuple[int, list[str]]] = []
    code = run_program(program("tasks"), lambda: taken.append(take_show(arguments)))
    if not taken:
        return code
    show, rest = taken[0]

    def up_to_tasks(config: MetaConfig) -> TaskPipeline:
        whole = pipeline(config).until("tasks")
        return TaskPipeline(whole.config, whole.stages, show=show)

    return run_method(replace(METHOD, build=up_to_tasks), rest, script="tasks", description=__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
