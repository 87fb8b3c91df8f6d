"""The end of a job: summary.json, the HTML report, the model card, the run folder, and a table on the terminal."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cluster.atomic import write_bytes
from cluster.locations import shown
from cluster.stages import Runner
from cluster.storage import join, open_storage, read_table
from distill.config import Config
from distill.report.facts import StageFacts
from distill.report.run import DataFacts, ReportInput, report, summary
from distill.runs import write_run
from distill.settings.load import dump
from jobs.running.programs import command

_SCORES_SHOWN = 200_000
_LOGS = {"student": "train", "english_distillation": "english_train"}


def write_report(config: Config, runner: Runner) -> None:
    """Write the run folder of the stages that `runner` ran, and print the quality of every system and where everything lies."""
    inputs = _collect(config, runner)
    facts = summary(inputs)
    run = write_run(runner.storage, config, folders(runner), facts, report(inputs, facts))
    _write_card(config, runner, facts)
    _print_quality(config, facts)
    trained, indexed = (runner.results[name].stage.folder for name in ("train", "index"))
    print_locations(run, runner, {"checkpoint": join(trained, "checkpoint"), "index": indexed})
    print(f"{'serve it':<11} {command('serve')} --run {json.dumps(run) if ' ' in run else run}")


def folders(runner: Runner) -> dict[str, str]:
    """Return the folders of the stages that `runner` ran, relative to the storage."""
    return {name: result.stage.folder for name, result in runner.results.items()}


def _collect(config: Config, runner: Runner) -> ReportInput:
    def table(stage: str, name: str) -> pa.Table:
        return stage_table(runner, stage, name)

    manifests = {name: result.manifest for name, result in runner.results.items()}
    passages = manifests["sources"]["tables"]["passages"]["rows"]
    return ReportInput(
        name=config.name,
        source_lang=config.source_lang,
        languages=config.languages,
        settings=dump(config),
        data=DataFacts.count(
            passages,
            table("sources", "queries"),
            table("translate", "translations"),
            table("translate", "missing_translations"),
        ),
        stages={
            name: StageFacts.read(result.manifest, reused=result.reused) for name, result in runner.results.items()
        },
        measurements=table("evaluate", "measurements"),
        comparisons=table("evaluate", "comparisons"),
        training_logs={
            system: table(stage, "training_log") for system, stage in _LOGS.items() if stage in runner.results
        },
        scores=table("calibrate", "scores").slice(0, _SCORES_SHOWN) if "calibrate" in runner.results else None,
        rejected={name: table(name, "rejected") for name, manifest in manifests.items() if manifest["rejected"]},
        language_shares=manifests["evaluate"]["notes"].get("pooled_language_shares", {}),
        confidence=config.evaluate.confidence,
    )


def stage_table(runner: Runner, stage: str, name: str) -> pa.Table:
    """Return a table of a stage that `runner` ran."""
    filesystem, root = open_storage(runner.storage)
    return read_table(filesystem, f"{root}/{runner.results[stage].stage.folder}/{name}")


def _write_card(config: Config, runner: Runner, facts: Mapping[str, Any]) -> None:
    from distill.report.card import model_card

    filesystem, root = open_storage(runner.storage)
    folder = f"{root}/{runner.results['train'].stage.folder}/checkpoint"
    write_bytes(filesystem, f"{folder}/README.md", model_card(config, facts).encode())


def _print_quality(config: Config, facts: Mapping[str, Any]) -> None:
    """Print nDCG@20, or else the first measure, of every system over the target languages and the mixed collection."""
    measure = "nDCG@20" if "nDCG@20" in config.evaluate.measures else config.evaluate.measures[0]
    columns = [*config.languages, "mixed", "pooled", config.source_lang]
    metrics = facts["metrics"]
    columns = [column for column in columns if any(column in by for by in metrics.values())]
    print(
        f"\n{measure}, {facts['counts']['queries']} {config.evaluate.split} queries in {config.evaluate.query_lang or config.source_lang}"
    )
    print(f"{'system':<24}" + "".join(f"{column:>8}" for column in columns) + f"{'mean':>8}")
    for system, by in metrics.items():
        cells = [by[column][measure] if column in by else None for column in columns]
        target = [by[lang][measure] for lang in config.languages if lang in by]
        mean = sum(target) / len(target) if target else None
        print(f"{system:<24}" + "".join(f"{'-':>8}" if cell is None else f"{cell:>8.3f}" for cell in [*cells, mean]))
    notes = [f"mean: over {', '.join(config.languages)}"] if config.languages else []
    notes += [f"the teacher reads the {config.source_lang} passages: the ceiling"] if "teacher" in metrics else []
    if notes:
        print(f"({'; '.join(notes)})")


def print_locations(run: str, runner: Runner, outputs: Mapping[str, str]) -> None:
    """Print the locations of a run's files and of `outputs`, which maps names to folders in the storage."""
    base = runner.storage if "://" in runner.storage else open_storage(runner.storage)[1]
    lines = {"report": join(run, "report.html"), "summary": join(run, "summary.json")}
    lines |= {name: join(base, folder) for name, folder in outputs.items()}
    print()
    for name, location in lines.items():
        print(f"{name:<11} {shown(location)}")
