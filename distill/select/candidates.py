"""Parts that all selectors share: texts in the languages that they read, judged passages, and the table of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cluster.settings import PoolSettings
from cluster.workspace import Workspace
from distill.sources.documents import training_qrels
from distill.tables import CANDIDATES, PASSAGES, QUERIES, TableError, lookup

PASSAGE_COLUMNS = ("passage_id", "title", "text")


@dataclass(frozen=True)
class Task:
    """The work of a selector that encodes.

    Attributes:
        queries: QUERIES in the language to read, sorted by id.
        passages: id, title and text in the language to read, sorted by id.
        judged: passages to add (`judged_passages`).
        queries_per_shard: queries in a shard of the search.
        pool: the actors.
    """

    queries: pa.Table
    passages: pa.Table
    judged: pa.Table
    queries_per_shard: int
    pool: PoolSettings

    @property
    def device(self) -> str:
        """Device of the actors."""
        return "cuda" if self.pool.num_gpus else "cpu"


def queries_in(workspace: Workspace, lang: str, source_lang: str) -> pa.Table:
    """Return the job's queries (those with a text in the source language), sorted by id, as QUERIES in `lang`.

    A query without a text in `lang` is a `TableError` that counts them and names three.
    """
    queries = QUERIES.check(workspace.input("sources", "queries"), "sources")
    wanted = queries.filter(pc.equal(queries["lang"], source_lang)).sort_by("query_id")
    if lang == source_lang:
        return wanted
    versions = queries.filter(pc.equal(queries["lang"], lang))
    ids = wanted["query_id"].combine_chunks()
    _refuse_missing(
        ids, versions["query_id"], f"queries have no text in '{lang}'", "give the source queries in that language"
    )
    return lookup(versions, "query_id", ids, "sources")


def passages_in(workspace: Workspace, lang: str, source_lang: str) -> pa.Table:
    """Return id, title and text of the job's passages in `lang`, sorted by id: the source's own, or the translations.

    A passage without a text in `lang` is a `TableError` that counts them and names three.
    """
    if lang == source_lang:
        passages = PASSAGES.check(workspace.input("sources", "passages"), "sources")
        return passages.select(PASSAGE_COLUMNS).sort_by("passage_id")
    ids = workspace.input("sources", "passages", ["passage_id"])["passage_id"].combine_chunks()
    translations = workspace.input("translate", "translations", [*PASSAGE_COLUMNS, "lang"])
    versions = translations.filter(pc.equal(translations["lang"], lang)).select(PASSAGE_COLUMNS)
    advice = "give their translations (translate.by), or read passages in another language"
    _refuse_missing(ids, versions["passage_id"], f"passages have no text in '{lang}'", advice)
    return versions.filter(pc.is_in(versions["passage_id"], value_set=ids)).sort_by("passage_id")


def _refuse_missing(wanted: pa.Array, present: pa.ChunkedArray, what: str, advice: str) -> None:
    missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=present.combine_chunks())))
    if len(missing):
        raise TableError(
            f"{len(missing)} of {len(wanted)} {what}, among them {sorted(missing.slice(0, 3).to_pylist())}; {advice}"
        )


def judged_passages(workspace: Workspace) -> pa.Table:
    """Return query and passage of judgements above 0 of training and development queries, best grade first; never of test queries.

    Of a judged document these are all passages in the source language, so that the teacher can tell which of them is the relevant one.
    """
    queries = workspace.input("sources", "queries", ["query_id", "split"])
    asked = queries["query_id"].filter(pc.not_equal(queries["split"], "test")).combine_chunks()
    qrels, _ = training_qrels(workspace)
    known = workspace.input("sources", "passages", ["passage_id"])["passage_id"].combine_chunks()
    qrels = qrels.filter(pc.is_in(qrels["passage_id"], value_set=known))
    kept = pc.and_(pc.greater(qrels["relevance"], 0), pc.is_in(qrels["query_id"], value_set=asked))
    order = [("query_id", "ascending"), ("relevance", "descending"), ("passage_id", "ascending")]
    return qrels.filter(kept).sort_by(order).select(["query_id", "passage_id"])


NOTHING_JUDGED = pa.table({"query_id": pa.array([], pa.string()), "passage_id": pa.array([], pa.string())})
"""The table of selectors that add no judged passages."""


class Judged:
    """Passages to add to each query's candidates, from a table that `judged_passages` made."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __call__(self, query_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the judged passages of these queries; queries without any are left out."""
        rows = self._table.filter(pc.is_in(self._table["query_id"], value_set=pa.array(query_ids, pa.string())))
        by_query: dict[str, list[str]] = {}
        for query_id, passage_id in zip(rows["query_id"].to_pylist(), rows["passage_id"].to_pylist(), strict=True):
            by_query.setdefault(query_id, []).append(passage_id)
        return by_query


def candidate_table(
    query_ids: Sequence[str], selected: Sequence[Sequence[str]], selector: str, judged: Judged
) -> pa.Table:
    """Return CANDIDATES: the passages selected for each query, then its judged passages that are not among them."""
    added = judged(query_ids)
    rows = []
    for query_id, ids in zip(query_ids, selected, strict=True):
        own = set(ids)
        more = [passage_id for passage_id in added.get(query_id, ()) if passage_id not in own]
        rows.append({"query_id": query_id, "passage_ids": [*ids, *more], "selector": selector})
    return CANDIDATES.from_rows(rows, "select")
