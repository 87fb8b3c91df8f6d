"""Estimates of the stages of a distillation, for `--plan`: tokens and operations, from samples of finished stages.

Every function returns None before the stages whose texts it samples are finished. Raises ModelError where a model's shape is not known.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from cluster.stages import Runner, Stage
from cluster.storage import open_storage
from cluster.stored_table import StoredTable
from distill.config import Config
from distill.score.settings import SingleTeacher
from distill.translate.settings import ModelTranslator

if TYPE_CHECKING:
    from distill.plan.estimates import Work


def score(config: Config, data: Stage, candidates: Stage, teacher: SingleTeacher, runner: Runner) -> "Work | None":
    """Return the work of scoring the candidates of all queries with one teacher."""
    if runner.finished(data) is None:
        return None
    from distill.plan.estimates import score_work

    selected = runner.finished(candidates)
    count = (runner.rows(data, "queries") or 0) if selected is None else selected["rows"]
    queries, passages = _queries(config, data, runner), _passages(config, data, runner)
    return score_work(teacher, queries, passages, count, count * config.select.by.top_k)


def train(config: Config, data: Stage, runner: Runner) -> "Work | None":
    """Return the work of training the student. Translations are taken to be as long as the source passages."""
    if runner.finished(data) is None:
        return None
    from distill.plan.estimates import train_work

    queries, passages = _queries(config, data, runner), _passages(config, data, runner)
    return train_work(config.train, config.student, config.mix, queries, passages)


def index(config: Config, documents: Stage, runner: Runner) -> "Work | None":
    """Return the work of encoding the documents in every language."""
    rows = runner.rows(documents, "passages")
    if rows is None:
        return None
    from distill.plan.estimates import index_work

    return index_work(config.student, rows * (1 + len(config.languages)), _passages(config, documents, runner))


def translate(config: Config, data: Stage, engine: ModelTranslator, runner: Runner) -> "Work | None":
    """Return the work of translating the passages into the languages that the source lacks, an equal share of each."""
    languages = config.languages
    rows = runner.rows(data, "passages")
    if rows is None or not languages:
        return None
    from distill.plan.estimates import translate_work

    missing = max(0, rows - (runner.rows(data, "parallel") or 0) // len(languages))
    return translate_work(engine, _passages(config, data, runner), dict.fromkeys(languages, missing))


def _queries(config: Config, data: Stage, runner: Runner) -> list[str]:
    rows = _sample(runner.storage, data.folder, "queries", ("lang", "text"), config.plan.sample)
    lang = config.score.query_lang or config.source_lang
    return [text for of, text in rows if of == lang]


def _passages(config: Config, data: Stage, runner: Runner) -> list[str]:
    from distill.text import passage_text

    rows = _sample(runner.storage, data.folder, "passages", ("title", "text"), config.plan.sample)
    return [passage_text(title, text) for title, text in rows]


@lru_cache(maxsize=8)
def _sample(storage: str, folder: str, table: str, columns: tuple[str, ...], count: int) -> list[tuple[str, ...]]:
    """Return at most `count` rows of a finished stage's table. Stages are never written twice, so that a sample stays right."""
    from distill.plan.estimates import sample

    filesystem, root = open_storage(storage)
    rows = sample(StoredTable.open(filesystem, f"{root}/{folder}/{table}"), count, columns)
    return list(zip(*(rows[name].to_pylist() for name in columns), strict=True))
