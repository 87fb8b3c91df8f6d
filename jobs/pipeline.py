"""The stages as steps of a job: what each reads, what decides its content, what it asks of the cluster.

The functions here only describe; nothing runs and nothing heavy is imported before a stage does.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from cluster.session import Need
from cluster.stages import Stage, StageRun
from distill.config import Config, FileSource, PoolSettings, RunSelector, Source
from distill.models import BUNDLED_STUDENT, BUNDLED_TEACHER, locate
from distill.versions import VERSIONS


def sources(config: Config, source: Source | None = None, name: str = "sources") -> Stage:
    """Queries, passages, parallel passages and qrels of a source."""
    chosen = source or config.source

    def run(workspace: StageRun) -> None:
        from distill.sources import ingest

        ingest(workspace, chosen, config.source_lang, config.languages, config.max_rejected)

    settings = {
        "source": chosen.identity(),
        "source_lang": config.source_lang,
        "languages": list(config.languages),
        "max_rejected": config.max_rejected,
    }
    return Stage(name, VERSIONS["sources"], run, settings, reads=_source_files(chosen), rows="passages", uses_ray=False)


def select(config: Config, data: Stage) -> Stage:
    """Candidates for the teacher."""

    def run(workspace: StageRun) -> None:
        from distill.select import select as select_candidates

        select_candidates(workspace, config.select, config.source_lang)

    by = config.select.by
    reads = (by.path,) if isinstance(by, RunSelector) else ()
    settings = {"select": config.select.identity(), "source_lang": config.source_lang}
    needs = (_need("select", config.select.pool),) if not reads else ()
    return Stage("select", VERSIONS["select"], run, settings, (data,), reads, needs, rows="candidates")


def translate(config: Config, data: Stage) -> Stage:
    """Passages in every target language."""

    def run(workspace: StageRun) -> None:
        from distill.translate import translate as translate_passages

        translate_passages(workspace, config.translate, config.source_lang, config.languages, config.max_rejected)

    files = tuple(file for group in config.translate.by.files.values() for file in group)
    settings = {
        "translate": config.translate.identity(),
        "source_lang": config.source_lang,
        "languages": list(config.languages),
        "max_rejected": config.max_rejected,
    }
    return Stage("translate", VERSIONS["translate"], run, settings, (data,), files, rows="translations", uses_ray=False)


def score(config: Config, data: Stage, candidates: Stage) -> Stage:
    """The teacher's scores."""

    def run(workspace: StageRun) -> None:
        from distill.score import score as score_candidates

        score_candidates(workspace, config.score, config.source_lang)

    settings = {"score": config.score.identity(), "source_lang": config.source_lang}
    reads = _model_files(config.score.teacher.model)
    needs = (_need("score", config.score.pool),)
    return Stage("score", VERSIONS["score"], run, settings, (data, candidates), reads, needs, rows="scores")


def mix(config: Config, data: Stage, translations: Stage, scores: Stage, *, english: bool = False) -> Stage:
    """Training examples; with `english`, those of the baseline, whose passages are in the source language."""
    settings = config.mix
    languages: Sequence[str] = config.mixed_languages
    if english:
        # The same draws and groups: only the language of the passages differs.
        settings = config.mix.model_copy(update={"strategy": "single", "language": config.source_lang, "languages": ()})
        languages = (config.source_lang,)

    def run(workspace: StageRun) -> None:
        from distill.mix import mix as mix_examples

        mix_examples(workspace, settings, config.source_lang, languages, config.seed)

    identity = {
        "mix": settings.identity(),
        "languages": list(languages),
        "source_lang": config.source_lang,
        "seed": config.seed,
    }
    name = "english_mix" if english else "mix"
    needs = (Need(name, 1, 1.0, 0.0, "cluster.num_cpus"),)
    return Stage(name, VERSIONS["mix"], run, identity, (data, translations, scores), (), needs, rows="examples")


