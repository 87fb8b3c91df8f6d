"""The evaluate stage: runs against judgements, query by query, and tests of their differences.

A run's tag is `{system}-{collection}`, see `distill.evaluate.collections`. Each collection is judged by the judgements of
the documents in it, over the queries to which one of them is relevant.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Float64

from cluster.locations import Location
from cluster.workspace import Workspace
from distill.evaluate.collections import MIXED, POOLED, judgements, ordered, split_tag
from distill.evaluate.queries import judged_queries, nothing_to_evaluate
from distill.evaluate.settings import EvaluateSettings
from distill.formats.trec import write_qrels, write_run
from distill.measures.metrics import measure, ranked
from distill.measures.significance import corrected, paired_t_test
from distill.sources.documents import ranked_documents
from distill.tables import COMPARISONS, MEASUREMENTS, RUN, TableError

PRIMARY_MEASURE = "nDCG@20"
"""The measure of the comparisons and of the report's first table (arXiv 2405.00977)."""
COMPARED = (("student", "bm25"), ("student", "english_distillation"))
"""System and baseline of each comparison."""
_TOP = 10

Values = dict[tuple[str, str], dict[str, Float64[np.ndarray, " Q"]]]
"""(system, collection) -> measure -> one value for each query."""


def evaluate(
    workspace: Workspace,
    settings: EvaluateSettings,
    source_lang: str,
    languages: Sequence[str],
    *,
    sources: str = "sources",
    index: str = "index",
) -> None:
    """Measure every run of the stage `retrieve` on every judged query of the split.

    Writes the tables `measurements` and `comparisons`, and for use with trec_eval the files `trec/{tag}.run` and
    `trec/{collection}.qrels`. A query of the split without judgements is left out and counted. A collection of one language, and the mixed
    one, has those queries to which a document in it is relevant; the others are left out of its measurements, and counted. A query of a
    collection without results of a system counts with 0.

    Args:
        workspace: with the inputs `retrieve` (run, tags), `sources` (queries, qrels) and `index` (documents).
        settings: split, query language, measures, level of confidence, test and its correction.
        source_lang: the language of the queries where the settings name none.
        languages: the other languages.
        sources: the stage that the queries and qrels come from; another one where `settings.source` is set.
        index: the stage whose documents exist.

    Raises:
        TableError: no query is judged, or a tag names no collection.
        MetricsError: a measure is unknown, or a run contradicts itself.
    """
    query_ids = _judged_queries(workspace, settings, sources, settings.query_lang or source_lang)
    qrels = workspace.input(sources, "qrels")
    documents = ranked_documents(workspace.input(index, "documents", ["passage_id", "doc_id", "lang"]), qrels)
    qrels = qrels.filter(pc.is_in(qrels["query_id"], value_set=pa.array(query_ids, pa.string())))
    run = ranked(RUN.check(workspace.input("retrieve", "run"), "retrieve"))
    # A system without results for any query (BM25 across scripts) has no row in the run: it counts with 0.
    tags = sorted({*workspace.input("retrieve", "tags")["tag"].to_pylist(), *pc.unique(run["tag"]).to_pylist()})
    run = run.filter(pc.is_in(run["query_id"], value_set=pa.array(query_ids, pa.string())))
    known = {source_lang, *languages, *pc.unique(documents["lang"]).to_pylist(), MIXED, POOLED}
    split = {tag: split_tag(tag, ordered(known, source_lang, languages)) for tag in tags}
    names = ordered((collection for _, collection in split.values()), source_lang, languages)

    held = judgements(qrels, documents, names, source_lang, languages)
    queries = {name: _sorted_queries(held[name]) for name in names}
    _note_queries(workspace, qrels, documents, queries)
    measured = [name for name in names if queries[name]]
    values: Values = {}
    unanswered: dict[str, int] = {}
    for tag, (system, collection) in sorted(split.items(), key=lambda item: (item[1][0], names.index(item[1][1]))):
        if collection in measured:
            rows = run.filter(pc.equal(run["tag"], tag))
            values[system, collection] = measure(rows, held[collection], settings.measures, queries[collection])
            answered = set(rows["query_id"].to_pylist())
            unanswered[tag] = sum(query_id not in answered for query_id in queries[collection])
    workspace.write("measurements", _measurements(values, queries))
    workspace.write("comparisons", comparisons(values, measured, settings))
    workspace.note(queries_without_results={tag: number for tag, number in unanswered.items() if number})
    shares = {
        system: language_shares(run.filter(pc.equal(run["tag"], tag)))
        for tag, (system, name) in split.items()
        if name == POOLED
    }
    if shares:
        workspace.note(pooled_language_shares=shares)
    _write_trec(workspace, run, tags, {name: held[name] for name in measured})


def primary_measure(measures: Sequence[str]) -> str:
    """Return the measure to compare by: nDCG@20 if it is measured, else the first one."""
    return PRIMARY_MEASURE if PRIMARY_MEASURE in measures else measures[0]


