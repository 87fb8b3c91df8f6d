"""Data sets of ir_datasets as a source."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from cluster.errors import how_to_install, one_line
from cluster.locations import SourceError, locate
from distill.formats.rows import PassageParser, QueryParser, Record
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.text import FORMATS, read_queries
from distill.sources.intake import Intake
from distill.sources.settings import IrDatasetsSource

IrDataset: TypeAlias = Any
"""An ir_datasets `Dataset`. It has the methods of its parts (docs_iter, queries_iter, qrels_iter ...)."""

IR_PASSAGE = PassageFields(title="title")
"""Names of the fields in the records of `ir_passages`."""


def add_ir_datasets(intake: Intake, source: IrDatasetsSource, source_lang: str) -> None:
    """Add data sets of ir_datasets: passages by language, queries by split with their judgements, translated queries.

    Every language that the settings name is kept.

    Raises:
        SourceError: ir_datasets is not installed, does not have a data set or a part of it, or cannot read or download it.
    """
    intake.kept |= {*source.passages, *source.translated_queries}
    passages = {lang: load_ir_dataset(name, "docs") for lang, name in source.passages.items()}
    queries = [(split, name, load_ir_dataset(name, "queries")) for split, name in source.queries.items()]
    for lang, dataset in passages.items():
        name = f"ir_datasets:{source.passages[lang]}"
        intake.add_passages(name, ir_passages(name, dataset), PassageParser(IR_PASSAGE, lang))
    for split, dataset_id, dataset in queries:
        name = f"ir_datasets:{dataset_id}"
        # Topics of several languages (NeuCLIR, HC4) name none; their title and description are in English.
        lang = dataset.queries_lang() or source_lang
        intake.add_queries(name, _ir_queries(name, dataset), QueryParser(QueryFields(), lang, split))
        if dataset.has("qrels"):
            intake.add_qrels(name, _ir_qrels(name, dataset))
    for lang, splits in source.translated_queries.items():
        for split, path in splits.items():
            if path.endswith(FORMATS):
                file = locate(path)
                intake.add_queries(file.name, *read_queries(file, QueryFields(), lang, split))
            else:
                name = f"ir_datasets:{path}"
                rows = _ir_queries(name, load_ir_dataset(path, "queries"))
                intake.add_queries(name, rows, QueryParser(QueryFields(), lang, split))


def load_ir_dataset(name: str, part: str) -> IrDataset:
    """Return the data set `name` of ir_datasets, which must have `part` (docs or queries). Nothing is downloaded yet."""
    try:
        import ir_datasets
    except ImportError as error:
        raise SourceError(f"ir_datasets:{name} needs the ir_datasets package: {how_to_install('irds')}") from error
    try:
        dataset = ir_datasets.load(name)
    except KeyError as error:
        raise SourceError(f"ir_datasets has no data set '{name}'; https://ir-datasets.com lists them") from error
    if not dataset.has(part):
        raise SourceError(f"ir_datasets:{name} has no {part}; https://ir-datasets.com lists the parts that do")
    return dataset


def ir_passages(name: str, dataset: IrDataset) -> Iterator[tuple[int, Record]]:
    """Yield the documents of a data set as records of `IR_PASSAGE`: title where there is one, and text (or body).

    A document of other fields (abstracts, claims, tables) is read as ir_datasets itself puts it into one text
    (`default_text`).
    """
    for number, doc in _items(name, dataset.docs_iter):
        body = next((part for part in ("text", "body") if part in doc._fields), None)
        if body is None:
            yield number, {"id": doc.doc_id, "title": "", "text": doc.default_text()}
        else:
            yield number, {"id": doc.doc_id, "title": getattr(doc, "title", None), "text": getattr(doc, body)}


def _ir_queries(name: str, dataset: IrDataset) -> Iterator[tuple[int, Record]]:
    """Yield the queries of a data set: a TREC topic is its title and description (arXiv 2401.04810, 2405.00977)."""
    for number, query in _items(name, dataset.queries_iter):
        if {"title", "description"} <= set(query._fields):
            yield number, {"id": query.query_id, "text": f"{query.title} {query.description}".strip()}
        else:
            yield number, {"id": query.query_id, "text": query.default_text()}


def _ir_qrels(name: str, dataset: IrDataset) -> Iterator[tuple[int, Record]]:
    for number, qrel in _items(name, dataset.qrels_iter):
        yield number, {"query": qrel.query_id, "passage": qrel.doc_id, "grade": qrel.relevance}


def _items(name: str, iterate: Callable[[], Iterator[Any]]) -> Iterator[tuple[int, Any]]:
    """Yield what ir_datasets yields, numbered from 1. Failed downloads and malformed files become a `SourceError`."""
    try:
        yield from enumerate(iterate(), start=1)
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(
            f"{name}: {one_line(error)}; ir_datasets downloads to ~/.ir_datasets, or $IR_DATASETS_HOME"
        ) from error
