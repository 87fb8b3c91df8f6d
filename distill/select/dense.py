"""Dense retrieval: the passages whose vectors have the largest inner product with the query's.

Passages are encoded in shards, then queries are searched in shards: exactly, in blocks of vectors that are read from storage, or in a
FAISS index that is built once and that every actor holds.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import torch
from jaxtyping import Float
from torch import Tensor

from cluster.copying import copy_file
from cluster.errors import how_to_install
from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Workspace, row_shards, shard_rows
from distill.encoders.checkpoints.pooled import load_pooled
from distill.encoders.worker import EncodeWorker
from distill.formats.vectors import flat_lists, vector_blocks
from distill.models.locate import ModelError
from distill.numerics.blocks import best_by_maxsim
from distill.select.candidates import Judged, Task, candidate_table
from distill.select.settings import DenseSelector
from distill.tables import PASSAGE_INDEX, PASSAGE_VECTORS

_INDEX_FILE = "passages.faiss"


def select_dense(workspace: Workspace, by: DenseSelector, task: Task) -> None:
    """Write `passage_vectors`, with a FAISS factory `passage_index` and its file, and `candidates`.

    Cost of exact search: one multiply-add for each query, passage and dimension. Memory of an actor: a block of 65,536 vectors and 256 MiB
    of scores; with a FAISS index that index.
    """
    encoding = row_shards(len(task.passages), by.passages_per_shard)
    load = partial(load_pooled, by.encoder, by.dtype, task.device, "select.by.encoder")
    arguments = {"texts": task.passages, "load": load, "tables": _tables, "tokens_per_batch": by.tokens_per_batch}
    workspace.map_shards(encoding, EncodeWorker, arguments, task.pool, unit="passages")
    vectors = StoredTable.open(workspace.filesystem, f"{workspace.folder}/passage_vectors")
    file = ""
    if by.factory:
        file = f"{workspace.folder}/{_INDEX_FILE}"
        building = [Shard(len(encoding), {})]
        arguments = {"vectors": vectors, "factory": by.factory, "training_vectors": by.training_vectors, "file": file}
        workspace.map_shards(building, IndexWorker, arguments, task.pool, unit="indexes")
    arguments = {
        "queries": task.queries, "passages": task.passages.select(["passage_id"]), "judged": task.judged,
        "vectors": vectors, "file": file, "by": by, "device": task.device,
        "without_own": task.without_own,
    }  # fmt: skip
    first = len(encoding) + 1
    shards = [Shard(first + s.index, s.args) for s in row_shards(len(task.queries), task.queries_per_shard)]
    workspace.map_shards(shards, DenseWorker, arguments, task.pool, unit="queries")


def _tables(part: pa.Table, start: int, vectors: Sequence[Float[Tensor, "1 D"]]) -> dict[str, pa.Table]:
    """Return `passage_vectors` of some passages."""
    del start
    table = pa.table({"passage_id": part["passage_id"], "vector": flat_lists(vectors, torch.float32)})
    return {"passage_vectors": PASSAGE_VECTORS.check(table, "select")}


class IndexWorker:
    """Building of a FAISS index in the stage's folder."""

    def __init__(self, vectors: StoredTable, factory: str, training_vectors: int, file: str) -> None:
        self._vectors = vectors
        self._factory = factory
        self._training_vectors = training_vectors
        self._file = file

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Train an index on evenly spaced vectors, add all and write it. Memory: the training vectors and the index."""
        del shard
        faiss = load_faiss()
        step = -(-len(self._vectors) // self._training_vectors)
        sample = np.concatenate([block[-start % step :: step] for start, block in vector_blocks(self._vectors)])
        try:
            index = faiss.index_factory(sample.shape[1], self._factory, faiss.METRIC_INNER_PRODUCT)
            index.train(sample)
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1]
            raise ModelError(
                f"select.by.factory '{self._factory}' for {len(sample)} training vectors of {sample.shape[1]} numbers: {reason}"
            ) from error
        for _, block in vector_blocks(self._vectors):
            index.add(block)
        with tempfile.TemporaryDirectory() as folder:
            local = str(Path(folder) / _INDEX_FILE)
            faiss.write_index(index, local)
            copy_file(pafs.LocalFileSystem(), local, self._vectors.filesystem, self._file)
        row = {"file": _INDEX_FILE, "factory": self._factory, "vectors": len(self._vectors)}
        return {"passage_index": PASSAGE_INDEX.from_rows([row])}


class DenseWorker:
    """Search of a range of queries."""

    def __init__(
        self,
        queries: pa.Table,
        passages: pa.Table,
        judged: pa.Table,
        vectors: StoredTable,
        file: str,
        by: DenseSelector,
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
        self._encoder = load_pooled(by.encoder, by.dtype, device, "select.by.encoder")
        self._index = _read_index(vectors.filesystem, file, by.nprobe) if file else None

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the candidates of queries start to stop."""
        part = shard_rows(self._queries, shard)
        queries = torch.cat(self._encoder.encode_each_query(part["text"].to_pylist(), self._by.tokens_per_batch))
        best = self._exact(queries) if self._index is None else _approximate(self._index, queries, self._depth)
        lists = [self._ids.take(pa.array(row)).to_pylist() for row in best]
        name = f"dense:{self._by.model}"
        table = candidate_table(part["query_id"].to_pylist(), lists, name, self._judged, self._by.top_k)
        return {"candidates": table}

    def _exact(self, queries: Float[Tensor, "Q D"]) -> list[np.ndarray]:
        blocks = (
            (torch.arange(first, first + len(block)), torch.from_numpy(block.copy())[None])
            for first, block in vector_blocks(self._vectors)
        )
        return best_by_maxsim(queries[:, None].to(self._device), blocks, self._depth)


def _approximate(index: Any, queries: Float[Tensor, "Q D"], k: int) -> list[np.ndarray]:
    scores, positions = index.search(queries.numpy(), k)
    order = np.lexsort((positions, -scores), axis=1)
    # FAISS fills up with -1 where its lists held fewer.
    return [row[row >= 0] for row in np.take_along_axis(positions, order, axis=1)]


def _read_index(filesystem: pafs.FileSystem, file: str, nprobe: int) -> Any:
    faiss = load_faiss()
    with tempfile.TemporaryDirectory() as folder:
        local = str(Path(folder) / _INDEX_FILE)
        copy_file(filesystem, file, pafs.LocalFileSystem(), local)
        index = faiss.read_index(local)
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None:
        inverted.nprobe = nprobe
    return index


def load_faiss() -> Any:
    """Return the module `faiss`; a `ModelError` that says how to install it if there is none."""
    try:
        import faiss
    except ImportError as error:
        raise ModelError(
            f"select.by.factory needs FAISS: {how_to_install('cpu')} (or gpu); or leave it out for exact search"
        ) from error
    return faiss
