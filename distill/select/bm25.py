"""BM25."""

from collections.abc import Iterable, Sequence
from random import Random

import bm25s
import numpy as np
import pyarrow as pa
import torch

from cluster.workspace import Shard, shard_rows
from distill.numerics.best import top_k
from distill.numerics.groups import Groups
from distill.select.candidates import Judged, candidate_table
from distill.select.settings import Bm25Selector
from distill.text import passage_texts, words


class Bm25:
    """A BM25 index in memory (bm25s, the Lucene variant).

    Args:
        ids: document ids: equal scores rank in the order of their first occurrences. Texts with one id are the passages of a document,
            which has the score of its best passage.
        texts: texts.
        k1: term-frequency saturation.
        b: length normalisation.

    Cost: 8 bytes for each distinct term of each document; building reads every text once.
    """

    def __init__(self, ids: Sequence[str], texts: Iterable[str], k1: float = 0.9, b: float = 0.4) -> None:
        self._groups = Groups(ids)
        self.ids: list[str] = self._groups.keys
        self._index = bm25s.BM25(method="lucene", k1=k1, b=b)
        tokens = [words(text) for text in texts]
        # bm25s cannot index a collection without a single term.
        self._empty = not any(tokens)
        if not self._empty:
            self._index.index(tokens, show_progress=False)

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return the best `k` documents that share a term with the query, as (id, score), best first, equal scores in the order of ids."""
        terms = [] if self._empty else [term for term in words(query) if term in self._index.vocab_dict]
        if not terms:
            return []
        scores = self._groups.scores(torch.from_numpy(self._index.get_scores(terms))[None])[0].numpy()
        matching = np.flatnonzero(scores > 0)
        values, positions = top_k(torch.from_numpy(scores[matching])[None], k, torch.from_numpy(matching))
        return [(self.ids[i], score) for i, score in zip(positions[0].tolist(), values[0].tolist(), strict=True)]


class Bm25Worker:
    """Search of a range of queries. Each actor builds its own index, which costs less than sending one."""

    def __init__(
        self, queries: pa.Table, passages: pa.Table, judged: pa.Table, by: Bm25Selector, without_own: bool = False
    ) -> None:
        self._queries = queries
        self._judged = Judged(judged, without_own=without_own)
        self._by = by
        self._index = Bm25(passages["passage_id"].to_pylist(), passage_texts(passages), by.k1, by.b)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the candidates of queries start to stop."""
        part = shard_rows(self._queries, shard)
        query_ids = part["query_id"].to_pylist()
        texts = part["text"].to_pylist()
        lists = [self._search(query_id, text) for query_id, text in zip(query_ids, texts, strict=True)]
        return {"candidates": candidate_table(query_ids, lists, "bm25", self._judged, self._by.top_k)}

    def _search(self, query_id: str, text: str) -> list[str]:
        depth = self._judged.depth(self._by.top_k)
        matching = [passage_id for passage_id, _ in self._index.search(text, depth)]
        if not self._by.fill:
            return matching
        return matching + fill(query_id, matching, self._index.ids, depth - len(matching))


def fill(query_id: str, matching: Sequence[str], ids: Sequence[str], count: int) -> list[str]:
    """Draw at most `count` of `ids` that are not among `matching`, at random; a pure function of its arguments."""
    random = Random(f"fill/{query_id}")  # noqa: S311 - a seeded draw, not a secret
    drawn = random.sample(ids, min(len(ids), count + len(matching)))
    return [passage_id for passage_id in drawn if passage_id not in set(matching)][:count]
