"""The stages of jobs/maml_align.py as steps of a job. The functions here only describe; nothing heavy is imported before a stage runs."""

from collections.abc import Callable, Mapping
from importlib import resources
from typing import assert_never

import pyarrow as pa

from cluster.resources import Need
from cluster.stages import Runner, Stage, StageRun
from distill.meta.config import MetaConfig
from distill.meta.settings import (
    BundledQuestions,
    LareqaQuestions,
    MetaMethod,
    MetaSource,
    QuestionFiles,
    SentencePairFiles,
)
from distill.meta.sources.folds import Fold
from distill.meta.tasks.transfers import Mode
from jobs.running import model_checks
from jobs.running.inputs import model_files


def sources(config: MetaConfig) -> Stage:
    """Return the stage that reads questions, candidates and judgements, or sentence pairs."""

    def run(workspace: StageRun) -> None:
        from distill.meta.sources.stage import ingest

        ingest(workspace, config.source, config.max_rejected)

    rows = "questions" if config.source.kind == "retrieval" else "sentence_pairs"
    settings = {"source": config.source.identity(), "max_rejected": config.max_rejected}
    reads = _files(config.source)
    return Stage(
        "meta_sources",
        version=1,
        run=run,
        settings=settings,
        reads=reads,
        rows=rows,
        uses_ray=False,
        kind="sources",
        work=f"read the {config.source.type} source",
    )


def start(config: MetaConfig, data: Stage) -> Stage:
    """Return the stage that writes the encoder before training."""
    student = config.student
    fresh = student.start.type == "fresh"

    def run(workspace: StageRun) -> None:
        from distill.meta.train.stage import write_start

        write_start(workspace, student, data.name, config.source.kind, config.seed)

    settings = {"student": student.identity(), "seed": config.seed}
    reads = () if student.start.type == "fresh" else model_files(student.start.model)
    inputs = (data,) if fresh else ()
    work = "the encoder before training"
    check = model_checks.student(student)
    return Stage("meta_start", 1, run, settings, inputs, reads, uses_ray=False, kind="start", work=work, check=check)


def vectors(config: MetaConfig, data: Stage, begun: Stage) -> Stage:
    """Return the stage that encodes all questions and candidates with the encoder before training."""

    def run(workspace: StageRun) -> None:
        from distill.meta.tasks.vectors import encode_source

        encode_source(workspace, config.evaluate, data.name, begun.name)

    settings = {"tokens_per_batch": config.evaluate.tokens_per_batch}
    needs = (Need.of_pool("meta_vectors", config.evaluate.pool, "evaluate.pool"),)
    return Stage(
        "meta_vectors",
        version=1,
        run=run,
        settings=settings,
        inputs=(data, begun),
        needs=needs,
        rows="answer_vectors",
        kind="vectors",
        work="encode all questions and candidates, for neighbours",
    )


def tasks(config: MetaConfig, mode: Mode, fold: Fold, data: Stage, neighbours: Stage | None) -> Stage:
    """Return the stage that makes meta-tasks of a transfer mode from what the fold does not hold out."""
    chosen = config.tasks
    transfers = chosen.wanted_transfers(config.languages, mode)
    kind = config.source.kind

    def run(workspace: StageRun) -> None:
        from distill.meta.tasks.stage import make_tasks

        by = neighbours.name if neighbours is not None else None
        make_tasks(workspace, chosen, transfers, fold, config.seed, kind, sources=data.name, vectors=by)

    kept = ("tasks", "shots", "queries", "negatives", "query_set", "neighbours", "tasks_per_shard")
    settings = {name: getattr(chosen, name) for name in kept} | {
        "transfers": [str(transfer) for transfer in transfers],
        "fold": [fold.number, fold.count],
        "seed": config.seed,
        **({} if fold.seed == config.seed else {"fold_seed": fold.seed}),
    }

    def check(runner: Runner) -> None:
        from distill.meta.tasks.stage import check_tasks

        if runner.finished(data) is not None:
            check_tasks(_reader(runner, data), chosen, transfers, fold, kind, data.name)

    name = f"tasks_{mode}_{fold.number}"
    inputs = (data,) if neighbours is None else (data, neighbours)
    needs = (Need.of_pool(name, chosen.pool, "tasks.pool"),)
    rows = "retrieval_tasks" if kind == "retrieval" else "similarity_tasks"
    work = f"{chosen.tasks:,} tasks of {', '.join(map(str, transfers))}"
    # Version 2 takes no candidate for a negative that has the text of an answer.
    return Stage(name, 2, run, settings, inputs, (), needs, rows=rows, kind="tasks", work=work, check=check)


