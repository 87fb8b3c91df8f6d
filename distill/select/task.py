"""Exact search in blocks: every query meets every passage, and memory holds one block of them.

Shapes: Q queries, N passages of a block, K the best so far.
"""

from dataclasses import dataclass

import pyarrow as pa

from cluster.settings import PoolSettings


@dataclass(frozen=True)
class Task:
    """What a selector that encodes has to search.

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
        """Where the actors compute."""
        return "cuda" if self.pool.num_gpus else "cpu"
