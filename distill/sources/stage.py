"""The sources stage: queries, passages and judgements from files, BEIR folders, ir_datasets or the bundled corpus.

A passage in the source language goes to `passages`, one in any other language to `parallel` under the same id. A
collection to evaluate on may have no passages in the source language at all (NeuCLIR): `passages` is then empty and
everything is in `parallel`.
"""

from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import find_all
from cluster.workspace import Workspace
from distill.formats.rows import PassageParser, QueryParser, Rejects
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.text import read_passages, read_queries
from distill.formats.trec import read_qrels
from distill.sources import corpus
from distill.sources.beir import add_beir
from distill.sources.checks import check_unique, check_versions
from distill.sources.cutting import cut_documents
from distill.sources.documents import check_one_level, judged_unit, parts_of
from distill.sources.intake import Intake, translations
from distill.sources.ir_datasets import add_ir_datasets
from distill.sources.settings import BeirSource, BundledSource, CutSettings, FileSource, IrDatasetsSource, Source
from distill.tables import PASSAGES, QRELS, QUERIES, TRANSLATIONS


def ingest(
    workspace: Workspace, source: Source, source_lang: str, languages: tuple[str, ...], max_rejected: float
) -> None:
    """Read a source into the tables queries, passages, parts, parallel, qrels and rejected.

    Passages in `source_lang` go to `passages`, those in `languages` to `parallel`; passages and queries in other languages are skipped and
    counted in the manifest. A row that cannot be used goes to `rejected`. Judgements of skipped and rejected queries and passages are
    skipped and rejected themselves; with `source.drop_self_matches` those of a query for the passage of its own id are left out.

    Raises:
        SourceError: a larger share of a file than `max_rejected` cannot be used, a passage or query occurs twice in one language, a
            judgement occurs twice, a larger share of a file's judgements than `max_rejected` is of queries or passages that exist
            nowhere, or a query's versions are in different splits.

    Cost: one pass over the files on one core; memory that of the Arrow tables and as much again while they are written (5 GB for
    the 8.8 M passages of MS MARCO in one language).
    """
    intake = Intake(source_lang, {source_lang, *languages}, Rejects(max_rejected))
    match source:
        case BundledSource():
            _add_bundled(intake)
        case FileSource():
            _add_files(intake, source, source_lang)
        case BeirSource():
            add_beir(intake, source, source_lang)
        case IrDatasetsSource():
            add_ir_datasets(intake, source, source_lang)
        case _:
            assert_never(source)
    passages, parallel, queries = intake.passages.table(), intake.parallel.table(), intake.queries.table()
    intake.check_kept(len(passages) + len(parallel), len(queries))
    intake.warn_of_languages(queries)
    check_unique(passages, ("passage_id", "lang"), "passage")
    check_unique(parallel, ("passage_id", "lang"), "passage")
    check_unique(queries, ("query_id", "lang"), "query")
    check_versions(queries, "query_id", "split", "query")
    check_versions(pa.concat_tables([passages, parallel]), "passage_id", "doc_id", "passage")
    made = None
    if source.cut is not None:
        (passages, parallel), made = _cut(workspace, (passages, parallel), source.cut, source_lang)
    parts = parts_of([passages, parallel], made)
    ids = [chunk for table in (passages, parallel) for chunk in table["passage_id"].chunks]
    qrels = intake.known_qrels([*ids, *parts["doc_id"].chunks])
    check_one_level(qrels, parts)
    qrels = _without_own_ids(
        intake, qrels, queries, pa.concat_tables([passages, parallel]), drop=source.without_own_ids
    )
    if len(parts):
        judged = "documents" if judged_unit(qrels, parts) == "doc_id" else "passages"
        workspace.note(documents_of_parts=len(pc.unique(parts["doc_id"])), judged=judged)
    workspace.write("queries", QUERIES.check(queries.select(QUERIES.schema.names), "sources"))
    workspace.write("passages", PASSAGES.check(passages.select(PASSAGES.schema.names), "sources"))
    workspace.write("parts", parts)
    workspace.write("parallel", TRANSLATIONS.check(translations(parallel, source_lang), "sources"))
    workspace.write("qrels", QRELS.check(qrels.select(QRELS.schema.names), "sources"))
    workspace.write("rejected", intake.rejects.table())
    workspace.note(**{name: dict(counts) for name, counts in intake.counts.items() if counts})
    for warning in intake.warnings:
        workspace.note(warning=warning)


def _without_own_ids(intake: Intake, qrels: pa.Table, queries: pa.Table, passages: pa.Table, *, drop: bool) -> pa.Table:
    """Return the judgements, with `drop` those of a query for the passage of its own id counted and left out.

    Without, warn of queries that are passages: with the same id and the same text.
    """
    if drop:
        own = pc.equal(qrels["query_id"], qrels["passage_id"])
        intake.count("left_out_qrels", "of a query's own id", pc.sum(own).as_py() or 0)
        return qrels.filter(pc.invert(own))
    same = passages.filter(pc.is_in(passages["passage_id"], value_set=queries["query_id"].combine_chunks()))
    texts = {
        (row["passage_id"], row["lang"]): row["text"] for row in same.select(["passage_id", "lang", "text"]).to_pylist()
    }
    rows = queries.select(["query_id", "lang", "text"]).to_pylist() if texts else []
    twins = sum(texts.get((row["query_id"], row["lang"])) == row["text"] for row in rows)
    if twins:
        intake.warnings.append(
            f"{twins} queries are passages of the same id and text, so each finds itself first; source.drop_self_matches leaves a query's "
            "own id out"
        )
    return qrels


def _cut(
    workspace: Workspace, tables: tuple[pa.Table, pa.Table], settings: CutSettings, source_lang: str
) -> tuple[list[pa.Table], pa.Table]:
    """Cut the documents of both tables, and note what was cut; return the tables, and id and language of the passages that were made."""
    cut = cut_documents(tables, settings)
    workspace.note(cut=cut.counts)
    if cut.apart:
        warning = (
            f"{cut.apart} documents in several languages were cut: their passages do not correspond, so they are searched but are no "
            f"translations of each other; an engine (translate.by) translates those in {source_lang} for training"
        )
        workspace.note(warning=warning, cut_apart=cut.apart)
    return cut.tables, cut.made


def _add_bundled(intake: Intake) -> None:
    lang, split = corpus.LANGUAGES[0], "train"
    intake.add_passages("bundled", corpus.passages(), PassageParser(PassageFields(title="title", lang="lang"), lang))
    intake.add_queries("bundled", corpus.queries(), QueryParser(QueryFields(lang="lang", split="split"), lang, split))
    intake.add_qrels("bundled", corpus.qrels())


def _add_files(intake: Intake, source: FileSource, source_lang: str) -> None:
    if source.languages:
        intake.kept = {source_lang, *source.languages}
    # Every name is looked up before the first, perhaps long, file is read: the readers below open theirs when rows are asked for.
    locations = [
        [location for path in paths for location in find_all(path, source.root)]
        for paths in (source.passages, source.queries, source.qrels)
    ]
    passages = [(file.name, *read_passages(file, source.passage_fields, source_lang)) for file in locations[0]]
    queries = [
        (file.name, *read_queries(file, source.query_fields, source_lang, source.split)) for file in locations[1]
    ]
    for name, rows, parse in passages:
        intake.add_passages(name, rows, parse)
    for name, rows, parse in queries:
        intake.add_queries(name, rows, parse)
    for file in locations[2]:
        intake.add_qrels(file.name, read_qrels(file))