def train(config: MetaConfig, system: str, method: MetaMethod, fold: Fold, begun: Stage, made: Stage) -> Stage:
    """Return the stage that trains the encoder on the tasks."""
    name = f"train_{system}_{fold.number}"

    def run(workspace: StageRun) -> None:
        from distill.meta.train.stage import meta_train

        if method == "zero_shot":
            raise ValueError("zero_shot trains nothing")
        meta_train(workspace, config.train, method, config.source.kind, config.seed, start=begun.name, tasks=made.name)

    settings = {"train": config.train.identity(), "method": method, "seed": config.seed}
    group = config.train
    needs = (Need(name, group.workers, group.cpus_per_worker, group.gpus_per_worker, "train.workers"),)
    work = f"{group.steps:,} steps x {group.tasks_per_batch} tasks, {passes(config, method):,} forward and backward passes of a set"
    return Stage(name, 1, run, settings, (begun, made), (), needs, rows="training_log", kind="train", work=work)


def passes(config: MetaConfig, method: MetaMethod) -> int:
    """Return the forward and backward passes of a set in a whole training; in second order each inner one costs about twice."""
    train = config.train
    passes_per_task = {
        "zero_shot": 0,
        "fine_tune": len(config.tasks.wanted_transfers(config.languages)[0].sets),
        "maml": train.inner_steps + 1,
        "maml_align": train.inner_steps + train.adapting_steps + 3,
    }
    return train.steps * train.tasks_per_batch * passes_per_task[method]


def evaluate(config: MetaConfig, system: str, fold: Fold, data: Stage, encoder: Stage) -> Stage:
    """Return the stage that evaluates an encoder on what the fold holds out."""
    name = f"evaluate_{system}_{fold.number}"
    kind = config.source.kind
    checkpoint = "start" if encoder.name == "meta_start" else "checkpoint"

    def run(workspace: StageRun) -> None:
        from distill.meta.evaluate.stage import evaluate as evaluate_encoder

        evaluate_encoder(workspace, config.evaluate, kind, fold, data.name, encoder.name, checkpoint)

    def check(runner: Runner) -> None:
        from distill.meta.evaluate.stage import check_evaluation

        if runner.finished(data) is not None:
            check_evaluation(_reader(runner, data), config.evaluate, kind, fold, data.name)

    kept = ("languages", "depth")
    settings = {name: getattr(config.evaluate, name) for name in kept} | {
        "fold": [fold.number, fold.count],
        "seed": fold.seed,
    }
    needs = (Need.of_pool(name, config.evaluate.pool, "evaluate.pool"),)
    rows = "question_precision" if kind == "retrieval" else "pair_similarity"
    work = f"mAP@{config.evaluate.depth}" if kind == "retrieval" else "Pearson, Spearman"
    inputs = (data, encoder)
    return Stage(name, 2, run, settings, inputs, (), needs, rows=rows, kind="evaluate", work=work, check=check)


def compare(config: MetaConfig, evaluations: Mapping[str, Mapping[int, Stage]]) -> Stage:
    """Return the stage that compares the systems by fold and language, the job's own with each baseline."""

    def run(workspace: StageRun) -> None:
        from distill.meta.evaluate.compare import compare as compare_systems

        names = {system: {fold: stage.name for fold, stage in folds.items()} for system, folds in evaluations.items()}
        compare_systems(workspace, config.evaluate, config.source.kind, config.main, names, config.languages)

    settings = {"evaluate": config.evaluate.identity(), "main": config.main, "seen": list(config.languages)}
    inputs = tuple(stage for folds in evaluations.values() for stage in folds.values())
    work = f"{config.main} with {', '.join(config.baselines) or 'nothing'}"
    # Version 2 weighs folds and languages in comparisons as in results, and counts a language that only some folds have.
    return Stage("compare", 2, run, settings, inputs, rows="meta_results", uses_ray=False, work=work)


def folds(config: MetaConfig) -> list[Fold]:
    """Return the folds that are run."""
    kind = config.source.kind
    count = None if kind == "similarity" else config.tasks.folds
    seed = config.seed if config.tasks.fold_seed is None else config.tasks.fold_seed
    return [Fold(number, count, seed) for number in config.tasks.wanted_folds(kind)]


def _reader(runner: Runner, data: Stage) -> "Callable[[str, list[str]], pa.Table]":
    """Return a function that reads columns of a table of a finished stage."""
    return lambda table, columns: runner.table(data, table).read(columns=columns)


def _files(source: MetaSource) -> tuple[str, ...]:
    """Return the files whose content decides a source."""
    match source:
        case BundledQuestions():
            return (str(resources.files("distill.sources") / "corpus" / "corpus.jsonl"),)
        case LareqaQuestions():
            return (source.path,)
        case QuestionFiles():
            return (source.questions, source.candidates, source.qrels)
        case SentencePairFiles():
            return (source.train, source.dev, source.test)
        case unknown:
            assert_never(unknown)
