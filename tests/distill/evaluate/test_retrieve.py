from pathlib import Path

import pyarrow as pa
import torch

from cluster.settings import PoolSettings
from distill.encoders.checkpoints import load_encoder
from distill.evaluate.retrieve import retrieve
from distill.evaluate.settings import EvaluateSettings
from distill.index.settings import IndexSettings
from distill.index.stage import encode
from distill.tables import PARTS, PASSAGES, QRELS, QUERIES, SCORES, TRANSLATIONS
from tests.workspaces import LocalWorkspace

EN = {"p1": "bee", "p2": "stone bridge", "p3": "bee", "p4": "bee"}


def inputs() -> dict[str, dict[str, pa.Table]]:
    """Four passages, three of them the same, all but p4 with versions in German and French; a test query and a training query."""
    passages = [{"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": text} for i, text in EN.items()]
    translations = [
        {"passage_id": i, "source_lang": "en", "lang": lang, "title": "", "text": text, "translator": "t", "flags": []}
        for i in ("p1", "p2", "p3")
        for lang, text in (("de", "honey"), ("fr", "sun"))
    ]
    queries = [{"query_id": q, "lang": "en", "text": "bee", "split": s} for q, s in (("q1", "test"), ("q2", "train"))]
    scores = [{"query_id": "q1", "passage_ids": ["p4", "p2", "p1"], "scores": [1.0, 2.0, 1.0], "teacher": "t"}]
    return {
        "sources": {
            "passages": PASSAGES.from_rows(passages),
            "parts": PARTS.empty(),
            "queries": QUERIES.from_rows(queries),
            "qrels": QRELS.empty(),
        },
        "translate": {"translations": TRANSLATIONS.from_rows(translations)},
        "calibrate": {"scores": SCORES.from_rows(scores)},
    }


def test_every_system_ranks_every_collection_and_ties_keep_the_order_of_ids(tmp_path: Path, tiny_student: Path) -> None:
    for stage in ("train", "index"):
        (tmp_path / stage).mkdir()
    (tmp_path / "train" / "checkpoint").symlink_to(tiny_student)
    encode(LocalWorkspace(tmp_path, "index", {**inputs(), "train": {}}), IndexSettings(), "train", "sources")
    before = {**inputs(), "train": {}, "index": {}}
    workspace = LocalWorkspace(tmp_path, "retrieve", before)
    settings, students = EvaluateSettings(depth=2), {"student": ("train", "index")}
    retrieve(workspace, settings, "sources", "en", ["de", "fr"], students, PoolSettings())
    names = ("de", "en", "fr", "mixed", "pooled")
    expected = [*(f"bm25-{name}" for name in names), *(f"student-{name}" for name in names), "teacher-en"]
    assert workspace.output("tags")["tag"].to_pylist() == expected
    run = workspace.output("run").to_pylist()
    assert {row["query_id"] for row in run} == {"q1"}
    ranked = {tag: [row["passage_id"] for row in run if row["tag"] == tag] for tag in expected}
    assert ranked["bm25-en"] == ["p1", "p3"]
    assert ranked["bm25-de"] == []
    assert ranked["bm25-pooled"] == ["p1@en", "p3@en"]
    assert ranked["teacher-en"] == ["p2", "p1"]
    assert ranked["student-de"] == ranked["student-fr"] == ["p1", "p2"]  # all three texts are the same
    encoder = load_encoder(tiny_student)
    [query], passages = encoder.encode_queries(["bee"]), encoder.encode_passages(["bee", "stone bridge"])
    bee, bridge = ((query @ vectors.half().float().T).amax(1).sum().item() for vectors in passages)
    assert ranked["student-en"] == (["p1", "p3"] if bee > bridge else ["p2", "p1"])
    scores = [row["score"] for row in run if row["tag"] == "student-en"]
    torch.testing.assert_close(scores, [bee, bee] if bee > bridge else [bridge, bee], atol=1e-4, rtol=0)
