from pathlib import Path

import pyarrow as pa
import torch

from cluster.settings import PoolSettings
from distill.encoders.checkpoints import load_encoder
from distill.evaluate.retrieve import retrieve
from distill.evaluate.settings import EvaluateSettings
from distill.index.settings import IndexSettings
from distill.index.stage import encode
from distill.sources.settings import BeirSource
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


def test_a_querys_own_document_is_left_out_of_every_ranking(tmp_path: Path, tiny_student: Path) -> None:
    """The query is p1, whose text is p3's and p4's: each ranking has its full depth without it and all of its versions."""
    tables = inputs()
    queries = [{"query_id": "p1", "lang": "en", "text": "bee", "split": "test"}]
    scores = [{"query_id": "p1", "passage_ids": ["p4", "p2"], "scores": [1.0, 2.0], "teacher": "t"}]
    tables["sources"]["queries"] = QUERIES.from_rows(queries)
    tables["calibrate"]["scores"] = SCORES.from_rows(scores)
    for stage in ("train", "index"):
        (tmp_path / stage).mkdir()
    (tmp_path / "train" / "checkpoint").symlink_to(tiny_student)
    encode(LocalWorkspace(tmp_path, "index", {**tables, "train": {}}), IndexSettings(), "train", "sources")
    students = {"student": ("train", "index")}
    ranked = {}
    for own in (True, False):
        workspace = LocalWorkspace(tmp_path, f"retrieve_{own}", {**tables, "train": {}, "index": {}})
        settings = EvaluateSettings(depth=2, source=BeirSource(path="x", drop_self_matches=own))
        retrieve(workspace, settings, "sources", "en", ["de", "fr"], students, PoolSettings())
        rows = workspace.output("run").to_pylist()
        ranked[own] = {tag: [r["passage_id"] for r in rows if r["tag"] == tag] for tag in {r["tag"] for r in rows}}
    assert ranked[False]["bm25-en"] == ["p1", "p3"]
    assert ranked[True]["bm25-en"] == ["p3", "p4"]
    assert ranked[True]["bm25-pooled"] == ["p3@en", "p4@en"]
    assert ranked[False]["student-de"] == ["p1", "p2"]
    assert ranked[True]["student-de"] == ["p2", "p3"]
    assert len(ranked[True]["student-pooled"]) == 2
    assert not any(name.startswith("p1") for names in ranked[True].values() for name in names)
    assert ranked[True]["teacher-en"] == ["p2", "p4"]


def long_documents(qrels: list[str]) -> dict[str, dict[str, pa.Table]]:
    """Documents a (three passages), b (two) and c (one) in English and German, with `qrels` judged for q1."""
    texts = {"a1": "bee dance", "a2": "bee bee", "a3": "stone", "b1": "bridge", "b2": "bee river bee", "c": "sun bee"}
    passages = [{"passage_id": i, "doc_id": i[0], "lang": "en", "title": "", "text": text} for i, text in texts.items()]
    german = [
        {"passage_id": i, "source_lang": "en", "lang": "de", "title": "", "text": t, "translator": "t", "flags": []}
        for i, t in zip(texts, ("biene", "biene honig", "stein", "brücke", "fluss", "sonne"), strict=True)
    ]
    parts = [
        {"passage_id": row["passage_id"], "doc_id": row["doc_id"], "lang": ""}
        for row in passages
        if row["passage_id"] != "c"
    ]
    queries = [{"query_id": "q1", "lang": "en", "text": "bee " * 20, "split": "test"}]
    scores = [
        {"query_id": "q1", "passage_ids": ["b1", "a3", "b2", "c"], "scores": [1.0, 2.0, 3.0, 2.0], "teacher": "t"}
    ]
    judged = [{"query_id": "q1", "passage_id": i, "relevance": 1} for i in qrels]
    return {
        "sources": {
            "passages": PASSAGES.from_rows(passages),
            "parts": PARTS.from_rows(parts),
            "queries": QUERIES.from_rows(queries),
            "qrels": QRELS.from_rows(judged),
        },
        "translate": {"translations": TRANSLATIONS.from_rows(german)},
        "calibrate": {"scores": SCORES.from_rows(scores)},
    }


def runs_of(tmp_path: Path, tiny_student: Path, qrels: list[str], depth: int) -> LocalWorkspace:
    for stage in ("train", "index"):
        (tmp_path / stage).mkdir()
    (tmp_path / "train" / "checkpoint").symlink_to(tiny_student)
    before = {**long_documents(qrels), "train": {}}
    encode(LocalWorkspace(tmp_path, "index", before), IndexSettings(), "train", "sources")
    workspace = LocalWorkspace(tmp_path, "retrieve", {**before, "index": {}})
    students = {"student": ("train", "index")}
    retrieve(workspace, EvaluateSettings(depth=depth), "sources", "en", ["de"], students, PoolSettings())
    return workspace


def test_judged_documents_are_ranked_by_their_best_passages(tmp_path: Path, tiny_student: Path) -> None:
    workspace = runs_of(tmp_path, tiny_student, ["b"], 2)
    run = workspace.output("run").to_pylist()
    found = {tag: [row for row in run if row["tag"] == tag] for tag in {row["tag"] for row in run}}
    # All of depth 2: a list of two passages would have held a alone.
    assert all(len(rows) == 2 for tag, rows in found.items() if tag.startswith("student"))
    assert [(row["passage_id"], row["score"]) for row in found["teacher-en"]] == [("b", 3.0), ("a", 2.0)]
    encoder = load_encoder(tiny_student)
    [query] = encoder.encode_queries(["bee " * 20])
    texts = {"a": ["bee dance", "bee bee", "stone"], "b": ["bridge", "bee river bee"], "c": ["sun bee"]}
    best = {
        document: max((query @ v.half().float().T).amax(1).sum().item() for v in encoder.encode_passages(parts))
        for document, parts in texts.items()
    }
    expected = sorted(best.items(), key=lambda pair: -pair[1])[:2]
    assert [row["passage_id"] for row in found["student-en"]] == [document for document, _ in expected]
    torch.testing.assert_close(
        [row["score"] for row in found["student-en"]], [score for _, score in expected], atol=1e-4, rtol=0
    )
    assert {row["passage_id"] for row in found["student-pooled"]} <= {
        f"{d}@{lang}" for d in "abc" for lang in ("en", "de")
    }
    # The query of 20 words is cut at the student's 8 tokens.
    assert workspace.facts["truncated_queries"] == {"en": 1}
    assert "the student reads only the beginning of some queries: en 1 of 1 (100.0%)" in workspace.warnings[0]


def test_judged_passages_are_ranked_themselves(tmp_path: Path, tiny_student: Path) -> None:
    run = runs_of(tmp_path, tiny_student, ["b2"], 4).output("run").to_pylist()
    teacher = [row["passage_id"] for row in run if row["tag"] == "teacher-en"]
    assert teacher == ["b2", "a3", "c", "b1"]
    assert len([row for row in run if row["tag"] == "student-en"]) == 4
    assert {row["passage_id"] for row in run if row["tag"] == "bm25-en"} == {"a1", "a2", "b2", "c"}
