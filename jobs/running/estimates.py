"""Estimates of the stages of a distillation, for `--plan`: tokens and operations, from samples of texts.

Every function returns the least and the most work. They are equal where texts can be sampled: those of a finished stage, of files, of the
bundled corpus. Of a data set that is still to be downloaded only the counts are known, so short and long texts are assumed. None: even the
counts are not known before an earlier stage. Raises ModelError where a model's shape is not known.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from cluster.stages import Runner, Stage
from cluster.storage import open_storage
from cluster.stored_table import StoredTable
from distill.config import Config
from distill.score.settings import SingleTeacher
from distill.select.settings import DenseSelector, LateInteractionSelector
from distill.sources.settings import Source
from distill.translate.settings import ModelTranslator

if TYPE_CHECKING:
    from distill.plan.estimates import Work
    from distill.plan.extents import Extent

Range = tuple["Work", "Work"]
"""The least and the most work."""

ASSUMED_QUERY = (5, 20)
ASSUMED_PASSAGE = (30, 250)
"""Words of the texts of data sets that are not downloaded yet, the least and the most on average (MS MARCO: 6 and 56)."""


def select(config: Config, data: Stage, runner: Runner) -> Range | None:
    """Return the work of a selector that encodes: all passages and queries, and the search where it is exact."""
    by = config.select.by
    extent = extent_of(config, data, runner)
    if not isinstance(by, DenseSelector | LateInteractionSelector) or extent is None:
        return None
    from distill.plan.searching import select_work

    lang = config.select.passage_lang or config.source_lang
    counts = (
        extent.queries_in(config.source_lang),
        extent.passages.get(lang, extent.passages.get(config.source_lang, 0)),
    )
    return _range(extent, lambda queries, passages: select_work(by, queries, passages, *counts))


def score(config: Config, data: Stage, candidates: Stage, teacher: SingleTeacher, runner: Runner) -> Range | None:
    """Return the work of scoring the candidates of all queries with one teacher."""
    extent = extent_of(config, data, runner)
    if extent is None:
        return None
    from distill.plan.estimates import score_work

    selected = runner.finished(candidates)
    count = extent.queries_in(config.source_lang) if selected is None else selected["rows"]
    pairs = count * config.select.by.top_k
    return _range(extent, lambda queries, passages: score_work(teacher, queries, passages, count, pairs))


def train(config: Config, data: Stage, runner: Runner) -> Range | None:
    """Return the work of training the student. Translations are taken to be as long as the source passages."""
    extent = extent_of(config, data, runner)
    if extent is None:
        return None
    from distill.plan.estimates import train_work

    return _range(
        extent,
        lambda queries, passages: train_work(config.train, config.student, config.mix, queries, passages),
    )


def document_count(config: Config, documents: Stage, translations: Stage, runner: Runner) -> int | None:
    """Return the number of documents to search, at most: every language version of every passage. None before it can be known."""
    extent = extent_of(config, documents, runner)
    if extent is None:
        return None
    if documents.name != documents.kind:  # a source to evaluate on alone, which is not translated
        return sum(extent.passages.values())
    source, translated = extent.passages.get(config.source_lang, 0), runner.rows(translations, "translations")
    if translated is not None:
        return source + translated
    return max(sum(extent.passages.values()), source * (1 + len(config.languages)))


def index(config: Config, documents: Stage, translations: Stage, runner: Runner) -> Range | None:
    """Return the work of encoding the documents, in every language that they are in."""
    count = document_count(config, documents, translations, runner)
    extent = extent_of(config, documents, runner)
    if count is None or extent is None:
        return None
    from distill.plan.estimates import index_work

    return _range(extent, lambda _, passages: index_work(config.student, count, passages))


def retrieve(config: Config, documents: Stage, translations: Stage, students: int, runner: Runner) -> Range | None:
    """Return the work of every student's exact search of every document for the evaluated queries."""
    count = document_count(config, documents, translations, runner)
    extent = extent_of(config, documents, runner)
    if count is None or extent is None:
        return None
    from distill.plan.searching import retrieve_work

    asked = extent.queries_in(config.evaluate.query_lang or config.source_lang, config.evaluate.split) * students
    return _range(extent, lambda queries, passages: retrieve_work(config.student, queries, passages, asked, count))


