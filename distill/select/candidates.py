"""What all selectors share: the texts in the languages they read, judged passages among the candidates, and the table."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cluster.settings import PoolSettings
from cluster.workspace import Workspace
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
    """The job's queries (those with a text in the source language), sorted by id, as QUERIES in `lang`.

    A query without a text in `lang` is a `TableError` that counts them and names three.
    """
    queries = QUERIES.check(workspace.input("sources", "queries"), "sources")
    wanted = queries.filter(pc.equal(queries["lang"], source_lang)).sort_by("query_id")
    if lang == source_lang:
        return wanted
    found = queries.filter(pc.equal(queries["lang"], lang))
    ids = wanted["query_id"].combine_chunks()
    _refuse_missing(
        ids, found["query_id"], f"queries have no text in '{lang}'", "give the source queries in that language"
    )
    return lookup(found, "query_id", ids, "sources")


def passages_in(workspace: Workspace, lang: str, source_lang: str) -> pa.Table:
    """Id, title and text of the job's passages in `lang`, sorted by id: the source's own, or the translations.

    A passage without a text in `lang` is a `TableError` that counts them and names three.
    """
    if lang == source_lang:
        passages = PASSAGES.check(workspace.input("sources", "passages"), "sources")
        return passages.select(PASSAGE_COLUMNS).sort_by("passage_id")
    ids = workspace.input("sources", "passages", ["passage_id"])["passage_id"].combine_chunks()
    translations = workspace.input("translate", "translations", [*PASSAGE_COLUMNS, "lang"])
    found = translations.filter(pc.equal(translations["lang"], lang)).select(PASSAGE_COLUMNS)
    advice = "give their translations (translate.by), or read passages in another language"
    _refuse_missing(ids, found["passage_id"], f"passages have no text in '{lang}'", advice)
    return found.filter(pc.is_in(found["passage_id"], value_set=ids)).sort_by("passage_id")


def _refuse_missing(wanted: pa.Array, found: pa.ChunkedArray, what: str, advice: str) -> None:
    there = pc.is_in(wanted, value_set=found.combine_chunks())
    lost = wanted.filter(pc.invert(there))
    if len(lost):
        raise TableError(
            f"{len(lost)} of {len(wanted)} {what}, among them {sorted(lost.slice(0, 3).to_pylist())}; {advice}"
        )


def judged_passages(workspace: Workspace) -> pa.Table:
    """Query and passage of what is judged relevant to training and development queries, best grade first; never to test queries."""
    queries = workspace.input("sources", "queries", ["query_id", "split"])
    asked = queries["query_id"].filter(pc.not_equal(queries["split"], "test")).combine_chunks()
    qrels = workspace.input("sources", "qrels")
    kept = pc.and_(pc.greater(qrels["relevance"], 0), pc.is_in(qrels["query_id"], value_set=asked))
    order = [("query_id", "ascending"), ("relevance", "descending"), ("passage_id", "ascending")]
    return qrels.filter(kept).sort_by(order).select(["query_id", "passage_id"])


NOTHING_JUDGED = pa.table({"query_id": pa.array([], pa.string()), "passage_id": pa.array([], pa.string())})
"""For selectors that are not to add anything."""


class Judged:
    """The passages to add to each query's candidates, of a table that `judged_passages` made."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __call__(self, query_ids: Sequence[str]) -> dict[str, list[str]]:
        """The judged passages of these queries; queries without are left out."""
        rows = self._table.filter(pc.is_in(self._table["query_id"], value_set=pa.array(query_ids, pa.string())))
        found: dict[str, list[str]] = {}
        for query_id, passage_id in zip(rows["query_id"].to_pylist(), rows["passage_id"].to_pylist(), strict=True):
            found.setdefault(query_id, []).append(passage_id)
        return found


def candidate_table(
    query_ids: Sequence[str], found: Sequence[Sequence[str]], selector: str, judged: Judged
) -> pa.Table:
    """CANDIDATES: what was found for each query, then its judged passages that were not found."""
    added = judged(query_ids)
    rows = []
    for query_id, ids in zip(query_ids, found, strict=True):
        there = set(ids)
        more = [passage_id for passage_id in added.get(query_id, ()) if passage_id not in there]
        rows.append({"query_id": query_id, "passage_ids": [*ids, *more], "selector": selector})
    return CANDIDATES.from_rows(rows, "select")
