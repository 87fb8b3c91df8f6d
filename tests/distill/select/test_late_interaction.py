from pathlib import Path

import numpy as np
import pytest
import torch

from distill.encoders.checkpoints import load_late_interaction
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
    monkeypatch.setattr("distill.formats.vectors.BLOCK_VECTORS", 1000)
    monkeypatch.setattr("distill.numerics.blocks._SIMILARITIES", 2000)
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
