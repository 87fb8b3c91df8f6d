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
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.locations import Location, SourceError, _line, _unreadable
from distill.formats.rows import _GRADE, BATCH_ROWS, PassageParser, QueryParser, Record, RowError, Rows, _kind, _names
from distill.formats.settings import PassageFields, QueryFields

FORMATS = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz", ".parquet")
"""How names of passage and query files end."""


# --- places ----------------------------------------------------------------------------------------------------------


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
    raise SourceError(f"{place.name} is of no known format; names end in {', '.join(FORMATS)}")


def _refuse_for_tsv(place: Location, fields: Mapping[str, str | None]) -> None:
    for setting, name in fields.items():
        if name is not None:
            raise SourceError(
                f"{place.name}: no field '{name}' ({setting}): TSV has id, text and title; use JSONL or Parquet"
            )


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
                    raise SourceError(f"{place.name}: no column '{name}'; it has {_names(present)}")
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


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


# --- tables ----------------------------------------------------------------------------------------------------------
