from pathlib import Path

import pytest

from distill.select.settings import Bm25Selector, RunSelector, SelectSettings
from distill.select.stage import select
from distill.tables import PASSAGES, QUERIES, REJECTED, TRANSLATIONS, TableError
from tests.workspaces import LocalWorkspace

TEXTS = {
    "p1": "the waggle dance of honey bees",
    "p2": "bees make honey from nectar",
    "p3": "a stone bridge over the river",
    "p4": "蜜蜂的摇摆舞",
}


def sources() -> dict:
    passages = [{"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": text} for i, text in TEXTS.items()]
    queries = [
        {"query_id": "q1", "lang": "en", "text": "honey dance", "split": "train"},
        {"query_id": "q2", "lang": "en", "text": "zebra", "split": "test"},
        {"query_id": "q3", "lang": "en", "text": "蜜蜂", "split": "test"},
        {"query_id": "q1", "lang": "de", "text": "honey", "split": "train"},
    ]
    return {
        "sources": {
            "passages": PASSAGES.from_rows(passages),
            "queries": QUERIES.from_rows(queries),
            "parallel": TRANSLATIONS.empty(),
            "rejected": REJECTED.empty(),
        }
    }


def test_select_finds_and_fills(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "select", sources())
    select(workspace, SelectSettings(by=Bm25Selector(top_k=3), queries_per_shard=2), "en")
    found = {row["query_id"]: row["passage_ids"] for row in workspace.output("candidates").to_pylist()}
    assert found["q1"][:2] == ["p1", "p2"]
    assert found["q3"][0] == "p4"
    assert {query: len(set(ids)) for query, ids in found.items()} == {"q1": 3, "q2": 3, "q3": 3}
    assert workspace.computed == [0, 1]


def test_without_fill_only_what_matches(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "select", sources())
    select(workspace, SelectSettings(by=Bm25Selector(top_k=3, fill=False)), "en")
    found = {row["query_id"]: row["passage_ids"] for row in workspace.output("candidates").to_pylist()}
    assert found == {"q1": ["p1", "p2"], "q2": [], "q3": ["p4"]}


def test_select_from_a_run(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    path.write_text("q1 Q0 p3 1 9 x\nq1 Q0 p1 2 8 x\nq1 Q0 p2 3 7 x\n")
    workspace = LocalWorkspace(tmp_path, "select", sources())
    select(workspace, SelectSettings(by=RunSelector(path=str(path), top_k=2)), "en")
    found = {row["query_id"]: row["passage_ids"] for row in workspace.output("candidates").to_pylist()}
    assert found == {"q1": ["p3", "p1"], "q2": [], "q3": []}


def test_the_scores_of_a_run_decide_and_its_ranks_must_agree(tmp_path: Path) -> None:
    """Ranks of 0 say nothing; a distance as the score contradicts them."""
    path = tmp_path / "a.run"
    path.write_text("q1 Q0 p1 0 7.5 x\nq1 Q0 p2 0 8 x\nq1 Q0 p3 0 -1 x\n")
    workspace = LocalWorkspace(tmp_path / "1", "select", sources())
    select(workspace, SelectSettings(by=RunSelector(path=str(path), top_k=2)), "en")
    assert workspace.output("candidates")["passage_ids"].to_pylist() == [["p2", "p1"], [], []]
    path.write_text("q1 Q0 p1 1 0.5 x\nq1 Q0 p2 2 0.75 x\n")
    workspace = LocalWorkspace(tmp_path / "2", "select", sources())
    with pytest.raises(
        TableError, match=r"a\.run line 1: query 'q1' has passage 'p1' at rank 1 with score 0\.5, and 'p2'"
    ):
        select(workspace, SelectSettings(by=RunSelector(path=str(path), top_k=2)), "en")
    workspace = LocalWorkspace(tmp_path / "3", "select", sources())
    select(workspace, SelectSettings(by=RunSelector(path=str(path), top_k=2, order="rank")), "en")
    assert workspace.output("candidates")["passage_ids"].to_pylist() == [["p1", "p2"], [], []]


def test_unknown_passages_of_a_run_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    path.write_text("q1 Q0 p9 1 9 x\n")
    workspace = LocalWorkspace(tmp_path, "select", sources())
    with pytest.raises(TableError, match=r"1 retrieved passages do not exist in the source, among them \['p9'\]"):
        select(workspace, SelectSettings(by=RunSelector(path=str(path))), "en")