def train(config: Config, data: Stage, translations: Stage, examples: Stage) -> Stage:
    """A student trained on `examples`."""
    name = "english_train" if examples.name == "english_mix" else "train"

    def run(workspace: StageRun) -> None:
        from distill.train import train as train_student

        languages = (config.source_lang, *config.languages)
        train_student(workspace, config.train, config.student, config.seed, examples.name, languages)

    settings = {"train": config.train.identity(), "student": config.student.identity(), "seed": config.seed}
    reads = _model_files(config.student.start.model) if config.student.start.type == "pretrained" else ()
    needs = (
        Need(name, config.train.workers, config.train.cpus_per_worker, config.train.gpus_per_worker, "train.workers"),
    )
    return Stage(
        name, VERSIONS["train"], run, settings, (data, translations, examples), reads, needs, rows="training_log"
    )


def index(config: Config, documents: Stage, translations: Stage, student: Stage) -> Stage:
    """The token vectors of every document."""
    name = "english_index" if student.name == "english_train" else "index"

    def run(workspace: StageRun) -> None:
        from distill.encode import encode

        encode(workspace, config.index, student.name, documents.name)

    settings = {"index": config.index.identity()}
    needs = (_need("index", config.index.pool),)
    return Stage(
        name, VERSIONS["index"], run, settings, (documents, translations, student), (), needs, rows="documents"
    )


def retrieve(
    config: Config, documents: Stage, translations: Stage, scores: Stage, students: Mapping[str, tuple[Stage, Stage]]
) -> Stage:
    """The runs of every system over every collection; `students` maps systems to their train and index stages."""

    def run(workspace: StageRun) -> None:
        from distill.select import pool
        from serve.retrieve import retrieve as retrieve_runs

        names = {system: (trained.name, indexed.name) for system, (trained, indexed) in students.items()}
        retrieve_runs(
            workspace,
            config.evaluate,
            documents.name,
            config.source_lang,
            config.languages,
            names,
            pool(config.index.pool),
        )

    kept = ("split", "query_lang", "depth")
    settings: dict[str, Any] = {name: getattr(config.evaluate, name) for name in kept}
    settings |= {"source_lang": config.source_lang, "languages": list(config.languages), "systems": sorted(students)}
    inputs = (documents, translations, scores, *(stage for pair in students.values() for stage in pair))
    needs = (_need("retrieve", config.index.pool),)
    return Stage("retrieve", VERSIONS["retrieve"], run, settings, inputs, (), needs, rows="run")


def evaluate(config: Config, documents: Stage, indexed: Stage, runs: Stage) -> Stage:
    """Measures of every run, and what the differences are worth."""

    def run(workspace: StageRun) -> None:
        from distill.evaluate import evaluate as evaluate_runs

        evaluate_runs(workspace, config.evaluate, config.source_lang, config.languages, sources=documents.name)

    settings = {
        "evaluate": config.evaluate.identity(),
        "source_lang": config.source_lang,
        "languages": list(config.languages),
    }
    return Stage(
        "evaluate", VERSIONS["evaluate"], run, settings, (documents, indexed, runs), rows="measurements", uses_ray=False
    )


def _need(stage: str, pool: PoolSettings) -> Need:
    setting = f"{'index' if stage == 'retrieve' else stage}.pool"
    return Need(stage, pool.min_actors, pool.num_cpus, pool.num_gpus, setting)


def _source_files(source: Source) -> tuple[str, ...]:
    """Files whose content decides a source; an ir_datasets text is known by its id."""
    if source.type == "bundled":
        return (str(resources.files("distill") / "corpus" / "corpus.jsonl"),)
    if isinstance(source, FileSource):
        from distill.readers import find_all

        return tuple(
            place.name
            for path in (*source.passages, *source.queries, *source.qrels)
            for place in find_all(path, source.root)
        )
    return (source.path,) if source.type == "beir" else ()


def _model_files(model: str) -> tuple[str, ...]:
    """The folder of a local model; a model on the hub is known by its name and revision."""
    folder = locate(model)
    return (folder,) if model in {BUNDLED_STUDENT, BUNDLED_TEACHER} or folder.startswith("/") else ()
