"""The sources stage: queries, passages and judgements from files, BEIR folders, ir_datasets or the bundled corpus.

A passage in the source language goes to `passages`, one in any other language to `parallel` under the same id. A
collection to evaluate on may have no passages in the source language at all (NeuCLIR): `passages` is then empty and
everything is in `parallel`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.workspace import Workspace
from distill.formats import text as readers
from distill.formats.text import (
    PASSAGE_ROWS,
    QREL_ROWS,
    QUERY_ROWS,
    SPLITS,
    PassageParser,
    QueryParser,
    Record,
    Rejects,
    RowError,
    Rows,
    SourceError,
)
from distill.sources import corpus
from distill.sources.settings import (
    BeirSource,
    BundledSource,
    FileSource,
    IrDatasetsSource,
    PassageFields,
    QueryFields,
    Source,
)
from distill.tables import PASSAGES, QRELS, QUERIES, STRING, STRINGS, TRANSLATIONS, duplicates


def ingest(
    workspace: Workspace, source: Source, source_lang: str, languages: tuple[str, ...], max_rejected: float
) -> None:
    """Read a source into the tables queries, passages, parallel, qrels and rejected.

    Passages in `source_lang` go to `passages`, those in `languages` to `parallel`.
    Passages and queries in other languages are skipped and counted in the manifest. A row that cannot be used goes to
    `rejected`; a file with a larger share of them than `max_rejected` is a `SourceError`, and so are: a passage or
    query twice in one language, a judgement twice, a query whose language versions are in different splits, and a
    judgement of a query or passage that exists nowhere. Judgements of skipped and rejected queries and passages are
    skipped and rejected themselves.

    Cost: one pass over the files on one core; memory that of the Arrow tables and as much again while they are written (5 GB for
    the 8.8 M passages of MS MARCO in one language).
    """
    intake = Intake(source_lang, {source_lang, *languages}, Rejects(max_rejected))
    match source:
        case BundledSource():
            _take_bundled(intake)
        case FileSource():
            _take_files(intake, source, source_lang)
        case BeirSource():
            _take_beir(intake, source, source_lang)
        case IrDatasetsSource():
            _take_ir_datasets(intake, source, source_lang)
        case _:
            assert_never(source)
    passages, parallel, queries = intake.passages.table(), intake.parallel.table(), intake.queries.table()
    intake.check_found(len(passages) + len(parallel), len(queries))
    check_unique(passages, ("passage_id", "lang"), "passage")
    check_unique(parallel, ("passage_id", "lang"), "passage")
    check_unique(queries, ("query_id", "lang"), "query")
    _check_splits(queries)
    qrels = _known_qrels(intake)
    workspace.write("queries", QUERIES.check(queries.select(QUERIES.schema.names), "sources"))
    workspace.write("passages", PASSAGES.check(passages.select(PASSAGES.schema.names), "sources"))
    workspace.write("parallel", TRANSLATIONS.check(translations(parallel, source_lang), "sources"))
    workspace.write("qrels", QRELS.check(qrels.select(QRELS.schema.names), "sources"))
    workspace.write("rejected", intake.rejects.table())
    workspace.note(**{name: dict(counts) for name, counts in intake.counts.items() if counts})


# --- collecting ------------------------------------------------------------------------------------------------------


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
        """All kept rows; no copy."""
        return pa.concat_tables([self.schema.empty_table(), *self.tables])

    def ids(self) -> list[pa.Array]:
        """The ids of all kept rows."""
        return [chunk for table in self.tables for chunk in table[self.key].chunks]


@dataclass
class Intake:
    """What has been read so far.

    Attributes:
        source_lang: the language of `passages`; passages in others go to `parallel`.
        kept: the languages whose rows are kept.
        rejects: the rows that could not be used.
        counts: for the manifest: rows that were left out on purpose, by language or reason.
    """

    source_lang: str
    kept: set[str]
    rejects: Rejects
    passages: Pile = field(default_factory=lambda: Pile("passage_id", PASSAGE_ROWS))
    parallel: Pile = field(default_factory=lambda: Pile("passage_id", PASSAGE_ROWS))
    queries: Pile = field(default_factory=lambda: Pile("query_id", QUERY_ROWS))
    qrels: Pile = field(default_factory=lambda: Pile("query_id", QREL_ROWS))
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add_passages(self, name: str, rows: Rows, parse: Callable[[Record], tuple[Any, ...]]) -> None:
        """Take the passages of one file."""
        for table in self._wanted(
            self.passages, "skipped_passages", readers.batches(name, rows, parse, PASSAGE_ROWS, self.rejects)
        ):
            in_source = pc.equal(table["lang"], self.source_lang)
            self.passages.tables.append(keep(table, in_source))
            self.parallel.tables.append(keep(table, pc.invert(in_source)))

    def add_queries(self, name: str, rows: Rows, parse: Callable[[Record], tuple[Any, ...]]) -> None:
        """Take the queries of one file."""
        tables = readers.batches(name, rows, parse, QUERY_ROWS, self.rejects)
        self.queries.tables.extend(self._wanted(self.queries, "skipped_queries", tables))

    def add_qrels(self, name: str, rows: Rows) -> None:
        """Take the judgements of one file."""
        self.qrels.tables.extend(readers.batches(name, rows, readers.parse_qrel, QREL_ROWS, self.rejects))

    def count(self, fact: str, reason: str, number: int = 1) -> None:
        """Count rows that were left out."""
        if number:
            self.counts.setdefault(fact, Counter())[reason] += number

    def check_found(self, passages: int, queries: int) -> None:
        """Refuse a source of which nothing is left."""
        for noun, number in (("passages", passages), ("queries", queries)):
            if not number:
                skipped = self.counts.get(f"skipped_{noun}", Counter())
                found = ", ".join(f"{lang} ({count})" for lang, count in sorted(skipped.items())) or "none at all"
                wanted = ", ".join(sorted(self.kept))
                message = f"no {noun} in {wanted}; the source has them in: {found}; set source_lang and languages"
                raise SourceError(message)

    def _wanted(self, pile: Pile, fact: str, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        kept, before = pa.array(sorted(self.kept), STRING), len(self.rejects.rows)
        for table in tables:
            wanted = pc.is_in(table["lang"], value_set=kept)
            other = table.filter(pc.invert(wanted))
            for entry in other["lang"].value_counts().to_pylist():
                self.count(fact, entry["values"], entry["counts"])
            pile.skipped.append(other[pile.key].combine_chunks())
            yield keep(table, wanted)
        pile.rejected.extend(row["id"] for row in self.rejects.rows[before:])


def keep(table: pa.Table, mask: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows where `mask` is true, without a copy where it is true everywhere."""
    return table if pc.all(mask, min_count=0).as_py() else table.filter(mask)


