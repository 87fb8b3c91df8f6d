from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest

from distill.select.candidates import passages_in, queries_in
from distill.select.settings import Bm25Selector, RunSelector, ScoredSelector, SelectSettings
from distill.select.stage import select
from distill.tables import PARTS, PASSAGES, QRELS, QUERIES, REJECTED, TRANSLATIONS, TableError
from tests.workspaces import LocalWorkspace

GERMAN = {"p1": "der Tanz der Bienen", "p2": "Honig aus Nektar", "p3": "eine Brücke aus Stein"}


def inputs() -> dict:
    passages = [
        {"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": text}
        for i, text in [("p3", "bridge"), ("p1", "bees dance"), ("p2", "honey")]
    ]
    queries = [
        {"query_id": q, "lang": lang, "text": text, "split": split}
        for q, lang, text, split in [
            ("q2", "en", "stone", "train"), ("q1", "en", "bees", "train"), ("q3", "en", "bridge", "test"),
            ("q1", "de", "Bienen", "train"), ("q2", "de", "Stein", "train"), ("q3", "de", "Nektar", "test"),
        ]
    ]  # fmt: skip
    translations = [
        {"passage_id": i, "source_lang": "en", "lang": lang, "title": "", "text": text, "translator": "x", "flags": []}
        for lang in ("fr", "de")
        for i, text in GERMAN.items()
    ]
    qrels = [
        {"query_id": q, "passage_id": p, "relevance": r}
        for q, p, r in [("q1", "p2", 1), ("q1", "p3", 2), ("q1", "p1", 0), ("q2", "p3", 1), ("q3", "p1", 1)]
    ]
    return {
        "sources": {
            "passages": PASSAGES.from_rows(passages),
            "queries": QUERIES.from_rows(queries),
            "parts": PARTS.empty(),
            "qrels": QRELS.from_rows(qrels),
            "parallel": TRANSLATIONS.empty(),
            "rejected": REJECTED.empty(),
        },
        "translate": {"translations": TRANSLATIONS.from_rows(translations)},
    }


def candidates(folder: Path, settings: SelectSettings, tables: dict | None = None) -> dict[str, list[str]]:
    workspace = LocalWorkspace(folder, "select", tables or inputs())
    select(workspace, settings, "en")
    return {row["query_id"]: row["passage_ids"] for row in workspace.output("candidates").to_pylist()}


def test_a_selector_reads_the_languages_that_it_is_given(tmp_path: Path) -> None:
    """The decoupling of Translate-Distill: English with English, English with German, German with German."""
    by = Bm25Selector(top_k=3, fill=False)
    found = candidates(tmp_path / "1", SelectSettings(by=by))
    assert found == {"q1": ["p1"], "q2": [], "q3": ["p3"]}
    found = candidates(tmp_path / "2", SelectSettings(by=by, passage_lang="de"))
    assert found == {"q1": [], "q2": [], "q3": []}
    found = candidates(tmp_path / "3", SelectSettings(by=by, query_lang="de", passage_lang="de"))
    assert found == {"q1": ["p1"], "q2": ["p3"], "q3": ["p2"]}


def test_texts_are_sorted_by_id(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "select", inputs())
    assert queries_in(workspace, "de", "en")["text"].to_pylist() == ["Bienen", "Stein", "Nektar"]
    assert passages_in(workspace, "en", "en")["text"].to_pylist() == ["bees dance", "honey", "bridge"]
    assert passages_in(workspace, "de", "en")["text"].to_pylist() == list(GERMAN.values())


def test_missing_texts_are_counted_and_named(tmp_path: Path) -> None:
    tables = inputs()
    tables["translate"]["translations"] = tables["translate"]["translations"].filter([True] * 4 + [False, False])
    tables["sources"]["queries"] = tables["sources"]["queries"].slice(0, 5)
    workspace = LocalWorkspace(tmp_path, "select", tables)
    with pytest.raises(
        TableError, match=r"2 of 3 passages have no text in 'de', among them \['p2', 'p3'\]; give their translations"
    ):
        passages_in(workspace, "de", "en")
    with pytest.raises(TableError, match=r"1 of 3 queries have no text in 'de', among them \['q3'\]"):
        queries_in(workspace, "de", "en")


def test_judged_passages_join_after_the_found_ones_but_never_those_of_tests(tmp_path: Path) -> None:
    """q1 finds p1, then gets p3 (grade 2) and p2 (grade 1), not p1 (grade 0). q3 is a test query."""
    found = candidates(tmp_path / "1", SelectSettings(by=Bm25Selector(top_k=1, fill=False), add_judged=True))
    assert found == {"q1": ["p1", "p3", "p2"], "q2": ["p3"], "q3": ["p3"]}
    (tmp_path / "a.run").write_text("q1 Q0 p2 1 9 x\nq3 Q0 p2 1 9 x\n")
    found = candidates(tmp_path / "2", SelectSettings(by=RunSelector(path=str(tmp_path / "a.run")), add_judged=True))
    assert found == {"q1": ["p2", "p3"], "q2": ["p3"], "q3": ["p2"]}


