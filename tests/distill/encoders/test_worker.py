from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from cluster.workspace import Shard
from distill.encoders.checkpoints import load_encoder
from distill.encoders.worker import EncodeWorker

TEXTS = ["honey bee dance", "stone bridge", "sun", "river map city light"]


def kept(part: pa.Table, start: int, vectors: Sequence[torch.Tensor]) -> dict[str, pa.Table]:
    """The rows, their first position and their vectors, as they came."""
    lists = [one.flatten().tolist() for one in vectors]
    return {
        "kept": part.append_column("start", pa.array([start] * len(part))).append_column("vectors", pa.array(lists))
    }


def test_vectors_of_a_range_of_passages_with_their_titles(tiny_student: Path) -> None:
    texts = pa.table({"title": ["", "sun", "", ""], "text": TEXTS})
    worker = EncodeWorker(texts, partial(load_encoder, tiny_student), kept, 64)
    expected = load_encoder(tiny_student).encode_passages(["sun stone bridge", "sun"])
    rows = worker(Shard(0, {"start": 1, "stop": 3}))["kept"].to_pylist()
    assert [(row["text"], row["start"]) for row in rows] == [("stone bridge", 1), ("sun", 1)]
    for row, vectors in zip(rows, expected, strict=True):
        assert row["vectors"] == pytest.approx(vectors.flatten().tolist(), abs=1e-6)


def test_texts_are_encoded_by_their_role_and_stay_in_order(tiny_student: Path) -> None:
    texts = pa.table({"role": ["passage", "query", "passage", "query"], "text": TEXTS})
    worker = EncodeWorker(texts, partial(load_encoder, tiny_student), kept, 64)
    encoder = load_encoder(tiny_student)
    passages, queries = encoder.encode_passages(TEXTS), encoder.encode_each_query(TEXTS)
    rows = worker(Shard(0, {"start": 0, "stop": 4}))["kept"].to_pylist()
    for row, vectors in zip(rows, [passages[0], queries[1], passages[2], queries[3]], strict=True):
        assert row["vectors"] == pytest.approx(vectors.flatten().tolist(), abs=1e-6)
    assert len(queries[1]) == 8  # a query of any length is filled up


def test_the_encoder_is_loaded_once(tiny_student: Path) -> None:
    loaded = []
    worker = EncodeWorker(pa.table({"text": TEXTS}), lambda: loaded.append(1) or load_encoder(tiny_student), kept, 64)
    for start in (0, 2):
        worker(Shard(0, {"start": start, "stop": start + 2}))
    assert loaded == [1]
