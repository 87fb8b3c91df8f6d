"""Lines of text files: what ends one, what is none, and which files are no text."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from cluster.locations import SourceError, locate
from distill.formats import lines
from distill.formats.lines import read_lines, whole_lines
from distill.formats.rows import RowError
from distill.tables import TableError


def read(path: Path, content: bytes) -> list[tuple[int, str]]:
    path.write_bytes(content)
    return [
        (number, f"! {line}" if isinstance(line, RowError) else line) for number, line in read_lines(locate(str(path)))
    ]


def test_byte_order_marks_at_the_start_of_lines_are_no_part_of_them(tmp_path: Path) -> None:
    """Two files with a mark, joined by `cat`; a mark within a line is text."""
    content = "\ufeffp1\tone\r\np2\ttwo\n\ufeffp3\tthree\n\ufeff\ufeffp4\tfo\ufeffur".encode()
    assert read(tmp_path / "a.tsv", content) == [
        (1, "p1\tone"),
        (2, "p2\ttwo"),
        (3, "p3\tthree"),
        (4, "p4\tfo\ufeffur"),
    ]
    assert read(tmp_path / "b.tsv", b"\xef\xbb\xbf\n\xef\xbb\xbf  \n") == []


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_a_line_that_is_too_long_is_skipped_and_the_next_is_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 2**20)
    content = b"a\tb\n" + b"x" * (2**20) + b"\nc\td\n" + b"y" * (2**20 - 1) + b"\n" + b"z" * (5 * 2**20)
    found = read(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert [(number, line[:60]) for number, line in found] == [
        (1, "a\tb"),
        (2, "! longer than 1 MiB; is it one record a line?"),
        (3, "c\td"),
        (4, "y" * 60),
        (5, "! longer than 1 MiB; is it one record a line?"),
    ]
    with pytest.raises(TableError, match=r"line 2: longer than 1 MiB; is it one record a line\?$"):
        list(whole_lines(locate(str(tmp_path / name))))


def test_a_line_of_500_mb_in_486_kb_takes_no_more_memory_than_the_longest_line(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(b"a" * 2**20)
    tracemalloc.start()
    found = list(read_lines(locate(str(path))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(number, str(line)) for number, line in found] == [(1, "longer than 64 MiB; is it one record a line?")]
    assert peak < 3 * lines.LONGEST_LINE


def test_nul_bytes_and_other_encodings_are_rejected(tmp_path: Path) -> None:
    assert read(tmp_path / "a.tsv", b"a\tb\nc\0\td\n\xff\te\n") == [
        (1, "a\tb"),
        (2, "! holds a NUL byte at byte 2, as text in UTF-16 does; files are UTF-8"),
        (3, "! not UTF-8: byte 1 of the line is 0xff"),
    ]
    assert all(
        line.startswith("! holds a NUL byte")
        for _, line in read(tmp_path / "b.tsv", "p1\tone\np2\t二\n".encode("utf-16-le"))
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("p1\tone\n".encode("utf-16"), "is UTF-16; convert it to UTF-8"),
        ("p1\tone\n".encode("utf-16-be").join([b"\xfe\xff", b""]), "is UTF-16; convert it to UTF-8"),
        (gzip.compress(b"p1\tone\n", mtime=0), r"is gzip; give it a name that ends in \.gz, or decompress it"),
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
        (b"PAR1rest", r"is Parquet; give it a name that ends in \.parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "is a pointer of Git LFS; fetch"),
        (b"p1\tone\rp2\ttwo\r", "ends its lines in carriage returns alone; convert them to line feeds"),
    ],
)
def test_files_that_are_no_text_are_errors(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=rf"a\.tsv {message}"):
        read(tmp_path / "a.tsv", content)


@pytest.mark.parametrize(
    "content",
    [b"{}\n", gzip.compress(b'{"id": 1}\n' * 99, mtime=0)[:-12], gzip.compress(b"{}\n", mtime=0) + b"garbage"],
)
def test_a_damaged_gz_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match=r"a\.jsonl\.gz cannot be read: "):
        read(tmp_path / "a.jsonl.gz", content)


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert read(tmp_path / "a.tsv", b"") == []
    assert read(tmp_path / "a.tsv.gz", b"") == []
