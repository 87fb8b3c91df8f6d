"""The score stage: the teacher reads the candidates of every query."""

import math

import pyarrow as pa
import pyarrow.compute as pc

from distill.config import ScoreSettings
from distill.select import pool
from distill.tables import CANDIDATES, REJECTED, SCORES, lookup
from distill.teachers import load_teacher
from distill.text import passage_text
from distill.workspace import Shard, Workspace


def score(workspace: Workspace, settings: ScoreSettings, source_lang: str) -> None:
    """Write `scores`, one row a query, and `rejected`, the pairs whose score is not a number.

    A shard is a range of queries by id, so its content depends neither on the number of actors nor on their order.
    """
    candidates = CANDIDATES.check(workspace.input("select", "candidates"), "select").sort_by("query_id")
    queries = workspace.input("sources", "queries")
    queries = queries.filter(pc.equal(queries["lang"], source_lang))
    passages = workspace.input("sources", "passages")
    size = settings.queries_per_shard
    shards = [
        Shard(i, {"start": start, "stop": start + size}) for i, start in enumerate(range(0, len(candidates), size))
    ]
    arguments = {"settings": settings, "candidates": candidates, "queries": queries, "passages": passages}
    workspace.map_shards(shards, ScoreWorker, arguments, pool(settings.pool), unit="queries")


class ScoreWorker:
    """Scores a range of queries with a teacher that is loaded once."""

    def __init__(self, settings: ScoreSettings, candidates: pa.Table, queries: pa.Table, passages: pa.Table) -> None:
        self._candidates = candidates
        self._queries = queries
        self._passages = passages
        device = "cuda" if settings.pool.num_gpus else "cpu"
        self._teacher = load_teacher(settings.teacher, settings.dtype, settings.tokens_per_batch, device)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The scores of queries start to stop."""
        part = self._candidates.slice(shard.args["start"], shard.args["stop"] - shard.args["start"])
        query_ids = part["query_id"].to_pylist()
        lists = part["passage_ids"].to_pylist()
        distinct = sorted({passage_id for ids in lists for passage_id in ids})
        queries = lookup(self._queries, "query_id", query_ids, "candidates")["text"].to_pylist()
        found = lookup(self._passages, "passage_id", distinct, "candidates")
        passages = [
            passage_text(*row) for row in zip(found["title"].to_pylist(), found["text"].to_pylist(), strict=True)
        ]
        place = {passage_id: i for i, passage_id in enumerate(distinct)}
        pairs = [(q, place[passage_id]) for q, ids in enumerate(lists) for passage_id in ids]
        scores = iter(self._teacher.score(queries, passages, pairs).tolist() if pairs else [])
        rows, rejected = [], []
        for query_id, ids in zip(query_ids, lists, strict=True):
            scored = [(passage_id, next(scores)) for passage_id in ids]
            good = [(passage_id, value) for passage_id, value in scored if math.isfinite(value)]
            rows.append(
                {
                    "query_id": query_id,
                    "passage_ids": [passage_id for passage_id, _ in good],
                    "scores": [value for _, value in good],
                    "teacher": self._teacher.name,
                }
            )
            rejected += [
                {
                    "source": "candidates",
                    "line": 0,
                    "id": f"{query_id} {passage_id}",
                    "field": "score",
                    "reason": f"the teacher gave {value}",
                }
                for passage_id, value in scored
                if not math.isfinite(value)
            ]
        return {"scores": SCORES.from_rows(rows), "rejected": REJECTED.from_rows(rejected)}