def comparisons(values: Values, collections: Sequence[str], settings: EvaluateSettings) -> pa.Table:
    """Return paired t-tests of the pairs in `COMPARED` by the primary measure (COMPARISONS), p-values corrected over all of them.

    A collection that lacks one of the two systems is left out, and so is everything where there is only one query.
    """
    name = primary_measure(settings.measures)
    rows = []
    for collection in collections:
        for system, baseline in COMPARED:
            a, b = (values.get((side, collection), {}).get(name) for side in (system, baseline))
            if a is None or b is None or len(a) < 2:
                continue
            test = paired_t_test(a, b, settings.confidence, settings.test)
            rows.append(
                {
                    "system": system,
                    "baseline": baseline,
                    "collection": collection,
                    "measure": name,
                    "queries": len(a),
                    **vars(test),
                    "test": settings.test,
                    "correction": settings.correction,
                }
            )
    p_values = corrected([row["p"] for row in rows], settings.correction)
    return COMPARISONS.from_rows([{**row, "p_corrected": p} for row, p in zip(rows, p_values, strict=True)])


def language_shares(run: pa.Table) -> dict[str, float]:
    """Return the share of each language among the ten best documents of each query of one ranked pooled run, largest first."""
    best = run.filter(pc.less_equal(run["rank"], _TOP))
    languages = [document.rpartition("@")[2] for document in best["passage_id"].to_pylist()]
    counts = {lang: languages.count(lang) for lang in sorted(set(languages))}
    return {lang: count / len(languages) for lang, count in sorted(counts.items(), key=lambda item: -item[1])}


def _judged_queries(workspace: Workspace, settings: EvaluateSettings, sources: str, lang: str) -> list[str]:
    queries = workspace.input(sources, "queries", ["query_id", "lang", "split"])
    qrels = workspace.input(sources, "qrels")
    evaluated = judged_queries(queries, qrels, settings.split, lang)
    if not evaluated:
        raise TableError(f"{sources}: nothing to evaluate: {nothing_to_evaluate(queries, qrels, settings.split, lang)}")
    asked = pc.and_(pc.equal(queries["split"], settings.split), pc.equal(queries["lang"], lang))
    if left_out := pc.sum(asked).as_py() - len(evaluated):
        workspace.note(unjudged_queries=left_out)
    return evaluated


def _sorted_queries(qrels: pa.Table) -> list[str]:
    return sorted(pc.unique(qrels["query_id"]).to_pylist())


def _note_queries(
    workspace: Workspace, qrels: pa.Table, documents: pa.Table, queries: Mapping[str, Sequence[str]]
) -> None:
    """Note how many queries there are, in which collections fewer are measured, and how many judged passages no document is of."""
    every = _sorted_queries(qrels)
    workspace.note(queries=len(every))
    if fewer := {name: len(some) for name, some in queries.items() if len(some) < len(every)}:
        workspace.note(queries_of_collections=fewer)
    irrelevant = len(every) - len(pc.unique(qrels["query_id"].filter(pc.greater(qrels["relevance"], 0))))
    if irrelevant:
        workspace.note(queries_without_relevant=irrelevant)
    judged = pc.unique(qrels["passage_id"])
    absent = len(judged) - pc.sum(pc.is_in(judged, value_set=pc.unique(documents["passage_id"])), min_count=0).as_py()
    if absent:
        workspace.note(judged_passages_without_document=absent)
    if empty := [name for name, some in queries.items() if not some]:
        workspace.note(
            warning=f"not measured: {', '.join(empty)}: no document there is relevant to one of the {len(every)} queries"
        )


def _measurements(values: Values, queries: Mapping[str, Sequence[str]]) -> pa.Table:
    parts = [
        pa.table(
            {
                "system": [system] * len(numbers),
                "collection": [collection] * len(numbers),
                "measure": [name] * len(numbers),
                "query_id": queries[collection],
                "value": numbers,
            }
        )
        for (system, collection), measured in values.items()
        for name, numbers in measured.items()
    ]
    return MEASUREMENTS.check(pa.concat_tables(parts)) if parts else MEASUREMENTS.empty()


def _write_trec(workspace: Workspace, run: pa.Table, tags: Sequence[str], held: Mapping[str, pa.Table]) -> None:
    """Write each ranked run and each collection's judgements as TREC files, unless an id holds white space."""
    qrels_ids = [qrels[column] for qrels in held.values() for column in ("query_id", "passage_id")]
    for ids in (run["passage_id"], *qrels_ids):
        spaced = pc.index(pc.match_substring_regex(ids, r"\s"), value=True).as_py() if len(ids) else -1
        if spaced >= 0:
            wrong = ids[spaced].as_py()
            workspace.note(warning=f"no TREC files written: id {wrong!r} holds white space, at which the format splits")
            return
    for tag in tags:
        write_run(_trec_file(workspace, f"{tag}.run"), _rankings(run.filter(pc.equal(run["tag"], tag))), tag)
    for collection, qrels in held.items():
        rows = qrels.sort_by([("query_id", "ascending"), ("passage_id", "ascending")])
        columns = (rows[name].to_pylist() for name in ("query_id", "passage_id", "relevance"))
        write_qrels(_trec_file(workspace, f"{collection}.qrels"), zip(*columns, strict=True))


def _trec_file(workspace: Workspace, name: str) -> Location:
    path = f"{workspace.folder}/trec/{name}"
    return Location(workspace.filesystem, path, path, path)


def _rankings(run: pa.Table) -> Iterator[tuple[str, list[str], Float32[np.ndarray, " P"]]]:
    """Yield query, passages and scores of a ranked run with one tag."""
    rows = zip(*(run[name].to_pylist() for name in ("query_id", "passage_id", "score")), strict=True)
    for query_id, group in groupby(rows, itemgetter(0)):
        _, passage_ids, scores = zip(*group, strict=True)
        yield query_id, list(passage_ids), np.array(scores, np.float32)
