"""Rows of tables made from records of files; a faulty row is rejected with its reason."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa

from cluster.errors import visible
from cluster.locations import SourceError
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.values import encodable, kind_of, read_id, read_whole_number, shortened
from distill.settings.base import Split
from distill.tables import REJECTED, STRING
from distill.text import is_blank

BATCH_ROWS = 16_384
"""Rows collected as Python objects before they become an Arrow table."""

SPLITS: tuple[str, ...] = get_args(Split)
"""Names of the splits of queries."""

Record = Mapping[str, Any]
"""One row of a file: values by name of field."""


class RowError(ValueError):
    """One row cannot be used.

    Attributes:
        field: the field at fault, empty where the whole row is.
        reason: what is wrong, and what was expected.
        row_id: the row's id, empty where it has none.
    """

    def __init__(self, field: str, reason: str, row_id: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason
        self.row_id = row_id


class MissingFieldError(ValueError):
    """A record lacks a field that the configuration names."""


Rows = Iterable[tuple[int, Record | RowError]]
"""Records of a file after their line numbers, or why a line cannot be used."""


class Passage(NamedTuple):
    """A row of `passages`."""

    passage_id: str
    doc_id: str
    lang: str
    title: str
    text: str


class Query(NamedTuple):
    """A row of `queries`."""

    query_id: str
    lang: str
    text: str
    split: str


class Qrel(NamedTuple):
    """A row of `qrels`."""

    query_id: str
    passage_id: str
    relevance: int


@dataclass(frozen=True)
class PassageParser:
    """The rows `Passage` of records.

    A passage without text but with a title is kept (collections of abstracts have them); one with neither is empty. A title of null is an
    empty one.

    Attributes:
        fields: the names of the record's fields.
        lang: the language where `fields.lang` is None.
        keep_empty: keep empty passages, for a caller that counts them as missing.
    """

    fields: PassageFields
    lang: str
    keep_empty: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that every record must have."""
        return self.fields.names

    def __call__(self, record: Record) -> Passage:
        """Return the row.

        Raises:
            RowError: a value cannot be used.
            MissingFieldError: the record lacks a field.
        """
        fields = self.fields
        passage_id = identifier(record, fields.id)
        text = content(record, fields.text, passage_id)
        title = (
            content(record, fields.title, passage_id)
            if fields.title and record.get(fields.title, "") is not None
            else ""
        )
        if not self.keep_empty and is_blank(text) and is_blank(title):
            raise RowError(fields.text, "is empty", passage_id)
        doc_id = identifier(record, fields.doc_id, passage_id) if fields.doc_id else passage_id
        lang = content(record, fields.lang, passage_id) if fields.lang else self.lang
        return Passage(passage_id, doc_id, lang, title, text)


