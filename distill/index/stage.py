"""The index stage: token vectors of every document, encoded by the student."""

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.workspace import Shard, Workspace, row_shards, shard_rows
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.index.settings import IndexSettings
from distill.tables import DOCUMENTS, VECTORS
from distill.text import passage_texts, with_text


def encode(workspace: Workspace, settings: IndexSettings, train: str, sources: str) -> None:
    """Write `documents` and `vectors`: the passages of stage `sources` and their translations, by the student of stage `train`.

    Shards are ranges of documents sorted by id and language; memory is bounded by a shard.
    """
    documents = all_documents(workspace, sources)
    shards = row_shards(len(documents), settings.passages_per_shard)
    arguments = {
        "settings": settings,
        "documents": documents,
        "filesystem": workspace.filesystem,
        "checkpoint": f"{workspace.input_folder(train)}/checkpoint",
    }
    workspace.map_shards(shards, EncodeWorker, arguments, settings.pool, unit="documents")


def all_documents(workspace: Workspace, sources: str) -> pa.Table:
    """Every language version of every passage that has a text (passage_id, lang, title, text), sorted by id and language."""
    columns = ["passage_id", "lang", "title", "text"]
    stage, table = ("translate", "translations") if sources == "sources" else (sources, "parallel")
    other = with_text(workspace.input(stage, table))
    tables = [workspace.input(sources, "passages").select(columns), other.select(columns)]
    return pa.concat_tables(tables).combine_chunks().sort_by([("passage_id", "ascending"), ("lang", "ascending")])


class EncodeWorker:
    """Encodes a range of documents with a student that is loaded once."""

    def __init__(
        self, settings: IndexSettings, documents: pa.Table, filesystem: pafs.FileSystem, checkpoint: str
    ) -> None:
        self._settings = settings
        self._documents = documents
        device = "cuda" if settings.pool.num_gpus else "cpu"
        self._encoder = fetch_encoder(filesystem, checkpoint, device)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Documents start to stop and their vectors."""
        start = shard.args["start"]
        part = shard_rows(self._documents, shard)
        vectors = self._encoder.encode_passages(passage_texts(part), self._settings.tokens_per_batch)
        positions = pa.array(range(start, start + len(part)), pa.int64())
        tokens = pa.array([len(v) for v in vectors], pa.int32())
        documents = part.add_column(0, "position", positions).append_column("tokens", tokens)
        flat = pa.array([v.half().numpy().ravel() for v in vectors], pa.list_(pa.float16()))
        return {
            "documents": DOCUMENTS.check(documents, "index"),
            "vectors": VECTORS.check(pa.table({"position": positions, "vectors": flat}), "index"),
        }
