"""The stages up to the scores of a teacher: sources, select, translate, score, calibrate."""

from collections.abc import Callable, Sequence
from functools import partial

from cluster.session import Need
from cluster.settings import PoolSettings
from cluster.stages import Runner, Stage, StageRun
from distill.config import Config
from distill.score.settings import BiEncoderTeacher, EnsembleTeacher, ImportedTeacher, SingleTeacher
from distill.select.settings import Bm25Selector, DenseSelector, LateInteractionSelector, RunSelector, ScoredSelector
from distill.sources.settings import Source
from distill.translate.settings import ModelTranslator
from jobs.running import checks, estimates, model_checks
from jobs.running.inputs import model_files, source_files


def sources(config: Config, source: Source | None = None, name: str = "sources") -> Stage:
    """Return the stage that reads a source: queries, passages, parallel passages and qrels."""
    chosen = source or config.source

    def run(workspace: StageRun) -> None:
        from distill.sources.stage import ingest

        ingest(workspace, chosen, config.source_lang, languages, config.max_rejected)

    known: set[str] = {config.source_lang, *config.languages}
    asked = config.evaluate.query_lang
    languages = config.languages if asked is None or asked in known else (*config.languages, asked)
    settings = {
        "source": chosen.identity(),
        "source_lang": config.source_lang,
        "languages": list(languages),
        "max_rejected": config.max_rejected,
    }
    tokenizer = model_files(chosen.cut.tokenizer) if chosen.cut is not None else ()
    return Stage(
        name,
        # 2: texts that cannot be seen are empty, judgements of what exists nowhere are rejected. 4 writes `parts`. 5 keeps every language
        # that a source of ir_datasets names.
        version=5,
        run=run,
        settings=settings,
        reads=(*source_files(chosen), *tokenizer),
        rows="passages",
        uses_ray=False,
        kind="sources",
        work=f"read the {chosen.type} source",
        limited=False,
    )


def select(config: Config, data: Stage, translations: Stage) -> Stage:
    """Return the stage that selects candidates for the teacher. It depends on the translations only where it reads them."""
    settings = config.select

    def run(workspace: StageRun) -> None:
        from distill.select.stage import select as select_candidates

        select_candidates(
            workspace,
            settings,
            config.source_lang,
            config.translate.max_missing,
            without_own=config.source.without_own_ids,
        )

    by = settings.by
    files = tuple(by.files) if isinstance(by, ScoredSelector) else ()
    reads = (by.path,) if isinstance(by, RunSelector) else files or model_files(getattr(by, "model", None))
    identity = {"select": settings.identity(), "source_lang": config.source_lang}
    if settings.passage_lang not in {None, config.source_lang}:
        identity["max_missing"] = config.translate.max_missing
    inputs = (data, *_translated(config, translations, settings.passage_lang))
    needs = (pool_need("select", settings.pool),) if not isinstance(by, RunSelector | ScoredSelector) else ()
    work = _up_to(config, data, "candidates")
    # Version 3 ranks equal scores of vectors by position; the other selectors did before. Version 4 reads a dense encoder's own pooling;
    # with BM25 it has the words of scripts with shared signs whole.
    version = 4 if isinstance(by, DenseSelector | Bm25Selector) else 3 if isinstance(by, LateInteractionSelector) else 2
    encodes = isinstance(by, DenseSelector | LateInteractionSelector)
    estimate = partial(estimates.select, config, data) if encodes else None
    return Stage(
        "select",
        version,
        run,
        identity,
        inputs,
        reads,
        needs,
        rows="candidates",
        work=work,
        estimate=estimate,
        check=checks.both(model_checks.selector(settings), partial(checks.source_passages, config, data)),
    )


def _up_to(config: Config, data: Stage, unit: str) -> Callable[[Runner], str]:
    """Return the work of a stage that reads the candidates of every query, in `unit`s."""
    top_k = config.select.by.top_k

    def work(runner: Runner) -> str:
        queries = estimates.query_count(config, data, runner)
        return f"up to {top_k} {unit} a query" if queries is None else f"up to {queries * top_k:,} {unit}"

    return work


def _translated(config: Config, translations: Stage, passage_lang: str | None) -> tuple[Stage, ...]:
    """Return the translations as an input where a stage reads passages in another language than the source's, or translated into it."""
    own = passage_lang in {None, config.source_lang} and config.translate.elsewhere == "leave_out"
    return () if own else (translations,)


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
    needs = (pool_need("translate", chosen.pool),) if engine else ()
    estimate = None
    if isinstance(chosen.engine, ModelTranslator):
        estimate = partial(estimates.translate, config, data, chosen.engine)
    regional = any(set("-_") & set(lang) for lang in (config.source_lang, *config.languages))
    return Stage(
        "translate",
        # 3 keeps passages without a source text as documents; 4 takes a language's code in the script that its tag says.
        version=4 if engine and regional else 3,
        run=run,
        settings=settings,
        inputs=(data,),
        reads=(*files, *models),
        needs=needs,
        rows="translations",
        uses_ray=engine,
        work=f"{len(config.languages)} languages",
        estimate=estimate,
        check=model_checks.translator(chosen, config.source_lang, config.languages),
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
    needs = () if imported else (pool_need("score", config.score.pool),)
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
        check=model_checks.teacher(teacher, config.score.pool),
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


def pool_need(stage: str, pool: PoolSettings) -> Need:
    """Return what a stage on a pool of actors asks of the cluster, with the setting that says so."""
    setting = f"{'index' if stage == 'retrieve' else stage}.pool"
    return Need.of_pool(stage, pool, setting)
