from pathlib import Path
from typing import Literal

import pytest

from distill.formats.settings import ScoreUnit
from distill.score.imported import import_scores
from distill.score.settings import ImportedTeacher
from distill.tables import CANDIDATES, PROVENANCE, TRUNCATED_PAIRS, TableError
from tests.workspaces import LocalWorkspace


def workspace(folder: Path) -> LocalWorkspace:
    candidates = {"q0": ["b", "a"], "q1": ["a"], "q2": []}
    rows = [{"query_id": q, "passage_ids": ids, "selector": "s"} for q, ids in candidates.items()]
    return LocalWorkspace(folder, "score", {"select": {"candidates": CANDIDATES.from_rows(rows)}})


def teacher(
    folder: Path, text: str, missing: Literal["error", "reject"] = "error", unit: ScoreUnit = "similarity"
) -> ImportedTeacher:
    (folder / "s.jsonl").write_text(text)
    return ImportedTeacher(files=(str(folder / "s.jsonl"),), format="tdist", unit=unit, name="t53b", missing=missing)


def test_imported_scores_lie_under_the_candidates_ids(tmp_path: Path) -> None:
    stage = workspace(tmp_path)
    text = '["q1", ["a", 3]]\n["other", ["a", 9]]\n["q0", ["a", 1], ["zz", 7], ["b", 2]]\n'
    import_scores(stage, teacher(tmp_path, text), "en", "de")
    assert stage.output("scores").to_pylist() == [
        {"query_id": "q0", "passage_ids": ["b", "a"], "scores": [2.0, 1.0], "teacher": "t53b"},
        {"query_id": "q1", "passage_ids": ["a"], "scores": [3.0], "teacher": "t53b"},
        {"query_id": "q2", "passage_ids": [], "scores": [], "teacher": "t53b"},
    ]
    assert len(stage.output("rejected")) == 0
    assert stage.facts["unused_queries"] == 1
    [row] = PROVENANCE.check(stage.output("provenance")).to_pylist()
    assert (row["kind"], row["model"], row["query_lang"], row["passage_lang"]) == ("imported", "t53b", "en", "de")
    assert TRUNCATED_PAIRS.check(stage.output("truncated_pairs")).num_rows == 0


def test_candidates_without_a_score_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        TableError,
        match=r"s.jsonl: 2 of 3 candidates, of 2 of 3 queries, .* the first: query 'q0' passage 'a', query 'q1'",
    ):
        import_scores(workspace(tmp_path), teacher(tmp_path, '["q0", ["b", 2]]\n'), "en", "en")


def test_candidates_without_a_score_are_rejected_where_asked(tmp_path: Path) -> None:
    stage = workspace(tmp_path)
    import_scores(stage, teacher(tmp_path, '["q0", ["b", 2]]\n', "reject"), "en", "en")
    assert stage.output("scores")["passage_ids"].to_pylist() == [["b"], [], []]
    assert [row["id"] for row in stage.output("rejected").to_pylist()] == ["q0 a", "q1 a"]
    assert {row["field"] for row in stage.output("rejected").to_pylist()} == {"passage_ids"}
    assert stage.warnings == ["2 of 3 candidates have no score in the files"]


def test_a_log_probability_above_0_is_named(tmp_path: Path) -> None:
    text = '["q1", ["a", -0.5]]\n["q0", ["a", -1], ["b", 0.25]]\n'
    with pytest.raises(
        TableError, match=r"s.jsonl line 2: score 0.25 of passage 'b', but score.teacher.unit is 'log_prob"
    ):
        import_scores(workspace(tmp_path), teacher(tmp_path, text, unit="log_probability"), "en", "en")
    import_scores(workspace(tmp_path), teacher(tmp_path, text, unit="log_odds"), "en", "en")
