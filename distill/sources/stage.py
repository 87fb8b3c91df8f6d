"""The sources stage: queries, passages and judgements from files, BEIR folders, ir_datasets or the bundled corpus.

A passage in the source language goes to `passages`, one in any other language to `parallel` under the same id. A
collection to evaluate on may have no passages in the source language at all (NeuCLIR): `passages` is then empty and
everything is in `parallel`.
"""

from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import SourceError, find_all
from cluster.workspace import Workspace
from distill.formats.rows import PassageParser, QueryParser, Rejects, RowError
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.text import read_passages, read_queries
from distill.formats.trec import read_qrels
from distill.sources import corpus
from distill.sources.beir import _take_beir
from distill.sources.intake import Intake, _joined, _places, check_unique, translations
from distill.sources.ir_datasets import _take_ir_datasets
from distill.sources.settings import BeirSource, BundledSource, FileSource, IrDatasetsSource, Source
from distill.tables import PASSAGES, QRELS, QUERIES, STRING, TRANSLATIONS


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
        [place for path in paths for place in find_all(path, source.root)]
        for paths in (source.passages, source.queries, source.qrels)
    ]
    passages = [(place.name, *read_passages(place, source.passage_fields, source_lang)) for place in places[0]]
    queries = [
        (place.name, *read_queries(place, source.query_fields, source_lang, source.split)) for place in places[1]
    ]
    for name, rows, parse in passages:
        intake.add_passages(name, rows, parse)
    for name, rows, parse in queries:
        intake.add_queries(name, rows, parse)
    for place in places[2]:
        intake.add_qrels(place.name, read_qrels(place))


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_splits(queries: pa.Table) -> None:
    counts = queries.select(["query_id", "split"]).group_by("query_id").aggregate([("split", "count_distinct")])
    torn = counts.filter(pc.greater(counts["split_count_distinct"], 1))["query_id"].to_pylist()
    if torn:
        versions = queries.filter(pc.equal(queries["query_id"], min(torn))).to_pylist()
        shown = ", ".join(f"{row['split']} in {row['lang']} ({row['source']} line {row['line']})" for row in versions)
        raise SourceError(
            f"{len(torn)} queries have language versions in different splits, among them '{min(torn)}': {shown}"
        )


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


def _refuse_unknown(qrels: pa.Table, key: str, noun: str) -> None:
    if not len(qrels):
        return
    ids = pc.unique(qrels[key]).to_pylist()
    shown = ", ".join(f"'{name}' ({_places(qrels, {key: name})[0]})" for name in ids[:3])
    plural = {"query": "queries", "passage": "passages"}[noun]
    raise SourceError(
        f"qrels judge {len(ids)} {plural} that exist nowhere: {shown}; add files that have them, or remove the lines"
    )


# --- tables ----------------------------------------------------------------------------------------------------------