# --- kinds of source -------------------------------------------------------------------------------------------------


def _take_bundled(intake: Intake) -> None:
    lang, split = corpus.LANGUAGES[0], "train"
    intake.add_passages("bundled", corpus.passages(), PassageParser(PassageFields(title="title", lang="lang"), lang))
    intake.add_queries("bundled", corpus.queries(), QueryParser(QueryFields(lang="lang", split="split"), lang, split))
    intake.add_qrels("bundled", corpus.qrels())


def _take_files(intake: Intake, source: FileSource, source_lang: str) -> None:
    if source.languages:
        intake.kept = {source_lang, *source.languages}
    # Every name is looked at before the first, perhaps long, file is read: the readers below open theirs when rows are asked for.
    places = [
        [place for path in paths for place in readers.find_all(path, source.root)]
        for paths in (source.passages, source.queries, source.qrels)
    ]
    passages = [(place.name, *readers.read_passages(place, source.passage_fields, source_lang)) for place in places[0]]
    queries = [
        (place.name, *readers.read_queries(place, source.query_fields, source_lang, source.split))
        for place in places[1]
    ]
    for name, rows, parse in passages:
        intake.add_passages(name, rows, parse)
    for name, rows, parse in queries:
        intake.add_queries(name, rows, parse)
    for place in places[2]:
        intake.add_qrels(place.name, readers.read_qrels(place))


def _take_beir(intake: Intake, source: BeirSource, source_lang: str) -> None:
    passages, queries = _beir_file(source.path, "corpus.jsonl"), _beir_file(source.path, "queries.jsonl")
    for place in filter(None, (_beir_find(source.path, f"qrels/{split}.tsv") for split in SPLITS)):
        intake.add_qrels(place.name, readers.read_beir_qrels(place))
    qrels = intake.qrels.table()
    if not len(qrels):
        message = f"{source.path}: no judgements; a BEIR folder has qrels/train.tsv, qrels/dev.tsv or qrels/test.tsv"
        raise SourceError(message)
    fields = PassageFields(id="_id", title="title")
    intake.add_passages(passages.name, readers.read_jsonl(passages), PassageParser(fields, source_lang))
    splits = _beir_splits(qrels)
    rows = _with_split(intake, readers.read_jsonl(queries), splits)
    intake.add_queries(queries.name, rows, QueryParser(QueryFields(id="_id", split=_BEIR_SPLIT), source_lang, "train"))


_BEIR_SPLIT = "split of its qrels"
"""A field that is added to records, named so that no file has it."""


def _beir_find(folder: str, name: str) -> readers.Location | None:
    places = (readers.locate(candidate, folder) for candidate in (name, f"{name}.gz"))
    return next((place for place in places if readers.exists(place)), None)


