"""Rows of a source, collected: those that are kept, rejected and left out on purpose."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import visible
from cluster.locations import SourceError
from distill.formats.rows import PASSAGE_ROWS, QREL_ROWS, QUERY_ROWS, Record, Rejects, Rows, batches, parse_qrel
from distill.sources.checks import Known, check_no_floats, check_unique, known_judgements
from distill.tables import STRING, STRINGS, TRANSLATIONS


@dataclass
class Pile:
    """Rows of one kind, from every file.

    Attributes:
        key: the column with the id.
        schema: the columns.
        tables: the rows that are kept.
        skipped: ids of the rows in languages that are not wanted.
        rejected: ids of the rows that could not be used, as far as they have one.
    """

    key: str
    schema: pa.Schema
    tables: list[pa.Table] = field(default_factory=list)
    skipped: list[pa.Array] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)

    def table(self) -> pa.Table:
        """Return all kept rows; no copy."""
        return pa.concat_tables([self.schema.empty_table(), *self.tables])

    def ids(self) -> list[pa.Array]:
        """Return the ids of all kept rows, as chunks; no copy."""
        return [chunk for table in self.tables for chunk in table[self.key].chunks]


@dataclass
class Intake:
    """Everything that has been read of a source.

    Attributes:
        source_lang: the language of `passages`; passages in others go to `parallel`.
        kept: the languages whose rows are kept.
        rejects: the rows that could not be used.
        counts: for the manifest: rows that were left out on purpose, by language or reason.
        warnings: for the manifest and the terminal.
    """

    source_lang: str
    kept: set[str]
    rejects: Rejects
    passages: Pile = field(default_factory=lambda: Pile("passage_id", PASSAGE_ROWS))
    parallel: Pile = field(default_factory=lambda: Pile("passage_id", PASSAGE_ROWS))
    queries: Pile = field(default_factory=lambda: Pile("query_id", QUERY_ROWS))
    qrels: Pile = field(default_factory=lambda: Pile("query_id", QREL_ROWS))
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add_passages(self, name: str, rows: Rows, parse: Callable[[Record], tuple[Any, ...]]) -> None:
        """Add the passages of one file."""
        for table in self._wanted(
            self.passages, "skipped_passages", batches(name, self._told(name, rows), parse, PASSAGE_ROWS, self.rejects)
        ):
            in_source = pc.equal(table["lang"], self.source_lang)
            self.passages.tables.append(keep(table, in_source))
            self.parallel.tables.append(keep(table, pc.invert(in_source)))

    def add_queries(self, name: str, rows: Rows, parse: Callable[[Record], tuple[Any, ...]]) -> None:
        """Add the queries of one file."""
        tables = batches(name, self._told(name, rows), parse, QUERY_ROWS, self.rejects)
        self.queries.tables.extend(self._wanted(self.queries, "skipped_queries", tables))

    def add_qrels(self, name: str, rows: Rows) -> None:
        """Add the judgements of one file."""
        self.qrels.tables.extend(batches(name, self._told(name, rows), parse_qrel, QREL_ROWS, self.rejects))

    def count(self, fact: str, reason: str, number: int = 1) -> None:
        """Count `number` rows that were left out, under a fact of the manifest and the reason."""
        if number:
            self.counts.setdefault(fact, Counter())[reason] += number

    def check_kept(self, passages: int, queries: int) -> None:
        """Check that there is a passage and a query in a language that is kept; raise SourceError otherwise."""
        for noun, number in (("passages", passages), ("queries", queries)):
            if not number:
                skipped = self.counts.get(f"skipped_{noun}", Counter())
                languages = ", ".join(f"{lang} ({count})" for lang, count in sorted(skipped.items())) or "none at all"
                wanted = ", ".join(sorted(self.kept))
                raise SourceError(
                    f"no {noun} in {wanted}; the source has them in: {languages}; set source_lang and languages"
                )

    def _told(self, name: str, rows: Rows) -> Rows:
        """Yield the rows of a file; warn of one that has none, as a download that failed leaves it."""
        row = None
        for row in rows:
            yield row
        if row is None:
            self.warnings.append(f"{name} holds no rows")

    def warn_of_languages(self, queries: pa.Table) -> None:
        """Add warnings of rows that a language keeps from where a user may expect them.

        These are rows in a language that is not kept though another spelling of it is, and queries without a text in the source language
        where others have one.
        """
        spellings = {_base(lang): lang for lang in sorted(self.kept)}
        for noun in ("passages", "queries"):
            for lang, count in sorted(self.counts.get(f"skipped_{noun}", Counter()).items()):
                if similar := spellings.get(_base(lang)):
                    self.warnings.append(
                        f"{count} {noun} in '{visible(lang)}' are skipped: the job has '{similar}', and codes must be spelled alike"
                    )
        own = queries["query_id"].filter(pc.equal(queries["lang"], self.source_lang)).combine_chunks()
        others = queries.filter(pc.invert(pc.is_in(queries["query_id"], value_set=own)))
        if len(own) and len(others):
            langs = Counter(others["lang"].to_pylist())
            self.counts["queries_elsewhere"] = langs
            shown = ", ".join(f"{lang} {count}" for lang, count in sorted(langs.items()))
            self.warnings.append(
                f"{len(pc.unique(others['query_id']))} queries have no text in '{self.source_lang}' ({shown}): the student is not "
                "trained on them, and they are evaluated in their language alone (evaluate.query_lang)"
            )

    def _wanted(self, pile: Pile, fact: str, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        kept, before = pa.array(sorted(self.kept), STRING), len(self.rejects.rows)
        for table in tables:
            wanted = pc.is_in(table["lang"], value_set=kept)
            other = table.filter(pc.invert(wanted))
            for entry in other["lang"].value_counts().to_pylist():
                self.count(fact, entry["values"], entry["counts"])
            pile.skipped += [
                other[name].combine_chunks() for name in (pile.key, "doc_id") if name in other.column_names
            ]
            yield keep(table, wanted)
        pile.rejected.extend(row["id"] for row in self.rejects.rows[before:])

    def known_qrels(self, passages: list[pa.Array]) -> pa.Table:
        """Return the judgements of kept queries and passages; count those of skipped ones, reject those of rejected ones.

        Judgements of queries and passages that exist nowhere are rejected too, and counted in a warning.

        Args:
            passages: the ids of the kept passages and of their documents.

        Raises:
            SourceError: a judgement occurs twice, an id is there both as `12` and as `12.0`, or more judgements of a file are of things
                that exist nowhere than may be rejected.
        """
        qrels = self.qrels.table()
        check_unique(qrels, ("query_id", "passage_id"), "judgement")
        known = [
            Known(pile.key, noun, _joined(ids), pile.rejected, _joined(pile.skipped))
            for noun, pile, ids in (("query", self.queries, self.queries.ids()), ("passage", self.passages, passages))
        ]
        for one in known:
            check_no_floats(one.ids, qrels[one.column], one.noun)
        found = known_judgements(qrels, known, self.rejects)
        for noun, skipped in found.skipped.items():
            self.count("skipped_qrels", f"{noun} in a skipped language", skipped)
        if found.unknown:
            self.warnings.append(
                f"{found.unknown} of {len(qrels)} judgements are of queries or passages that exist nowhere and are left out: "
                "see table rejected"
            )
        return found.kept


def _base(lang: str) -> str:
    """Return the first part of a language code in lower case: `zh` of `zh-CN`, `ZH` and `zh_Hans`."""
    return lang.strip().replace("_", "-").partition("-")[0].casefold()


def _joined(ids: list[pa.Array]) -> pa.Array:
    return pa.chunked_array(ids, STRING).combine_chunks()


def keep(table: pa.Table, mask: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the rows where `mask` is true, without a copy where it is true everywhere."""
    return table if pc.all(mask, min_count=0).as_py() else table.filter(mask)


def translations(passages: pa.Table, source_lang: str) -> pa.Table:
    """Return passages (PASSAGE_ROWS) as rows of `translations` without flags; the translator is the file or data set they came from."""
    count = len(passages)
    columns = {
        "passage_id": passages["passage_id"],
        "source_lang": pa.repeat(pa.scalar(source_lang, STRING), count),
        "lang": passages["lang"],
        "title": passages["title"],
        "text": passages["text"],
        "translator": passages["source"].cast(STRING),
        "flags": pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], STRING)).cast(STRINGS),
    }
    return pa.table(columns).cast(TRANSLATIONS.schema)
