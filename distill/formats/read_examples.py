"""Training data of other tools: PyLate's three tables, and the columns of sentence-transformers.

Files are Parquet or JSONL (optionally .gz), local or s3://. A row that cannot be used is rejected with its reason; a file that lacks a
column is an error that names it. Cost: some 20 microseconds a row; memory that of the texts, ids and scores as Arrow tables.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import visible
from cluster.locations import Location, SourceError, find_all
from distill.formats.rows import ORIGIN, Record, Rejects, RowError, batches, content, identifier
from distill.formats.settings import ImportedExamples, PylateExamples, SentenceTransformersExamples
from distill.formats.text import read_records
from distill.tables import FLOATS, QUERIES, STRING, STRINGS, duplicates
from distill.text import is_blank

Parser: TypeAlias = Callable[[Record], tuple[Any, ...]]


class ImportedTables(NamedTuple):
    """Examples of another tool's files as tables.

    Attributes:
        queries: QUERIES, all of them for training.
        lists: query_id, passage_ids, scores (NaN where there are none) and positives: how many of the first passages are positives.
        passages: passage_id, lang, title and text.
        translations: the same in other languages.
        rejected: REJECTED.
    """

    queries: pa.Table
    lists: pa.Table
    passages: pa.Table
    translations: pa.Table
    rejected: pa.Table


_FORMATS = (".parquet", ".jsonl", ".jsonl.gz")
_LARGEST = float(np.finfo(np.float32).max)
LISTS = pa.schema([("query_id", STRING), ("passage_ids", STRINGS), ("scores", FLOATS), ("positives", pa.int32())])
"""The candidates that examples are drawn from; positives: how many of the first are positives."""
_TEXTS = pa.schema([("passage_id", STRING), ("lang", STRING), ("title", STRING), ("text", STRING)])


def read_examples(settings: ImportedExamples, source_lang: str, max_rejected: float = 0.01) -> ImportedTables:
    """Return the queries, candidates, scores and texts of another tool's files. Where settings name no language it is `source_lang`.

    Listed documents without a text are left out, up to the share `max_rejected` of them.
    """
    match settings:
        case PylateExamples():
            return _read_pylate(settings, source_lang, max_rejected)
        case SentenceTransformersExamples():
            return _read_sentence_transformers(settings, source_lang)
        case _:
            assert_never(settings)


def _read_pylate(settings: PylateExamples, source_lang: str, max_rejected: float) -> ImportedTables:
    # How much may be rejected is the stage's to say; here all of it is collected.
    rejects = Rejects(limit=1.0)
    query_lang, passage_lang = settings.query_lang or source_lang, settings.passage_lang or source_lang
    lists = _read(settings.train, ("query_id", "document_ids", "scores"), _parse_list, LISTS, rejects)
    lists = _one_list_a_query(lists)
    queries = _read(settings.queries, ("query_id", "text"), _query_parser(query_lang), QUERIES.schema, rejects)
    _check_unique(queries, ("query_id",), "imported.queries")
    fields = ("document_id", "text", *([settings.lang_field] if settings.lang_field else []))
    parse = _document_parser(passage_lang, settings.lang_field)
    passages = _read(settings.documents, fields, parse, _TEXTS, rejects)
    _check_unique(passages, ("passage_id",), "imported.documents")
    translations = [
        _read(files, ("document_id", "text"), _document_parser(lang, None), _TEXTS, rejects)
        for lang, files in settings.translations.items()
    ]
    translated = pa.concat_tables(translations) if translations else _TEXTS.empty_table()
    _check_unique(translated, ("passage_id", "lang"), "imported.translations")
    lists = _known_queries(lists, queries, rejects)
    lists = _known_documents(lists, passages, rejects, max_rejected)
    return ImportedTables(queries, lists, passages, translated, rejects.table())


def _parse_list(record: Record) -> tuple[Any, ...]:
    query_id = identifier(record, "query_id")
    ids = [
        identifier({"document_ids": value}, "document_ids", query_id)
        for value in _list_in(record, "document_ids", query_id)
    ]
    scores = _numbers(record, "scores", query_id)
    if len(ids) != len(scores):
        raise RowError("scores", f"{len(scores)} scores of {len(ids)} document_ids", query_id)
    known: dict[str, float] = {}
    for passage_id, score in zip(ids, scores, strict=True):
        if known.setdefault(passage_id, score) != score:
            found = f"{known[passage_id]:g} and {score:g}"
            raise RowError("document_ids", f"{passage_id!r} is there twice, with scores {found}", query_id)
    return query_id, list(known), list(known.values()), 0


def _one_list_a_query(lists: pa.Table) -> pa.Table:
    """Join the rows of each query, each document once, as within a row: a query that was written once an epoch has a row for each."""
    if not duplicates(lists, ("query_id",)):
        return lists
    joined: dict[str, dict[str, float]] = {}
    for row in lists.to_pylist():
        known = joined.setdefault(row["query_id"], {})
        for passage_id, score in zip(row["passage_ids"], row["scores"], strict=True):
            if known.setdefault(passage_id, score) != score:
                found = f"{known[passage_id]:g} and {score:g}"
                raise SourceError(
                    f"mix.imported.train: query {row['query_id']!r} has document {passage_id!r} with scores {found}"
                )
    rows = [
        {"query_id": query_id, "passage_ids": list(known), "scores": list(known.values()), "positives": 0}
        for query_id, known in joined.items()
    ]
    return pa.Table.from_pylist(rows, LISTS)


def _query_parser(lang: str) -> Parser:
    def parse(record: Record) -> tuple[Any, ...]:
        query_id = identifier(record, "query_id")
        return query_id, lang, _filled(content(record, "text", query_id), "text", query_id), "train"

    return parse


def _document_parser(lang: str, lang_field: str | None) -> Parser:
    def parse(record: Record) -> tuple[Any, ...]:
        passage_id = identifier(record, "document_id")
        text = _filled(content(record, "text", passage_id), "text", passage_id)
        return passage_id, content(record, lang_field, passage_id) if lang_field else lang, "", text

    return parse


def _known_queries(lists: pa.Table, queries: pa.Table, rejects: Rejects) -> pa.Table:
    """Return the rows whose query has a text; reject the others."""
    known = pc.is_in(lists["query_id"], value_set=queries["query_id"].combine_chunks())
    for query_id in lists["query_id"].filter(pc.invert(known)).to_pylist():
        rejects.add("imported.train", 0, RowError("query_id", "no such query in imported.queries", query_id))
    return lists.filter(known)


def _known_documents(lists: pa.Table, passages: pa.Table, rejects: Rejects, max_rejected: float) -> pa.Table:
    """Return the lists without documents that have no text; reject these, one row for each query.

    Raises:
        SourceError: a larger share of the listed documents than `max_rejected` has none.
    """
    known = pc.is_in(pc.list_flatten(lists["passage_ids"]), value_set=passages["passage_id"].combine_chunks())
    lost = len(known) - (pc.sum(known).as_py() or 0)
    if not lost:
        return lists
    there = set(passages["passage_id"].to_pylist())
    rows, shown = lists.to_pylist(), []
    for row in rows:
        missing = [i for i in row["passage_ids"] if i not in there]
        if missing:
            names = ", ".join(f"'{visible(i)}'" for i in missing[:3])
            reason = (
                f"{len(missing)} of {len(row['passage_ids'])} documents have no text in imported.documents: {names}"
            )
            rejects.add("imported.train", 0, RowError("document_ids", reason, row["query_id"]))
            shown += missing[: 3 - len(shown)]
        kept = [(i, score) for i, score in zip(row["passage_ids"], row["scores"], strict=True) if i in there]
        row["passage_ids"], row["scores"] = [i for i, _ in kept], [score for _, score in kept]
    if lost > max_rejected * len(known):
        names = ", ".join(f"'{visible(i)}'" for i in shown)
        raise SourceError(
            f"mix.imported.train: {lost} of {len(known)} listed documents have no text in mix.imported.documents, more than max_rejected "
            f"{max_rejected}: {names}; add files that have them, or raise max_rejected"
        )
    return pa.Table.from_pylist(rows, LISTS)


def _check_unique(table: pa.Table, key: Sequence[str], source: str) -> None:
    repeated = duplicates(table, key)
    if repeated:
        shown = " ".join(f"{name} {value!r}" for name, value in zip(key, repeated[0], strict=True))
        raise SourceError(
            f"mix.{source}: {len(repeated)} ids are on several rows, among them {shown}; ids must be unique"
        )


@dataclass(frozen=True)
class Layout:
    """The columns of a file.

    Attributes:
        passages: the columns with passages, in order.
        positive: whether the first of them is a positive.
        label: whether there are labels.
    """

    passages: tuple[str, ...]
    positive: bool
    label: bool

    @classmethod
    def of(cls, columns: Sequence[str], source: str) -> "Layout":
        """Return the layout of these columns; raise SourceError, which names them, where they are of none."""
        others = [name for name in columns if name not in {"query", "label"}]
        negatives = _numbered(others, "negative")
        if "positive" in others:
            passages, positive = ["positive", *(["negative"] if "negative" in others else []), *negatives], True
        else:
            passages, positive = _numbered(others, "document"), False
        if "query" not in columns or len(passages) < 2 or set(passages) != set(others):
            raise SourceError(
                f"{source}: columns {', '.join(columns)}; expected query, then positive and negative or negative_1 to negative_N, or "
                "document_1 to document_N (two or more), and perhaps label"
            )
        return cls(tuple(passages), positive, "label" in columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return ("query", *self.passages, *(["label"] if self.label else []))


def _numbered(columns: Sequence[str], stem: str) -> list[str]:
    """Return those of the columns stem_1, stem_2 ... that follow one another from 1."""
    numbers = sorted(int(match[1]) for name in columns if (match := re.fullmatch(rf"{stem}_([1-9][0-9]*)", name)))
    return [f"{stem}_{number}" for index, number in enumerate(numbers, start=1) if number == index]


def _read_sentence_transformers(settings: SentenceTransformersExamples, source_lang: str) -> ImportedTables:
    rejects = Rejects(limit=1.0)
    rows = pa.schema([("query", STRING), ("passages", STRINGS), ("scores", FLOATS), ("positives", pa.int32())])
    parts = []
    for location in (location for path in settings.files for location in find_all(path)):
        layout = Layout.of(_columns(location), location.name)
        parts.append(_read_file(location, layout.columns, _row_parser(layout), rows, rejects))
    table = pa.concat_tables(parts).combine_chunks()
    query_ids = [str(number) for number in range(len(table))]
    lengths = pc.list_value_length(table["passages"]).to_pylist()
    ids = [
        [f"{query_id}.{number}" for number in range(1, n + 1)] for query_id, n in zip(query_ids, lengths, strict=True)
    ]
    texts = pc.list_flatten(table["passages"]).combine_chunks()
    lists = pa.table(
        {"query_id": query_ids, "passage_ids": ids, "scores": table["scores"], "positives": table["positives"]}
    )
    passages = {
        "passage_id": pc.list_flatten(lists["passage_ids"]),
        "lang": pa.repeat(pa.scalar(settings.passage_lang or source_lang, STRING), len(texts)),
        "title": pa.repeat(pa.scalar("", STRING), len(texts)),
        "text": texts,
    }
    queries = {
        "query_id": query_ids,
        "lang": [settings.query_lang or source_lang] * len(table),
        "text": table["query"],
        "split": ["train"] * len(table),
    }
    return ImportedTables(
        QUERIES.check(pa.table(queries, schema=QUERIES.schema)),
        lists.cast(LISTS),
        pa.table(passages, schema=_TEXTS),
        _TEXTS.empty_table(),
        rejects.table(),
    )


def _row_parser(layout: Layout) -> Parser:
    def parse(record: Record) -> tuple[Any, ...]:
        query = _filled(content(record, "query", ""), "query", "")
        passages = [_filled(content(record, name, ""), name, "") for name in layout.passages]
        scores = _scores(record, len(passages)) if layout.label else [math.nan] * len(passages)
        return query, passages, scores, int(layout.positive)

    return parse


def _scores(record: Record, count: int) -> list[float]:
    """Return the scores of a label: its numbers, or, of margins (one number fewer than passages), 0 and each margin below it."""
    value = record["label"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        record = {"label": [value]}
    numbers = _numbers(record, "label", "")
    if len(numbers) == count:
        return numbers
    if len(numbers) == count - 1:
        return [0.0, *(-margin for margin in numbers)]
    raise RowError(
        "label", f"{len(numbers)} numbers for {count} passages, expected {count} or, as margins, {count - 1}"
    )


def _columns(location: Location) -> list[str]:
    """Return the columns of a Parquet file, or the fields of a JSONL file's first object."""
    if location.path.endswith(".parquet"):
        return list(pq.read_schema(location.path, filesystem=location.filesystem).names)
    first = next(
        (record for _, record in read_records(location, (), _FORMATS) if not isinstance(record, RowError)), None
    )
    if first is None:
        raise SourceError(f"{location.name} holds no JSON object")
    return list(first)


