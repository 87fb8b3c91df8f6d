"""Parts that all selectors share: texts in the languages that they read, judged passages, and the table of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cluster.settings import PoolSettings
from cluster.workspace import Workspace
from distill.select.passages import source_passages
from distill.sources.documents import training_qrels
from distill.tables import CANDIDATES, QUERIES, TableError, lookup
from distill.text import with_text

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
        without_own: leave the passage with a query's own id out of its candidates.
    """

    queries: pa.Table
    passages: pa.Table
    judged: pa.Table
    queries_per_shard: int
    pool: PoolSettings
    without_own: bool = False

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


def passages_in(workspace: Workspace, lang: str, source_lang: str, max_missing: float = 0.0) -> pa.Table:
    """Return id, title and text of the job's passages in `lang`, sorted by id: the source's own, or the translations.

    Passages without a text in `lang` are left out and counted in a warning. If they are a larger share than `max_missing`, or all, that is
    a `TableError` that names three.
    """
    if lang == source_lang:
        return source_passages(workspace, source_lang, PASSAGE_COLUMNS).sort_by("passage_id")
    ids = source_passages(workspace, source_lang, ["passage_id"])["passage_id"].combine_chunks()
    translations = with_text(workspace.input("translate", "translations", [*PASSAGE_COLUMNS, "lang", "flags"]))
    versions = translations.filter(pc.equal(translations["lang"], lang)).select(PASSAGE_COLUMNS)
    what = f"passages have no text in '{lang}'"
    advice = "give their translations (translate.by), or read passages in another language"
    missing = _refuse_missing(ids, versions["passage_id"], what, advice, max_missing)
    if missing:
        workspace.note(
            passages_without_text=missing,
            warning=f"{missing} of {len(ids)} {what} and are no candidates (select.passage_lang)",
        )
    return versions.filter(pc.is_in(versions["passage_id"], value_set=ids)).sort_by("passage_id")


def _refuse_missing(
    wanted: pa.Array, present: pa.ChunkedArray, what: str, advice: str, max_missing: float = 0.0
) -> int:
    """Return how many are missing, up to a share of them; raise TableError beyond."""
    missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=present.combine_chunks())))
    if len(missing) > max_missing * len(wanted) or 0 < len(wanted) == len(missing):
        raise TableError(
            f"{len(missing)} of {len(wanted)} {what}, among them {sorted(missing.slice(0, 3).to_pylist())}; {advice}"
        )
    return len(missing)


def judged_passages(workspace: Workspace, source_lang: str) -> pa.Table:
    """Return query and passage of judgements above 0 of training and development queries, best grade first; never of test queries.

    Of a judged document these are all passages in the source language, so that the teacher can tell which of them is the relevant one.
    Passages without a text in the source language are left out; those of them that are judged themselves are counted in a warning.
    """
    passage_ids = source_passages(workspace, source_lang, ["passage_id"])["passage_id"].combine_chunks()
    queries = workspace.input("sources", "queries", ["query_id", "split"])
    asked = queries["query_id"].filter(pc.not_equal(queries["split"], "test")).combine_chunks()
    qrels, _ = training_qrels(workspace)
    kept = pc.and_(pc.greater(qrels["relevance"], 0), pc.is_in(qrels["query_id"], value_set=asked))
    order = [("query_id", "ascending"), ("relevance", "descending"), ("passage_id", "ascending")]
    judged = qrels.filter(kept)
    known = pc.is_in(judged["passage_id"], value_set=passage_ids)
    themselves = workspace.input("sources", "qrels", ["passage_id"])["passage_id"].combine_chunks()
    lost = pc.sum(pc.is_in(judged["passage_id"].filter(pc.invert(known)), value_set=themselves)).as_py()
    if lost:
        workspace.note(
            judged_left_out=lost,
            warning=f"{lost} judgements are of passages that are no candidates: without a text in the source language",
        )
    return judged.filter(known).sort_by(order).select(["query_id", "passage_id"])


NOTHING_JUDGED = pa.table({"query_id": pa.array([], pa.string()), "passage_id": pa.array([], pa.string())})
"""The table of selectors that add no judged passages."""


class Judged:
    """Passages to add to each query's candidates.

    Args:
        table: what `judged_passages` returned.
        without_own: leave the passage with a query's own id out of its candidates.
    """

    def __init__(self, table: pa.Table, *, without_own: bool = False) -> None:
        self._table = table
        self.without_own = without_own

    def depth(self, top_k: int) -> int:
        """Return how many passages a selector must find for `top_k` candidates."""
        return top_k + self.without_own

    def __call__(self, query_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the judged passages of these queries; queries without any are left out."""
        rows = self._table.filter(pc.is_in(self._table["query_id"], value_set=pa.array(query_ids, pa.string())))
        by_query: dict[str, list[str]] = {}
        for query_id, passage_id in zip(rows["query_id"].to_pylist(), rows["passage_id"].to_pylist(), strict=True):
            by_query.setdefault(query_id, []).append(passage_id)
        return by_query


def candidate_table(
    query_ids: Sequence[str], selected: Sequence[Sequence[str]], selector: str, judged: Judged, top_k: int
) -> pa.Table:
    """Return CANDIDATES: the first `top_k` passages selected for each query, then its judged passages that are not among them."""
    added = judged(query_ids)
    rows = []
    for query_id, ids in zip(query_ids, selected, strict=True):
        left_out = {query_id} if judged.without_own else set()
        first = [passage_id for passage_id in ids if passage_id not in left_out][:top_k]
        left_out.update(first)
        more = [passage_id for passage_id in added.get(query_id, ()) if passage_id not in left_out]
        rows.append({"query_id": query_id, "passage_ids": [*first, *more], "selector": selector})
    return CANDIDATES.from_rows(rows, "select")
