"""Candidates ranked for every question, and the average precision of the ranking."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor

from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Workspace, row_shards, shard_rows
from distill.formats.vectors import BLOCK_ROWS, BLOCK_VECTORS, passage_blocks
from distill.meta.evaluate.retrieval import average_precision
from distill.meta.settings import MetaEvaluateSettings
from distill.meta.tasks.vectors import device_of, encode_texts, size_of
from distill.numerics.blocks import best_by_maxsim, filled
from distill.tables import QUESTION_PRECISION

_MOST_QUESTIONS = 1000
"""Questions that are ranked as one shard."""


def rank_candidates(
    workspace: Workspace,
    settings: MetaEvaluateSettings,
    checkpoint: str,
    questions: pa.Table,
    answers: pa.Table,
    answered: pa.Table,
) -> None:
    """Encode questions and candidates, rank all candidates for every question and write AP into `question_precision`.

    Args:
        workspace: the stage; the vectors are written to it, too.
        settings: depth, batches, shards and actors.
        checkpoint: the encoder's folder.
        questions: the questions (QUESTIONS), sorted by id.
        answers: the pool of candidates (ANSWERS), sorted by id.
        answered: which candidate of the pool answers which question (ANSWERED).
    """
    first = encode_texts(workspace, settings, checkpoint, questions, answers)
    positions = pc.index_in(answered["answer_id"], value_set=answers["answer_id"].combine_chunks())
    shards = row_shards(len(questions), min(settings.texts_per_shard, _MOST_QUESTIONS))
    arguments = {
        "questions": questions.select(["question_id", "xling_id", "lang"]),
        "answered": pa.table({"xling_id": answered["xling_id"], "position": positions}),
        "question_vectors": StoredTable.open(workspace.filesystem, f"{workspace.folder}/question_vectors"),
        "answer_vectors": StoredTable.open(workspace.filesystem, f"{workspace.folder}/answer_vectors"),
        "depth": settings.depth,
        "device": device_of(settings),
    }
    numbered = [Shard(first + shard.index, shard.args) for shard in shards]
    workspace.map_shards(numbered, RankWorker, arguments, settings.pool, "questions")


class RankWorker:
    """The actor that ranks the pool for a range of questions. The rows of the vector tables are those of questions and pool, in order."""

    def __init__(
        self,
        questions: pa.Table,
        answered: pa.Table,
        question_vectors: StoredTable,
        answer_vectors: StoredTable,
        depth: int,
        device: str,
    ) -> None:
        self._questions = questions
        self._answered = _grouped(answered)
        self._question_vectors = question_vectors
        self._answer_vectors = answer_vectors
        self._depth = depth
        self._device = device

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the average precision of questions start to stop."""
        part = shard_rows(self._questions, shard)
        vectors = self._question_vectors.read(shard.args["start"], shard.args["stop"])
        questions, size = _tensors(vectors), size_of(vectors)
        # `passage_blocks` reads as many texts as 128 vectors each would fit.
        limit = 128 * BLOCK_ROWS if questions.shape[1] == 1 else BLOCK_VECTORS
        blocks = passage_blocks(self._answer_vectors, size, limit)
        best = best_by_maxsim(questions.to(self._device), blocks, self._depth)
        values = [
            average_precision(positions, self._answered[xling_id], self._depth)
            for positions, xling_id in zip(best, part["xling_id"].to_pylist(), strict=True)
        ]
        table = part.append_column("value", pa.array(values, pa.float64()))
        return {"question_precision": QUESTION_PRECISION.check(table)}


def _tensors(vectors: pa.Table) -> Float[Tensor, "Q T D"]:
    flat = torch.from_numpy(pc.list_flatten(vectors["vectors"]).to_numpy().copy())
    rows = flat.reshape(-1, size_of(vectors))
    return filled(rows.split(vectors["count"].to_pylist()))


def _grouped(answered: pa.Table) -> Mapping[str, np.ndarray]:
    groups = answered.group_by("xling_id").aggregate([("position", "list")])
    lists = (np.array(positions, dtype=np.int64) for positions in groups["position_list"].to_pylist())
    return dict(zip(groups["xling_id"].to_pylist(), lists, strict=True))
