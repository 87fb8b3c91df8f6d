"""Vectors of questions and candidates, encoded once on actors: for the evaluation, and for neighbours and hard negatives.

Shapes: N texts, V vectors of a text, D the size of a vector.
"""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cluster.workspace import Workspace, row_shards
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.encoders.worker import EncodeWorker
from distill.formats.vectors import flat_lists
from distill.meta.settings import MetaEvaluateSettings
from distill.tables import ANSWER_VECTORS, QUESTION_VECTORS, STRING, TableError

_TABLES = {"query": QUESTION_VECTORS, "passage": ANSWER_VECTORS}


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
        workspace: the stage to write to; its file system holds the checkpoint.
        settings: batches, shards and actors.
        checkpoint: the encoder's folder on the workspace's file system.
        questions: question_id and text; encoded as queries.
        answers: answer_id and text; encoded as passages.
        pooled: if true, late-interaction vectors become one, their mean, and every vector has unit length.

    Returns:
        The number of shards, which are numbered from 0.
    """
    roles = (("query", questions, "question_id"), ("passage", answers, "answer_id"))
    texts = pa.concat_tables([_with_role(table, key, role) for role, table, key in roles])
    shards = row_shards(len(texts), settings.texts_per_shard)
    arguments = {
        "texts": texts, "load": partial(fetch_encoder, workspace.filesystem, checkpoint, device_of(settings)),
        "tables": partial(_tables, pooled=pooled), "tokens_per_batch": settings.tokens_per_batch,
    }  # fmt: skip
    workspace.map_shards(shards, EncodeWorker, arguments, settings.pool, "texts")
    return len(shards)


def _with_role(texts: pa.Table, key: str, role: str) -> pa.Table:
    names = {"id": texts[key], "text": texts["text"], "role": pa.array([role] * len(texts), STRING)}
    return pa.table(names, schema=pa.schema([(name, STRING) for name in names]))


def _tables(
    part: pa.Table, start: int, vectors: Sequence[Float[Tensor, "_ D"]], *, pooled: bool
) -> dict[str, pa.Table]:
    """Return the vectors of questions, of candidates, or of both."""
    del start
    tables = {}
    for role, contract in _TABLES.items():
        rows = [row for row, own in enumerate(part["role"].to_pylist()) if own == role]
        if rows:
            kept = [mean_direction(vectors[row])[None] if pooled else vectors[row] for row in rows]
            counts = pa.array([len(one) for one in kept], pa.int32())
            columns = {"count": counts, "vectors": flat_lists(kept, torch.float32)}
            tables[contract.name] = contract.check(pa.table({contract.key[0]: part["id"].take(rows), **columns}))
    return tables


def device_of(settings: MetaEvaluateSettings) -> str:
    """Return the device of the actors."""
    return "cuda" if settings.pool.num_gpus else "cpu"


def mean_direction(vectors: Float[Tensor, "V D"]) -> Float[Tensor, " D"]:
    """Return the mean of a text's vectors at unit length; zeros for a text without any (a candidate of punctuation only)."""
    # The sum points where the mean does.
    return functional.normalize(vectors.float().sum(dim=0), dim=-1)


def size_of(table: pa.Table) -> int:
    """Return how many numbers a vector of QUESTION_VECTORS or ANSWER_VECTORS has; a `TableError` if there is no vector."""
    full = table.filter(pc.greater(table["count"], 0)).slice(0, 1)
    if not len(full):
        raise TableError(f"no vector among {len(table)} rows of {table.column_names[0]}")
    row = full.to_pylist()[0]
    return len(row["vectors"]) // row["count"]


def read_vectors(table: pa.Table) -> tuple[list[str], Float[Tensor, "N D"]]:
    """Return the ids of QUESTION_VECTORS or ANSWER_VECTORS and their vectors; a `TableError` if a text has not one.

    Cost: one copy of the vectors.
    """
    several = table.filter(pc.not_equal(table["count"], 1))
    if len(several):
        key = table.column_names[0]
        first = several.slice(0, 1).to_pylist()[0]
        raise TableError(
            f"{key} {first[key]!r} has {first['count']} vectors; neighbours need one each (`encode_source`)"
        )
    flat = pc.list_flatten(table["vectors"]).to_numpy().copy()
    return table.column(0).to_pylist(), torch.from_numpy(flat).reshape(len(table), -1)
