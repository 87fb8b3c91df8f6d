"""The retrieve stage: the runs of every system over every collection, for evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import torch
from jaxtyping import Float
from torch import Tensor

from cluster.settings import PoolSettings
from cluster.workspace import Shard, Workspace, row_shards, shard_rows
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.encoders.encoder import Encoder
from distill.evaluate.collections import POOLED, collections
from distill.evaluate.settings import EvaluateSettings
from distill.index.exact import ExactIndex
from distill.index.stage import all_documents
from distill.measures.truncation import note_truncated
from distill.numerics.groups import Groups
from distill.select.bm25 import Bm25
from distill.sources.documents import judged_documents, judged_unit
from distill.tables import RUN, TAGS, TRUNCATED_QUERIES
from distill.text import passage_texts

_QUERIES_PER_SHARD = 1000
_QUERIES_AT_ONCE = 32


def retrieve(
    workspace: Workspace,
    settings: EvaluateSettings,
    sources: str,
    source_lang: str,
    languages: Sequence[str],
    students: Mapping[str, tuple[str, str]],
    pool: PoolSettings,
    teacher_stage: str | None = "calibrate",
) -> None:
    """Write `run`, the ranking of every system over every collection for each evaluated query, and `tags`, their names.

    Collections: each language alone; `mixed`, where every document is in one of the target languages; `pooled`, every version of every
    document. Where documents consist of passages they are ranked by their best passages (MaxP), unless the judgements are of passages.
    Systems: `students` (name -> train stage, index stage), `bm25` on the documents as they are, and, if there is a
    `teacher_stage`, the teacher, which ranks the candidates of the source language by its scores. No ranking of a query holds the document
    of its own id where `settings.source`, the source of the stage `sources`, says so.
    """
    queries = workspace.input(sources, "queries")
    query_lang = settings.query_lang or source_lang
    wanted = pc.and_(pc.equal(queries["split"], settings.split), pc.equal(queries["lang"], query_lang))
    queries = queries.filter(wanted).sort_by("query_id")
    if settings.source is not None and settings.source.without_own_ids:
        queries = queries.append_column("left_out", queries["query_id"])
    documents = all_documents(workspace, sources)
    unit = judged_unit(workspace.input(sources, "qrels"), workspace.input(sources, "parts"))
    documents = documents.append_column("ranked_id", documents[unit])
    shards = row_shards(len(queries), _QUERIES_PER_SHARD)
    teacher = workspace.input(teacher_stage, "scores") if teacher_stage and sources == "sources" else None
    by_name = collections(judged_documents(documents, unit), languages)
    tags = [f"{system}-{name}" for system in ("bm25", *students) for name in by_name]
    tags += [f"teacher-{source_lang}"] if teacher is not None else []
    workspace.write("tags", TAGS.from_rows({"tag": tag} for tag in tags))
    arguments = {
        "queries": queries,
        "documents": documents,
        "collections": by_name,
        "depth": settings.depth,
        "filesystem": workspace.filesystem,
        "students": {
            name: (f"{workspace.input_folder(train)}/checkpoint", workspace.input_folder(index))
            for name, (train, index) in students.items()
        },
        "teacher": teacher,
        "source_lang": source_lang,
    }
    workspace.map_shards(shards, RetrieveWorker, arguments, pool, unit="queries")
    truncated = len(pc.unique(workspace.output("truncated_queries")["query_id"]))
    note_truncated(workspace, "queries", {query_lang: {"texts": len(queries), "truncated": truncated}})


class RetrieveWorker:
    """Rankings of the documents for a range of queries, by every system."""

    def __init__(
        self,
        queries: pa.Table,
        documents: pa.Table,
        collections: Mapping[str, Sequence[int]],
        depth: int,
        filesystem: pafs.FileSystem,
        students: Mapping[str, tuple[str, str]],
        teacher: pa.Table | None,
        source_lang: str,
    ) -> None:
        self._queries = queries
        self._depth = depth
        self._langs = pc.unique(documents["lang"]).to_pylist()
        # Of a document that is left out every version may be found, and is dropped after.
        self._searched = depth + (len(self._langs) if "left_out" in queries.column_names else 0)
        self._source_lang = source_lang
        self._collections = {name: np.asarray(positions, dtype=np.int64) for name, positions in collections.items()}
        self._ids = documents["ranked_id"].to_pylist()
        self._ranked_ids = dict(zip(documents["passage_id"].to_pylist(), self._ids, strict=True))
        self._pooled_ids = [f"{i}@{lang}" for i, lang in zip(self._ids, documents["lang"].to_pylist(), strict=True)]
        self._groups = {
            name: Groups([self._name(name, i) for i in positions.tolist()])
            for name, positions in self._collections.items()
        }
        texts = passage_texts(documents)
        self._bm25 = {
            name: Bm25([self._name(name, i) for i in positions.tolist()], (texts[i] for i in positions))
            for name, positions in self._collections.items()
        }
        self._students = {name: _open(filesystem, *folders) for name, folders in students.items()}
        self._teacher = {row["query_id"]: row for row in teacher.to_pylist()} if teacher is not None else {}

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the runs of queries start to stop."""
        part = shard_rows(self._queries, shard)
        ids, texts = part["query_id"].to_pylist(), part["text"].to_pylist()
        rankings: list[tuple[str, str, list[tuple[str, float]]]] = []
        cut: list[dict[str, str]] = []
        for name, index in self._bm25.items():
            rankings += [
                (f"bm25-{name}", i, index.search(text, self._searched)) for i, text in zip(ids, texts, strict=True)
            ]
        for name, (encoder, index) in self._students.items():
            truncated = encoder.read_queries(texts).truncated
            cut += [{"query_id": i, "system": name} for i, is_cut in zip(ids, truncated, strict=True) if is_cut]
            for start in range(0, len(ids), _QUERIES_AT_ONCE):
                scores = index.scores(encoder.encode_queries(texts[start : start + _QUERIES_AT_ONCE]))
                rankings += self._rank(name, ids[start : start + _QUERIES_AT_ONCE], scores)
        rankings += self._teacher_rankings(ids)
        if "left_out" in part.column_names:
            left_out = dict(zip(ids, part["left_out"].to_pylist(), strict=True))
            rankings = [(tag, i, self._without(left_out[i], ranking)) for tag, i, ranking in rankings]
        return {"run": _run_table(rankings), "truncated_queries": TRUNCATED_QUERIES.from_rows(cut)}

    def _rank(
        self, system: str, query_ids: Sequence[str], scores: Float[Tensor, "Q N"]
    ) -> list[tuple[str, str, list[tuple[str, float]]]]:
        rankings = []
        for name, positions in self._collections.items():
            groups = self._groups[name]
            best, top = groups.top_k(scores[:, torch.from_numpy(positions)], self._searched)
            for query_id, values, row in zip(query_ids, best.tolist(), top.tolist(), strict=True):
                ranking = [(groups.keys[number], score) for number, score in zip(row, values, strict=True)]
                rankings.append((f"{system}-{name}", query_id, ranking))
        return rankings

    def _teacher_rankings(self, query_ids: Sequence[str]) -> list[tuple[str, str, list[tuple[str, float]]]]:
        rankings = []
        for query_id in query_ids:
            row = self._teacher.get(query_id)
            if row is not None:
                best: dict[str, float] = {}
                for passage_id, score in zip(row["passage_ids"], row["scores"], strict=True):
                    ranked_id = self._ranked_ids[passage_id]
                    best[ranked_id] = max(score, best.get(ranked_id, score))
                ranked = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))
                rankings.append((f"teacher-{self._source_lang}", query_id, ranked[: self._searched]))
        return rankings

    def _without(self, left_out: str, ranking: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
        """Return the first results of which none is a version of the document `left_out`."""
        names = {left_out, *(f"{left_out}@{lang}" for lang in self._langs)}
        return [(name, score) for name, score in ranking if name not in names][: self._depth]

    def _name(self, collection: str, position: int) -> str:
        return self._pooled_ids[position] if collection == POOLED else self._ids[position]


def _open(filesystem: pafs.FileSystem, checkpoint: str, index: str) -> tuple[Encoder, ExactIndex]:
    encoder = fetch_encoder(filesystem, checkpoint)
    return encoder, ExactIndex.open(filesystem, index, dtype=torch.float32)


def _run_table(rankings: Sequence[tuple[str, str, Sequence[tuple[str, float]]]]) -> pa.Table:
    rows = (
        {"query_id": query_id, "passage_id": passage_id, "rank": rank, "score": score, "tag": tag}
        for tag, query_id, ranking in rankings
        for rank, (passage_id, score) in enumerate(ranking, 1)
    )
    return RUN.from_rows(rows, "retrieve")