def translate(config: Config, data: Stage, engine: ModelTranslator, runner: Runner) -> Range | None:
    """Return the work of translating the passages into the languages that the source lacks."""
    extent = extent_of(config, data, runner)
    if extent is None or not config.languages:
        return None
    from distill.plan.estimates import translate_work

    source = extent.passages.get(config.source_lang, 0)
    missing = {lang: max(0, source - extent.passages.get(lang, 0)) for lang in config.languages}
    return _range(extent, lambda _, passages: translate_work(engine, passages, missing))


def query_count(config: Config, data: Stage, runner: Runner) -> int | None:
    """Return the number of queries that candidates are selected for: those of every split in the source language."""
    extent = extent_of(config, data, runner)
    return None if extent is None else extent.queries_in(config.source_lang)


def extent_of(config: Config, data: Stage, runner: Runner) -> "Extent | None":
    """Return the extent of the source of the stage `data`, from its tables if it is finished."""
    if runner.finished(data) is not None:
        lang = config.score.query_lang or config.source_lang
        return _read(runner.storage, data.folder, config.source_lang, lang, config.plan.sample)
    source = config.source if data.kind == data.name else config.evaluate.source
    return _unread(data.digest, (source or config.source).model_dump_json(), config.source_lang, config.languages)


@lru_cache(maxsize=4)
def _unread(digest: str, source: str, source_lang: str, languages: tuple[str, ...]) -> "Extent | None":
    """Return the extent of a source that is not read yet. `digest` stands for the state of its files, whose heads are read once."""
    del digest
    from pydantic import TypeAdapter

    from distill.plan.extents import extent

    return extent(TypeAdapter(Source).validate_json(source), source_lang, languages)


def _range(extent: "Extent", work: Callable[[Sequence[str], Sequence[str]], "Work"]) -> Range:
    if extent.passage_texts:
        # Queries of a source that has none in the source language are taken to be short passages.
        queries = extent.query_texts or [_words(ASSUMED_QUERY[1])]
        known = work(queries, extent.passage_texts)
        return known, known
    least, most = (
        work([_words(query)], [_words(passage)]) for query, passage in zip(ASSUMED_QUERY, ASSUMED_PASSAGE, strict=True)
    )
    return least, most


def _words(count: int) -> str:
    return " ".join(["the"] * count)


@lru_cache(maxsize=4)
def _read(storage: str, folder: str, source_lang: str, query_lang: str, count: int) -> "Extent":
    """Return the extent of a finished stage, with samples of `count` texts. Stages are never written twice, so that it stays right."""
    from distill.plan.estimates import sample
    from distill.plan.extents import Extent
    from distill.text import passage_text

    filesystem, root = open_storage(storage)
    queries, passages, parallel = (
        StoredTable.open(filesystem, f"{root}/{folder}/{table}") for table in ("queries", "passages", "parallel")
    )
    splits = queries.read(columns=["lang", "split"]).to_pydict()
    langs = parallel.read(columns=["lang"])["lang"].value_counts().to_pylist() if len(parallel) else []
    texts = passages if len(passages) else parallel
    drawn, asked = sample(texts, count, ("title", "text")), sample(queries, count, ("lang", "text"))
    return Extent(
        Counter(zip(splits["lang"], splits["split"], strict=True)),
        {source_lang: len(passages)} | {row["values"]: row["counts"] for row in langs},
        [
            text
            for of, text in zip(asked["lang"].to_pylist(), asked["text"].to_pylist(), strict=True)
            if of == query_lang
        ],
        [passage_text(*row) for row in zip(drawn["title"].to_pylist(), drawn["text"].to_pylist(), strict=True)],
    )
