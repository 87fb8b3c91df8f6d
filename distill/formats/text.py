"""Readers of records: JSONL, TSV, Parquet and BEIR judgements, from local disk or s3://.

Every format is a generator of `(line number, record or RowError)`, so a file is never held whole. `distill.formats.rows` makes rows of
tables from records. A faulty row is rejected; a faulty file (missing, damaged, of no known format, without a configured field) is a
`SourceError`.

Cost: about 7 microseconds a TSV row and 12 a JSONL row on one core (parsing, checks, Unicode normalisation), so a minute or
two for the 8.8 M passages of MS MARCO; memory is that of the Arrow tables.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import one_line
from cluster.locations import Location, SourceError, unreadable
from distill.formats.lines import read_lines
from distill.formats.rows import BATCH_ROWS, PassageParser, QueryParser, Record, RowError, Rows, quoted
from distill.formats.settings import Fields, PassageFields, QueryFields
from distill.formats.tsv import read_named_tsv, read_tsv
from distill.formats.values import kind_of, shortened

FORMATS = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz", ".parquet")
"""How names of passage and query files end."""


def is_tsv(location: Location) -> bool:
    """Return true for a TSV file, whose columns have no names unless its fields' `tsv` says so."""
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
    if _is_nameless(location, fields):
        _check_tsv_fields(location, {"doc_id": fields.doc_id, "lang": fields.lang})
        return read_tsv(location, titles=True), PassageParser(PassageFields(title="title"), lang, keep_empty)
    parser = PassageParser(fields, lang, keep_empty)
    return _read_named(location, fields), parser


def read_queries(location: Location, fields: QueryFields, lang: str, split: str) -> tuple[Rows, "QueryParser"]:
    """Return the records of a query file and their parser, as `read_passages`; `split` is the split where `fields.split` is None."""
    if _is_nameless(location, fields):
        _check_tsv_fields(location, {"lang": fields.lang, "split": fields.split})
        return read_tsv(location, titles=False), QueryParser(QueryFields(), lang, split)
    parser = QueryParser(fields, lang, split)
    return _read_named(location, fields), parser


def _is_nameless(location: Location, fields: Fields) -> bool:
    return is_tsv(location) and fields.tsv == "msmarco"


def _read_named(location: Location, fields: Fields) -> Rows:
    """Return records whose fields have names, of a file of any format."""
    if is_tsv(location):
        return _with_partition(location, read_named_tsv(location, quotes=fields.tsv == "quoted"))
    return read_records(location, fields.names)


def read_records(location: Location, fields: Sequence[str], formats: Sequence[str] = FORMATS) -> Rows:
    """Return the records of a Parquet or JSONL file, whichever its name says. The values of a partition are fields of each.

    Args:
        location: the file.
        fields: the columns to read of a Parquet file; JSONL records are whole.
        formats: how names of such files may end, two or more.

    Raises:
        SourceError: the name ends otherwise.
    """
    if location.path.endswith(tuple(formats)):
        if location.path.endswith(".parquet"):
            return _with_partition(location, read_parquet(location, fields))
        if location.path.removesuffix(".gz").endswith(".jsonl"):
            return _with_partition(location, read_jsonl(location))
    *others, last = formats
    raise SourceError(f"{location.name} is of no known format; names end in {', '.join(others)} or {last}")


def _with_partition(location: Location, rows: Rows) -> Rows:
    return _joined(rows, dict(location.partition)) if location.partition else rows


def _joined(rows: Rows, values: Mapping[str, str | None]) -> Iterator[tuple[int, Record | RowError]]:
    for number, record in rows:
        if isinstance(record, RowError):
            yield number, record
            continue
        wrong = next((name for name in values if name in record and str(record[name]) != str(values[name])), None)
        if wrong is None:
            yield number, {**record, **{name: value for name, value in values.items() if name not in record}}
        else:
            reason = f"{shortened(str(record[wrong]))}, but its folder says {shortened(str(values[wrong]))}"
            yield number, RowError(wrong, reason)


def _check_tsv_fields(location: Location, fields: Mapping[str, str | None]) -> None:
    for setting, name in fields.items():
        if name is not None:
            raise SourceError(
                f"{location.name}: no field '{name}' ({setting}): TSV has id, text and title; use JSONL or Parquet, or TSV with a header "
                "(set tsv to 'header')"
            )


def read_jsonl(location: Location) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the JSON object of each line."""
    for number, line in read_lines(location):
        yield number, line if isinstance(line, RowError) else _json_object(line)


def _once(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise ValueError(f"the field {twice!r} is there twice")
    return record


_JSON = json.JSONDecoder(object_pairs_hook=_once)


def _json_object(line: str) -> Record | RowError:
    try:
        record = _JSON.decode(line)
    except json.JSONDecodeError as error:
        return RowError("", f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return RowError("", f"not JSON: {one_line(error)}")
    return record if isinstance(record, dict) else RowError("", f"{kind_of(record)}, expected a JSON object")


def read_parquet(location: Location, fields: Sequence[str]) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the columns `fields` of each row of a Parquet file; line numbers are row numbers from 1."""
    try:
        with location.filesystem.open_input_file(location.path) as file, pq.ParquetFile(file) as parquet:
            present = parquet.schema_arrow.names
            partition = dict(location.partition)
            for name in fields:
                if name not in present and name not in partition:
                    raise SourceError(f"{location.name}: no column '{name}'; it has {quoted([*present, *partition])}")
                if present.count(name) > 1:
                    raise SourceError(f"{location.name}: the column '{name}' is there {present.count(name)} times")
            stored = [name for name in dict.fromkeys(fields) if name in present]
            number = 0
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=stored):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (OSError, pa.ArrowException) as error:
        raise unreadable(location, error) from error
