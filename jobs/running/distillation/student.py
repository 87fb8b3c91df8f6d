"""The stages that make, index and measure a student: mix, train, index, retrieve, evaluate."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cluster.session import Need
from cluster.stages import Runner, Stage, StageRun
from distill.config import Config
from distill.encoders.settings import SingleVectorStudent
from distill.mix.settings import MixSettings
from distill.settings.load import ConfigError
from distill.train.loss_settings import InfoNceLoss, LanguageLoss, MarginMseLoss, summands
from jobs.running import checks, estimates
from jobs.running.distillation.teaching import pool_need
from jobs.running.inputs import imported_files, model_files
from jobs.running.training_checks import check_training


def mix(config: Config, data: Stage, translations: Stage, scores: Stage, *, english: bool = False) -> Stage:
    """Return the stage that makes training examples; with `english` those of the baseline, of passages in the source language.

    `scores` is the stage with the scores; without a teacher, the one with the candidates.
    """
    settings = config.mix
    languages: Sequence[str] = config.mixed_languages
    if english or config.method == "english_distillation":
        # The same draws and groups: only the language of the passages differs.
        settings = config.mix.model_copy(update={"strategy": "single", "language": config.source_lang, "languages": ()})
        languages = (config.source_lang,)
    scores_stage = scores.name if config.has_teacher else None

    def run(workspace: StageRun) -> None:
        from distill.mix.stage import mix as mix_examples

        without_own = config.source.without_own_ids
        mix_examples(
            workspace, settings, config.source_lang, languages, config.seed, scores_stage, without_own=without_own
        )

    identity = _mix_identity(config, settings, languages)
    name = "english_mix" if english else "mix"
    return _mix_stage(name, run, identity, settings, inputs=(data, translations, scores))


def imported_mix(config: Config) -> Stage:
    """Return the stage that makes training examples from other tools' files."""
    imported = config.mix.imported
    if imported is None:
        raise ConfigError("mix.imported names no files")

    def run(workspace: StageRun) -> None:
        from distill.mix.stage import mix as mix_examples

        mix_examples(
            workspace,
            config.mix,
            config.source_lang,
            config.mixed_languages,
            config.seed,
            max_rejected=config.max_rejected,
        )

    identity = _mix_identity(config, config.mix, config.mixed_languages) | {"max_rejected": config.max_rejected}
    return _mix_stage("mix", run, identity, config.mix, reads=imported_files(imported))


def _mix_stage(
    name: str,
    run: Callable[[StageRun], None],
    identity: Mapping[str, Any],
    mix: MixSettings,
    inputs: tuple[Stage, ...] = (),
    reads: tuple[str, ...] = (),
) -> Stage:
    needs = (Need(name, 1, 1.0, 0.0, "cluster.num_cpus"),)
    work = _examples(mix)
    version = 4 if mix.group > 1 else 3  # 4 has every passage once in a group
    return Stage(name, version, run, identity, inputs, reads, needs, rows="examples", kind="mix", work=work)


def _examples(mix: MixSettings) -> str:
    """Return the examples that the mix stage makes, in words."""
    words = [f"{mix.epochs} epochs of {mix.n_way}-way examples"]
    words.append("in the languages of the files" if mix.imported and not mix.translates_imported else mix.strategy)
    words += [f"of at most {mix.queries:,} queries"] if mix.queries is not None else []
    words += [f"sampling {mix.sampling}"] if mix.sampling != "random" else []
    words += [f"from {mix.imported.type} files"] if mix.imported else []
    return ", ".join(words)


def _mix_identity(config: Config, settings: MixSettings, languages: Sequence[str]) -> dict[str, Any]:
    return {
        "mix": settings.identity(),
        "languages": list(languages),
        "source_lang": config.source_lang,
        "seed": config.seed,
    }


def train(config: Config, data: Stage, translations: Stage, examples: Stage) -> Stage:
    """Return the stage that trains a student on `examples`."""
    name = "english_train" if examples.name == "english_mix" else "train"

    watched = config.languages or (config.source_lang,)  # a student of one language is watched in it

    def run(workspace: StageRun) -> None:
        from distill.train.stage import TrainingTask
        from distill.train.stage import train as train_student

        task = TrainingTask(
            examples.name,
            config.source_lang,
            config.student_query_lang,
            watched,
            config.batch_unit,
            config.source.without_own_ids,
        )
        train_student(workspace, config.train, config.student, config.seed, task)

    settings = {"train": config.train.identity(), "student": config.student.identity(), "seed": config.seed}
    if config.train.dev is not None and not config.languages:
        settings["dev_languages"] = list(watched)
    reads = model_files(config.student.start.model) if config.student.start.type == "pretrained" else ()
    needs = (
        Need(name, config.train.workers, config.train.cpus_per_worker, config.train.gpus_per_worker, "train.workers"),
    )
    # Beside imported examples, the job's own passages are read only for a fresh student's tokenizer and an evaluation during training.
    own = config.mix.imported is None or config.student.start.type == "fresh" or config.train.dev is not None
    inputs = (data, translations, examples) if own else (examples,)
    group = config.train
    workers = f"{group.workers}" if group.max_workers is None else f"{group.workers} to {group.max_workers}"
    examples_read = f"{group.steps:,} steps x {group.batch_size} = {group.steps * group.batch_size:,} examples"
    return Stage(
        name,
        version=_train_version(config),
        run=run,
        settings=settings,
        inputs=inputs,
        reads=reads,
        needs=needs,
        rows="training_log",
        kind="train",
        work=f"{examples_read}, {workers} workers",
        estimate=partial(estimates.train, config, data),
        check=partial(check_training, config, data),
    )


