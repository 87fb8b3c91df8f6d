"""Judgements of documents and of passages."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.locations import SourceError
from distill.formats.settings import PassageFields
from distill.sources.documents import best_of_documents, document_ids, judged_unit, passage_qrels
from distill.sources.settings import CutSettings, FileSource
from distill.sources.stage import ingest
from distill.tables import PARTS, QRELS
from distill.tables import PASSAGES as PASSAGES_TABLE
from tests.workspaces import LocalWorkspace

PARTS_TABLE = PARTS.from_rows(
    {"passage_id": f"d{n}_{k}", "doc_id": f"d{n}", "lang": ""} for n in (1, 2) for k in (1, 2)
)


def qrels(*ids: str) -> pa.Table:
    return QRELS.from_rows({"query_id": "q", "passage_id": name, "relevance": n} for n, name in enumerate(ids))


def test_documents_are_judged_unless_a_part_is() -> None:
    assert judged_unit(qrels("d1", "d3"), PARTS_TABLE) == "doc_id"
    assert judged_unit(qrels("d1_2", "d3"), PARTS_TABLE) == "passage_id"
    assert judged_unit(qrels("d3"), PARTS_TABLE) == "doc_id"
    assert judged_unit(qrels(), PARTS.empty()) == "doc_id"


def test_the_document_of_a_passage() -> None:
    assert document_ids(pa.array(["d2_1", "d3", "d1_2"]), PARTS_TABLE).to_pylist() == ["d2", "d3", "d1"]
    assert document_ids(pa.chunked_array([["d2_1"], ["d3"]]), PARTS_TABLE).to_pylist() == ["d2", "d3"]
    assert document_ids(pa.array(["x"]), PARTS.empty()).to_pylist() == ["x"]


def test_a_documents_judgement_is_one_of_each_of_its_passages() -> None:
    expanded = passage_qrels(qrels("d1", "d3", "d2"), PARTS_TABLE).sort_by("passage_id")
    assert [(row["passage_id"], row["relevance"]) for row in expanded.to_pylist()] == [
        ("d1_1", 0),
        ("d1_2", 0),
        ("d2_1", 2),
        ("d2_2", 2),
        ("d3", 1),
    ]
    same = qrels("d1_1", "d3")
    assert passage_qrels(same, PARTS_TABLE) is same


def test_the_best_passage_of_each_document() -> None:
    nan = float("nan")
    assert best_of_documents(["a", "b", "a", "c", "b"], [1.0, 3.0, 2.0, 0.0, 3.0]) == [1, 2, 3]
    assert best_of_documents(["a", "a", "b", "b"], [nan, nan, nan, -9.0]) == [0, 3]
    assert best_of_documents([], []) == []


def read(folder: Path, passages: list[dict[str, str]], qrels: str, **settings: Any) -> LocalWorkspace:
    """The stage's workspace after reading English and German passages of documents, and one query."""
    data = folder / "data"
    data.mkdir()
    rows = [{"lang": "en", "text": f"text of {row['id']}"} | row for row in passages]
    (data / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "q.tsv").write_text("q1\tone\n")
    (data / "t.qrels").write_text(qrels)
    fields = PassageFields(lang="lang", doc_id="doc" if "doc" in rows[0] else None)
    source = FileSource(
        root=str(data), passages=("p.jsonl",), queries=("q.tsv",), qrels=("t.qrels",), passage_fields=fields, **settings
    )
    workspace = LocalWorkspace(folder, "sources")
    ingest(workspace, source, "en", ("de",), 0.0)
    return workspace


OWN = [{"id": f"d{n}_{k}", "doc": f"d{n}"} for n in range(3) for k in range(2)]


def test_judgements_of_documents_are_read(tmp_path: Path) -> None:
    workspace = read(tmp_path, OWN, "q1 0 d2 1\n")
    assert workspace.output("qrels").to_pylist() == [{"query_id": "q1", "passage_id": "d2", "relevance": 1}]
    parts = PARTS.check(workspace.output("parts"))
    assert sorted(map(tuple, (row.values() for row in parts.to_pylist()))) == [
        (row["id"], row["doc"], "") for row in OWN
    ]
    assert workspace.facts == {"documents_of_parts": 3, "judged": "documents"}


def test_judgements_of_passages_are_read(tmp_path: Path) -> None:
    workspace = read(tmp_path, OWN, "q1 0 d2_1 1\n")
    assert workspace.output("qrels")["passage_id"].to_pylist() == ["d2_1"]
    assert workspace.facts["judged"] == "passages"


def test_judgements_of_both_are_refused(tmp_path: Path) -> None:
    message = r"1 judgements are of documents, 'd2' \(.*t.qrels line 2\), and 1 of parts of documents, 'd1_0' \(.*t.qrels line 1\)"
    with pytest.raises(SourceError, match=message):
        read(tmp_path, OWN, "q1 0 d1_0 1\nq1 0 d2 1\n")


def test_a_passage_with_the_id_of_a_document_is_refused(tmp_path: Path) -> None:
    passages = [{"id": "d1", "doc": "d1"}, {"id": "d1_1", "doc": "d1"}]
    with pytest.raises(
        SourceError, match=r"p.jsonl line 1: 'd1' is a passage, and a document of which 'd1_1' is a part"
    ):
        read(tmp_path, passages, "q1 0 d1 1\n")


def test_versions_of_different_documents_are_refused(tmp_path: Path) -> None:
    passages = [{"id": "p1", "doc": "d1"}, {"id": "p1", "doc": "d2", "lang": "de"}]
    with pytest.raises(
        SourceError, match=r"1 passages have versions of different doc_ids, among them 'p1': 'd1' in en"
    ):
        read(tmp_path, passages, "q1 0 d1 1\n")


def test_judged_documents_are_cut(tmp_path: Path) -> None:
    text = "one two three four five"
    passages = [
        {"id": "d1", "text": text},
        {"id": "d1", "text": "eins zwei drei vier", "lang": "de"},
        {"id": "d2", "text": "six"},
        {"id": "d2", "text": "sechs", "lang": "de"},
        {"id": "d3", "text": "alpha beta gamma delta", "lang": "el"},
    ]
    workspace = read(tmp_path, passages, "q1 0 d1 2\nq1 0 d3 1\n", cut=CutSettings(length=3))
    # d3 exists in no language of the job: its judgement is skipped with it.
    assert workspace.output("qrels").to_pylist() == [{"query_id": "q1", "passage_id": "d1", "relevance": 2}]
    english = PASSAGES_TABLE.check(workspace.output("passages")).sort_by("passage_id")
    assert english["passage_id"].to_pylist() == ["d1#en.1", "d1#en.2", "d2"]
    assert english["doc_id"].to_pylist() == ["d1", "d1", "d2"]
    assert english["text"].to_pylist() == ["one two three", "four five", "six"]
    german = workspace.output("parallel").sort_by("passage_id")
    assert german["passage_id"].to_pylist() == ["d1#de.1", "d1#de.2", "d2"]
    parts = sorted((row["passage_id"], row["doc_id"], row["lang"]) for row in workspace.output("parts").to_pylist())
    assert parts == [(f"d1#{lang}.{n}", "d1", lang) for lang in ("de", "en") for n in (1, 2)]
    assert workspace.facts["cut"] == {"en": {"documents": 1, "passages": 2}, "de": {"documents": 1, "passages": 2}}
    assert workspace.facts["cut_apart"] == 1
    [warning] = workspace.warnings
    assert warning.startswith("1 documents in several languages were cut: their passages do not correspond")
