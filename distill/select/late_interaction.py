"""Late-interaction retrieval: the passages with the largest MaxSim, exactly.

Passages are encoded in shards, then queries are searched in shards, block after block of passages, so memory does not depend on the size
of the collection. Every query vector meets every passage vector: there is no candidate generation among token vectors (as PLAID and FAISS
token search have it), whose errors would decide what the teacher sees.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cluster.workspace import Shard, StoredTable, Workspace, row_shards, shard_rows
from distill.encoders.checkpoints import load_late_interaction
from distill.models.locate import fetch_folder
from distill.select.candidates import Judged, candidate_table
from distill.select.settings import LateInteractionSelector
from distill.select.task import Best, Task
from distill.tables import VECTORS
from distill.text import passage_texts

_BLOCK_VECTORS = 2**18
"""Passage vectors in memory at once: 128 MiB of 128 float32 numbers."""
_BLOCK_SIMILARITIES = 2**26
"""Similarities in memory at once: 256 MiB."""


def select_late_interaction(workspace: Workspace, by: LateInteractionSelector, task: Task) -> None:
    """Write `vectors` (float16) and `candidates`.

    Cost of the search: T*L*D multiply-adds for each query and passage, of T and L vectors of D numbers. Memory of an actor: some 128 MiB of
    passage vectors and 256 MiB of similarities.
    """
    folder = fetch_folder(by.model, by.revision)
    encoding = row_shards(len(task.passages), by.passages_per_shard)
    arguments = {"passages": task.passages, "by": by, "device": task.device}
    workspace.map_shards(encoding, TokenVectorWorker, arguments, task.pool, unit="passages")
    workspace.note(model_folder=folder)
    arguments = {
        "queries": task.queries, "passages": task.passages.select(["passage_id"]), "judged": task.judged,
        "vectors": StoredTable.open(workspace.filesystem, f"{workspace.folder}/vectors"), "by": by, "device": task.device,
    }  # fmt: skip
    first = len(encoding)
    shards = [Shard(first + s.index, s.args) for s in row_shards(len(task.queries), task.queries_per_shard)]
    workspace.map_shards(shards, LateInteractionWorker, arguments, task.pool, unit="queries")


class TokenVectorWorker:
    """Encodes a range of passages."""

    def __init__(self, passages: pa.Table, by: LateInteractionSelector, device: str) -> None:
        self._passages = passages
        self._by = by
        self._encoder = load_late_interaction(fetch_folder(by.model, by.revision), device)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The vectors of passages start to stop."""
        part = shard_rows(self._passages, shard)
        vectors = self._encoder.encode_passages(passage_texts(part), self._by.tokens_per_batch)
        positions = pa.array(range(shard.args["start"], shard.args["start"] + len(part)), pa.int64())
        flat = pa.array([v.half().numpy().ravel() for v in vectors], pa.list_(pa.float16()))
        return {"vectors": VECTORS.check(pa.table({"position": positions, "vectors": flat}), "select")}


class LateInteractionWorker:
    """Searches a range of queries."""

    def __init__(
        self,
        queries: pa.Table,
        passages: pa.Table,
        judged: pa.Table,
        vectors: StoredTable,
        by: LateInteractionSelector,
        device: str,
    ) -> None:
        self._queries = queries
        self._ids = passages["passage_id"].combine_chunks()
        self._judged = Judged(judged)
        self._vectors = vectors
        self._by = by
        self._device = device
        self._encoder = load_late_interaction(fetch_folder(by.model, by.revision), device)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The candidates of queries start to stop."""
        part = shard_rows(self._queries, shard)
        texts = part["text"].to_pylist()
        size = max(1, self._by.tokens_per_batch // self._encoder.settings.query_tokens)
        queries = torch.cat([self._encoder.encode_queries(texts[i : i + size]) for i in range(0, len(texts), size)])
        best = Best(len(texts), self._by.top_k)
        queries = queries.to(self._device)
        for places, vectors in passage_blocks(self._vectors, self._encoder.settings.dim):
            passages = vectors.to(self._device)
            length, count, _ = passages.shape
            size = max(1, _BLOCK_SIMILARITIES // (queries.shape[1] * length * count))
            for start in range(0, len(queries), size):
                best.add(start, block_maxsim(queries[start : start + size], passages), places)
        found = [self._ids.take(pa.array(row)).to_pylist() for row in best.places()]
        name = f"late_interaction:{self._by.model}"
        return {"candidates": candidate_table(part["query_id"].to_pylist(), found, name, self._judged)}


def block_maxsim(queries: Float[Tensor, "Q T D"], passages: Float[Tensor, "L N D"]) -> Float[Tensor, "Q N"]:
    r"""Late interaction of every query with every passage: :math:`\sum_t \max_l \langle q_t, p_l \rangle`, in float32.

    Passages lie with all first vectors before all second ones, so that the maximum runs over the slowest axis, which vectorises. Shorter
    ones are filled up with a vector of their own, which changes no maximum.
    """
    count, tokens, size = queries.shape
    similarity = queries.float().reshape(count * tokens, size) @ passages.float().reshape(-1, size).T
    return similarity.view(count, tokens, *passages.shape[:2]).amax(dim=2).sum(dim=1)


def passage_blocks(
    vectors: StoredTable, dim: int, limit: int = _BLOCK_VECTORS
) -> Iterator[tuple[Int[Tensor, " N"], Float[Tensor, "L N D"]]]:
    """The passages of a VECTORS table in blocks of similar lengths and at most `limit` vectors, with their places in the table."""
    rows = max(1, limit // 128)
    for first in range(0, len(vectors), rows):
        column = vectors.read(first, first + rows, ["vectors"])["vectors"].combine_chunks()
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False) // dim
        # A passage without a vector would score minus infinity; one of zeros scores 0.
        flat = np.concatenate([np.asarray(pc.list_flatten(column)).reshape(-1, dim), np.zeros((1, dim), np.float16)])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        starts[lengths == 0] = len(flat) - 1
        order = np.argsort(lengths, kind="stable")
        for chosen in _cut(order, lengths, limit):
            longest = max(1, int(lengths[chosen].max()))
            steps = np.minimum(np.arange(longest)[:, None], np.maximum(lengths[chosen] - 1, 0)[None, :])
            block = torch.from_numpy(flat[starts[chosen][None, :] + steps])
            yield torch.from_numpy(first + chosen), block.float()


def _cut(order: np.ndarray, lengths: np.ndarray, limit: int) -> Iterator[np.ndarray]:
    """Rows by length, in runs whose padded size stays within `limit` vectors and whose longest is at most 1.5 times the shortest."""
    start = 0
    while start < len(order):
        shortest = max(1, int(lengths[order[start]]))
        stop = start + 1
        while stop < len(order):
            longest = int(lengths[order[stop]])
            if longest > 1.5 * shortest or longest * (stop - start + 1) > limit:
                break
            stop += 1
        yield order[start:stop]
        start = stop
