#!/usr/bin/env python3
"""The meta-tasks of jobs/maml_align.py alone, with the stages that they need: same settings, same storage, nothing done twice.

python jobs/tasks.py --tasks.mode mixed --method maml
python jobs/tasks.py --config my.yaml --show 5     # prints the first five tasks of every mode, of the first fold (default 3)
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster.stages import Runner
from cluster.storage import open_storage
from distill.meta.config import MetaConfig
from jobs.maml_align import DEFAULT, MetaPipeline, pipeline


@dataclass(frozen=True)
class TaskPipeline(MetaPipeline):
    """A meta-learning up to its tasks. Its report is some of them."""

    show: int = 3

    def write_report(self, runner: Runner) -> None:
        """Print the first tasks of every mode, those of the first fold that is run."""
        from cluster.stored_table import StoredTable
        from distill.meta.tasks.readable import readable

        filesystem, root = open_storage(runner.storage)
        number = self.config.tasks.wanted_folds(self.config.source.kind)[0]
        for stage in self.stages:
            if stage.name.startswith("tasks_") and stage.name.endswith(f"_{number}"):
                table = StoredTable.open(filesystem, f"{root}/{stage.folder}/{stage.rows}")
                print(f"\n{stage.name}: {len(table)} tasks in {root}/{stage.folder}/{stage.rows}")
                for row in table.read(0, self.show).to_pylist():
                    print(f"\n{readable(row)}")


def shown() -> int:
    """The number after `--show` on the command line, which is taken from it."""
    parser = argparse.ArgumentParser(prog="jobs/tasks.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--show", type=int, default=3, metavar="N")
    options, sys.argv[1:] = parser.parse_known_args()
    if options.show < 0:
        parser.error("--show: a number of tasks, 0 or more")
    return options.show


if __name__ == "__main__":
    from jobs.running.command import main_of

    count = shown()

    def tasks_only(config: MetaConfig) -> TaskPipeline:
        """The job up to its tasks."""
        whole = pipeline(config).until("tasks")
        return TaskPipeline(whole.config, whole.stages, count)

    main_of(MetaConfig, tasks_only, __file__, __doc__, None, DEFAULT)
