from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.stored_table import StoredTable
from cluster.workspace import Shard
from distill.score import stage as score_module
from distill.score.ids import sorted_ids
from distill.score.settings import BiEncoderTeacher, CrossEncoderTeacher, ScoreSettings
from distill.score.stage import ScoreWorker, score
from distill.score.teachers import load_teacher
from distill.score.teachers.interface import Provenance, Scored
from distill.tables import CANDIDATES, PASSAGES, PROVENANCE, QUERIES, TRANSLATIONS, TableError
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
    settings = CrossEncoderTeacher(model=str(tiny_cross_encoder))
    workspace = LocalWorkspace(tmp_path, "score", inputs([["p2", "p0"], [], ["p1"]]))
    score(workspace, ScoreSettings(queries_per_shard=2), settings, "en")
    rows = {row["query_id"]: row for row in workspace.output("scores").to_pylist()}
    teacher = load_teacher(settings, "float32", 1000, "cpu")
    expected = teacher.score(
        ["honey", "map"], ["city map light", "bee honey dance", "stone bridge"], [(0, 0), (0, 1), (1, 2)]
    ).scores
    assert rows["q0"]["passage_ids"] == ["p2", "p0"]
    assert np.allclose(rows["q0"]["scores"], expected[:2], atol=1e-6)
    assert rows["q1"]["scores"] == []
    assert np.allclose(rows["q2"]["scores"], expected[2:], atol=1e-6)
    assert workspace.computed == [0, 1]


def test_scores_that_are_not_numbers_are_rejected_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        provenance = Provenance(kind="cross_encoder", model="broken")

        def score(self, queries: list[str], passages: list[str], pairs: list[tuple[int, int]]) -> Scored:
            scores = [float("nan") if passages[p] == "stone bridge" else 1.0 for _, p in pairs]
            return Scored(np.array(scores, np.float32), np.array([passages[p].startswith("bee") for _, p in pairs]))

    monkeypatch.setattr(score_module, "load_teacher", lambda *_: Broken())
    workspace = LocalWorkspace(tmp_path, "score", inputs([["p1", "p0"], ["p2"], []]))
    score(workspace, ScoreSettings(), BiEncoderTeacher(), "en")
    rows = {row["query_id"]: (row["passage_ids"], row["scores"]) for row in workspace.output("scores").to_pylist()}
    assert rows == {"q0": (["p0"], [1.0]), "q1": (["p2"], [1.0]), "q2": ([], [])}
    assert workspace.output("rejected").to_pylist() == [
        {"source": "candidates", "line": 0, "id": "q0 p1", "field": "score", "reason": "the teacher gave nan"}
    ]
    assert workspace.output("truncated_pairs").to_pylist() == [{"query_id": "q0", "passage_id": "p0"}]