@pytest.mark.parametrize("without_own", [True, False])
def test_a_querys_own_id_is_no_candidate(tmp_path: Path, without_own: bool) -> None:
    """The query p1 asks with the words of p1; there are three passages, and two candidates are wanted of each selector."""
    tables = inputs()
    queries = [{"query_id": "p1", "lang": "en", "text": "bees dance", "split": "train"}]
    qrels = [{"query_id": "p1", "passage_id": p, "relevance": 1} for p in ("p1", "p3")]
    tables["sources"] |= {"queries": QUERIES.from_rows(queries), "qrels": QRELS.from_rows(qrels)}
    (tmp_path / "a.run").write_text("".join(f"p1 Q0 {p} {rank} {9 - rank} x\n" for rank, p in enumerate(GERMAN, 1)))
    (tmp_path / "s.jsonl").write_text('["p1", ["p1", 9], ["p2", 8], ["p3", 7]]\n')
    run, scores = str(tmp_path / "a.run"), (str(tmp_path / "s.jsonl"),)
    for number, by in enumerate(
        (Bm25Selector(top_k=2), RunSelector(path=run, top_k=2), ScoredSelector(files=scores, format="tdist", top_k=2))
    ):
        workspace = LocalWorkspace(tmp_path / str(number), "select", tables)
        select(workspace, SelectSettings(by=by, add_judged=True), "en", without_own=without_own)
        [found] = workspace.output("candidates")["passage_ids"].to_pylist()
        assert set(found) == ({"p2", "p3"} if without_own else {"p1", "p2", "p3"})
        if not without_own:
            assert found[0] == "p1"


def test_passages_without_a_translation_are_left_out_up_to_a_share(tmp_path: Path) -> None:
    """p3 has a German row that is flagged as empty."""
    tables = inputs()
    rows = tables["translate"]["translations"].to_pylist()
    for row in rows:
        if (row["passage_id"], row["lang"]) == ("p3", "de"):
            row |= {"text": "", "flags": ["empty"]}
    tables["translate"]["translations"] = TRANSLATIONS.from_rows(rows)
    workspace = LocalWorkspace(tmp_path, "select", tables)
    assert passages_in(workspace, "de", "en", 0.4)["passage_id"].to_pylist() == ["p1", "p2"]
    assert workspace.warnings == ["1 of 3 passages have no text in 'de' and are no candidates (select.passage_lang)"]
    with pytest.raises(TableError, match=r"1 of 3 passages have no text in 'de', among them \['p3'\]"):
        passages_in(workspace, "de", "en", 0.3)


def elsewhere(*langs: str) -> dict:
    """The tables of `inputs`, with a passage f1 that exists in these languages and not in English in the source."""
    tables = inputs()
    rows = [
        {
            "passage_id": "f1",
            "source_lang": "de",
            "lang": lang,
            "title": "",
            "text": f"bees {lang}",
            "translator": "x",
            "flags": [],
        }
        for lang in langs
    ]
    tables["sources"]["parallel"] = TRANSLATIONS.from_rows(row for row in rows if row["lang"] != "en")
    tables["sources"]["parts"] = PARTS.empty()
    translations = pa.concat_tables([tables["translate"]["translations"], TRANSLATIONS.from_rows(rows)])
    return {**tables, "translate": {"translations": translations}}


def test_passages_that_were_translated_into_the_source_language_are_candidates(tmp_path: Path) -> None:
    settings = SelectSettings(by=Bm25Selector(top_k=9, fill=False))
    assert candidates(tmp_path / "1", settings, elsewhere("de", "en"))["q1"] == ["f1", "p1"]
    assert candidates(tmp_path / "2", settings, elsewhere("de"))["q1"] == ["p1"]
    workspace = LocalWorkspace(tmp_path, "select", elsewhere("de", "en"))
    assert passages_in(workspace, "de", "en")["passage_id"].to_pylist() == ["f1", "p1", "p2", "p3"]
    workspace = LocalWorkspace(tmp_path / "3", "select", elsewhere("de"))
    assert passages_in(workspace, "de", "en")["passage_id"].to_pylist() == ["p1", "p2", "p3"]


def test_judged_passages_in_other_languages_only_are_not_added(tmp_path: Path) -> None:
    tables = elsewhere("de")
    qrels = [{"query_id": "q1", "passage_id": p, "relevance": 1} for p in ("f1", "p3")]
    tables["sources"]["qrels"] = QRELS.from_rows(qrels)
    workspace = LocalWorkspace(tmp_path, "select", tables)
    select(workspace, SelectSettings(by=Bm25Selector(top_k=1, fill=False), add_judged=True), "en")
    assert workspace.output("candidates")["passage_ids"].to_pylist()[0] == ["p1", "p3"]
    assert workspace.facts["judged_left_out"] == 1


