"""The work of exact searches: encoding both sides, and one inner product for each pair of vectors."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.encoders.settings import LateInteractionStudent, PretrainedStudent, StudentSettings
from distill.models.costs import EncoderShape
from distill.models.locate import ModelError, locate
from distill.plan.estimates import (
    Work,
    extrapolated,
    late_interaction_limits,
    read_shape,
    read_small,
    student_passage_lengths,
    student_query_lengths,
    student_shape,
    text_lengths,
)
from distill.select.settings import DenseSelector, LateInteractionSelector


def select_work(
    by: DenseSelector | LateInteractionSelector,
    queries: Sequence[str],
    passages: Sequence[str],
    query_count: int,
    passage_count: int,
) -> Work:
    """Return the work of a selector that encodes. With a FAISS factory the search itself is not counted.

    `queries` and `passages` are samples. Raises ModelError where the model's shape is not known.
    """
    model, revision = (
        (by.encoder.model, by.encoder.revision) if isinstance(by, DenseSelector) else (by.model, by.revision)
    )
    shape = read_shape(model, revision)
    if not isinstance(shape, EncoderShape):
        raise ModelError(f"it is not known how '{model}' encodes a text")
    if isinstance(by, DenseSelector):
        limits = (by.encoder.max_query_tokens, by.encoder.max_passage_tokens)
    else:
        limits = late_interaction_limits(model, revision)
    lengths = [
        text_lengths(model, revision, texts, limit) for texts, limit in zip((queries, passages), limits, strict=True)
    ]
    work = extrapolated(query_count, lengths[0], shape.forward) + extrapolated(passage_count, lengths[1], shape.forward)
    if isinstance(by, LateInteractionSelector):
        return work + _search(query_count, passage_count, lengths, vector_size(model, revision))
    return work if by.factory else work + _search(query_count, passage_count, [[1], [1]], shape.hidden)


def retrieve_work(
    student: StudentSettings, queries: Sequence[str], passages: Sequence[str], query_count: int, document_count: int
) -> Work:
    """Return the work of searching an index for `query_count` queries. `queries` and `passages` are samples."""
    shape = student_shape(student)
    lengths = student_query_lengths(student, queries), student_passage_lengths(student, passages)
    work = extrapolated(query_count, lengths[0], shape.forward)
    if not isinstance(student, LateInteractionStudent):
        return work + _search(query_count, document_count, [[1], [1]], shape.hidden)
    kept = (
        vector_size(student.start.model, student.start.revision)
        if isinstance(student.start, PretrainedStudent)
        else None
    )
    return work + _search(query_count, document_count, lengths, kept or student.dim)


def vector_size(model: str, revision: str | None) -> int | None:
    """Return the size of a late-interaction checkpoint's token vectors, None where it has no projection, from its small files."""
    text = read_small(model, revision, "artifact.metadata")
    if text is not None:
        return json.loads(text).get("dim")
    if Path(locate(model)).is_dir():
        layers = sorted(Path(locate(model)).glob("*_Dense/config.json"))
        return json.loads(layers[-1].read_text(encoding="utf-8"))["out_features"] if layers else None
    text = read_small(model, revision, "1_Dense/config.json")
    return json.loads(text)["out_features"] if text is not None else None


def _search(queries: int, passages: int, lengths: Sequence[Sequence[int]], size: int | None) -> Work:
    if size is None:
        raise ModelError("the checkpoint does not say how long its token vectors are")
    per_pair = 2.0 * size * float(np.mean(lengths[0])) * float(np.mean(lengths[1]))
    return Work(0, 0.0, queries * passages * per_pair)
