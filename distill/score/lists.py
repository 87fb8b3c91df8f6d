"""Score tables of several teachers side by side, in blocks of rows, so that memory does not depend on the number of pairs.

Every score stage writes one row for each row of `candidates`, in that order; row i of all these tables is the same query.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from cluster.stored_table import StoredTable
from cluster.workspace import Workspace
from distill.numerics.ragged import Ragged
from distill.sources.documents import best_of_documents, document_ids, training_qrels
from distill.tables import PARTS, SCORES, TableError

BLOCK_PAIRS = 250_000
"""Pairs of query and passage that are in memory at once, about."""


@dataclass(frozen=True)
class ScoreLists:
    """Some rows of a SCORES table.

    Attributes:
        query_ids: the queries.
        passage_ids: the candidates of all of them, one after the other.
        lists: the range of each query's candidates among them.
        scores: their scores.
        teachers: the names of the teacher in these rows.
    """

    query_ids: pa.Array
    passage_ids: pa.Array
    lists: Ragged
    scores: Float[np.ndarray, " P"]
    teachers: tuple[str, ...]

    @classmethod
    def of(cls, table: pa.Table) -> "ScoreLists":
        """Return the rows of a SCORES table."""
        table = table.combine_chunks()
        ids = table["passage_ids"].combine_chunks()
        lengths = pc.list_value_length(ids).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        scores = pc.list_flatten(table["scores"]).combine_chunks().to_numpy(zero_copy_only=False)
        return cls(
            table["query_id"].combine_chunks(),
            pc.list_flatten(ids),
            Ragged(offsets),
            scores.astype(np.float32),
            tuple(sorted(pc.unique(table["teacher"]).to_pylist())),
        )

    def take(self, kept: Bool[np.ndarray, " P"]) -> "ScoreLists":
        """Return the same queries without the candidates that are not kept."""
        ids = self.passage_ids.filter(pa.array(kept))
        return ScoreLists(self.query_ids, ids, self.lists.take(kept), self.scores[kept], self.teachers)

    def pair_ids(self, wanted: Bool[np.ndarray, " P"]) -> list[tuple[str, str]]:
        """Return query and passage of the wanted candidates."""
        queries = self.query_ids.take(pa.array(self.lists.owners[wanted])).to_pylist()
        return list(zip(queries, self.passage_ids.filter(pa.array(wanted)).to_pylist(), strict=True))


def blocks(tables: dict[str, StoredTable], pairs: int = BLOCK_PAIRS) -> Iterator[tuple[int, dict[str, ScoreLists]]]:
    """Yield the rows of all tables together, in blocks: the number of the first row, and each table's part by its stage's name."""
    lengths = {stage: len(table) for stage, table in tables.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(
            f"score tables of different lengths: {lengths}; each has a row for every query of `candidates`"
        )
    rows = next(iter(lengths.values()))
    size = block_rows(next(iter(tables.values())), pairs)
    for start in range(0, rows, size):
        yield start, read_block(tables, start, start + size)


def block_rows(table: StoredTable, pairs: int = BLOCK_PAIRS) -> int:
    """Return how many rows hold about so many pairs, judged by the first hundred."""
    lengths = pc.list_value_length(table.read(0, 100, ["passage_ids"])["passage_ids"])
    return max(1, int(pairs / max(1.0, pc.mean(lengths).as_py() or 1.0)))


def read_block(tables: dict[str, StoredTable], start: int, stop: int) -> dict[str, ScoreLists]:
    """Read rows start to stop of every table. A row that is not the same query in all of them is a `TableError`."""
    found = {
        stage: ScoreLists.of(SCORES.check(table.read(start, stop), f"{stage}, rows {start} to {stop}"))
        for stage, table in tables.items()
    }
    (first, one), *others = found.items()
    for stage, other in others:
        if not one.query_ids.equals(other.query_ids):
            raise TableError(
                f"the scores of stages '{first}' and '{stage}' are not of the same queries in the same order; run the stages again"
            )
    return found


def common(found: dict[str, ScoreLists]) -> dict[str, ScoreLists]:
    """Return the candidates that every table scored, in the order of the first one's lists."""
    if same_candidates(list(found.values())):
        return found
    (first, one), *others = found.items()
    sets = [_pair_sets(lists) for _, lists in others]
    ids, owners = one.passage_ids.to_pylist(), one.lists.owners.tolist()
    kept = np.array([all(s[q].get(i) is not None for s in sets) for q, i in zip(owners, ids, strict=True)], bool)
    aligned = {first: one.take(kept)}
    pairs = [(q, i) for q, i, keep in zip(owners, ids, kept.tolist(), strict=True) if keep]
    for (stage, lists), by_id in zip(others, sets, strict=True):
        order = np.array([by_id[q][i] for q, i in pairs], np.int64)
        chosen = aligned[first]
        aligned[stage] = ScoreLists(
            lists.query_ids, chosen.passage_ids, chosen.lists, lists.scores[order], lists.teachers
        )
    return aligned


