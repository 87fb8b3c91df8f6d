"""The stages of a distillation as steps of a job: inputs, identity, needs, version of the code, work.

The functions here only describe: nothing runs, and nothing heavy is imported before a stage runs. Raise a stage's `version` with a change
that changes what the stage writes; outputs of the old version are then not reused.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cluster.session import Need
from cluster.settings import PoolSettings
from cluster.stages import Runner, Stage, StageRun
from distill.config import Config
from distill.mix.settings import MixSettings
from distill.score.settings import BiEncoderTeacher, EnsembleTeacher, ImportedTeacher, SingleTeacher
from distill.select.settings import DenseSelector, LateInteractionSelector, RunSelector, ScoredSelector
from distill.settings.load import ConfigError
from distill.sources.settings import Source
from distill.translate.settings import ModelTranslator
from jobs.running import estimates
from jobs.running.inputs import imported_files, model_files, source_files


def sources(config: Config, source: Source | None = None, name: str = "sources") -> Stage:
    """Return the stage that reads a source: queries, passages, parallel passages and qrels."""
    chosen = source or config.source

    def run(workspace: StageRun) -> None:
        from distill.sources.stage import ingest

        ingest(workspace, chosen, config.source_lang, config.languages, config.max_rejected)

    settings = {
        "source": chosen.identity(),
        "source_lang": config.source_lang,
        "languages": list(config.languages),
        "max_rejected": config.max_rejected,
    }
    return Stage(
        name,
        version=1,
        run=run,
        settings=settings,
        reads=source_files(chosen),
        rows="passages",
        uses_ray=False,
        kind="sources",
        work=f"read the {chosen.type} source",
    )


def select(config: Config, data: Stage, translations: Stage) -> Stage:
    """Return the stage that selects candidates for the teacher. It depends on the translations only where it reads them."""
    settings = config.select

    def run(workspace: StageRun) -> None:
        from distill.select.stage import select as select_candidates

        select_candidates(workspace, settings, config.source_lang)

    by = settings.by
    files = tuple(by.files) if isinstance(by, ScoredSelector) else ()
    reads = (by.path,) if isinstance(by, RunSelector) else files or model_files(getattr(by, "model", None))
    identity = {"select": settings.identity(), "source_lang": config.source_lang}
    inputs = (data, *_translated(config, translations, settings.passage_lang))
    needs = (_need("select", settings.pool),) if not isinstance(by, RunSelector | ScoredSelector) else ()
    work = _up_to(config, data, "candidates")
    # Version 3 ranks equal scores of vectors by position; the other selectors did before. Version 4 reads a dense encoder's own pooling.
    version = 4 if isinstance(by, DenseSelector) else 3 if isinstance(by, LateInteractionSelector) else 2
    return Stage("select", version, run, identity, inputs, reads, needs, rows="candidates", work=work)


def _up_to(config: Config, data: Stage, unit: str) -> Callable[[Runner], str]:
    """Return the work of a stage that reads the candidates of every query, in `unit`s."""
    top_k = config.select.by.top_k

    def work(runner: Runner) -> str:
        queries = runner.rows(data, "queries")
        return f"up to {top_k} {unit} a query" if queries is None else f"up to {queries * top_k:,} {unit}"

    return work


def _translated(config: Config, translations: Stage, passage_lang: str | None) -> tuple[Stage, ...]:
    """Return the translations as an input where a stage reads passages in another language than the source's."""
    return (translations,) if passage_lang not in {None, config.source_lang} else ()


def translate(config: Config, data: Stage) -> Stage:
    """Return the stage that makes passages in every target language."""

    def run(workspace: StageRun) -> None:
        from distill.translate.stage import translate as translate_passages

        translate_passages(workspace, config.translate, config.source_lang, config.languages, config.max_rejected)

    chosen = config.translate
    files = tuple(file for group in chosen.existing.files.values() for file in group)
    models = tuple(folder for model in chosen.models() for folder in model_files(model))
    settings = {
        "translate": chosen.identity(),
        "source_lang": config.source_lang,
        "languages": list(config.languages),
        "max_rejected": config.max_rejected,
    }
    engine = chosen.engine is not None
    needs = (_need("translate", chosen.pool),) if engine else ()
    estimate = None
    if isinstance(chosen.engine, ModelTranslator):
        estimate = partial(estimates.translate, config, data, chosen.engine)
    return Stage(
        "translate",
        version=2,
        run=run,
        settings=settings,
        inputs=(data,),
        reads=(*files, *models),
        needs=needs,
        rows="translations",
        uses_ray=engine,
        work=f"{len(config.languages)} languages",
        estimate=estimate,
    )


def score(config: Config, data: Stage, candidates: Stage, translations: Stage) -> tuple[Stage, ...]:
    """Return the stages that give raw scores: one for each teacher."""
    teacher = config.score.teacher
    if isinstance(teacher, EnsembleTeacher):
        return tuple(
            _score(config, member, f"score_{i}", data, candidates, translations)
            for i, member in enumerate(teacher.teachers)
        )
    return (_score(config, teacher, "score", data, candidates, translations),)


