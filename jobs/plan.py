"""What a job would do: stages to run and to reuse, and how much work that is."""

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.stages import Runner, Stage
from distill.config import Config


def print_plan(config: Config, stages: Sequence[Stage], runner: Runner) -> None:
    """Print one line a stage. Work that depends on tables that are not there yet is said in terms of settings."""
    manifests = {stage.name: runner.finished(stage) for stage in stages}
    print(f"plan of '{config.name}' in {config.storage}")
    for stage in stages:
        manifest = manifests[stage.name]
        if manifest is not None:
            work = (
                f"reuse    {manifest['rows']:,} rows, took {manifest['seconds']:g} s, finished {manifest['finished']}"
            )
        else:
            work = f"run      {estimate(stage.name, config, manifests)}"
        print(f"  {stage.name:<20} {work}")
    todo = sum(manifest is None for manifest in manifests.values())
    print(f"{todo} of {len(stages)} stages to run")


def estimate(name: str, config: Config, manifests: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The work of a stage in words and numbers."""
    data = manifests.get("sources") or {}
    tables = data.get("tables", {})
    queries = tables.get("queries", {}).get("rows")
    passages = tables.get("passages", {}).get("rows")
    train = config.train
    n_way = config.mix.n_way
    documents = f"{passages * (1 + len(config.languages)):,}" if passages is not None else "all"
    pairs = f"{queries * config.select.by.top_k:,}" if queries is not None else f"{config.select.by.top_k} a query"
    limit = getattr(config.score.teacher, "max_tokens", None) or getattr(config.score.teacher, "max_passage_tokens", 0)
    seen = train.steps * train.batch_size
    tokens = seen * (config.student.query_tokens + n_way * config.student.passage_tokens)
    work = {
        "sources": f"read the {config.source.type} source",
        "select": f"up to {pairs} candidates",
        "translate": f"{len(config.languages)} languages",
        "score": f"up to {pairs} pairs of at most {limit} tokens",
        "mix": f"{config.mix.epochs} epochs of {n_way}-way examples, {config.mix.strategy}",
        "train": f"{train.steps:,} steps x {train.batch_size} = {seen:,} examples, at most {tokens:,} tokens, {train.workers} workers",
        "index": f"up to {documents} documents of at most {config.student.passage_tokens} tokens",
        "retrieve": f"runs of depth {config.evaluate.depth:,}",
        "evaluate": ", ".join(config.evaluate.measures),
    }
    return work[name.removeprefix("english_").removeprefix("evaluation_")]
