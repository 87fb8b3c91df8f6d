"""The parts of records that questions, candidates and sentence pairs share, and the files that they are read from."""

import re

from cluster.locations import Location, SourceError, exists, locate
from distill.formats.rows import Record, RowError, Rows, content
from distill.formats.text import read_records
from distill.settings.base import LANGUAGE_PATTERN
from distill.text import is_blank


def existing_file(path: str) -> Location:
    """Return the location of the file at `path`; raise SourceError if there is none."""
    location = locate(path)
    if not exists(location):
        raise SourceError(f"{location.name} does not exist")
    return location


def jsonl_rows(location: Location) -> Rows:
    """Return the rows of a JSONL file, plain or gzipped; raise SourceError for a file of another name."""
    return read_records(location, (), (".jsonl", ".jsonl.gz"))


def language(record: Record, row_id: str) -> str:
    """Return the language code of a record; raise RowError or MissingFieldError."""
    lang = content(record, "lang", row_id)
    if not re.fullmatch(LANGUAGE_PATTERN, lang):
        raise RowError("lang", f"'{lang}' is no language code (en, zh, pt-BR)", row_id)
    return lang


def filled_text(record: Record, field: str, row_id: str) -> str:
    """Return a text that is not empty; raise RowError or MissingFieldError."""
    text = content(record, field, row_id)
    if is_blank(text):
        raise RowError(field, "is empty", row_id)
    return text