def test_a_candidate_that_does_not_exist_is_named(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    teacher = CrossEncoderTeacher(model=str(tiny_cross_encoder))
    workspace = LocalWorkspace(tmp_path, "score", inputs([["p7"], [], []]))
    with pytest.raises(TableError, match=r"candidates, in en: 1 of passage_id do not exist, among them \['p7'\]"):
        score(workspace, ScoreSettings(), teacher, "en")


def test_a_table_with_a_query_twice_is_refused(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    tables = inputs([["p0"], [], []])
    doubled = pa.concat_tables([tables["select"]["candidates"]] * 2)
    tables["select"]["candidates"] = doubled
    workspace = LocalWorkspace(tmp_path, "score", tables)
    with pytest.raises(TableError, match="select: not a 'candidates' table: 3 repeated keys"):
        score(workspace, ScoreSettings(), CrossEncoderTeacher(model=str(tiny_cross_encoder)), "en")


def test_the_teacher_reads_each_side_in_its_own_language(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    """English queries and German passages, and both in German: the papers' decoupling of scorer and student."""
    tables = inputs([["p1", "p0"], [], []])
    german = [
        {
            "passage_id": f"p{i}",
            "source_lang": "en",
            "lang": lang,
            "title": "",
            "text": text,
            "translator": "t",
            "flags": [],
        }
        for lang, texts in (("de", ["biene honig", "stein brücke"]), ("zh", ["honey", "map"]))
        for i, text in enumerate(texts)
    ]
    tables["translate"] = {"translations": TRANSLATIONS.from_rows(german)}
    query = QUERIES.from_rows([{"query_id": "q0", "lang": "de", "text": "honig", "split": "train"}])
    tables["sources"]["queries"] = pa.concat_tables([tables["sources"]["queries"], query])
    tables["select"]["candidates"] = tables["select"]["candidates"].slice(0, 1)
    teacher = CrossEncoderTeacher(model=str(tiny_cross_encoder))
    reference = load_teacher(teacher, "float32", 1000, "cpu")
    passages = ["stein brücke", "biene honig"]
    for query_lang, query_text in ((None, "honey"), ("de", "honig")):
        settings = ScoreSettings(query_lang=query_lang, passage_lang="de")
        workspace = LocalWorkspace(tmp_path, f"score-{query_lang}", tables)
        score(workspace, settings, teacher, "en")
        found = workspace.output("scores").to_pylist()[0]["scores"]
        assert np.allclose(found, reference.score([query_text], passages, [(0, 0), (0, 1)]).scores, atol=1e-6)
        assert workspace.facts["provenance"]["query_lang"] == (query_lang or "en")
        assert workspace.facts["provenance"]["passage_lang"] == "de"


def test_shards_of_different_versions_are_refused() -> None:
    row = PROVENANCE.example
    rows = PROVENANCE.from_rows([{**row}, {**row, "shard": 1, "engine_version": "5.22.0"}])
    with pytest.raises(TableError, match=r"different teachers: engine_version \['5.22.0', '5.23.0'\]"):
        score_module._one_provenance(rows)


def test_lost_pairs_are_rejected_with_their_reason(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "score", inputs([["p2", "p0"], ["p1"], []]))
    teacher = CrossEncoderTeacher(model=str(tiny_cross_encoder))
    score(workspace, ScoreSettings(), teacher, "en")
    whole = {row["query_id"]: row for row in workspace.output("scores").to_pylist()}
    passages = workspace.input("sources", "passages")
    worker = ScoreWorker(
        ScoreSettings(), teacher, ("en", "en"),
        StoredTable.open(workspace.filesystem, f"{workspace.input_folder('select')}/candidates"),
        workspace.input("sources", "queries"), passages, sorted_ids(passages["passage_id"]),
    )  # fmt: skip
    shard = Shard(0, {"start": 0, "stop": 3})
    assert worker.row_ids(shard) == ["q0 p2", "q0 p0", "q1 p1"]
    worker.try_rows(shard, 1, 3)
    tables = worker.without_rows(shard, {1: "its actor died"})
    rows = {row["query_id"]: row for row in tables["scores"].to_pylist()}
    assert rows["q0"]["passage_ids"] == ["p2"]
    assert np.allclose(rows["q0"]["scores"], whole["q0"]["scores"][:1], atol=1e-6)
    assert rows["q1"]["passage_ids"] == ["p1"]
    assert np.allclose(rows["q1"]["scores"], whole["q1"]["scores"], atol=1e-6)
    assert tables["rejected"].to_pylist() == [
        {"source": "candidates", "line": 0, "id": "q0 p0", "field": "score", "reason": "its actor died"}
    ]


def test_pairs_whose_passage_has_no_translation_are_rejected(tmp_path: Path, tiny_cross_encoder: Path) -> None:
    """p0 has a German row without a text, p1 none; only p2 can be read."""
    tables = inputs([["p2", "p0"], ["p1", "p2"], []])
    rows = [("p2", "Karte", []), ("p0", "", ["empty"])]
    translations = [
        {"passage_id": i, "source_lang": "en", "lang": "de", "title": "", "text": t, "translator": "x", "flags": flags}
        for i, t, flags in rows
    ]
    tables["translate"] = {"translations": TRANSLATIONS.from_rows(translations)}
    workspace = LocalWorkspace(tmp_path, "score", tables)
    teacher = CrossEncoderTeacher(model=str(tiny_cross_encoder))
    score(workspace, ScoreSettings(passage_lang="de"), teacher, "en")
    found = {row["query_id"]: row["passage_ids"] for row in workspace.output("scores").to_pylist()}
    assert found == {"q0": ["p2"], "q1": ["p2"], "q2": []}
    rejected = {row["id"]: row["reason"] for row in workspace.output("rejected").to_pylist()}
    reason = "the passage has no text in 'de' (score.passage_lang)"
    assert rejected == {"q0 p0": reason, "q1 p1": reason}


def test_passages_that_were_translated_into_the_source_language_are_scored(
    tmp_path: Path, tiny_cross_encoder: Path
) -> None:
    tables = inputs([["p2", "f1"], ["f1"], []])
    made = {
        "passage_id": "f1",
        "source_lang": "de",
        "lang": "en",
        "title": "",
        "text": "stone bridge",
        "translator": "x",
        "flags": [],
    }
    tables["translate"] = {"translations": TRANSLATIONS.from_rows([made, made | {"lang": "de", "text": "Brücke"}])}
    workspace = LocalWorkspace(tmp_path, "score", tables)
    teacher = CrossEncoderTeacher(model=str(tiny_cross_encoder))
    score(workspace, ScoreSettings(), teacher, "en")
    rows = {row["query_id"]: row for row in workspace.output("scores").to_pylist()}
    loaded = load_teacher(teacher, "float32", 1000, "cpu")
    expected = loaded.score(["honey", "river"], ["city map light", "stone bridge"], [(0, 0), (0, 1), (1, 1)]).scores
    assert np.allclose(rows["q0"]["scores"], expected[:2], atol=1e-6)
    assert np.allclose(rows["q1"]["scores"], expected[2:], atol=1e-6)
