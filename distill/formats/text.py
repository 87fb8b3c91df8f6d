"""Readers of text: JSONL, TSV (MS MARCO layout), Parquet and BEIR judgements, from local disk or s3://.

Every format is a generator of `(line number, record or RowError)`, so a file is never held whole. `distill.formats.rows` makes rows of
tables from records. A faulty row is rejected; a faulty file (missing, damaged, of no known format, without a configured field) is a
`SourceError`.

Cost: about 7 microseconds a TSV row and 12 a JSONL row on one core (parsing, checks, Unicode normalisation), so a minute or
two for the 8.8 M passages of MS MARCO; memory is that of the Arrow tables.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import one_line
from cluster.locations import Location, SourceError, unreadable
from distill.formats.rows import (
    BATCH_ROWS,
    PassageParser,
    QueryParser,
    Record,
    RowError,
    Rows,
    kind_of,
    quoted,
)
from distill.formats.settings import PassageFields, QueryFields
from distill.tables import TableError

_GRADE_NAMES = frozenset({"score", "grade", "relevance", "rel", "label", "judgement", "judgment"})
"""Names of the column with grades, in the header of BEIR judgements."""

FORMATS = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz", ".parquet")
"""How names of passage and query files end."""


def is_tsv(location: Location) -> bool:
    """Return true for a file in the MS MARCO layout, whose columns have no names."""
    return location.path.removesuffix(".gz").endswith(".tsv")


def read_passages(
    location: Location, fields: PassageFields, lang: str, *, keep_empty: bool = False
) -> tuple[Rows, "PassageParser"]:
    """Return the records of a passage file, in the format that its name says, and their parser.

    Args:
        location: the file; its name ends as one of `FORMATS`.
        fields: names of the fields.
        lang: the language of passages where `fields.lang` is None.
        keep_empty: keep passages without title and text, for a caller that counts them as missing.

    Raises:
        SourceError: the format is not known, or a field is named that TSV does not have.
    """
    if is_tsv(location):
        _check_tsv_fields(location, {"doc_id": fields.doc_id, "lang": fields.lang})
        return read_tsv(location, titles=True), PassageParser(PassageFields(title="title"), lang, keep_empty)
    parser = PassageParser(fields, lang, keep_empty)
    return read_records(location, parser.names), parser


def read_queries(location: Location, fields: QueryFields, lang: str, split: str) -> tuple[Rows, "QueryParser"]:
    """Return the records of a query file and their parser, as `read_passages`; `split` is the split where `fields.split` is None."""
    if is_tsv(location):
        _check_tsv_fields(location, {"lang": fields.lang, "split": fields.split})
        return read_tsv(location, titles=False), QueryParser(QueryFields(), lang, split)
    parser = QueryParser(fields, lang, split)
    return read_records(location, parser.names), parser


def read_records(location: Location, fields: Sequence[str], formats: Sequence[str] = FORMATS) -> Rows:
    """Return the records of a Parquet or JSONL file, whichever its name says.

    Args:
        location: the file.
        fields: the columns to read of a Parquet file; JSONL records are whole.
        formats: how names of such files may end, two or more.

    Raises:
        SourceError: the name ends otherwise.
    """
    if location.path.endswith(tuple(formats)):
        if location.path.endswith(".parquet"):
            return read_parquet(location, fields)
        if location.path.removesuffix(".gz").endswith(".jsonl"):
            return read_jsonl(location)
    *others, last = formats
    raise SourceError(f"{location.name} is of no known format; names end in {', '.join(others)} or {last}")


def _check_tsv_fields(location: Location, fields: Mapping[str, str | None]) -> None:
    for setting, name in fields.items():
        if name is not None:
            raise SourceError(
                f"{location.name}: no field '{name}' ({setting}): TSV has id, text and title; use JSONL or Parquet"
            )


def read_lines(location: Location) -> Iterator[tuple[int, str | RowError]]:
    r"""Yield the lines of a text file, numbered from 1, without blank ones. A file whose name ends in .gz is decompressed.

    Only `\n` and `\r\n` end a line: the other line separators of Unicode are text. A line that is not UTF-8 is a
    `RowError`.
    """
    try:
        with location.filesystem.open_input_stream(
            location.path, compression="gzip" if location.path.endswith(".gz") else None
        ) as stream:
            for number, raw in enumerate(io.BufferedReader(stream), start=1):  # pyright: ignore[reportArgumentType]
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    reason = f"not UTF-8: byte {error.start + 1} of the line is {raw[error.start]:#04x}"
                    yield number, RowError("", reason)
                    continue
                if line and not line.isspace():
                    yield number, line
    except OSError as error:
        raise unreadable(location, error) from error


def whole_lines(location: Location) -> Iterator[tuple[str, str]]:
    """Yield file and line number ("a.run line 3") and the text of each line that is not blank.

    Raises:
        TableError: a line is not UTF-8.
    """
    for number, line in read_lines(location):
        source = f"{location.name} line {number}"
        if isinstance(line, RowError):
            raise TableError(f"{source}: {line}")
        yield source, line


def read_jsonl(location: Location) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the JSON object of each line."""
    for number, line in read_lines(location):
        yield number, line if isinstance(line, RowError) else _json_object(line)


def _json_object(line: str) -> Record | RowError:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return RowError("", f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return RowError("", f"not JSON: {one_line(error)}")
    return record if isinstance(record, dict) else RowError("", f"{kind_of(record)}, expected a JSON object")


def read_tsv(location: Location, *, titles: bool) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the rows of the MS MARCO layout: id and text, separated by a tab, without header or quotes.

    With `titles` there may be a third column, the title (PLAID-X).
    """
    expected = "2 (id, text) or 3 (id, text, title)" if titles else "2 (id, text)"
    for number, line in read_lines(location):
        columns = line if isinstance(line, RowError) else line.split("\t")
        if isinstance(columns, RowError):
            yield number, columns
        elif len(columns) == 2 or (titles and len(columns) == 3):
            yield number, {"id": columns[0], "text": columns[1], "title": columns[2] if len(columns) == 3 else ""}
        else:
            yield number, RowError("", f"{counted(columns, 'column')}, expected {expected} separated by tabs")


def read_parquet(location: Location, fields: Sequence[str]) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the columns `fields` of each row of a Parquet file; line numbers are row numbers from 1."""
    try:
        with location.filesystem.open_input_file(location.path) as file, pq.ParquetFile(file) as parquet:
            present = parquet.schema_arrow.names
            for name in fields:
                if name not in present:
                    raise SourceError(f"{location.name}: no column '{name}'; it has {quoted(present)}")
            number = 0
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=list(fields)):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (OSError, pa.ArrowException) as error:
        raise unreadable(location, error) from error


def read_beir_qrels(location: Location) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the rows of BEIR judgements: query, passage and grade, separated by tabs.

    A first line whose grade is one of `_GRADE_NAMES` is a header and no row. Any other is a row, so that what is wrong with it is told.
    """
    for number, line in read_lines(location):
        columns = line if isinstance(line, RowError) else line.split("\t")
        if isinstance(columns, RowError):
            yield number, columns
        elif len(columns) != 3:
            reason = f"{counted(columns, 'column')}, expected 3 (query-id, corpus-id, score) separated by tabs"
            yield number, RowError("", reason)
        elif number > 1 or columns[2].strip().casefold() not in _GRADE_NAMES:
            yield number, {"query": columns[0], "passage": columns[1], "grade": columns[2]}


def counted(things: Sequence[object], noun: str) -> str:
    """Return the number of `things` with their noun: "1 column", "3 columns"."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