def _score(
    config: Config, teacher: SingleTeacher, name: str, data: Stage, candidates: Stage, translations: Stage
) -> Stage:
    def run(workspace: StageRun) -> None:
        from distill.score.stage import score as score_candidates

        score_candidates(workspace, config.score, teacher, config.source_lang)

    # The members of an ensemble do not decide each other's scores.
    identity = {
        "score": config.score.identity() | {"teacher": teacher.identity()},
        "source_lang": config.source_lang,
    }
    inputs = (data, candidates, *_translated(config, translations, config.score.passage_lang))
    imported = isinstance(teacher, ImportedTeacher)
    reads = (
        tuple(teacher.files) if isinstance(teacher, ImportedTeacher) else model_files(getattr(teacher, "model", None))
    )
    needs = () if imported else (_need("score", config.score.pool),)
    return Stage(
        name,
        version=3 if isinstance(teacher, BiEncoderTeacher) else 2,  # 3 reads the encoder's own pooling
        run=run,
        settings=identity,
        inputs=inputs,
        reads=reads,
        needs=needs,
        rows="scores",
        uses_ray=not imported,
        kind="score",
        work=_up_to(config, data, "pairs"),
        estimate=partial(estimates.score, config, data, candidates, teacher),
    )


def calibrate(config: Config, data: Stage, candidates: Stage, scores: Sequence[Stage]) -> Stage:
    """Return the stage that writes the teacher report and the scores that examples are made of."""

    def run(workspace: StageRun) -> None:
        from distill.score.calibrate import calibrate as calibrate_scores

        calibrate_scores(workspace, config.score, [stage.name for stage in scores], config.source_lang)

    teacher = config.score.teacher
    identity = {
        "calibration": config.score.calibration.identity(),
        "check": config.score.check.identity(),
        "method": teacher.method if isinstance(teacher, EnsembleTeacher) else None,
        "source_lang": config.source_lang,
    }
    inputs = (data, candidates, *scores)
    needs = (Need("calibrate", 1, 1.0, 0.0, "cluster.num_cpus"),)
    return Stage("calibrate", 1, run, identity, inputs, (), needs, rows="scores", work="teacher report")


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

        mix_examples(workspace, settings, config.source_lang, languages, config.seed, scores_stage)

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

        mix_examples(workspace, config.mix, config.source_lang, config.mixed_languages, config.seed)

    identity = _mix_identity(config, config.mix, config.mixed_languages)
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
    return Stage(name, 3, run, identity, inputs, reads, needs, rows="examples", kind="mix", work=work)


def _examples(mix: MixSettings) -> str:
    """Return the examples that the mix stage makes, in words."""
    words = [f"{mix.epochs} epochs of {mix.n_way}-way examples"]
    words.append("in the languages of the files" if mix.imported and not mix.translates_imported else mix.strategy)
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

    def run(workspace: StageRun) -> None:
        from distill.train.stage import TrainingTask
        from distill.train.stage import train as train_student

        task = TrainingTask(
            examples.name, config.source_lang, config.student_query_lang, config.languages, config.batch_unit
        )
        train_student(workspace, config.train, config.student, config.seed, task)

    settings = {"train": config.train.identity(), "student": config.student.identity(), "seed": config.seed}
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
        version=2,
        run=run,
        settings=settings,
        inputs=inputs,
        reads=reads,
        needs=needs,
        rows="training_log",
        kind="train",
        work=f"{examples_read}, {workers} workers",
        estimate=partial(estimates.train, config, data),
    )


def index(config: Config, documents: Stage, translations: Stage, student: Stage) -> Stage:
    """Return the stage that encodes every document."""
    name = "english_index" if student.name == "english_train" else "index"

    def run(workspace: StageRun) -> None:
        from distill.index.stage import encode

        encode(workspace, config.index, student.name, documents.name)

    settings = {"index": config.index.identity()}
    needs = (_need("index", config.index.pool),)

    def work(runner: Runner) -> str:
        rows = runner.rows(documents, "passages")
        count = "all" if rows is None else f"up to {rows * (1 + len(config.languages)):,}"
        return f"{count} documents of at most {config.student.passage_tokens} tokens"

    return Stage(
        name,
        version=1,
        run=run,
        settings=settings,
        inputs=(documents, translations, student),
        needs=needs,
        rows="documents",
        kind="index",
        work=work,
        estimate=partial(estimates.index, config, documents),
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
        retrieve_runs(
            workspace,
            config.evaluate,
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
    needs = (_need("retrieve", config.index.pool),)
    work = f"runs of depth {config.evaluate.depth:,}"
    return Stage("retrieve", 1, run, settings, inputs, (), needs, rows="run", work=work)


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
        version=1,
        run=run,
        settings=settings,
        inputs=(documents, indexed, runs),
        rows="measurements",
        uses_ray=False,
        work=", ".join(config.evaluate.measures),
    )


def _need(stage: str, pool: PoolSettings) -> Need:
    setting = f"{'index' if stage == 'retrieve' else stage}.pool"
    return Need.of_pool(stage, pool, setting)
