"""The results of the stages that a job ran: their tables, the facts that every report shares, and lines on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from cluster.locations import shown
from cluster.stages import Runner, Stage
from cluster.storage import join, open_storage, read_table
from distill.report.facts import StageFacts
from distill.runs import keep_other_run
from distill.settings.load import JobConfig, dump

_NAME_WIDTH = 24


def folders(runner: Runner) -> dict[str, str]:
    """Return the folders of the stages that `runner` ran, relative to the storage."""
    return {name: result.stage.folder for name, result in runner.results.items()}


def stage_table(runner: Runner, stage: str, name: str) -> pa.Table:
    """Return a table of a stage that `runner` ran."""
    filesystem, root = open_storage(runner.storage)
    return read_table(filesystem, f"{root}/{runner.results[stage].stage.folder}/{name}")


def run_facts(config: JobConfig, runner: Runner) -> dict[str, Any]:
    """Return the arguments of `distill.report.facts.RunFacts` but for the confidence: name, settings, stages, rejected."""
    results = runner.results
    return {
        "name": config.name,
        "settings": dump(config),
        "stages": {name: StageFacts.read(result.manifest, reused=result.reused) for name, result in results.items()},
        "rejected": {
            name: stage_table(runner, name, "rejected")
            for name, result in results.items()
            if result.manifest["rejected"]
        },
    }


def print_quality(
    title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]], width: int = 8, digits: int = 3
) -> None:
    """Print a table of systems.

    Args:
        title: the line above it.
        columns: names of the columns.
        rows: system -> its values, one a column; None is shown as `-`.
        width: characters of a column.
        digits: digits after the point.
    """
    print(f"\n{title}")
    print(f"{'system':<{_NAME_WIDTH}}" + "".join(f"{column:>{width}}" for column in columns))
    for system, values in rows.items():
        cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        print(f"{system:<{_NAME_WIDTH}}" + "".join(f"{cell:>{width}}" for cell in cells))


def print_outputs(runner: Runner, stages: Sequence[Stage]) -> None:
    """Print what stages made and where: every table with its rows; of a training the last loss and the checkpoint."""
    base = runner.storage if "://" in runner.storage else open_storage(runner.storage)[1]
    for stage in stages:
        folder = join(base, stage.folder)
        tables = runner.results[stage.name].manifest["tables"]
        print(f"\n{stage.name}: {shown(folder)}")
        for name, facts in tables.items():
            print(f"  {name:<22} {facts['rows']:>11,} rows")
        if "training_log" in tables:
            log = stage_table(runner, stage.name, "training_log").slice(tables["training_log"]["rows"] - 1).to_pylist()
            print(
                f"  {'loss':<22} {log[-1]['loss']:>11.4f} at step {log[-1]['step']}" if log else "  no step was taken"
            )
            kept = runner.results[stage.name].manifest["notes"].get("kept_step")
            of = f" (of step {kept}, the best on the development set)" if kept else ""
            print(f"  {'checkpoint':<22} {shown(join(folder, 'checkpoint'))}{of}")


def keep_other(config: JobConfig, runner: Runner) -> None:
    """Keep the run folder that has this run's name and other stages, and say where."""
    if kept := keep_other_run(runner.storage, config.name, folders(runner)):
        print(f"\nanother run was called '{config.name}': its report and run.json are kept in {shown(kept)}")


def print_locations(run: str, runner: Runner, outputs: Mapping[str, str]) -> None:
    """Print the locations of a run's files and of `outputs`, which maps names to folders in the storage."""
    base = runner.storage if "://" in runner.storage else open_storage(runner.storage)[1]
    lines = {"report": join(run, "report.html"), "summary": join(run, "summary.json")}
    lines |= {name: join(base, folder) for name, folder in outputs.items()}
    print()
    for name, location in lines.items():
        print(f"{name:<11} {shown(location)}")