def _beir_file(folder: str, name: str) -> readers.Location:
    place = _beir_find(folder, name)
    if place is None:
        missing = readers.locate(name, folder).name
        message = f"{missing}[.gz] does not exist; a BEIR folder has corpus.jsonl and queries.jsonl"
        raise SourceError(message)
    return place


def _beir_splits(qrels: pa.Table) -> dict[str, str]:
    """The split of each judged query: the name of the file with its judgements."""
    splits: dict[str, str] = {}
    places: dict[str, str] = {}
    for table in qrels.to_batches():
        names = table["source"].cast(STRING).to_pylist()
        for query_id, line, name in zip(table["query_id"].to_pylist(), table["line"].to_pylist(), names, strict=True):
            split = name.removesuffix(".gz").removesuffix(".tsv").rpartition("/")[2]
            if splits.setdefault(query_id, split) != split:
                where = f"{places[query_id]} and {name} line {line}"
                message = f"query '{query_id}' is judged in two splits: {where}; a query has one split"
                raise SourceError(message)
            places.setdefault(query_id, f"{name} line {line}")
    return splits


def _with_split(intake: Intake, rows: Rows, splits: dict[str, str]) -> Iterator[tuple[int, Record | RowError]]:
    for line, record in rows:
        if isinstance(record, RowError) or "_id" not in record:
            yield line, record
        elif str(record["_id"]) in splits:
            yield line, {**record, _BEIR_SPLIT: splits[str(record["_id"])]}
        else:
            intake.count("unused_queries", "without judgements")


def _take_ir_datasets(intake: Intake, source: IrDatasetsSource, source_lang: str) -> None:
    passages = {lang: load_ir_dataset(name, "docs") for lang, name in source.passages.items()}
    queries = [(split, name, load_ir_dataset(name, "queries")) for split, name in source.queries.items()]
    for lang, dataset in passages.items():
        name = f"ir_datasets:{source.passages[lang]}"
        intake.add_passages(name, ir_passages(name, dataset), PassageParser(IR_PASSAGE, lang))
    for split, dataset_id, dataset in queries:
        name = f"ir_datasets:{dataset_id}"
        # Topics of several languages (NeuCLIR, HC4) name none; their title and description are in English.
        lang = dataset.queries_lang() or source_lang
        intake.add_queries(name, _ir_queries(name, dataset), QueryParser(QueryFields(), lang, split))
        if dataset.has("qrels"):
            intake.add_qrels(name, _ir_qrels(name, dataset))
    for lang, splits in source.translated_queries.items():
        for split, place in splits.items():
            if place.endswith(readers.FORMATS):
                file = readers.locate(place)
                intake.add_queries(file.name, *readers.read_queries(file, QueryFields(), lang, split))
            else:
                name = f"ir_datasets:{place}"
                rows = _ir_queries(name, load_ir_dataset(place, "queries"))
                intake.add_queries(name, rows, QueryParser(QueryFields(), lang, split))


IrDataset: TypeAlias = Any
"""An ir_datasets `Dataset`. Which methods it has (docs_iter, queries_iter, qrels_iter ...) depends on its parts."""

IR_PASSAGE = PassageFields(title="title")
"""Names of the fields in the records of `ir_passages`."""


def load_ir_dataset(name: str, part: str) -> IrDataset:
    """The data set `name` of ir_datasets, which must have `part` (docs or queries). Nothing is downloaded yet."""
    try:
        import ir_datasets
    except ImportError as error:
        message = f"ir_datasets:{name} needs the ir_datasets package: pip install 'polyray[irds]'"
        raise SourceError(message) from error
    try:
        dataset = ir_datasets.load(name)
    except KeyError as error:
        message = f"ir_datasets has no data set '{name}'; https://ir-datasets.com lists them"
        raise SourceError(message) from error
    if not dataset.has(part):
        message = f"ir_datasets:{name} has no {part}; https://ir-datasets.com says which of its parts do"
        raise SourceError(message)
    return dataset


def ir_passages(name: str, dataset: IrDataset) -> Iterator[tuple[int, Record]]:
    """The documents of a data set as records of `IR_PASSAGE`: title where there is one, and text (or body).

    A document of other fields (abstracts, claims, tables) is read as ir_datasets itself puts it into one text
    (`default_text`).
    """
    for number, doc in _items(name, dataset.docs_iter):
        body = next((part for part in ("text", "body") if part in doc._fields), None)
        if body is None:
            yield number, {"id": doc.doc_id, "title": "", "text": doc.default_text()}
        else:
            yield number, {"id": doc.doc_id, "title": getattr(doc, "title", None), "text": getattr(doc, body)}


