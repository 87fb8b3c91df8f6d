"""The end of a meta-learning: summary.json, the HTML report, the run folder, and a table on the terminal."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cluster.stages import Runner
from cluster.storage import join
from distill.meta.config import MetaConfig
from distill.runs import write_run
from jobs.running.results import folders, keep_other, print_locations, print_quality, run_facts, stage_table


def write_report(config: MetaConfig, runner: Runner) -> None:
    """Write the run folder of the stages that `runner` ran, and print the quality of every system and the locations of all results."""
    from distill.meta.report import report, summary

    inputs = _collect(config, runner)
    facts = summary(inputs)
    keep_other(config, runner)
    run = write_run(runner.storage, config, folders(runner), facts, report(inputs, facts))
    _print_quality(config, facts)
    folds = {fold: f"train_{config.main}_{fold}" for fold in config.tasks.wanted_folds(config.source.kind)}
    trained = {fold: runner.results[name].stage.folder for fold, name in folds.items() if name in runner.results}
    print_locations(run, runner, {f"encoder {fold}": join(folder, "checkpoint") for fold, folder in trained.items()})


def _collect(config: MetaConfig, runner: Runner) -> Any:
    from distill.meta.report import MetaReportInput

    tables = runner.results["meta_sources"].manifest["tables"]
    logs: dict[str, dict[int, pa.Table]] = {}
    for system in config.modes:
        for fold in config.tasks.wanted_folds(config.source.kind):
            logs.setdefault(system, {})[fold] = stage_table(runner, f"train_{system}_{fold}", "training_log")
    return MetaReportInput(
        kind=config.source.kind,
        main=config.main,
        seen=config.languages,
        counts={name: table["rows"] for name, table in tables.items()},
        results=stage_table(runner, "compare", "meta_results"),
        comparisons=stage_table(runner, "compare", "meta_comparisons"),
        training_logs=logs,
        confidence=config.evaluate.confidence,
        **run_facts(config, runner),
    )


def _print_quality(config: MetaConfig, facts: Mapping[str, Any]) -> None:
    """Print the means of every system by the first measure, and their differences from the job's own."""
    metrics = facts["metrics"]
    first = next(iter(metrics.values()))
    measure = next(iter(first))
    name = f"mAP@{config.evaluate.depth}" if config.source.kind == "retrieval" else measure
    groups = [group for group in ("mean", "seen", "unseen") if group in first[measure]]
    count, folds = len(first[measure]) - len(groups), len(facts["folds"])
    each = "languages" if config.source.kind == "retrieval" else "pairs of languages, each with itself and every other"
    title = f"{name}, means over {count} {each} ({', '.join(config.languages)} are seen), {folds} fold{'s' if folds != 1 else ''}"
    rows = {system: [by[measure][group] for group in groups] for system, by in metrics.items()}
    print_quality(title, groups, rows, width=10, digits=4)
    for row in facts["comparisons"]:
        if row["measure"] == measure and row["group"] == "mean":
            ends = f"{row['low']:+.4f} to {row['high']:+.4f}"
            print(
                f"{row['system']} less {row['baseline']}: {row['difference']:+.4f} ({ends}), p {row['p_corrected']:.3g}"
            )
