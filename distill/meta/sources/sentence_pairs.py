"""Sentence pairs with graded scores, parallel in several languages, read from JSONL files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from cluster.locations import SourceError
from cluster.workspace import Workspace
from distill.formats.rows import ORIGIN, SPLITS, Record, Rejects, RowError, Rows, batches, content, identifier
from distill.meta.settings import SentencePairFiles
from distill.meta.sources.fields import existing_file, jsonl_rows, language
from distill.sources.checks import check_unique
from distill.tables import SENTENCE_PAIRS
from distill.text import is_blank


class SentencePair(NamedTuple):
    """A row of `sentence_pairs`."""

    pair_id: str
    lang: str
    first: str
    second: str
    score: float
    split: str


_PAIR_ROWS = pa.schema([*((column.name, column.type) for column in SENTENCE_PAIRS.columns), *ORIGIN])


def read_sentence_pairs(workspace: Workspace, source: SentencePairFiles, rejects: Rejects) -> pa.Table:
    """Return SENTENCE_PAIRS of the three files, sorted by id and language; pair ids begin with their split.

    A file whose highest score is at most half of a `source.max_score` that was set is a warning.

    Raises:
        SourceError: a file is missing or empty, too many of its rows are rejected, a pair occurs twice in one language, a score is above
            `source.max_score`, or those of a file are at most half of it and it was not set.
    """
    files = {
        split: existing_file(path) for split, path in zip(SPLITS, (source.train, source.dev, source.test), strict=True)
    }
    tables = []
    for split, file in files.items():
        parse, scale = _PairParser(split, source.max_score), _Scale(file.name, source.max_score)
        parts = list(batches(file.name, _versions(jsonl_rows(file), scale), parse, _PAIR_ROWS, rejects))
        if not parts:
            raise SourceError(f"{file.name} holds no sentence pair")
        if doubt := scale.doubt():
            if "max_score" not in source.model_fields_set:
                raise SourceError(f"{doubt}; set source.max_score to the highest score that your scale has")
            workspace.note(warning=doubt)
        tables.extend(parts)
    pairs = pa.concat_tables(tables)
    check_unique(pairs, ("pair_id", "lang"), "sentence pair")
    order = [("pair_id", "ascending"), ("lang", "ascending")]
    return SENTENCE_PAIRS.check(pairs.select(SENTENCE_PAIRS.schema.names), "sources").sort_by(order)


@dataclass
class _Scale:
    """The scores of a file and the highest one that their scale has.

    Attributes:
        name: the file.
        top: `source.max_score`.
        highest: the highest score of the file.
    """

    name: str
    top: float
    highest: float = 0.0

    def see(self, line: int, score: object) -> None:
        """Take note of a row's score; raise SourceError if it is above the scale."""
        if type(score) not in {int, float}:
            return
        number = float(str(score))
        if number > self.top:
            raise SourceError(
                f"{self.name} line {line}: the score {number:g} is above source.max_score {self.top:g}, by which scores are divided; set "
                "it to the highest score that your scale has"
            )
        self.highest = max(self.highest, number)

    def doubt(self) -> str:
        """Return what speaks against the scale: no score in its upper half; an empty text if there is one."""
        if self.highest > self.top / 2:
            return ""
        return (
            f"the highest score of {self.name} is {self.highest:g} and source.max_score {self.top:g}, by which scores are divided: its "
            f"pairs count as at most {self.highest / self.top:g} of 1 alike"
        )


def _versions(rows: Rows, scale: _Scale) -> Iterator[tuple[int, Record | RowError]]:
    """Yield a record (id, score, lang, s1, s2) for each language of each row."""
    for line, record in rows:
        if isinstance(record, RowError):
            yield line, record
            continue
        missing = [key for key in ("id", "score", "s1", "s2") if key not in record]
        if missing:
            raise SourceError(
                f"{scale.name} line {line}: no field '{missing[0]}'; it has {', '.join(map(repr, record)) or 'none'}"
            )
        scale.see(line, record["score"])
        wrong = [key for key in ("s1", "s2") if not isinstance(record[key], dict) or not record[key]]
        if wrong:
            yield line, RowError(wrong[0], "expected an object of sentences by language", _shown(record["id"]))
            continue
        for lang in dict.fromkeys([*record["s1"], *record["s2"]]):
            sides: dict[str, Any] = {key: record[key][lang] for key in ("s1", "s2") if lang in record[key]}
            yield line, {"id": record["id"], "score": record["score"], "lang": lang, **sides}


def _shown(row_id: object) -> str:
    return str(row_id) if isinstance(row_id, (str, int)) else ""


@dataclass(frozen=True)
class _PairParser:
    split: str
    max_score: float

    def __call__(self, record: Record) -> SentencePair:
        row_id = identifier(record, "id")
        lang = language(record, row_id)
        first, second = (self._sentence(record, key, lang, row_id) for key in ("s1", "s2"))
        score = record["score"]
        if type(score) not in {int, float} or not 0 <= score <= self.max_score:
            reason = f"{score!r}, expected a number from 0 to {self.max_score:g} (source.max_score)"
            raise RowError("score", reason, row_id)
        return SentencePair(f"{self.split}/{row_id}", lang, first, second, score / self.max_score, self.split)

    @staticmethod
    def _sentence(record: Record, key: str, lang: str, row_id: str) -> str:
        if key not in record:
            raise RowError(key, f"has no sentence in {lang}, which the other side has", row_id)
        text = content(record, key, row_id)
        if is_blank(text):
            raise RowError(key, f"is empty in {lang}", row_id)
        return text
