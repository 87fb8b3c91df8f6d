"""The end of a distillation: summary.json, the HTML report, the model card, the run folder, and a table on the terminal."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from cluster.atomic import write_bytes
from cluster.stages import Runner
from cluster.storage import join, list_files, open_storage
from distill.config import Config
from distill.evaluate.queries import trained_on
from distill.report.run import DataFacts, ReportInput, report, summary
from distill.runs import write_run
from distill.tables import COMPARISONS, MEASUREMENTS
from jobs.running.checks import why_not_evaluated
from jobs.running.programs import command
from jobs.running.results import folders, keep_other, print_locations, print_quality, run_facts, stage_table

_SCORES_SHOWN = 200_000
_LOGS = {"student": "train", "english_distillation": "english_train"}


def write_report(config: Config, runner: Runner) -> None:
    """Write the run folder of the stages that `runner` ran, and print the quality of every system and the locations of all results."""
    inputs = _collect(config, runner)
    facts = summary(inputs)
    keep_other(config, runner)
    run = write_run(runner.storage, config, folders(runner), facts, report(inputs, facts))
    _write_card(config, runner, facts)
    if facts["primary"]:
        _print_quality(config, facts)
    else:
        print(f"\nnot evaluated: {facts['not_evaluated']}")
    outputs = {"checkpoint": join(runner.results["train"].stage.folder, "checkpoint")}
    outputs["index"] = runner.results["index"].stage.folder
    trec = join(runner.results["evaluate"].stage.folder, "trec") if "evaluate" in runner.results else ""
    if trec and list_files(*_in_storage(runner, trec), ".qrels"):
        outputs["TREC files"] = trec
    print_locations(run, runner, outputs)
    print(f"{'serve it':<11} {command('serve')} --run {json.dumps(run) if ' ' in run else run}")


def _collect(config: Config, runner: Runner) -> ReportInput:
    def table(stage: str, name: str) -> pa.Table:
        return stage_table(runner, stage, name)

    passages = runner.results["sources"].manifest["tables"]["passages"]["rows"]
    evaluated = runner.results.get("evaluate")
    return ReportInput(
        source_lang=config.source_lang,
        languages=config.languages,
        data=DataFacts.count(
            passages,
            table("sources", "queries"),
            table("translate", "translations"),
            table("translate", "missing_translations"),
        ),
        measurements=table("evaluate", "measurements") if evaluated else MEASUREMENTS.empty(),
        comparisons=table("evaluate", "comparisons") if evaluated else COMPARISONS.empty(),
        training_logs={
            system: table(stage, "training_log") for system, stage in _LOGS.items() if stage in runner.results
        },
        scores=table("calibrate", "scores").slice(0, _SCORES_SHOWN) if "calibrate" in runner.results else None,
        language_shares=evaluated.manifest["notes"].get("pooled_language_shares", {}) if evaluated else {},
        asked=config.evaluate.measures,
        trained_on=_trained_on(config, runner) if evaluated else 0,
        not_evaluated="" if evaluated else why_not_evaluated(config, runner.results["sources"].stage, runner),
        confidence=config.evaluate.confidence,
        **run_facts(config, runner),
    )


def _trained_on(config: Config, runner: Runner) -> int:
    """Return how many of the evaluated queries the student was trained with."""
    documents = "evaluation_sources" if "evaluation_sources" in runner.results else "sources"
    queries = stage_table(runner, documents, "queries")
    measured = pc.unique(stage_table(runner, "evaluate", "measurements")["query_id"])
    asked = pc.equal(queries["lang"], config.evaluate.query_lang or config.source_lang)
    evaluated = queries.filter(pc.and_(asked, pc.is_in(queries["query_id"], value_set=measured)))
    if config.mix.imported is not None:
        examples = runner.table(runner.results["mix"].stage, "examples").read(columns=["query_id", "query"])
        return trained_on(evaluated, _pairs(examples, "query"), same_ids=False)
    trained = stage_table(runner, "sources", "queries")
    trained = trained.filter(pc.equal(trained["split"], "train"))
    return trained_on(evaluated, _pairs(trained, "text"), same_ids=documents == "sources")


def _in_storage(runner: Runner, folder: str) -> tuple[pafs.FileSystem, str]:
    filesystem, root = open_storage(runner.storage)
    return filesystem, f"{root}/{folder}"


def _pairs(queries: pa.Table, text: str) -> Iterator[tuple[str, str]]:
    return zip(queries["query_id"].to_pylist(), queries[text].to_pylist(), strict=True)


def _write_card(config: Config, runner: Runner, facts: Mapping[str, Any]) -> None:
    from distill.report.card import model_card

    filesystem, root = open_storage(runner.storage)
    folder = f"{root}/{runner.results['train'].stage.folder}/checkpoint"
    write_bytes(filesystem, f"{folder}/README.md", model_card(config, facts).encode())


def _print_quality(config: Config, facts: Mapping[str, Any]) -> None:
    """Print the primary measure of every system by collection, and its mean over the measured target languages."""
    measure, queries, over = facts["primary"], facts["queries_of_collections"], facts["mean_languages"]
    columns = [*over, *(name for name in ("mixed", "pooled", config.source_lang) if name in queries)]
    means = len(over) > 1
    rows: dict[str, list[float | None]] = {}
    for system, by in facts["metrics"].items():
        values = [by.get(column, {}).get(measure) for column in columns]
        rows[system] = [*values, *([facts["means"].get(system, {}).get(measure)] if means else [])]
    counts = facts["counts"]
    asked = config.evaluate.query_lang or config.source_lang
    trained = f", {counts['trained_on']} of them TRAINED ON" if counts["trained_on"] else ""
    title = f"{measure}, {counts['queries']} {config.evaluate.split} queries in {asked}{trained}"
    print_quality(title, [*columns, *(["mean"] if means else [])], rows)
    notes = [f"mean: over {', '.join(over)}"] if means else []
    if len(set(queries.values())) > 1:
        number = ", ".join(f"{name} {queries[name]}" for name in columns)
        notes.append(f"queries to which a document of the collection is relevant: {number}")
    notes += [f"the teacher reads the {config.source_lang} passages: the ceiling"] if "teacher" in rows else []
    if notes:
        print(f"({'; '.join(notes)})")