def test_listed_passages_that_cannot_be_candidates_are_left_out(tmp_path: Path) -> None:
    """f1 exists in German only, r1 was rejected; a passage that exists nowhere is still an error."""
    tables = elsewhere("de")
    rejected = {"source": "p.jsonl", "line": 3, "id": "r1", "field": "text", "reason": "is empty"}
    tables["sources"]["rejected"] = REJECTED.from_rows([rejected])
    lines = "q1 Q0 r1 1 9 x\nq1 Q0 f1 2 8 x\nq1 Q0 p2 3 7 x\nq1 Q0 p1 4 6 x\n"
    (tmp_path / "a.run").write_text(lines)
    text = '["q1", ["r1", 9], ["f1", 8], ["p2", 7], ["p1", 6]]\n'
    for number, settings in enumerate(
        (SelectSettings(by=RunSelector(path=str(tmp_path / "a.run"), top_k=2)), scored(tmp_path, text))
    ):
        workspace = LocalWorkspace(tmp_path / str(number), "select", tables)
        select(workspace, settings, "en")
        assert workspace.output("candidates")["passage_ids"].to_pylist()[0] == ["p2", "p1"]
        assert workspace.facts["unusable_passages"] == 2
    (tmp_path / "a.run").write_text(lines + "q1 Q0 nowhere 0 10 x\n")
    with pytest.raises(TableError, match=r"1 retrieved passages do not exist in the source, among them \['nowhere'\]"):
        candidates(tmp_path / "3", SelectSettings(by=RunSelector(path=str(tmp_path / "a.run"))), tables)


def scored(folder: Path, text: str, unknown: Literal["error", "leave_out"] = "error") -> SelectSettings:
    (folder / "s.jsonl").write_text(text)
    return SelectSettings(by=ScoredSelector(files=(str(folder / "s.jsonl"),), format="tdist", top_k=2, unknown=unknown))


def test_candidates_are_what_score_files_list(tmp_path: Path) -> None:
    """By score, equal ones in the file's order; the queries of others are counted."""
    settings = scored(tmp_path, '["q9", ["p1", 1]]\n["q1", ["p2", 1], ["p3", 5], ["p1", 5]]\n["q3", ["p1", -3]]\n')
    workspace = LocalWorkspace(tmp_path, "select", inputs())
    select(workspace, settings, "en")
    rows = workspace.output("candidates").to_pylist()
    assert {row["query_id"]: row["passage_ids"] for row in rows} == {"q1": ["p3", "p1"], "q2": [], "q3": ["p1"]}
    assert rows[0]["selector"].startswith("scored:")
    assert workspace.facts == {"unknown_queries": 1, "unknown_passages": 0, "queries_without_list": 1}
    assert workspace.warnings == ["1 of 3 queries have no list in the files, and so no candidates of their own"]


def test_listed_passages_that_do_not_exist(tmp_path: Path) -> None:
    text = '["q1", ["x", 9], ["p2", 1], ["y", 5], ["p1", 0]]\n'
    with pytest.raises(
        TableError,
        match=r"2 listed passages do not exist in the source, among them \['x', 'y'\]; set select.by.unknown",
    ):
        candidates(tmp_path, scored(tmp_path, text))
    workspace = LocalWorkspace(tmp_path, "select", inputs())
    select(workspace, scored(tmp_path, text, unknown="leave_out"), "en")
    assert workspace.output("candidates")["passage_ids"].to_pylist() == [["p2", "p1"], [], []]
    assert workspace.facts["unknown_passages"] == 2


def test_a_run_without_queries_of_the_job_gives_empty_lists_and_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.run").write_text("q7 Q0 nowhere 1 9 x\n")
    workspace = LocalWorkspace(tmp_path, "select", inputs())
    select(workspace, SelectSettings(by=RunSelector(path=str(tmp_path / "a.run"))), "en")
    rows = workspace.output("candidates").to_pylist()
    assert {row["query_id"]: row["passage_ids"] for row in rows} == {"q1": [], "q2": [], "q3": []}
    assert (workspace.facts["unknown_queries"], workspace.facts["queries_without_list"]) == (1, 3)
    assert workspace.warnings[0].startswith("3 of 3 queries have no list in the files")


def test_of_a_judged_document_all_passages_are_added(tmp_path: Path) -> None:
    """d1 is of p1 and p2, and of a passage in German only, which the teacher cannot read."""
    tables = inputs()
    parts = [{"passage_id": i, "doc_id": "d1", "lang": ""} for i in ("p1", "p2", "p9")]
    tables["sources"]["parts"] = PARTS.from_rows(parts)
    judged = (("q2", "d1", 1), ("q1", "p3", 1), ("q3", "d1", 1))
    tables["sources"]["qrels"] = QRELS.from_rows({"query_id": q, "passage_id": p, "relevance": r} for q, p, r in judged)
    settings = SelectSettings(by=Bm25Selector(top_k=3, fill=False), add_judged=True)
    found = candidates(tmp_path, settings, tables)
    assert found == {"q1": ["p1", "p3"], "q2": ["p1", "p2"], "q3": ["p3"]}