def same_candidates(tables: Sequence[ScoreLists]) -> bool:
    """Return whether all tables hold the same candidates in the same order."""
    first, *others = tables
    return all(
        np.array_equal(first.lists.offsets, other.lists.offsets) and first.passage_ids.equals(other.passage_ids)
        for other in others
    )


def _pair_sets(lists: ScoreLists) -> list[dict[str, int]]:
    """Return, for each query, the position of each candidate among all."""
    found: list[dict[str, int]] = [{} for _ in range(len(lists.query_ids))]
    rows = zip(lists.lists.owners.tolist(), lists.passage_ids.to_pylist(), strict=True)
    for position, (query, passage_id) in enumerate(rows):
        found[query][passage_id] = position
    return found


def selector_ranks(lists: ScoreLists, candidates: pa.Table) -> Int[np.ndarray, " P"]:
    """Return the rank that the selector gave each scored candidate, from 1. `candidates` are the same rows of CANDIDATES.

    Where pairs were rejected a list is shorter than the selector's, and positions in it are not ranks.
    """
    ranks = lists.lists.positions + 1
    if candidates["query_id"].combine_chunks() != lists.query_ids:
        raise TableError(
            "scores and candidates are not of the same queries in the same order; run the score stage again"
        )
    found = pc.list_value_length(candidates["passage_ids"]).to_numpy()
    for row in np.flatnonzero(found != lists.lists.lengths):
        positions = {passage_id: i for i, passage_id in enumerate(candidates["passage_ids"][int(row)].as_py())}
        start, stop = lists.lists.offsets[row], lists.lists.offsets[row + 1]
        ids = lists.passage_ids.slice(start, stop - start).to_pylist()
        ranks[start:stop] = [positions[passage_id] + 1 for passage_id in ids]
    return ranks


@dataclass(frozen=True)
class Judgements:
    """The passages that are judged relevant, of some queries; every passage of a document that is.

    Attributes:
        query_ids: a query for each judgement.
        passage_ids: its passage.
        parts: PARTS of the documents that are judged; without rows where passages are.
    """

    query_ids: pa.Array
    passage_ids: pa.Array
    parts: pa.Table = field(default_factory=PARTS.empty)

    @classmethod
    def of(
        cls, qrels: pa.Table, queries: pa.Table, splits: Sequence[str], parts: pa.Table | None = None
    ) -> "Judgements":
        """Return those of QRELS by passage with a grade above 0 whose query is in one of the splits of QUERIES."""
        ids = queries["query_id"].filter(pc.is_in(queries["split"], pa.array(splits, pa.string()))).combine_chunks()
        kept = pc.and_(pc.greater(qrels["relevance"], 0), pc.is_in(qrels["query_id"], ids))
        qrels = qrels.filter(kept).combine_chunks()
        parts = PARTS.empty() if parts is None else parts
        return cls(qrels["query_id"].combine_chunks(), qrels["passage_id"].combine_chunks(), parts)

    def relevant(self, lists: ScoreLists) -> tuple[Bool[np.ndarray, " P"], Bool[np.ndarray, " Q"]]:
        """Return whether each candidate is judged relevant, and whether each query has such judgements at all."""
        rows = pc.index_in(self.query_ids, value_set=lists.query_ids)
        here = pa.array(np.flatnonzero(np.asarray(rows.is_valid())))
        owners = np.asarray(rows.take(here)).astype(np.int64)
        known, judged = pc.unique(self.passage_ids.take(here)), np.zeros(len(lists.query_ids), bool)
        judged[owners] = True
        if not len(here):
            return np.zeros(len(lists.scores), bool), judged
        # A pair as one number: its query's row times the number of judged passages, plus the passage's position among them.
        wanted = owners * len(known) + _positions(self.passage_ids.take(here), known)
        own = _positions(lists.passage_ids, known)
        pairs = np.where(own < 0, -1, lists.lists.owners * len(known) + own)
        return np.isin(pairs, wanted), judged

    def representatives(self, lists: ScoreLists, relevant: Bool[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
        """Return which candidates tell a relevant one from others: all but the passages of relevant documents that are not their best.

        Nobody judged those: a document is relevant by its best-scored passage.
        """
        kept = np.ones(len(relevant), bool)
        (rows,) = np.nonzero(relevant)
        if not len(self.parts) or not len(rows):
            return kept
        documents = document_ids(lists.passage_ids.take(pa.array(rows)), self.parts).to_pylist()
        best = best_of_documents(
            [*zip(lists.lists.owners[rows].tolist(), documents, strict=True)], lists.scores[rows].tolist()
        )
        kept[rows] = False
        kept[rows[best]] = True
        return kept


def _positions(ids: pa.Array, known: pa.Array) -> Int[np.ndarray, " N"]:
    """Return the position of each id among the known ones, -1 where it is none of them."""
    found = pc.index_in(ids, value_set=known)
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


def read_judgements(workspace: Workspace, splits: Sequence[str]) -> Judgements:
    """Return the relevant passages of queries in these splits. Test judgements are for the evaluation alone."""
    queries = workspace.input("sources", "queries", ["query_id", "split"])
    qrels, parts = training_qrels(workspace)
    return Judgements.of(qrels, queries, splits, parts)
