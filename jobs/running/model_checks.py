"""Checks of the models of a job before its first stage: folders, names on the hub, endpoints, programs and packages, by their settings.

A local folder is looked through wherever the driver runs, since its state is part of a stage's digest. What only actors need (the hub's
cache, packages, programs, an endpoint) must be here when Ray is local. On a cluster, or in an environment of the pool's own, actors may
have what the driver lacks: it is then said and left to them, whose first shard says the same in one line.
"""

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cluster.errors import UserError, how_to_install, one_line
from cluster.settings import PoolSettings
from cluster.stages import Runner
from distill.encoders.settings import StudentSettings
from distill.models.locate import BUNDLED_STUDENT, BUNDLED_TEACHER, ModelError, locate
from distill.models.reach import UnreachableError, check_model
from distill.score.settings import (
    CausalTeacher,
    CrossEncoderTeacher,
    HttpTeacher,
    ImportedTeacher,
    MonoT5Teacher,
    SingleTeacher,
    VllmEngine,
)
from distill.select.settings import DenseSelector, LateInteractionSelector, SelectSettings
from distill.train.settings import TrainSettings
from distill.translate.settings import (
    CommandTranslator,
    CTranslate2Translator,
    EngineTranslator,
    ModelTranslator,
    TranslateSettings,
    VllmTranslator,
)

Check = Callable[[Runner], None]

_TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


def student(settings: StudentSettings, train: TrainSettings | None = None) -> Check:
    """Return the check of the model that a student starts from, which the driver itself loads, and of the trackers' libraries."""

    def check(runner: Runner) -> None:
        for logger in train.loggers if train else ():
            _package(_TRACKERS[logger], "tracking", f"train.loggers '{logger}'", None, runner)
        if settings.start.type == "pretrained":
            _model(
                "student.start.model", settings.start.model, settings.start.revision, runner, here=True, pickled=False
            )

    return check


def teacher(settings: SingleTeacher, pool: PoolSettings) -> Check:
    """Return the check of a teacher: its model, its engine, or its endpoint."""

    def check(runner: Runner) -> None:
        match settings:
            case ImportedTeacher():
                return
            case HttpTeacher():
                _endpoint("score.teacher.url", settings.url, runner)
                return
            case _:
                own = isinstance(settings, CrossEncoderTeacher | CausalTeacher) and isinstance(
                    settings.engine, VllmEngine
                )
                if own:
                    _package("vllm", "vllm", "score.teacher.engine", pool, runner)
                _model("score.teacher.model", settings.model, settings.revision, runner, files_only=own)
        if isinstance(settings, CrossEncoderTeacher | MonoT5Teacher | CausalTeacher) and not own:
            from distill.plan.estimates import composer_of

            _quietly(partial(composer_of, settings), "score.teacher", runner)

    return check


def selector(settings: SelectSettings) -> Check:
    """Return the check of a selector's encoder and index."""

    def check(runner: Runner) -> None:
        by = settings.by
        if isinstance(by, DenseSelector):
            if by.factory:
                _package("faiss", "cpu", "select.by.factory", settings.pool, runner)
            _model("select.by.encoder.model", by.encoder.model, by.encoder.revision, runner)
        elif isinstance(by, LateInteractionSelector):
            _model("select.by.model", by.model, by.revision, runner, here=True, pickled=False)

    return check


def translator(settings: TranslateSettings, source_lang: str, languages: Sequence[str]) -> Check:
    """Return the check of the translators: their models, packages and programs, for each language of the job."""

    def check(runner: Runner) -> None:
        engines = {"translate.by": settings.engine, "translate.fallback": settings.second_engine}
        if settings.engine is settings.fallback:
            engines = {"translate.fallback": settings.fallback}
        for setting, engine in engines.items():
            if engine is None or not languages:
                continue
            _engine(setting, engine, settings.pool, (source_lang, *languages), runner)

    return check


def _engine(
    setting: str, engine: EngineTranslator, pool: PoolSettings, languages: Sequence[str], runner: Runner
) -> None:
    """Check a translator; the first of `languages` is the source's."""
    _package("sentencex", "mt", setting, pool, runner)
    match engine:
        case CommandTranslator():
            _program(setting, engine.command[0], (languages[0], languages[1]), runner)
        case VllmTranslator():
            _package("vllm", "vllm", setting, pool, runner)
            _model(f"{setting}.model", engine.model, engine.revision, runner, files_only=True)
        case ModelTranslator():
            if isinstance(engine, CTranslate2Translator):
                _package("ctranslate2", "mt", setting, pool, runner)
            for lang in languages[1:]:
                model = engine.model_for(lang)
                if model is None:
                    raise ModelError(f"{setting}: no model translates into '{lang}'; add one to {setting}.models")
                _model(f"{setting}.model", model, engine.revisions.get(model), runner)


def _model(
    setting: str,
    model: str,
    revision: str | None,
    runner: Runner,
    *,
    here: bool = False,
    pickled: bool = True,
    files_only: bool = False,
) -> None:
    """Check a model's files, and that transformers knows its kind and its tokenizer.

    Args:
        setting: the setting that names it.
        model: the model.
        revision: commit on the hub.
        runner: knows whether Ray is local.
        here: whether the driver itself loads it.
        pickled: whether its weights may be those of `torch.save`.
        files_only: whether another environment than the driver's loads it.
    """

    def look() -> None:
        check_model(model, revision, pickled=pickled)
        if files_only or model in {BUNDLED_STUDENT, BUNDLED_TEACHER}:
            return
        folder = Path(locate(model))
        if folder.is_dir() and (folder / "config.json").is_file():
            from distill.models.loading import load_any_tokenizer, load_config

            load_config(model)
            load_any_tokenizer(model)

    _quietly(look, setting, runner, here=here)


def _quietly(action: Callable[[], object], setting: str, runner: Runner, *, here: bool = False) -> None:
    """Do what a check does; its error names the setting, and the hub that only this machine cannot reach is said and passed over."""
    try:
        action()
    except UnreachableError as error:
        _lacking(f"{setting}: {error}", runner, here=here, cause=error)
    except UserError as error:
        text = str(error)
        raise ModelError(text if text.startswith(setting) else f"{setting}: {text}") from error


def _package(module: str, extra: str, setting: str, pool: PoolSettings | None, runner: Runner) -> None:
    if importlib.util.find_spec(module) is not None or (pool is not None and pool.runtime_env):
        return
    _lacking(f"{setting} needs {module}: {how_to_install(extra)}", runner)


def _program(setting: str, command: str, languages: tuple[str, str], runner: Runner) -> None:
    name = command.replace("{source_lang}", languages[0]).replace("{lang}", languages[1])
    if shutil.which(name) is None:
        _lacking(
            f"{setting}.command: there is no program '{name}' that can be run; name one, with its whole path", runner
        )


def _endpoint(setting: str, url: str, runner: Runner) -> None:
    """Ask an endpoint for anything: any answer shows that it is there."""
    import httpx

    try:
        httpx.get(url, timeout=10.0)
    except httpx.HTTPError as error:
        reason = one_line(error) or type(error).__name__
        _lacking(f"{setting}: no server answers at {url} ({reason}); start it, or correct the URL", runner, cause=error)


def _lacking(text: str, runner: Runner, *, here: bool = False, cause: Exception | None = None) -> None:
    """Raise what the driver lacks where actors lack it too, and else say that they are relied on."""
    if runner.session.local or here:
        raise ModelError(text) from cause
    print(f"  not checked, the cluster's workers may have it: {text}", flush=True)
