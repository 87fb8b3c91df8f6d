"""The extent of a source: how many queries and passages there are, in which languages, and a sample of them, before a stage reads it.

Counts of `ir_datasets` come with that package, those of the bundled corpus with its file. Files are not read whole: a row of text is taken
to be as long as those of the file's first megabyte, and a language's share as large as among the first rows.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, assert_never

import pyarrow.parquet as pq

from cluster.locations import Location, find_all, unreadable
from distill.formats.rows import MissingFieldError, RowError, Rows
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.text import read_passages, read_queries
from distill.formats.tsv import read_beir_qrels
from distill.sources import corpus
from distill.sources.beir import beir_files
from distill.sources.ir_datasets import load_ir_dataset
from distill.sources.settings import BeirSource, BundledSource, FileSource, IrDatasetsSource, Source
from distill.text import passage_text

_HEAD_BYTES = 1 << 20
_HEAD_ROWS = 500
_UNSPLIT = ""


@dataclass(frozen=True)
class Extent:
    """The extent of a source.

    Attributes:
        queries: queries by language and split.
        passages: passages by language.
        query_texts: a sample of the queries in the source language; empty where none can be read yet.
        passage_texts: a sample of the passages, likewise.
        exact: whether the counts are those of the whole source.
    """

    queries: Mapping[tuple[str, str], int]
    passages: Mapping[str, int]
    query_texts: Sequence[str] = ()
    passage_texts: Sequence[str] = ()
    exact: bool = True

    def queries_in(self, lang: str, split: str | None = None) -> int:
        """Return the number of queries in a language, of one split or of all."""
        return sum(count for (of, part), count in self.queries.items() if of == lang and split in {None, part})


def extent(source: Source, source_lang: str, languages: Sequence[str]) -> Extent | None:
    """Return the extent of a source that is not read yet; None where its documents are still to be cut into passages.

    Raises:
        SourceError: a file is missing or cannot be read, or ir_datasets lacks a data set.
    """
    if source.cut is not None:
        return None
    match source:
        case BundledSource():
            return _bundled({source_lang, *languages})
        case IrDatasetsSource():
            return _ir_datasets(source, source_lang)
        case FileSource():
            return _files(source, source_lang, {source_lang, *(source.languages or languages)})
        case BeirSource():
            return _beir(source, source_lang)
        case _:
            assert_never(source)


def _bundled(kept: set[str]) -> Extent:
    queries = [record for _, record in corpus.queries() if record["lang"] in kept]
    passages = [record for _, record in corpus.passages() if record["lang"] in kept]
    english = corpus.LANGUAGES[0]
    return Extent(
        Counter((record["lang"], record["split"]) for record in queries),
        Counter(record["lang"] for record in passages),
        [record["text"] for record in queries if record["lang"] == english],
        [passage_text(record["title"], record["text"]) for record in passages if record["lang"] == english],
    )


def _ir_datasets(source: IrDatasetsSource, source_lang: str) -> Extent:
    passages = {lang: load_ir_dataset(name, "docs").docs_metadata() for lang, name in source.passages.items()}
    queries: Counter[tuple[str, str]] = Counter()
    known = True
    for split, name in source.queries.items():
        dataset = load_ir_dataset(name, "queries")
        count = dataset.queries_metadata().get("count")
        known &= count is not None
        queries[dataset.queries_lang() or source_lang, split] += count or 0
    counts = {lang: facts.get("count") for lang, facts in passages.items()}
    return Extent(
        queries, {lang: count or 0 for lang, count in counts.items()}, exact=known and None not in counts.values()
    )


def _files(source: FileSource, source_lang: str, kept: set[str]) -> Extent:
    passages, queries = _Tally(), _Tally()
    for file in (location for path in source.passages for location in find_all(path, source.root)):
        passages.add(file, *read_passages(file, source.passage_fields, source_lang))
    for file in (location for path in source.queries for location in find_all(path, source.root)):
        queries.add(file, *read_queries(file, source.query_fields, source_lang, source.split))
    return _extent(queries, passages, source_lang, kept)


def _beir(source: BeirSource, source_lang: str) -> Extent:
    files = beir_files(source.path)
    passages = _Tally()
    fields = PassageFields(id="_id", title="title")
    passages.add(files.passages, *read_passages(files.passages, fields, source_lang))
    rows, parse = read_queries(files.queries, QueryFields(id="_id"), source_lang, _UNSPLIT)
    texts = _head(rows, parse)
    judged = {
        split: {row["query"] for _, row in read_beir_qrels(file) if not isinstance(row, RowError)}
        for split, file in files.qrels.items()
    }
    queries = {(source_lang, split): len(ids) for split, ids in judged.items()}
    return Extent(
        queries,
        {source_lang: passages.rows},
        [query.text for query in texts],
        [passage_text(passage.title, passage.text) for passage in passages.head],
        passages.exact,
    )


def _extent(queries: "_Tally", passages: "_Tally", source_lang: str, kept: set[str]) -> Extent:
    return Extent(
        queries.shares(lambda row: (row.lang, row.split), lambda row: row.lang in kept),
        passages.shares(lambda row: row.lang, lambda row: row.lang in kept),
        [row.text for row in queries.head if row.lang == source_lang],
        [passage_text(row.title, row.text) for row in passages.head if row.lang == source_lang],
        queries.exact and passages.exact and queries.whole and passages.whole,
    )


class _Tally:
    """Counts of the rows of files, as far as that is cheap, and the first rows of each."""

    def __init__(self) -> None:
        self.head: list[Any] = []
        self.rows = 0
        self.exact = True
        self._parts: list[tuple[int, list[Any]]] = []

    @property
    def whole(self) -> bool:
        """Whether the heads are all rows."""
        return len(self.head) == self.rows

    def add(self, file: Location, rows: Rows, parse: Callable[[Any], Any]) -> None:
        """Count a file."""
        count, exact = count_rows(file)
        head = _head(rows, parse)
        self.rows += count
        self.exact &= exact
        self.head += head
        self._parts.append((count, head))

    def shares(self, key: Callable[[Any], Any], wanted: Callable[[Any], bool]) -> dict[Any, int]:
        """Return the rows by `key` of those that are wanted, in the shares of each file's head."""
        counts: Counter[Any] = Counter()
        for count, head in self._parts:
            for row in filter(wanted, head):
                counts[key(row)] += count / len(head)  # pyright: ignore[reportArgumentType]
        return {name: round(count) for name, count in counts.items()}


