"""Parallel text as units: one piece of text in several languages."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from cluster.locations import SourceError, locate
from distill.formats.rows import Record, RowError
from distill.formats.text import read_jsonl
from distill.sources import corpus
from distill.text import passage_text

SEGMENT_FIELDS: Mapping[str, str] = {code: code for code in corpus.LANGUAGES} | {"es-LA": "es", "zh-CN": "zh"}
"""Fields of a file of segments that are read, and the languages that they count as: our codes, and TICO-19's where it has others."""

SEGMENT_WEIGHT = 0.35
"""Weight of a segment of another domain beside a sentence of the bundled passages."""
_PASSAGE_WEIGHT = 3.0
_CLAUSE_END = re.compile(r"(?<=[.!?؟;:])\s+|(?<=[。！？；：])\s*")


@dataclass(frozen=True)
class Unit:
    """One piece of text in several languages, English always among them.

    Attributes:
        texts: language code -> text.
        counted: whether words and translations are counted in it. Whole passages are not, because their sentences are units too; they
            are aligned and trained on nevertheless.
        weight: its relative frequency in word counts and in training.
    """

    texts: Mapping[str, str]
    counted: bool
    weight: float


def clauses(text: str) -> list[str]:
    """Cut a text after clause-final punctuation, be it Latin, Arabic or Chinese."""
    return [part for part in (piece.strip() for piece in _CLAUSE_END.split(text)) if part]


def corpus_units() -> list[Unit]:
    """Return the bundled passages: titles, whole passages and, where languages have equally many, clauses. No query is read."""
    units: list[Unit] = []
    for _, rows in groupby(corpus.passages(), key=lambda passage: passage[0]):
        passage = {row["lang"]: row for _, row in rows}
        titles = {lang: row["title"] for lang, row in passage.items()}
        bodies = {lang: row["text"] for lang, row in passage.items()}
        parts = {lang: clauses(text) for lang, text in bodies.items()}
        count = len(parts["en"])
        units.append(Unit(titles, counted=True, weight=1.0))
        whole = {lang: passage_text(titles[lang], bodies[lang]) for lang in passage}
        units.append(Unit(whole, counted=False, weight=_PASSAGE_WEIGHT))
        agree = [lang for lang in passage if len(parts[lang]) == count]
        units += [Unit({lang: parts[lang][i] for lang in agree}, counted=True, weight=1.0) for i in range(count)]
        rest = {lang: bodies[lang] for lang in passage if lang not in agree}
        if rest:
            units.append(Unit({"en": bodies["en"], **rest}, counted=True, weight=1.0))
    return units


def segment_units(file: str) -> list[Unit]:
    """Read a JSONL file (.gz too), one object a line from language code to text: TICO-19's layout (Anastasopoulos et al., 2020).

    `SEGMENT_FIELDS` are read and others ignored. The first row of equal English texts counts. A row without English, with a value that
    is not a string, or with English alone is a `SourceError` that names it.
    """
    location = locate(file)
    rows = read_jsonl(location)
    units: dict[str, Unit] = {}
    for number, record in rows:
        try:
            texts = _segment(record)
        except RowError as error:
            raise SourceError(f"{location.name}: line {number}: {error}") from error
        units.setdefault(texts["en"], Unit(texts, counted=True, weight=SEGMENT_WEIGHT))
    if not units:
        raise SourceError(
            f"{location.name}: no rows; give a JSONL file with one object a line, from language code to text"
        )
    return list(units.values())


def _segment(record: Record | RowError) -> dict[str, str]:
    if isinstance(record, RowError):
        raise record
    texts: dict[str, str] = {}
    for field, lang in SEGMENT_FIELDS.items():
        value = record.get(field, "")
        if not isinstance(value, str):
            raise RowError(field, f"{type(value).__name__}, expected a string")
        if value.strip():
            texts.setdefault(lang, value.strip())
    if "en" not in texts or len(texts) == 1:
        raise RowError("en", f"a row needs English and another of the languages {list(corpus.LANGUAGES)}")
    return texts


def weighted_texts(units: Iterable[Unit]) -> list[tuple[str, float]]:
    """Return the foreign texts of the counted units, with their weights."""
    return [(text, unit.weight) for unit in units if unit.counted for lang, text in unit.texts.items() if lang != "en"]
