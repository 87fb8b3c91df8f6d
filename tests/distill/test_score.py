from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from distill import score as score_module
from distill.config import CrossEncoderTeacher, ScoreSettings
from distill.score import score
from distill.tables import CANDIDATES, PASSAGES, QUERIES, TableError
from distill.teachers import load_teacher
from tests.workspaces import LocalWorkspace


def inputs(passage_ids: list[list[str]]) -> dict:
    passages = [
        {"passage_id": f"p{i}", "doc_id": f"p{i}", "lang": "en", "title": title, "text": text}
        for i, (title, text) in enumerate([("bee", "honey dance"), ("", "stone bridge"), ("", "city map light")])
    ]
    queries = [
        {"query_id": f"q{i}", "lang": "en", "text": t, "split": "train"}
        for i, t in enumerate(["honey", "river", "map"])
    ]
    candidates = [{"query_id": f"q{i}", "passage_ids": ids, "selector": "bm25"} for i, ids in enumerate(passage_ids)]
    return {
        "sources": {"passages": PASSAGES.from_rows(passages), "queries": QUERIES.from_rows(queries)},
        "select": {"candidates": CANDIDATES.from_rows(candidates)},
    }


def test_scores_lie_under_their_ids(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    settings = ScoreSettings(teacher=CrossEncoderTeacher(model=str(tiny_cross_encoder)), queries_per_shard=2)
    workspace = LocalWorkspace(tmp_path, "score", inputs([["p2", "p0"], [], ["p1"]]))
    score(workspace, settings, "en")
    rows = {row["query_id"]: row for row in workspace.output("scores").to_pylist()}
    teacher = load_teacher(settings.teacher, "float32", 1000, "cpu")
    expected = teacher.score(
        ["honey", "map"], ["city map light", "bee honey dance", "stone bridge"], [(0, 0), (0, 1), (1, 2)]
    )
    assert rows["q0"]["passage_ids"] == ["p2", "p0"]
    assert np.allclose(rows["q0"]["scores"], expected[:2], atol=1e-6)
    assert rows["q1"]["scores"] == []
    assert np.allclose(rows["q2"]["scores"], expected[2:], atol=1e-6)
    assert workspace.computed == [0, 1]


def test_scores_that_are_not_numbers_are_rejected_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name = "broken"

        def score(self, queries: list[str], passages: list[str], pairs: list[tuple[int, int]]) -> np.ndarray:
            return np.array([float("nan") if passages[p] == "stone bridge" else 1.0 for _, p in pairs], np.float32)

    monkeypatch.setattr(score_module, "load_teacher", lambda *_: Broken())
    workspace = LocalWorkspace(tmp_path, "score", inputs([["p1", "p0"], ["p2"], []]))
    score(workspace, ScoreSettings(), "en")
    rows = {row["query_id"]: (row["passage_ids"], row["scores"]) for row in workspace.output("scores").to_pylist()}
    assert rows == {"q0": (["p0"], [1.0]), "q1": (["p2"], [1.0]), "q2": ([], [])}
    assert workspace.output("rejected").to_pylist() == [
        {"source": "candidates", "line": 0, "id": "q0 p1", "field": "score", "reason": "the teacher gave nan"}
    ]


def test_a_candidate_that_does_not_exist_is_named(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    settings = ScoreSettings(teacher=CrossEncoderTeacher(model=str(tiny_cross_encoder)))
    workspace = LocalWorkspace(tmp_path, "score", inputs([["p7"], [], []]))
    with pytest.raises(TableError, match=r"candidates: 1 of passage_id do not exist, among them \['p7'\]"):
        score(workspace, settings, "en")


def test_a_table_with_a_query_twice_is_refused(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    tables = inputs([["p0"], [], []])
    doubled = pa.concat_tables([tables["select"]["candidates"]] * 2)
    tables["select"]["candidates"] = doubled
    workspace = LocalWorkspace(tmp_path, "score", tables)
    with pytest.raises(TableError, match="select: not a 'candidates' table: 3 repeated keys"):
        score(workspace, ScoreSettings(teacher=CrossEncoderTeacher(model=str(tiny_cross_encoder))), "en")
