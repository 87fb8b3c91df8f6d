"""Lines of text files, local or s3://, plain or gzipped: the one place where text is decoded."""

import io
from collections.abc import Iterator

import pyarrow as pa

from cluster.locations import Location, SourceError, unreadable
from distill.formats.rows import RowError
from distill.tables import TableError

LONGEST_LINE = 2**26
"""Bytes of a line, beyond which it is no line: 64 MiB. It bounds the memory of every reader of text, whatever a file expands to."""

_MARK = b"\xef\xbb\xbf"
_OTHER_FILES = (
    (b"\xff\xfe", "UTF-16; convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16; convert it to UTF-8"),
    (b"\x1f\x8b", "gzip; give it a name that ends in .gz, or decompress it"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"BZh", "bzip2; decompress it, or compress it with gzip"),
    (b"\xfd7zXZ", "xz; decompress it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd; decompress it, or compress it with gzip"),
    (b"PAR1", "Parquet; give it a name that ends in .parquet"),
    (b"ARROW1", "Arrow; convert it to Parquet"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself with `git lfs pull`"),
)
"""What files begin with that hold no text, or text of another encoding, and what they are."""


def read_lines(location: Location) -> Iterator[tuple[int, str | RowError]]:
    r"""Yield the lines of a text file, numbered from 1, without blank ones. A file whose name ends in .gz is decompressed.

    Only `\n` and `\r\n` end a line: the other line separators of Unicode are text. A byte-order mark at the start of a line is no part of
    it (files with marks are joined by `cat`). A line that is not UTF-8, holds a NUL byte or is longer than `LONGEST_LINE` is a `RowError`.

    Raises:
        SourceError: the file cannot be read, is no text of UTF-8 at all, or ends its lines in carriage returns alone.
    """
    try:
        with location.filesystem.open_input_stream(
            location.path, compression="gzip" if location.path.endswith(".gz") else None
        ) as stream:
            reader = io.BufferedReader(stream)  # pyright: ignore[reportArgumentType]
            number = 0
            while raw := reader.readline(LONGEST_LINE + 1):
                number += 1
                if number == 1:
                    _check_text(location, raw)
                if len(raw) > LONGEST_LINE:
                    if not raw.endswith(b"\n"):
                        _skip_line(reader)
                    yield number, RowError("", f"longer than {LONGEST_LINE / 2**20:g} MiB; is it one record a line?")
                    continue
                line = _decoded(raw)
                if isinstance(line, RowError) or (line and not line.isspace()):
                    yield number, line
    except (OSError, pa.ArrowException) as error:
        raise unreadable(location, error) from error


def _check_text(location: Location, first: bytes) -> None:
    kind = next((kind for start, kind in _OTHER_FILES if first.startswith(start)), None)
    if kind is not None:
        raise SourceError(f"{location.name} is {kind}")
    if not first.endswith(b"\n") and b"\r" in first.rstrip(b"\r") and len(first) <= LONGEST_LINE:
        raise SourceError(f"{location.name} ends its lines in carriage returns alone; convert them to line feeds")


def _skip_line(reader: io.BufferedReader) -> None:
    while (rest := reader.readline(2**20)) and not rest.endswith(b"\n"):
        pass


def _decoded(raw: bytes) -> str | RowError:
    if b"\0" in raw:
        return RowError("", f"holds a NUL byte at byte {raw.index(0) + 1}, as text in UTF-16 does; files are UTF-8")
    raw = raw.rstrip(b"\r\n")
    while raw.startswith(_MARK):
        raw = raw[len(_MARK) :]
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return RowError("", f"not UTF-8: byte {error.start + 1} of the line is {raw[error.start]:#04x}")


def whole_lines(location: Location) -> Iterator[tuple[str, str]]:
    """Yield file and line number ("a.run line 3") and the text of each line that is not blank.

    Raises:
        TableError: a line cannot be read.
    """
    for number, line in read_lines(location):
        source = f"{location.name} line {number}"
        if isinstance(line, RowError):
            raise TableError(f"{source}: {line}")
        yield source, line