def _train_version(config: Config) -> int:
    """Return the version of a training.

    Version 3 computes the losses `language`, `margin_mse` and `info_nce` otherwise, and Matryoshka sizes of vectors without unit length.
    """
    changed = any(isinstance(loss, LanguageLoss | MarginMseLoss | InfoNceLoss) for loss in summands(config.train.loss))
    student = config.student
    cut = isinstance(student, SingleVectorStudent) and bool(student.sizes) and not student.normalize
    return 3 if changed or cut else 2


def index(config: Config, documents: Stage, translations: Stage, student: Stage) -> Stage:
    """Return the stage that encodes every document."""
    name = "english_index" if student.name == "english_train" else "index"

    def run(workspace: StageRun) -> None:
        from distill.index.stage import encode

        encode(workspace, config.index, student.name, documents.name)

    settings = {"index": config.index.identity()}
    needs = (pool_need("index", config.index.pool),)

    def work(runner: Runner) -> str:
        rows = estimates.document_count(config, documents, translations, runner)
        count = "all" if rows is None else f"up to {rows:,}"
        return f"{count} documents of at most {config.student.passage_tokens} tokens"

    return Stage(
        name,
        version=2,  # 2 writes the document and the truncation of each passage
        run=run,
        settings=settings,
        inputs=(documents, translations, student),
        needs=needs,
        rows="documents",
        kind="index",
        work=work,
        estimate=partial(estimates.index, config, documents, translations),
    )


def retrieve(
    config: Config,
    documents: Stage,
    translations: Stage,
    scores: Stage | None,
    students: Mapping[str, tuple[Stage, Stage]],
) -> Stage:
    """Return the stage that runs every system over every collection; `students` maps systems to their train and index stages.

    With `scores` of the same queries the teacher is a system too.
    """

    def run(workspace: StageRun) -> None:
        from distill.evaluate.retrieve import retrieve as retrieve_runs

        names = {system: (trained.name, indexed.name) for system, (trained, indexed) in students.items()}
        source = config.evaluate.source or config.source
        retrieve_runs(
            workspace,
            config.evaluate.model_copy(update={"source": source}),
            documents.name,
            config.source_lang,
            config.languages,
            names,
            config.index.pool,
            scores.name if scores is not None else None,
        )

    kept = ("split", "query_lang", "depth")
    settings: dict[str, Any] = {name: getattr(config.evaluate, name) for name in kept}
    settings |= {"source_lang": config.source_lang, "languages": list(config.languages), "systems": sorted(students)}
    judged = (scores,) if scores is not None else ()
    inputs = (documents, translations, *judged, *(stage for pair in students.values() for stage in pair))
    needs = (pool_need("retrieve", config.index.pool),)
    work = f"runs of depth {config.evaluate.depth:,}"
    return Stage(
        "retrieve",
        # 2: words of BM25. 3 ranks documents by their passages and counts truncated queries.
        version=3,
        run=run,
        settings=settings,
        inputs=inputs,
        needs=needs,
        rows="run",
        work=work,
        estimate=partial(estimates.retrieve, config, documents, translations, len(students)),
        skip=checks.skip_evaluation(config, documents),
    )


def evaluate(config: Config, documents: Stage, indexed: Stage, runs: Stage) -> Stage:
    """Return the stage that measures every run and tests the differences."""

    def run(workspace: StageRun) -> None:
        from distill.evaluate.stage import evaluate as evaluate_runs

        evaluate_runs(workspace, config.evaluate, config.source_lang, config.languages, sources=documents.name)

    settings = {
        "evaluate": config.evaluate.identity(),
        "source_lang": config.source_lang,
        "languages": list(config.languages),
    }
    return Stage(
        "evaluate",
        # Version 2 judges each collection by the judgements of the documents in it.
        version=2,
        run=run,
        settings=settings,
        inputs=(documents, indexed, runs),
        rows="measurements",
        uses_ray=False,
        work=", ".join(config.evaluate.measures),
        check=checks.evaluation(config, documents),
        skip=checks.skip_evaluation(config, documents),
    )
