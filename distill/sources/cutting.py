"""Long documents cut into passages, by the setting `cut` of a source.

A passage id means the same text in every language, because the teacher reads one language and the student others. The passages of two
language versions of a document do not correspond, so each has an id of its own: `ID#LANG.N`, N from 1. Versions that are all short enough
are passages as they are, under the document's id.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import SourceError
from distill.formats.rows import PASSAGE_ROWS
from distill.sources.checks import origin
from distill.sources.settings import CutSettings
from distill.sources.windows import Atom, token_atoms, windows, word_atoms
from distill.tables import STRING

_ROWS_AT_ONCE = 4_096


class Cut(NamedTuple):
    """Passages that were cut from documents.

    Attributes:
        tables: the rows of each table that was given, those that are cut replaced by their passages, which follow one another.
        made: passage_id and lang of these passages.
        counts: language -> documents that were cut and the passages made of them.
        apart: documents in several languages that were cut, and so have versions that no longer correspond.
    """

    tables: list[pa.Table]
    made: pa.Table
    counts: dict[str, dict[str, int]]
    apart: int


def cut_documents(tables: Sequence[pa.Table], settings: CutSettings) -> Cut:
    """Cut the texts that are longer than `settings.length`, and the other versions of these documents with them.

    Cost: one pass over the texts on one core; memory: the rows of documents that are cut twice.

    Args:
        tables: passages in the source language, and those in others (PASSAGE_ROWS).
        settings: length, unit, stride.

    Raises:
        SourceError: a passage would get an id that another one has.
    """
    atoms = _reader(settings)
    stride = settings.stride or settings.length
    found = [_windows(table, atoms, settings.length, stride) for table in tables]
    cut_ids = {passage_id for cuts in found for passage_id, _ in cuts.values()}
    if not cut_ids:
        return Cut(list(tables), PASSAGE_ROWS.empty_table().select(["passage_id", "lang"]), {}, 0)
    wanted = pa.array(sorted(cut_ids), STRING)
    kept, made, counts = [], [], {}
    versions: dict[str, int] = {}
    for table, cuts in zip(tables, found, strict=True):
        is_cut = pc.is_in(table["passage_id"], value_set=wanted)
        kept.append(table.filter(pc.invert(is_cut)))
        parts = _passages(table, is_cut, cuts, versions, counts)
        made.append(pa.concat_tables([PASSAGE_ROWS.empty_table(), *parts]))
    _check_new_ids(kept, made)
    apart = sum(number > 1 for number in versions.values())
    new = pa.concat_tables(made).select(["passage_id", "lang"])
    return Cut([pa.concat_tables(pair) for pair in zip(kept, made, strict=True)], new, counts, apart)


def _reader(settings: CutSettings) -> Callable[[Sequence[str]], list[Sequence[Atom]]]:
    """Return the function that reads texts as atoms."""
    if settings.tokenizer is None:
        return lambda texts: [word_atoms(text) for text in texts]
    from distill.models.loading import load_tokenizer

    tokenizer = load_tokenizer(settings.tokenizer)

    def tokens(texts: Sequence[str]) -> list[Sequence[Atom]]:
        read = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [token_atoms(offsets) for offsets in read["offset_mapping"]]

    return tokens


def _windows(
    table: pa.Table, atoms: Callable[[Sequence[str]], list[Sequence[Atom]]], length: int, stride: int
) -> dict[int, tuple[str, list[tuple[int, int]]]]:
    """Return id and windows of each row whose text is longer than a window, by the number of the row."""
    found = {}
    for start in range(0, len(table), _ROWS_AT_ONCE):
        part = table.slice(start, _ROWS_AT_ONCE)
        texts = part["text"].to_pylist()
        rows = zip(part["passage_id"].to_pylist(), texts, atoms(texts), strict=True)
        for row, (passage_id, text, read) in enumerate(rows, start):
            spans = windows(text, read, length, stride)
            if len(spans) > 1:
                found[row] = passage_id, spans
    return found


def _passages(
    table: pa.Table,
    is_cut: pa.ChunkedArray,
    cuts: dict[int, tuple[str, list[tuple[int, int]]]],
    versions: dict[str, int],
    counts: dict[str, dict[str, int]],
) -> Iterator[pa.Table]:
    """Yield the passages of the rows that are cut, some thousands of rows at once, and count them."""
    numbers = pc.indices_nonzero(is_cut.combine_chunks()).to_pylist()
    for start in range(0, len(numbers), _ROWS_AT_ONCE):
        part = numbers[start : start + _ROWS_AT_ONCE]
        made: list[dict[str, Any]] = []
        for number, row in zip(part, table.take(pa.array(part)).to_pylist(), strict=True):
            passage_id, lang, text = row["passage_id"], row["lang"], row["text"]
            versions[passage_id] = versions.get(passage_id, 0) + 1
            _, spans = cuts.get(number, (passage_id, [(0, len(text))]))
            of_lang = counts.setdefault(lang, {"documents": 0, "passages": 0})
            of_lang["documents"] += 1
            of_lang["passages"] += len(spans)
            for place, (begin, end) in enumerate(spans, 1):
                made.append(row | {"passage_id": f"{passage_id}#{lang}.{place}", "text": text[begin:end].strip()})
        yield pa.Table.from_pylist(made, PASSAGE_ROWS)


def _check_new_ids(kept: Sequence[pa.Table], made: Sequence[pa.Table]) -> None:
    """Check that no passage that was cut has the id of another; raise SourceError, which names them."""
    new = pa.concat_tables(made)
    ids = new["passage_id"].combine_chunks()
    for table in kept:
        taken = table.filter(pc.is_in(table["passage_id"], value_set=ids))
        if len(taken):
            other = taken.slice(0, 1).to_pylist()[0]
            cut = new.filter(pc.equal(new["passage_id"], other["passage_id"])).slice(0, 1).to_pylist()[0]
            raise SourceError(
                f"{origin(other)}: passage '{other['passage_id']}' has the id that source.cut gives to a part of document "
                f"'{cut['doc_id']}' ({origin(cut)}); give one of them another id"
            )
