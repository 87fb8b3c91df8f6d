"""Reading text: JSONL, TSV (MS MARCO layout), Parquet, TREC and BEIR qrels, and ir_datasets, from local disk or s3://.

Every format is a generator of `(line number, record or RowError)`, so a file is never held whole. A parser makes a row
of the tables of `distill.tables` from a record, and `batches` collects rows into Arrow tables and bad rows into
`Rejects`. What is wrong with one row rejects that row; what is wrong with a file (missing, damaged, of no known
format, without a configured field) is a `SourceError`.

Cost: about 7 microseconds a TSV row and 12 a JSONL row on one core (parsing, checks, Unicode normalisation), so a minute or
two for the 8.8 M passages of MS MARCO; memory is that of the Arrow tables.
"""

import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from distill.settings.base import Split
from distill.sources.settings import PassageFields, QueryFields
from distill.tables import REJECTED, STRING

BATCH_ROWS = 16_384
"""Rows collected as Python objects before they become an Arrow table."""

FORMATS = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz", ".parquet")
"""How names of passage and query files end."""

SPLITS: tuple[str, ...] = get_args(Split)


class SourceError(ValueError):
    """A source of text cannot be used. The message is one line: file, place in it, what is wrong, what to do."""


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


Record = Mapping[str, Any]
Rows = Iterable[tuple[int, Record | RowError]]


# --- places ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Location:
    """A file or folder.

    Attributes:
        filesystem: where it is.
        path: its path there.
        name: what to call it in messages and tables: the path, or the URI without options and credentials.
        uri: what `locate` makes this place of.
    """

    filesystem: pafs.FileSystem
    path: str
    name: str
    uri: str


def locate(path: str, root: str = "") -> Location:
    """The place that `path` names: an s3:// URI or a local path.

    Relative paths start from `root`, itself either; an empty one is the current directory.
    Nothing is opened. An S3 endpoint other than Amazon's comes from AWS_ENDPOINT_URL, or from `?endpoint_override=` at
    the end of the URI.
    """
    if "://" not in path and root and not Path(path).expanduser().is_absolute():
        base, mark, options = root.partition("?") if "://" in root else (root, "", "")
        path = f"{base.rstrip('/')}/{path}{mark}{options}" if path else root
    scheme, mark, rest = path.partition("://")
    if not mark:
        local = str(Path(path).expanduser())
        return Location(pafs.LocalFileSystem(), local, local, local)
    if scheme != "s3":
        message = f"{path}: {scheme}:// is not supported; give a local path or s3://bucket/key"
        raise SourceError(message)
    address, mark, options = rest.partition("?")
    bucket, _, key = address.strip("/").partition("/")
    try:
        # Only the bucket goes through the URI parser, which refuses keys with spaces.
        filesystem, bucket_path = pafs.FileSystem.from_uri(f"s3://{bucket}{mark}{options}")
    except (OSError, ValueError) as error:
        shown = address.rpartition("@")[2]
        message = f"s3://{shown}: {_line(error)}; check the bucket's name, AWS_REGION and AWS_ENDPOINT_URL"
        raise SourceError(message) from error
    inside = f"{bucket_path}/{key}" if key else bucket_path
    return Location(filesystem, inside, f"s3://{inside}", f"s3://{address}{mark}{options}")


def exists(place: Location) -> bool:
    """Whether there is a file at `place`."""
    return _info(place).type == pafs.FileType.File


def find_all(path: str, root: str = "") -> list[Location]:
    """The file that `path` names, or the files right inside the folder that it names, by name; there must be one.

    Names in a folder that begin with `_` or `.` (markers such as `_SUCCESS`) are passed over.
    """
    place = locate(path, root)
    kind = _info(place).type
    if kind == pafs.FileType.NotFound:
        start = locate("", root).name if root else "the current directory"
        message = f"{place.name} does not exist; relative paths start from {start}"
        raise SourceError(message)
    if kind != pafs.FileType.Directory:
        return [place]
    try:
        infos = place.filesystem.get_file_info(pafs.FileSelector(place.path))
    except OSError as error:
        raise _unreadable(place, error) from error
    names = sorted(
        info.base_name for info in infos if info.type == pafs.FileType.File and info.base_name[0] not in "_."
    )
    if not names:
        message = f"{place.name} is an empty folder"
        raise SourceError(message)
    return [locate(name, place.uri) for name in names]