def _ir_queries(name: str, dataset: IrDataset) -> Iterator[tuple[int, Record]]:
    """The queries of a data set: a TREC topic is its title and description (arXiv 2401.04810, 2405.00977)."""
    for number, query in _items(name, dataset.queries_iter):
        if {"title", "description"} <= set(query._fields):
            yield number, {"id": query.query_id, "text": f"{query.title} {query.description}".strip()}
        else:
            yield number, {"id": query.query_id, "text": query.default_text()}


def _ir_qrels(name: str, dataset: IrDataset) -> Iterator[tuple[int, Record]]:
    for number, qrel in _items(name, dataset.qrels_iter):
        yield number, {"query": qrel.query_id, "passage": qrel.doc_id, "grade": qrel.relevance}


def _items(name: str, iterate: Callable[[], Iterator[Any]]) -> Iterator[tuple[int, Any]]:
    """What ir_datasets yields, numbered from 1. Failed downloads and malformed files become a `SourceError`."""
    try:
        yield from enumerate(iterate(), start=1)
    except (OSError, RuntimeError, ValueError) as error:
        message = (
            f"{name}: {' '.join(str(error).split())}; ir_datasets downloads to ~/.ir_datasets, or $IR_DATASETS_HOME"
        )
        raise SourceError(message) from error


# --- checks ----------------------------------------------------------------------------------------------------------


def check_unique(table: pa.Table, key: tuple[str, ...], noun: str) -> None:
    """Refuse rows of `readers` with the same `key`; the message names the first and where it occurs."""
    repeated = duplicates(table, key)
    if not repeated:
        return
    first = dict(zip(key, repeated[0], strict=True))
    shown = " ".join(f"{name} '{value}'" for name, value in first.items())
    places = _places(table, first)
    more = f" ({len(repeated) - 1} more such)" if len(repeated) > 1 else ""
    message = f"{noun} more than once: {shown} in {' and '.join(places[:2])}{more}; ids must be unique"
    raise SourceError(message)


def _places(table: pa.Table, values: dict[str, Any]) -> list[str]:
    for name, value in values.items():
        table = table.filter(pc.equal(table[name], value))
    return [f"{row['source']} line {row['line']}" for row in table.select(["source", "line"]).to_pylist()]


def _check_splits(queries: pa.Table) -> None:
    counts = queries.select(["query_id", "split"]).group_by("query_id").aggregate([("split", "count_distinct")])
    torn = counts.filter(pc.greater(counts["split_count_distinct"], 1))["query_id"].to_pylist()
    if torn:
        versions = queries.filter(pc.equal(queries["query_id"], min(torn))).to_pylist()
        shown = ", ".join(f"{row['split']} in {row['lang']} ({row['source']} line {row['line']})" for row in versions)
        message = f"{len(torn)} queries have language versions in different splits, among them '{min(torn)}': {shown}"
        raise SourceError(message)


def _known_qrels(intake: Intake) -> pa.Table:
    """The judgements of kept queries and passages. Others must at least have been seen."""
    qrels = intake.qrels.table()
    check_unique(qrels, ("query_id", "passage_id"), "judgement")
    passages = [*intake.passages.ids(), *intake.parallel.ids()]
    for noun, pile, ids in (("query", intake.queries, intake.queries.ids()), ("passage", intake.passages, passages)):
        known = pc.is_in(qrels[pile.key], value_set=_joined(ids))
        others = qrels.filter(pc.invert(known))
        qrels = qrels.filter(known)
        skipped = pc.is_in(others[pile.key], value_set=_joined(pile.skipped))
        intake.count("skipped_qrels", f"{noun} in a skipped language", pc.sum(skipped).as_py() or 0)
        others = others.filter(pc.invert(skipped))
        unusable = pc.is_in(others[pile.key], value_set=pa.array(pile.rejected, STRING))
        for row in others.filter(unusable).to_pylist():
            error = RowError(noun, f"'{row[pile.key]}' was rejected, so its judgement is too", row["query_id"])
            intake.rejects.add(row["source"], row["line"], error)
        _refuse_unknown(others.filter(pc.invert(unusable)), pile.key, noun)
    return qrels


def _joined(ids: list[pa.Array]) -> pa.Array:
    return pa.chunked_array(ids, STRING).combine_chunks()


def _refuse_unknown(qrels: pa.Table, key: str, noun: str) -> None:
    if not len(qrels):
        return
    ids = pc.unique(qrels[key]).to_pylist()
    shown = ", ".join(f"'{name}' ({_places(qrels, {key: name})[0]})" for name in ids[:3])
    plural = {"query": "queries", "passage": "passages"}[noun]
    message = (
        f"qrels judge {len(ids)} {plural} that exist nowhere: {shown}; add files that have them, or remove the lines"
    )
    raise SourceError(message)


# --- tables ----------------------------------------------------------------------------------------------------------


def translations(passages: pa.Table, source_lang: str) -> pa.Table:
    """Passages of `readers` as rows of `translations`, without flags.

    The translator is the file or data set that they came from.
    """
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
