"""Late-interaction retrieval: the passages with the largest MaxSim, exactly.

Passages are encoded in shards, then queries are searched in shards, block after block of passages, so memory does not depend on the size
of the collection. Every query vector meets every passage vector: there is no candidate generation among token vectors (as PLAID and FAISS
token search have it), whose errors would decide what the teacher sees.
"""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Workspace, row_shards, shard_rows
from distill.encoders.checkpoints import load_late_interaction
from distill.encoders.late_interaction import LateInteractionEncoder
from distill.encoders.worker import EncodeWorker
from distill.formats.vectors import flat_lists, passage_blocks
from distill.models.fetch import fetch_folder
from distill.numerics.blocks import best_by_maxsim
from distill.select.candidates import Judged, Task, candidate_table
from distill.select.settings import LateInteractionSelector
from distill.tables import VECTORS


def select_late_interaction(workspace: Workspace, by: LateInteractionSelector, task: Task) -> None:
    """Write `vectors` (float16) and `candidates`.

    Cost of the search: T*L*D multiply-adds for each query and passage, of T and L vectors of D numbers. Memory of an actor: some 128 MiB of
    passage vectors and 256 MiB of similarities.
    """
    folder = fetch_folder(by.model, by.revision)
    encoding = row_shards(len(task.passages), by.passages_per_shard)
    arguments = {
        "texts": task.passages, "load": partial(_load, by, task.device), "tables": _tables, "tokens_per_batch": by.tokens_per_batch,
    }  # fmt: skip
    workspace.map_shards(encoding, EncodeWorker, arguments, task.pool, unit="passages")
    workspace.note(model_folder=folder)
    arguments = {
        "queries": task.queries, "passages": task.passages.select(["passage_id"]), "judged": task.judged,
        "vectors": StoredTable.open(workspace.filesystem, f"{workspace.folder}/vectors"), "by": by, "device": task.device,
        "without_own": task.without_own,
    }  # fmt: skip
    first = len(encoding)
    shards = [Shard(first + s.index, s.args) for s in row_shards(len(task.queries), task.queries_per_shard)]
    workspace.map_shards(shards, LateInteractionWorker, arguments, task.pool, unit="queries")


def _load(by: LateInteractionSelector, device: str) -> LateInteractionEncoder:
    return load_late_interaction(fetch_folder(by.model, by.revision), device)


def _tables(part: pa.Table, start: int, vectors: Sequence[Float[Tensor, "_ D"]]) -> dict[str, pa.Table]:
    """Return `vectors` of passages from position `start` on."""
    positions = pa.array(range(start, start + len(part)), pa.int64())
    table = pa.table({"position": positions, "vectors": flat_lists(vectors, torch.float16)})
    return {"vectors": VECTORS.check(table, "select")}


class LateInteractionWorker:
    """Search of a range of queries."""

    def __init__(
        self,
        queries: pa.Table,
        passages: pa.Table,
        judged: pa.Table,
        vectors: StoredTable,
        by: LateInteractionSelector,
        device: str,
        without_own: bool = False,
    ) -> None:
        self._queries = queries
        self._ids = passages["passage_id"].combine_chunks()
        self._judged = Judged(judged, without_own=without_own)
        self._depth = self._judged.depth(by.top_k)
        self._vectors = vectors
        self._by = by
        self._device = device
        self._encoder = _load(by, device)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the candidates of queries start to stop."""
        part = shard_rows(self._queries, shard)
        texts = part["text"].to_pylist()
        size = max(1, self._by.tokens_per_batch // self._encoder.settings.query_tokens)
        queries = torch.cat([self._encoder.encode_queries(texts[i : i + size]) for i in range(0, len(texts), size)])
        blocks = passage_blocks(self._vectors, self._encoder.settings.dim)
        best = best_by_maxsim(queries.to(self._device), blocks, self._depth)
        lists = [self._ids.take(pa.array(row)).to_pylist() for row in best]
        name = f"late_interaction:{self._by.model}"
        return {"candidates": candidate_table(part["query_id"].to_pylist(), lists, name, self._judged, self._by.top_k)}
