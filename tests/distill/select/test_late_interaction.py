from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.stored_table import StoredTable
from distill.encoders.checkpoints import load_late_interaction
from distill.numerics.blocks import block_maxsim, passage_blocks
from distill.numerics.maxsim import maxsim
from distill.select.settings import LateInteractionSelector, SelectSettings
from distill.select.stage import select
from distill.tables import PASSAGES, QUERIES, VECTORS
from tests.workspaces import LocalWorkspace

WORDS = ["bee", "honey", "river", "bridge", "stone", "city", "map", "light", "wave", "sound", "sun", "flower"]
TEXTS = {f"p{i:02d}": " ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(40)}
ASKED = {f"q{i}": f"{WORDS[i]} {WORDS[-i]}" for i in range(1, 6)}


def sources() -> dict:
    passages = [
        {"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": text} for i, text in reversed(TEXTS.items())
    ]
    queries = [{"query_id": q, "lang": "en", "text": text, "split": "train"} for q, text in ASKED.items()]
    return {"sources": {"passages": PASSAGES.from_rows(passages), "queries": QUERIES.from_rows(queries)}}


def test_search_equals_maxsim_of_every_pair(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are stored with 11 bits: the order may differ where scores are closer than that."""
    monkeypatch.setattr("distill.numerics.blocks.passage_blocks.__defaults__", (1000,))
    monkeypatch.setattr("distill.select.late_interaction._BLOCK_SIMILARITIES", 2000)
    workspace = LocalWorkspace(tmp_path, "select", sources())
    by = LateInteractionSelector(model=str(tiny_student), top_k=6, passages_per_shard=15)
    select(workspace, SelectSettings(by=by, queries_per_shard=2), "en")
    assert workspace.computed == [0, 1, 2, 3, 4, 5]
    assert VECTORS.check(workspace.output("vectors"))["position"].to_pylist() == list(range(40))
    encoder = load_late_interaction(tiny_student)
    tokens = encoder.tokenize_passages(list(TEXTS.values()))
    with torch.inference_mode():
        passages = encoder(*tokens)
    queries = encoder.encode_queries(list(ASKED.values()))
    every = maxsim(queries, passages.expand(len(queries), *passages.shape), tokens.keep.expand(len(queries), -1, -1))
    rows = {row["query_id"]: row["passage_ids"] for row in workspace.output("candidates").to_pylist()}
    assert list(rows) == list(ASKED)
    for scores, ids in zip(every.tolist(), rows.values(), strict=True):
        by_id = dict(zip(TEXTS, scores, strict=True))
        best = sorted(scores, reverse=True)[:6]
        assert [by_id[i] for i in ids] == pytest.approx(best, abs=5e-3)
        assert ids[0] == max(by_id, key=by_id.__getitem__)


def test_block_scores_by_hand() -> None:
    """Query vectors (1, 0) and (0, 2); passages {(3, 0), (1, 1)} and {(-1, 2)}, the second filled up with itself."""
    queries = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    passages = torch.tensor([[[3.0, 0.0], [-1.0, 2.0]], [[1.0, 1.0], [-1.0, 2.0]]])
    assert block_maxsim(queries, passages).tolist() == [[3 + 2, -1 + 4]]


def test_blocks_hold_every_passage_once_and_are_bounded(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    vectors = [random.normal(size=(length, 4)).astype(np.float16) for length in [5, 1, 0, 9, 3, 3, 8, 1, 30, 2]]
    workspace = LocalWorkspace(tmp_path)
    workspace.write("vectors", VECTORS.from_rows({"position": i, "vectors": v.ravel()} for i, v in enumerate(vectors)))
    stored = StoredTable.open(workspace.filesystem, f"{workspace.folder}/vectors")
    query = torch.from_numpy(random.normal(size=(1, 3, 4)).astype(np.float32))
    scores = {}
    for places, block in passage_blocks(stored, 4, limit=20):
        assert block.shape[0] * block.shape[1] <= 20 or block.shape[1] == 1
        scores |= dict(zip(places.tolist(), block_maxsim(query, block)[0].tolist(), strict=True))
    expected = {
        i: float((query[0].numpy() @ v.astype(np.float32).T).max(axis=1).sum()) if len(v) else 0.0
        for i, v in enumerate(vectors)
    }
    assert scores == {i: pytest.approx(score, abs=1e-5) for i, score in expected.items()}
