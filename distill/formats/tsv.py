"""Rows of TSV files: the MS MARCO layout without header and quotes, files whose first line names the columns, BEIR judgements."""

import re
from collections.abc import Iterator, Sequence

from cluster.errors import visible
from cluster.locations import Location, SourceError
from distill.formats.lines import read_lines
from distill.formats.rows import Record, RowError

_ID_NAMES = frozenset({
    "id", "qid", "pid", "did", "docid", "docno", "queryid", "passageid", "documentid", "corpusid", "topic", "topicid",
})  # fmt: skip
_TEXT_NAMES = frozenset({
    "text", "title", "query", "question", "passage", "document", "doc", "body", "content", "contents", "passagetext", "querytext",
    "url", "lang", "language",
})  # fmt: skip
_GRADE_NAMES = frozenset({"score", "grade", "rel", "relevance", "label", "judgement", "judgment"})
"""Names of columns in headers, in small letters, without the marks between and around words."""


def read_tsv(location: Location, *, titles: bool) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the rows of the MS MARCO layout: id and text, separated by a tab, without header or quotes.

    With `titles` there may be a third column, the title (PLAID-X).

    Raises:
        SourceError: the first line names columns: it is a header, which this layout has not.
    """
    expected = "2 (id, text) or 3 (id, text, title)" if titles else "2 (id, text)"
    for number, columns in _read_columns(location):
        if isinstance(columns, RowError):
            yield number, columns
        elif _is_header(columns):
            yield number, _header(location, number, columns, "passage_fields" if titles else "query_fields")
        elif len(columns) == 2 or (titles and len(columns) == 3):
            yield number, {"id": columns[0], "text": columns[1], "title": columns[2] if len(columns) == 3 else ""}
        else:
            yield number, RowError("", f"{counted(columns, 'column')}, expected {expected} separated by tabs")


def _header(location: Location, number: int, columns: Sequence[str], fields: str) -> RowError:
    names = ", ".join(columns)
    if number > 1:
        return RowError("", f"a header ({names}) among the rows")
    raise SourceError(
        f"{location.name} line 1 is a header ({names}): set {fields}.tsv of the source ('header', or 'quoted' for texts in the "
        "quotes of CSV), or delete the line"
    )


def read_named_tsv(location: Location, *, quotes: bool) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the rows of a TSV file whose first line names the columns.

    With `quotes` a column that begins with a double quote ends with one, and holds each of its own twice, as CSV has it. Line breaks inside
    quotes are refused: such a row is rejected.

    Raises:
        SourceError: the first line cannot be read, or names a column twice or not at all.
    """
    header: list[str] | None = None
    for number, columns in _read_columns(location):
        read = _unquoted(columns) if quotes and not isinstance(columns, RowError) else columns
        if header is None:
            header = _column_names(location, read)
        elif isinstance(read, RowError):
            yield number, read
        elif len(read) != len(header):
            yield number, RowError("", f"{counted(read, 'column')}, the first line names {len(header)}")
        elif read == header:
            yield number, RowError("", f"a header ({', '.join(header)}) among the rows")
        else:
            yield number, dict(zip(header, read, strict=True))


def _column_names(location: Location, names: list[str] | RowError) -> list[str]:
    if isinstance(names, RowError):
        raise SourceError(f"{location.name}: its first line, the header, {names}")
    if len(set(names)) < len(names) or "" in names:
        shown = ", ".join(f"'{visible(name)}'" for name in names)
        raise SourceError(f"{location.name}: its first line names the columns {shown}; each needs a name of its own")
    return names


def _unquoted(columns: Sequence[str]) -> list[str] | RowError:
    values = []
    for position, column in enumerate(columns, start=1):
        if not column.startswith('"'):
            values.append(column)
            continue
        inner = column[1:-1]
        if len(column) < 2 or not column.endswith('"') or '"' in inner.replace('""', ""):
            return RowError(
                "",
                f'column {position} begins with a double quote, but does not end on this line as CSV has it ("...", with "" for a quote)',
            )
        values.append(inner.replace('""', '"'))
    return values


def read_beir_qrels(location: Location) -> Iterator[tuple[int, Record | RowError]]:
    """Yield the rows of BEIR judgements: query, passage and grade, separated by tabs.

    A first line whose grade is the name of one is a header and no row. Any other is a row, so that what is wrong with it is told.
    """
    for number, columns in _read_columns(location):
        if isinstance(columns, RowError):
            yield number, columns
        elif len(columns) != 3:
            reason = f"{counted(columns, 'column')}, expected 3 (query-id, corpus-id, score) separated by tabs"
            yield number, RowError("", reason)
        elif number > 1 or _name(columns[2]) not in _GRADE_NAMES:
            yield number, {"query": columns[0], "passage": columns[1], "grade": columns[2]}


def _is_header(columns: Sequence[str]) -> bool:
    """Return whether columns hold names of columns: the first that of an id, all others those of ids or texts."""
    if len(columns[0]) > 16:  # no name: most rows are known by their first column
        return False
    first, *others = map(_name, columns)
    return bool(others) and first in _ID_NAMES and all(name in _TEXT_NAMES or name in _ID_NAMES for name in others)


def _name(column: str) -> str:
    return re.sub(r"[\s\"_-]", "", column).casefold()


def _read_columns(location: Location) -> Iterator[tuple[int, list[str] | RowError]]:
    for number, line in read_lines(location):
        if isinstance(line, RowError):
            yield number, line
        elif "\r" in line and line.rfind("\t") > line.find("\r"):
            yield number, RowError("", "a carriage return with another column after it: two rows in one line?")
        else:
            yield number, line.split("\t")


def counted(things: Sequence[object], noun: str) -> str:
    """Return the number of `things` with their noun: "1 column", "3 columns"."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
