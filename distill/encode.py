"""The index stage: token vectors of every document, encoded by the student."""

import tempfile

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from distill.config import IndexSettings
from distill.encoder import LateInteractionEncoder
from distill.select import pool
from distill.tables import DOCUMENTS, VECTORS
from distill.text import passage_text
from distill.workspace import Shard, Workspace


def encode(workspace: Workspace, settings: IndexSettings, train: str, sources: str) -> None:
    """Write `documents` and `vectors`: the passages of stage `sources` and their translations, by the student of stage `train`.

    Shards are ranges of documents sorted by id and language; memory is bounded by a shard.
    """
    documents = all_documents(workspace, sources)
    size = settings.passages_per_shard
    shards = [
        Shard(i, {"start": start, "stop": start + size}) for i, start in enumerate(range(0, len(documents), size))
    ]
    arguments = {
        "settings": settings,
        "documents": documents,
        "filesystem": workspace.filesystem,
        "checkpoint": f"{workspace.input_folder(train)}/checkpoint",
    }
    workspace.map_shards(shards, EncodeWorker, arguments, pool(settings.pool), unit="documents")


def all_documents(workspace: Workspace, sources: str) -> pa.Table:
    """Every language version of every passage (passage_id, lang, title, text), sorted by id and language."""
    columns = ["passage_id", "lang", "title", "text"]
    other = (
        workspace.input("translate", "translations") if sources == "sources" else workspace.input(sources, "parallel")
    )
    tables = [workspace.input(sources, "passages").select(columns), other.select(columns)]
    return pa.concat_tables(tables).combine_chunks().sort_by([("passage_id", "ascending"), ("lang", "ascending")])


class EncodeWorker:
    """Encodes a range of documents with a student that is loaded once."""

    def __init__(
        self, settings: IndexSettings, documents: pa.Table, filesystem: pafs.FileSystem, checkpoint: str
    ) -> None:
        self._settings = settings
        self._documents = documents
        with tempfile.TemporaryDirectory() as folder:
            pafs.copy_files(
                checkpoint, folder, source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem()
            )
            self._encoder = LateInteractionEncoder.load(folder, "cuda" if settings.pool.num_gpus else "cpu")

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Documents start to stop and their vectors."""
        start = shard.args["start"]
        part = self._documents.slice(start, shard.args["stop"] - start)
        texts = [
            passage_text(title, text)
            for title, text in zip(part["title"].to_pylist(), part["text"].to_pylist(), strict=True)
        ]
        vectors = self._encoder.encode_passages(texts, self._settings.tokens_per_batch)
        positions = pa.array(range(start, start + len(part)), pa.int64())
        tokens = pa.array([len(v) for v in vectors], pa.int32())
        documents = part.add_column(0, "position", positions).append_column("tokens", tokens)
        flat = pa.array([v.half().numpy().ravel() for v in vectors], pa.list_(pa.float16()))
        return {
            "documents": DOCUMENTS.check(documents, "index"),
            "vectors": VECTORS.check(pa.table({"position": positions, "vectors": flat}), "index"),
        }


def document_languages(documents: pa.Table) -> list[str]:
    """The languages of a collection, sorted."""
    return sorted(pc.unique(documents["lang"]).to_pylist())
