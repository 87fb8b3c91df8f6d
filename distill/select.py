"""The select stage: the passages that the teacher scores for each query."""

import gzip
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import assert_never

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from distill.config import Bm25Selector, PoolSettings, RunSelector, SelectSettings
from distill.tables import CANDIDATES, PASSAGES, QUERIES, TableError
from distill.text import passage_text, words
from distill.workspace import Pool, Shard, Workspace


class Bm25:
    """A BM25 index in memory (bm25s, the Lucene variant).

    Args:
        ids: document ids; ties in score are broken by their order here, so sort them.
        texts: document texts.
        k1: term-frequency saturation.
        b: length normalisation.

    Cost: 8 bytes for each distinct term of each document; building reads every text once.
    """

    def __init__(self, ids: Sequence[str], texts: Iterable[str], k1: float = 0.9, b: float = 0.4) -> None:
        self.ids = list(ids)
        self._index = bm25s.BM25(method="lucene", k1=k1, b=b)
        tokens = [words(text) for text in texts]
        # bm25s cannot index a collection without a single term.
        self._empty = not any(tokens)
        if not self._empty:
            self._index.index(tokens, show_progress=False)

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """The best `k` documents that share a term with the query, as (id, score), best first."""
        terms = [] if self._empty else [term for term in words(query) if term in self._index.vocab_dict]
        if not terms:
            return []
        scores = self._index.get_scores(terms)
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.ids[i], float(scores[i])) for i in best if scores[i] > 0]


def select(workspace: Workspace, settings: SelectSettings, source_lang: str) -> None:
    """Write `candidates`: the top k passages for each query in the source language, of every split."""
    queries = workspace.input("sources", "queries")
    queries = queries.filter(pc.equal(queries["lang"], source_lang)).sort_by("query_id")
    passages = workspace.input("sources", "passages").sort_by("passage_id")
    match settings.by:
        case Bm25Selector():
            _select_bm25(workspace, settings, settings.by, queries, passages)
        case RunSelector():
            run = read_run(settings.by.path)
            workspace.write("candidates", candidates_from_run(run, queries, passages, settings.by))
        case _:
            assert_never(settings.by)


def _select_bm25(
    workspace: Workspace, settings: SelectSettings, by: Bm25Selector, queries: pa.Table, passages: pa.Table
) -> None:
    QUERIES.check(queries, "sources")
    PASSAGES.check(passages, "sources")
    size = settings.queries_per_shard
    shards = [Shard(i, {"start": start, "stop": start + size}) for i, start in enumerate(range(0, len(queries), size))]
    arguments = {"queries": queries, "passages": passages, "by": by}
    workspace.map_shards(shards, Bm25Worker, arguments, pool(settings.pool), unit="queries")


class Bm25Worker:
    """Searches a range of queries. Each actor builds the index for itself, which costs less than shipping it."""

    def __init__(self, queries: pa.Table, passages: pa.Table, by: Bm25Selector) -> None:
        self._queries = queries
        self._by = by
        texts = (
            passage_text(title, text)
            for title, text in zip(passages["title"].to_pylist(), passages["text"].to_pylist(), strict=True)
        )
        self._index = Bm25(passages["passage_id"].to_pylist(), texts, by.k1, by.b)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The candidates of queries start to stop."""
        part = self._queries.slice(shard.args["start"], shard.args["stop"] - shard.args["start"])
        rows = [
            {"query_id": query_id, "passage_ids": self._candidates(query_id, text), "selector": "bm25"}
            for query_id, text in zip(part["query_id"].to_pylist(), part["text"].to_pylist(), strict=True)
        ]
        return {"candidates": CANDIDATES.from_rows(rows)}

    def _candidates(self, query_id: str, text: str) -> list[str]:
        found = [passage_id for passage_id, _ in self._index.search(text, self._by.top_k)]
        if not self._by.fill:
            return found
        return found + fill(query_id, found, self._index.ids, self._by.top_k - len(found))


def fill(query_id: str, found: Sequence[str], ids: Sequence[str], count: int) -> list[str]:
    """At most `count` random ids that are not among `found`; a pure function of its arguments."""
    random = Random(f"fill/{query_id}")  # noqa: S311 - a seeded draw, not a secret
    drawn = random.sample(ids, min(len(ids), count + len(found)))
    return [passage_id for passage_id in drawn if passage_id not in set(found)][:count]


def read_run(path: str) -> dict[str, list[str]]:
    """A TREC run file (local or s3://, optionally .gz) as query id -> passage ids by rank.

    A line without six fields, with a rank that is no number, or with a document that its query already has is an error with its number.
    """
    filesystem, inner = pafs.FileSystem.from_uri(path) if "://" in path else (pafs.LocalFileSystem(), path)
    if filesystem.get_file_info(inner).type != pafs.FileType.File:
        message = f"run file {path} does not exist"
        raise TableError(message)
    with filesystem.open_input_stream(inner, compression=None) as stream:
        content = stream.read()
    text = (gzip.decompress(content) if path.endswith(".gz") else content).decode("utf-8")
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 6 or not fields[3].lstrip("-").isdigit():
            message = f"{path} line {number}: expected 'query Q0 document rank score tag', found {line[:80]!r}"
            raise TableError(message)
        ranks = found.setdefault(fields[0], {})
        if fields[2] in ranks:
            message = f"{path} line {number}: document {fields[2]!r} is already in the ranking of query {fields[0]!r}"
            raise TableError(message)
        ranks[fields[2]] = int(fields[3])
    return {query: sorted(ranks, key=lambda document: (ranks[document], document)) for query, ranks in found.items()}


def candidates_from_run(
    run: Mapping[str, Sequence[str]], queries: pa.Table, passages: pa.Table, by: RunSelector
) -> pa.Table:
    """The top k of a run for each query; queries that the run lacks get an empty list. Unknown passages are an error that names them."""
    known = set(passages["passage_id"].to_pylist())
    rows = []
    unknown: list[str] = []
    for query_id in queries["query_id"].to_pylist():
        ids = list(run.get(query_id, ()))[: by.top_k]
        unknown.extend(i for i in ids if i not in known)
        rows.append({"query_id": query_id, "passage_ids": ids, "selector": f"run:{by.path}"})
    if unknown:
        message = f"{by.path}: {len(set(unknown))} retrieved passages do not exist in the source, among them {sorted(set(unknown))[:3]}"
        raise TableError(message)
    return CANDIDATES.from_rows(rows, by.path)


def pool(settings: PoolSettings) -> Pool:
    """The actors that `settings` ask for."""
    return Pool(**settings.model_dump())