def _info(place: Location) -> pafs.FileInfo:
    try:
        return place.filesystem.get_file_info(place.path)
    except OSError as error:
        raise _unreadable(place, error) from error


def _unreadable(place: Location, error: Exception) -> SourceError:
    return SourceError(f"{place.name} cannot be read: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


# --- formats ---------------------------------------------------------------------------------------------------------


def is_tsv(place: Location) -> bool:
    """Whether a file is in the MS MARCO layout, whose columns have no names."""
    return place.path.removesuffix(".gz").endswith(".tsv")


def read_passages(
    place: Location, fields: PassageFields, lang: str, *, keep_empty: bool = False
) -> tuple[Rows, "PassageParser"]:
    """The records of a passage file, in the format that its name says, and their parser.

    `lang` is the language where no field says it.
    """
    if is_tsv(place):
        _refuse_for_tsv(place, {"doc_id": fields.doc_id, "lang": fields.lang})
        return read_tsv(place, titles=True), PassageParser(PassageFields(title="title"), lang, keep_empty)
    parser = PassageParser(fields, lang, keep_empty)
    return _read_named(place, parser.names), parser


def read_queries(place: Location, fields: QueryFields, lang: str, split: str) -> tuple[Rows, "QueryParser"]:
    """The same for a query file; `split` is the split where no field says it."""
    if is_tsv(place):
        _refuse_for_tsv(place, {"lang": fields.lang, "split": fields.split})
        return read_tsv(place, titles=False), QueryParser(QueryFields(), lang, split)
    parser = QueryParser(fields, lang, split)
    return _read_named(place, parser.names), parser


def _read_named(place: Location, fields: Sequence[str]) -> Rows:
    if place.path.endswith(".parquet"):
        return read_parquet(place, fields)
    if place.path.removesuffix(".gz").endswith(".jsonl"):
        return read_jsonl(place)
    message = f"{place.name} is of no known format; names end in {', '.join(FORMATS)}"
    raise SourceError(message)


def _refuse_for_tsv(place: Location, fields: Mapping[str, str | None]) -> None:
    for setting, name in fields.items():
        if name is not None:
            message = f"{place.name}: no field '{name}' ({setting}): TSV has id, text and title; use JSONL or Parquet"
            raise SourceError(message)


def read_lines(place: Location) -> Iterator[tuple[int, str | RowError]]:
    r"""The lines of a text file, numbered from 1, without blank ones. Names that end in .gz are decompressed.

    Only `\n` and `\r\n` end a line: the other line separators of Unicode are text. A line that is not UTF-8 is a
    `RowError`.
    """
    try:
        with place.filesystem.open_input_stream(
            place.path, compression="gzip" if place.path.endswith(".gz") else None
        ) as stream:
            for number, raw in enumerate(io.BufferedReader(stream), start=1):  # pyright: ignore[reportArgumentType]
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    yield (
                        number,
                        RowError("", f"not UTF-8: byte {error.start + 1} of the line is {raw[error.start]:#04x}"),
                    )
                    continue
                if line and not line.isspace():
                    yield number, line
    except OSError as error:
        raise _unreadable(place, error) from error


def read_jsonl(place: Location) -> Iterator[tuple[int, Record | RowError]]:
    """One JSON object a line."""
    for number, line in read_lines(place):
        yield number, line if isinstance(line, RowError) else _json_object(line)


def _json_object(line: str) -> Record | RowError:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return RowError("", f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return RowError("", f"not JSON: {_line(error)}")
    return record if isinstance(record, dict) else RowError("", f"{_kind(record)}, expected a JSON object")


def read_tsv(place: Location, *, titles: bool) -> Iterator[tuple[int, Record | RowError]]:
    """The MS MARCO layout: id and text, separated by a tab, without header or quotes.

    With `titles` there may be a third column, the title (PLAID-X).
    """
    expected = "2 (id, text) or 3 (id, text, title)" if titles else "2 (id, text)"
    for number, line in read_lines(place):
        columns = line if isinstance(line, RowError) else line.split("\t")
        if isinstance(columns, RowError):
            yield number, columns
        elif len(columns) == 2 or (titles and len(columns) == 3):
            yield number, {"id": columns[0], "text": columns[1], "title": columns[2] if len(columns) == 3 else ""}
        else:
            yield number, RowError("", f"{_count(columns, 'column')}, expected {expected} separated by tabs")


def read_parquet(place: Location, fields: Sequence[str]) -> Iterator[tuple[int, Record | RowError]]:
    """The columns `fields` of a Parquet file; line numbers are row numbers from 1."""
    try:
        with place.filesystem.open_input_file(place.path) as file, pq.ParquetFile(file) as parquet:
            present = parquet.schema_arrow.names
            for name in fields:
                if name not in present:
                    message = f"{place.name}: no column '{name}'; it has {_names(present)}"
                    raise SourceError(message)
            number = 0
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=list(fields)):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(place, error) from error


def read_qrels(place: Location) -> Iterator[tuple[int, Record | RowError]]:
    """TREC qrels: query, iteration (not used), passage and grade, separated by white space."""
    for number, line in read_lines(place):
        columns = line if isinstance(line, RowError) else line.split()
        if isinstance(columns, RowError):
            yield number, columns
        elif len(columns) == 4:
            yield number, {"query": columns[0], "passage": columns[2], "grade": columns[3]}
        else:
            yield number, RowError("", f"{_count(columns, 'column')}, expected 4 (query, 0, passage, grade)")


def read_beir_qrels(place: Location) -> Iterator[tuple[int, Record | RowError]]:
    """BEIR qrels: query, passage and grade, separated by tabs, under one header line."""
    for number, line in read_lines(place):
        columns = line if isinstance(line, RowError) else line.split("\t")
        if isinstance(columns, RowError):
            yield number, columns
        elif len(columns) != 3:
            yield (
                number,
                RowError("", f"{_count(columns, 'column')}, expected 3 (query-id, corpus-id, score) separated by tabs"),
            )
        elif number > 1 or _GRADE.fullmatch(columns[2]):
            yield number, {"query": columns[0], "passage": columns[1], "grade": columns[2]}


# --- rows ------------------------------------------------------------------------------------------------------------

_GRADE = re.compile(r"[+-]?[0-9]+")


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
    """Makes a `Passage` of a record.

    A passage without text but with a title is kept (collections of abstracts have them); one with neither is empty. A
    title of null is none.

    Attributes:
        fields: the names of the record's fields.
        lang: the language where `fields.lang` is none.
        keep_empty: whether empty passages are kept, for a caller that counts them as missing.
    """

    fields: PassageFields
    lang: str
    keep_empty: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that every record must have."""
        return tuple(name for name in self.fields.model_dump().values() if name is not None)

    def __call__(self, record: Record) -> Passage:
        """The row, or a `RowError` or `MissingFieldError`."""
        fields = self.fields
        passage_id = identifier(record, fields.id)
        text = content(record, fields.text, passage_id)
        title = (
            content(record, fields.title, passage_id)
            if fields.title and record.get(fields.title, "") is not None
            else ""
        )
        if not self.keep_empty and not text.strip() and not title.strip():
            raise RowError(fields.text, "is empty", passage_id)
        doc_id = identifier(record, fields.doc_id, passage_id) if fields.doc_id else passage_id
        lang = content(record, fields.lang, passage_id) if fields.lang else self.lang
        return Passage(passage_id, doc_id, lang, title, text)


@dataclass(frozen=True)
class QueryParser:
    """Makes a `Query` of a record.

    Attributes:
        fields: the names of the record's fields.
        lang: the language where `fields.lang` is none.
        split: the split where `fields.split` is none.
    """

    fields: QueryFields
    lang: str
    split: str

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that every record must have."""
        return tuple(name for name in self.fields.model_dump().values() if name is not None)

    def __call__(self, record: Record) -> Query:
        """The row, or a `RowError` or `MissingFieldError`."""
        fields = self.fields
        query_id = identifier(record, fields.id)
        text = content(record, fields.text, query_id)
        if not text.strip():
            raise RowError(fields.text, "is empty", query_id)
        lang = content(record, fields.lang, query_id) if fields.lang else self.lang
        split = content(record, fields.split, query_id) if fields.split else self.split
        if split not in SPLITS:
            raise RowError(fields.split or "split", f"'{split}', expected {', '.join(SPLITS)}", query_id)
        return Query(query_id, lang, text, split)


def parse_qrel(record: Record) -> Qrel:
    """A `Qrel` of a record with query, passage and grade; grades are whole numbers of 32 bits."""
    query_id = identifier(record, "query")
    passage_id = identifier(record, "passage", query_id)
    grade = str(record["grade"])
    if not _GRADE.fullmatch(grade) or not -(2**31) <= int(grade) < 2**31:
        raise RowError("grade", f"'{grade}', expected a whole number", query_id)
    return Qrel(query_id, passage_id, int(grade))


def identifier(record: Record, name: str, row_id: str = "") -> str:
    """The id in a field: a string without white space, which TREC files could not carry, or a whole number."""
    value = _value(record, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowError(name, f"{_kind(value)}, expected a string or a whole number", row_id)
    if not value:
        raise RowError(name, "is empty", row_id)
    if value.split() != [value]:
        raise RowError(name, f"{value!r} holds white space, which TREC files cannot carry in an id", row_id)
    return _encodable(value, name, row_id)


def content(record: Record, name: str, row_id: str) -> str:
    """The text in a field, Unicode NFC."""
    value = _value(record, name)
    if not isinstance(value, str):
        raise RowError(name, f"{_kind(value)}, expected a string", row_id)
    return unicodedata.normalize("NFC", _encodable(value, name, row_id))


def _value(record: Record, name: str) -> object:
    if name not in record:
        message = f"no field '{name}'; it has {_names(record)}"
        raise MissingFieldError(message)
    return record[name]


def _encodable(value: str, name: str, row_id: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell as \ud83d
        raise RowError(name, f"not Unicode: half a surrogate pair at character {error.start + 1}", row_id) from error
    return value


def _kind(value: object) -> str:
    names = {
        type(None): "null",
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a string",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


# --- tables ----------------------------------------------------------------------------------------------------------

PLACE = [pa.field("line", pa.int64()), pa.field("source", pa.dictionary(pa.int32(), STRING))]
"""Where a row came from; carried beside rows until duplicates are known, which messages name by file and line."""

PASSAGE_ROWS = pa.schema([*((name, STRING) for name in Passage._fields), *PLACE])
QUERY_ROWS = pa.schema([*((name, STRING) for name in Query._fields), *PLACE])
QREL_ROWS = pa.schema([("query_id", STRING), ("passage_id", STRING), ("relevance", pa.int32()), *PLACE])


@dataclass
class Rejects:
    """The rows that could not be used.

    Attributes:
        limit: the share of a source's rows above which the source is refused.
        rows: rows of the table `rejected`.
    """

    limit: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source: str, line: int, error: RowError) -> None:
        """Keep a row's fault."""
        self.rows.append(
            {"source": source, "line": line, "id": error.row_id, "field": error.field, "reason": error.reason}
        )

    def check(self, source: str, total: int, before: int) -> None:
        """Refuse `source` where too many of its `total` rows were rejected.

        `before` is the number of rows that were rejected before it.
        """
        new = self.rows[before:]
        if len(new) <= self.limit * total:
            return
        shown = "; ".join(
            f"line {row['line']}: {row['field']}{' ' if row['field'] else ''}{row['reason']}" for row in new[:3]
        )
        message = f"{source}: {len(new)} of {total} rows rejected, more than max_rejected {self.limit}: {shown}"
        raise SourceError(message)

    def table(self) -> pa.Table:
        """The table `rejected`."""
        return REJECTED.from_rows(self.rows)


def batches(
    name: str, rows: Rows, parse: Callable[[Record], tuple[Any, ...]], schema: pa.Schema, rejects: Rejects
) -> Iterator[pa.Table]:
    """What `parse` makes of `rows`, as Arrow tables of up to `BATCH_ROWS` rows.

    Each row also has the line and the source `name` that it came from. Bad rows go to `rejects`, which is
    checked when the rows end.
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
            message = f"{name} line {line}: {error}"
            raise SourceError(message) from error
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