def _read(paths: Sequence[str], fields: Sequence[str], parse: Parser, schema: pa.Schema, rejects: Rejects) -> pa.Table:
    """Return the rows of all files as a table of `schema`."""
    parts = [_read_file(location, fields, parse, schema, rejects) for path in paths for location in find_all(path)]
    return pa.concat_tables([schema.empty_table(), *parts])


def _read_file(
    location: Location, fields: Sequence[str], parse: Parser, schema: pa.Schema, rejects: Rejects
) -> pa.Table:
    with_origin = pa.schema([*schema, *ORIGIN])
    tables = [
        part.select(schema.names)
        for part in batches(location.name, read_records(location, fields, _FORMATS), parse, with_origin, rejects)
    ]
    return pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])


def _filled(text: str, field: str, row_id: str) -> str:
    if is_blank(text):
        raise RowError(field, "is empty", row_id)
    return text


def _list_in(record: Record, field: str, row_id: str) -> Sequence[Any]:
    """Return the list in a field, which holds a list, or the text of one in JSON or, as PyLate also writes them, in Python."""
    if field not in record:
        content(record, field, row_id)  # says which fields there are
    value = record[field]
    if isinstance(value, str):
        value = _spelled(value, field, row_id)
    if not isinstance(value, list | tuple):
        raise RowError(field, f"{str(value)[:40]!r}, expected a list", row_id)
    return value


def _spelled(text: str, field: str, row_id: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise RowError(field, f"{text[:40]!r}, expected a list, or one in JSON", row_id)


def _numbers(record: Mapping[str, Any], field: str, row_id: str) -> list[float]:
    values = _list_in(record, field, row_id)
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= _LARGEST:  # so NaN is refused too
            raise RowError(field, f"{value!r}, expected finite numbers of 32 bits", row_id)
    return [float(value) for value in values]