@dataclass(frozen=True)
class QueryParser:
    """The rows `Query` of records.

    Attributes:
        fields: the names of the record's fields.
        lang: the language where `fields.lang` is None.
        split: the split where `fields.split` is None.
    """

    fields: QueryFields
    lang: str
    split: str

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that every record must have."""
        return self.fields.names

    def __call__(self, record: Record) -> Query:
        """Return the row.

        Raises:
            RowError: a value cannot be used.
            MissingFieldError: the record lacks a field.
        """
        fields = self.fields
        query_id = identifier(record, fields.id)
        text = content(record, fields.text, query_id)
        if is_blank(text):
            raise RowError(fields.text, "is empty", query_id)
        lang = content(record, fields.lang, query_id) if fields.lang else self.lang
        split = content(record, fields.split, query_id) if fields.split else self.split
        if split not in SPLITS:
            raise RowError(fields.split or "split", f"'{split}', expected {', '.join(SPLITS)}", query_id)
        return Query(query_id, lang, text, split)


def parse_qrel(record: Record) -> Qrel:
    """Return the row `Qrel` of a record with query, passage and grade; grades are whole numbers of 32 bits."""
    query_id = identifier(record, "query")
    passage_id = identifier(record, "passage", query_id)
    grade = str(record["grade"])
    try:
        return Qrel(query_id, passage_id, read_whole_number(grade, bits=32))
    except ValueError as error:
        raise RowError("grade", f"{shortened(grade)}, {error}", query_id) from error


def identifier(record: Record, name: str, row_id: str = "") -> str:
    """Return the id in a field (`read_id`)."""
    try:
        return read_id(_value(record, name))
    except MissingFieldError:
        raise
    except ValueError as error:
        raise RowError(name, str(error), row_id) from error


def content(record: Record, name: str, row_id: str) -> str:
    """Return the text in a field, normalised to Unicode NFC."""
    value = _value(record, name)
    if not isinstance(value, str):
        raise RowError(name, f"{kind_of(value)}, expected a string", row_id)
    try:
        return unicodedata.normalize("NFC", encodable(value))
    except ValueError as error:
        raise RowError(name, str(error), row_id) from error


def _value(record: Record, name: str) -> object:
    if name not in record:
        raise MissingFieldError(f"no field '{name}'; it has {quoted(record)}")
    return record[name]


def quoted(names: Iterable[str]) -> str:
    """Return names in quotes with commas between them, for messages; "none" without any. What cannot be seen is escaped."""
    return ", ".join(f"'{visible(name)}'" for name in names) or "none"


ORIGIN = [pa.field("line", pa.int64()), pa.field("source", pa.dictionary(pa.int32(), STRING))]
"""The columns of line and file that rows have until duplicates are known, which messages name by file and line."""

PASSAGE_ROWS = pa.schema([*((name, STRING) for name in Passage._fields), *ORIGIN])
QUERY_ROWS = pa.schema([*((name, STRING) for name in Query._fields), *ORIGIN])
QREL_ROWS = pa.schema([("query_id", STRING), ("passage_id", STRING), ("relevance", pa.int32()), *ORIGIN])


@dataclass
class Rejects:
    """The rows that could not be used.

    Attributes:
        limit: the share of a source's rows that may be rejected.
        rows: rows of the table `rejected`.
    """

    limit: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source: str, line: int, error: RowError) -> None:
        """Add a row with its fault."""
        self.rows.append(
            {"source": source, "line": line, "id": error.row_id, "field": error.field, "reason": error.reason}
        )

    def check(self, source: str, total: int, before: int) -> None:
        """Check that at most the share `limit` of the `total` rows of `source` was rejected; raise SourceError otherwise.

        `before` is the number of rows that were rejected before it.
        """
        new = self.rows[before:]
        if len(new) <= self.limit * total:
            return
        shown = "; ".join(
            f"line {row['line']}: {row['field']}{' ' if row['field'] else ''}{row['reason']}" for row in new[:3]
        )
        raise SourceError(
            f"{source}: {len(new)} of {total} rows rejected, more than max_rejected {self.limit}: {shown}"
        )

    def table(self) -> pa.Table:
        """Return the table `rejected`."""
        return REJECTED.from_rows(self.rows)


def batches(
    name: str, rows: Rows, parse: Callable[[Record], tuple[Any, ...]], schema: pa.Schema, rejects: Rejects
) -> Iterator[pa.Table]:
    """Yield what `parse` makes of `rows`, as Arrow tables of up to `BATCH_ROWS` rows.

    Each row also has the line and the source `name` that it came from. Faulty rows go to `rejects`, which is checked when the rows end.

    Raises:
        SourceError: a record lacks a field, or more rows than `rejects.limit` allows are faulty.
    """
    before, total = len(rejects.rows), 0
    kept: list[tuple[Any, ...]] = []
    for line, record in rows:
        total += 1
        try:
            if isinstance(record, RowError):
                raise record
            kept.append((*parse(record), line))
        except RowError as error:
            rejects.add(name, line, error)
        except MissingFieldError as error:
            raise SourceError(f"{name} line {line}: {error}") from error
        if len(kept) == BATCH_ROWS:
            yield _table(kept, name, schema)
            kept = []
    if kept:
        yield _table(kept, name, schema)
    rejects.check(name, total, before)


def _table(rows: list[tuple[Any, ...]], name: str, schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types[:-1], strict=True)]
    source = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), pa.array([name], STRING))
    return pa.table([*arrays, source], schema=schema)
