"""Vectors of questions and candidates, encoded once on actors: for the evaluation, and for neighbours and hard negatives.

Shapes: N texts, V vectors of a text, D the size of a vector.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cluster.workspace import Shard, Workspace, row_shards, shard_rows
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.meta.settings import MetaEvaluateSettings
from distill.tables import ANSWER_VECTORS, FLOATS, QUESTION_VECTORS, STRING, TableError

_TABLES = {"question": QUESTION_VECTORS, "answer": ANSWER_VECTORS}


def encode_source(workspace: Workspace, settings: MetaEvaluateSettings, sources: str, start: str) -> None:
    """Write `question_vectors` and `answer_vectors`, one vector each, of all questions and candidates of stage `sources`.

    The encoder is the checkpoint `start` of the stage of that name. Read the tables with `read_vectors`.
    """
    questions = workspace.input(sources, "questions", ["question_id", "text"])
    answers = workspace.input(sources, "answers", ["answer_id", "text"])
    checkpoint = f"{workspace.input_folder(start)}/start"
    encode_texts(workspace, settings, checkpoint, questions, answers, pooled=True)


def encode_texts(
    workspace: Workspace,
    settings: MetaEvaluateSettings,
    checkpoint: str,
    questions: pa.Table,
    answers: pa.Table,
    *,
    pooled: bool = False,
) -> int:
    """Write `question_vectors` and `answer_vectors`, their rows in the order of the arguments' rows, on a pool of actors.

    Args:
        workspace: where to; the file system of the checkpoint.
        settings: batches, shards and actors.
        checkpoint: the encoder's folder on the workspace's file system.
        questions: question_id and text; encoded as queries.
        answers: answer_id and text; encoded as passages.
        pooled: whether late-interaction vectors become one, their mean, and every vector has unit length.

    Returns:
        The number of shards, which are numbered from 0.
    """
    texts = pa.concat_tables([_with_role(questions, "question"), _with_role(answers, "answer")])
    shards = row_shards(len(texts), settings.texts_per_shard)
    arguments = {
        "texts": texts, "filesystem": workspace.filesystem, "checkpoint": checkpoint, "settings": settings, "pooled": pooled,
    }  # fmt: skip
    workspace.map_shards(shards, VectorWorker, arguments, settings.pool, "texts")
    return len(shards)


def _with_role(texts: pa.Table, role: str) -> pa.Table:
    names = {"id": texts[f"{role}_id"], "text": texts["text"], "role": pa.array([role] * len(texts), STRING)}
    return pa.table(names, schema=pa.schema([(name, STRING) for name in names]))


class VectorWorker:
    """Encodes a range of texts by an encoder that is loaded once."""

    def __init__(
        self,
        texts: pa.Table,
        filesystem: pafs.FileSystem,
        checkpoint: str,
        settings: MetaEvaluateSettings,
        *,
        pooled: bool,
    ) -> None:
        self._texts = texts
        self._tokens = settings.tokens_per_batch
        self._pooled = pooled
        self._encoder = fetch_encoder(filesystem, checkpoint, device_of(settings))

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The vectors of texts start to stop: of questions, of candidates, or of both."""
        part, tables = shard_rows(self._texts, shard), {}
        for role, contract in _TABLES.items():
            rows = part.filter(pc.equal(part["role"], role))
            if len(rows):
                texts = rows["text"].to_pylist()
                vectors = self._questions(texts) if role == "question" else self._answers(texts)
                tables[contract.name] = contract.check(_table(contract.key[0], rows["id"], vectors))
        return tables

    def _questions(self, texts: Sequence[str]) -> list[Float[Tensor, "_ D"]]:
        return self._kept(self._encoder.encode_each_query(texts, self._tokens))

    def _answers(self, texts: Sequence[str]) -> list[Float[Tensor, "_ D"]]:
        return self._kept(self._encoder.encode_passages(texts, self._tokens))

    def _kept(self, vectors: list[Float[Tensor, "_ D"]]) -> list[Float[Tensor, "_ D"]]:
        return [mean_direction(one)[None] for one in vectors] if self._pooled else vectors


def device_of(settings: MetaEvaluateSettings) -> str:
    """Where actors compute."""
    return "cuda" if settings.pool.num_gpus else "cpu"


def mean_direction(vectors: Float[Tensor, "V D"]) -> Float[Tensor, " D"]:
    """The mean of a text's vectors at unit length; zeros where there is none (a candidate of punctuation only)."""
    # The sum points where the mean does.
    return functional.normalize(vectors.float().sum(dim=0), dim=-1)


def _table(key: str, ids: pa.ChunkedArray, vectors: Sequence[Float[Tensor, "_ D"]]) -> pa.Table:
    counts = pa.array([len(one) for one in vectors], pa.int32())
    flat = pa.array([one.float().numpy().ravel() for one in vectors], FLOATS)
    return pa.table({key: ids, "count": counts, "vectors": flat})


def size_of(table: pa.Table) -> int:
    """Numbers in one vector of QUESTION_VECTORS or ANSWER_VECTORS."""
    full = table.filter(pc.greater(table["count"], 0)).slice(0, 1)
    if not len(full):
        raise TableError(f"no vector among {len(table)} rows of {table.column_names[0]}")
    row = full.to_pylist()[0]
    return len(row["vectors"]) // row["count"]


def read_vectors(table: pa.Table) -> tuple[list[str], Float[Tensor, "N D"]]:
    """The ids of QUESTION_VECTORS or ANSWER_VECTORS and their vectors, which must be one each.

    Cost: one copy of the vectors.
    """
    several = table.filter(pc.not_equal(table["count"], 1))
    if len(several):
        key = table.column_names[0]
        first = several.slice(0, 1).to_pylist()[0]
        raise TableError(
            f"{key} {first[key]!r} has {first['count']} vectors; neighbours are found by one each (`encode_source`)"
        )
    flat = pc.list_flatten(table["vectors"]).to_numpy().copy()
    return table.column(0).to_pylist(), torch.from_numpy(flat).reshape(len(table), -1)