def _head(rows: Rows, parse: Callable[[Any], Any]) -> list[Any]:
    """Return the first rows that can be used; the sources stage says what is wrong with the others."""
    head = []
    for _, record in islice(rows, _HEAD_ROWS):
        if isinstance(record, RowError):
            continue
        try:
            head.append(parse(record))
        except (RowError, MissingFieldError):
            continue
    return head


def count_rows(file: Location) -> tuple[int, bool]:
    """Return the number of rows of a text or Parquet file, and whether it is exact.

    A file of more than a megabyte of text is not read whole: its other lines are taken to be as long as those of its beginning.
    """
    try:
        if file.path.endswith(".parquet"):
            with file.filesystem.open_input_file(file.path) as stream:
                return pq.read_metadata(stream).num_rows, True
        size = file.filesystem.get_file_info(file.path).size
        with file.filesystem.open_input_file(file.path) as stream:
            head = stream.read(_HEAD_BYTES)
        text, read = _unpacked(head) if file.path.endswith(".gz") else (head, len(head))
    except (OSError, zlib.error) as error:
        raise unreadable(file, error) from error
    lines = text.count(b"\n")
    if size <= read:
        return lines + (not text.endswith(b"\n") and bool(text)), True
    return round(max(lines, 1) * size / read), False


def _unpacked(head: bytes) -> tuple[bytes, int]:
    """Return at most sixteen megabytes of what the beginning of a gzip file unpacks to, and the bytes that they were read from."""
    unpacking = zlib.decompressobj(wbits=31)
    text = unpacking.decompress(head, 16 * _HEAD_BYTES)
    return text, len(head) - len(unpacking.unconsumed_tail)
