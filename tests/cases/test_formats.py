"""Reported inputs of readers: runs, TSV files, marks and odd characters, configurations, judgements and score files."""

import re
from pathlib import Path

import numpy as np
import pytest

from cluster.locations import SourceError, locate
from distill.config import load
from distill.formats.rows import QREL_ROWS, Rejects, batches, parse_qrel
from distill.formats.scores import read_scores
from distill.formats.settings import PassageFields, QueryFields, ScoreFormat
from distill.formats.trec import read_qrels, read_rankings
from distill.formats.tsv import read_beir_qrels
from distill.settings.load import ConfigError
from distill.sources.settings import FileSource
from distill.sources.stage import ingest
from distill.tables import TableError
from tests.cases import case
from tests.workspaces import LocalWorkspace


def sources(folder: Path, limit: float = 0.0, **settings: object) -> LocalWorkspace:
    workspace = LocalWorkspace(folder, "sources")
    ingest(workspace, FileSource.model_validate({"type": "files", **settings}), "en", ("de",), limit)
    return workspace


def test_a_run_whose_ranks_are_all_0_is_ordered_by_score() -> None:
    run = case("01-run-rank-zero") / "data" / "beir_run.trec"
    scores: dict[str, dict[str, float]] = {}
    for line in run.read_text().splitlines():
        query, _, passage, rank, score, _ = line.split()
        assert rank == "0"
        scores.setdefault(query, {})[passage] = float(score)
    found = read_rankings(locate(str(run)))
    assert found.keys() == scores.keys()
    for query, of_query in scores.items():
        assert [of_query[passage] for passage in found[query]] == sorted(of_query.values(), reverse=True)


def test_a_header_is_refused_and_read_where_settings_say_so(tmp_path: Path) -> None:
    root = str(case("07-tsv-header-row") / "data")
    files = {"root": root, "passages": ["psgs_w100.tsv"], "queries": ["queries.tsv"], "qrels": ["qrels.txt"]}
    with pytest.raises(
        SourceError, match=r"psgs_w100\.tsv line 1 is a header \(id, text, title\): set passage_fields\.tsv"
    ):
        sources(tmp_path, **files)
    passages = PassageFields(tsv="quoted", title="title")
    with pytest.raises(SourceError, match=r"queries\.tsv line 1 is a header \(qid, query\): set query_fields\.tsv"):
        sources(tmp_path, **files, passage_fields=passages)
    workspace = sources(
        tmp_path, **files, passage_fields=passages, query_fields=QueryFields(tsv="header", id="qid", text="query")
    )
    assert workspace.output("passages").to_pylist()[0] == {
        "passage_id": "1", "doc_id": "1", "lang": "en", "title": "Aaron", "text": 'Aaron, passage 1 with a "quoted" word',
    }  # fmt: skip
    assert workspace.output("queries")["query_id"].to_pylist() == ["1", "2"]
    assert workspace.output("qrels").to_pylist() == [{"query_id": "1", "passage_id": "2", "relevance": 1}]


@pytest.mark.parametrize(("qrels", "judged"), [("t.qrels", [("q1", "p3")]), ("t2.qrels", [("q1", "p1"), ("q1", "p2")])])
def test_marks_at_the_start_of_lines_are_no_part_of_ids(
    tmp_path: Path, qrels: str, judged: list[tuple[str, str]]
) -> None:
    root = str(case("08-invisible-characters-in-ids") / "data")
    workspace = sources(tmp_path, root=root, passages=["all.tsv"], queries=["q.tsv"], qrels=[qrels])
    passages = workspace.output("passages").to_pylist()
    assert [(row["passage_id"], row["text"]) for row in passages] == [
        ("p1", "one bee"), ("p2", "two bees"), ("p3", "three bees"), ("p4", "four bees"),
    ]  # fmt: skip
    assert [(row["query_id"], row["passage_id"]) for row in workspace.output("qrels").to_pylist()] == judged


def test_the_rest_of_a_broken_passage_is_rejected_with_its_line(tmp_path: Path) -> None:
    root = str(case("09-newline-inside-tsv-passage") / "data")
    workspace = sources(tmp_path, 0.01, root=root, passages=["collection.tsv"], queries=["q.tsv"])
    [rejected] = workspace.output("rejected").to_pylist()
    assert (rejected["line"], rejected["reason"]) == (
        59,
        "1 column, expected 2 (id, text) or 3 (id, text, title) separated by tabs",
    )


def test_strange_characters_are_text(tmp_path: Path) -> None:
    root = str(case("10-strange-characters") / "data")
    files = {"passages": ["p.jsonl"], "queries": ["q.jsonl"], "qrels": ["t.qrels"], "query_fields": {"split": "split"}}
    workspace = sources(tmp_path, 0.5, root=root, **files)
    passages = {row["passage_id"]: row["text"] for row in workspace.output("passages").to_pylist()}
    assert {"cr", "a@de", "ünï", "a/b"} <= passages.keys()
    assert "\r" in passages["cr"]
    assert max(map(len, passages.values())) >= 100_000
    assert {row["reason"] for row in workspace.output("rejected").to_pylist() if row["field"] == "text"} == {"is empty"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("norway", r"^languages\.1: .*\(got False\); quote it: "),
        ("norway2", r"norway2\.yaml line [23]: .*|languages\.0: .*quote it: "),
        ("norway3", r"norway3\.yaml line 3: the key no is False in YAML; quote it: 'no'$"),
        ("latin1", r"latin1\.yaml line 3 is not UTF-8 \(byte 0xfc\); save it as UTF-8$"),
        ("utf16", r"utf16\.yaml is UTF-16; save it as UTF-8$"),
        ("twice", r"twice\.yaml line 3: 'languages' is there twice, also on line 2; keep one of the two$"),
        ("tab", r"tab\.yaml line 2: not YAML: "),
    ],
)
def test_configurations_that_yaml_reads_otherwise(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([case("13-yaml-no") / f"{name}.yaml"])


def test_an_exponent_is_a_number() -> None:
    assert load([case("13-yaml-no") / "exponent.yaml"]).train.learning_rate == 5e-6


_WHOLE = "expected a whole number"


@pytest.mark.parametrize(
    ("text", "rows", "reasons"),
    [
        ("q1 0 p1 1.0\nq1 0 p2 0.0\n", [], [f"'1.0', {_WHOLE}", f"'0.0', {_WHOLE}"]),
        ("q1 0 p1 0.0625\n", [], [f"'0.0625', {_WHOLE}"]),
        ("q1 0 p1 -2\nq1 0 p2 +1\n", [("p1", -2), ("p2", 1)], []),
        ("q1\t0\tp1\t\n", [], ["3 columns, expected 4 (query, 0, passage, grade)"]),
        ("q1,0,p1,1\n", [], ["1 column, expected 4 (query, 0, passage, grade)"]),
        ('q1 0 p1 "1"\n', [], [f"'\"1\"', {_WHOLE}"]),
        ("qid Q0 docid rel\nq1 0 p1 1\n", [("p1", 1)], [f"'rel', {_WHOLE}"]),
        ("q1 0 p1 \u0661\n", [], [f"'\u0661', {_WHOLE}"]),
        ("q1 0 p1 1 # good\n", [], ["6 columns, expected 4 (query, 0, passage, grade)"]),
        ("q\u00a01 0 p1 1\n", [], ["5 columns, expected 4 (query, 0, passage, grade)"]),
        ("\n\nq1 0 p1 1\r\nq1 0 p2 0", [("p1", 1), ("p2", 0)], []),
        ("q1 0 p1 1_0\n", [], [f"'1_0', {_WHOLE}"]),
    ],
)
def test_judgements_are_read_or_refused(
    tmp_path: Path, text: str, rows: list[tuple[str, int]], reasons: list[str]
) -> None:
    path = tmp_path / "t.qrels"
    path.write_bytes(text.encode())
    rejects = Rejects(1.0)
    tables = batches("t", read_qrels(locate(str(path))), parse_qrel, QREL_ROWS, rejects)
    assert [(row["passage_id"], row["relevance"]) for table in tables for row in table.to_pylist()] == rows
    assert [row["reason"] for row in rejects.rows] == reasons


def test_a_first_line_of_beir_without_header_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("q1\tp1\t1.0\nq1\tp2\t2\n")
    rejects = Rejects(1.0)
    tables = list(batches("t", read_beir_qrels(locate(str(path))), parse_qrel, QREL_ROWS, rejects))
    assert [row["passage_id"] for table in tables for row in table.to_pylist()] == ["p2"]
    assert [row["reason"] for row in rejects.rows] == [f"'1.0', {_WHOLE}"]


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("trec", "q1 Q0 a 1 1.5e+02 t\nq1 Q0 b 2 -3E-4 t\n", {"a": 150.0, "b": -3e-4}),
        ("trec", "", None),
        ("trec", "q1 Q0 a 1 inf t\n", "line 1: score 'inf'"),
        ("trec", "q1 Q0 a 1 nan t\n", "line 1: score 'nan'"),
        ("trec", "q1 Q0 a 1 1,5 t\n", "line 1: score '1,5'"),
        ("trec", "q1 Q0 a 1 1_000 t\n", "line 1: score '1_000'"),
        ("trec", "q1 Q0 a 1 0x1p3 t\n", "line 1: score '0x1p3'"),
        ("trec", "q1 Q0 a 1 1.5\n", "line 1: expected 'query Q0 passage rank score tag'"),
        ("trec", "q1 Q0 a 1 1.5 my run\n", "line 1: expected 'query Q0 passage rank score tag'"),
        ("trec", "q1 Q0 a 1 2 t\nq2 Q0 a 1 2 t\nq1 Q0 b 2 1 t\n", "line 3: query 'q1' was in"),
        ("tdist", "[]\n", "line 1: expected a list"),
        ("tdist", '["q1"]\n', {}),
        ("tdist", '["q1",["a",NaN]]\n', "line 1: score NaN"),
        ("tdist", '["q1",["a","1.5"]]\n', 'line 1: score "1.5"'),
        ("tdist", '{"query":"q","pos":["a"],"neg":["b"]}\n', "line 1: expected a list"),
        ("tdist", '["q1",["a",1e400]]\n', "line 1: score Infinity"),
        ("tdist", '["q1",[7.0,1]]\n', {"7": 1.0}),
        ("tdist", '["q1",[7,1],["7",2]]\n', "line 1: passage '7' is twice"),
        ("tdist", "[1,2,3]\n", "line 1: expected [passage, score], found 2"),
        ("tdist", '["q\u00a01",["a",1]]\n', "line 1: query id "),
        ("tdist", '["q1",["\\ud83d",1]]\n', "line 1: passage id "),
    ],
)
def test_score_files_are_read_or_refused(
    tmp_path: Path, kind: ScoreFormat, text: str, found: dict[str, float] | str | None
) -> None:
    path = tmp_path / "s"
    path.write_text(text, encoding="utf-8")
    if isinstance(found, str):
        with pytest.raises(TableError, match=rf"/s {re.escape(found)}"):
            list(read_scores([str(path)], kind))
        return
    lists = [dict(zip(one.passage_ids, one.scores.tolist(), strict=True)) for one in read_scores([str(path)], kind)]
    expected = [] if found is None else [{name: float(np.float32(score)) for name, score in found.items()}]
    assert lists == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("q1 Q0 a 0 2 t\nq1 Q0 b 1 1 t\n", ["a", "b"]),
        ("q1 Q0 b 1 9 t\nq1 Q0 a 1 8 t\n", ["b", "a"]),
        ("q1\ta\t1\n", "line 1: expected 'query Q0 passage rank score tag'"),
        ("q1 Q0 a 1.0 2 t\n", "line 1: rank '1.0' of passage 'a', expected a whole number"),
        ("q1 Q0 a - 2 t\n", "line 1: rank '-' of passage 'a', expected a whole number"),
        ("q1 Q0 a --5 2 t\n", "line 1: rank '--5' of passage 'a', expected a whole number"),
        ("q1 Q0 a ² 2 t\n", "line 1: rank '²' of passage 'a', expected a whole number"),
        (f"q1 Q0 a {'9' * 5000} 8 t\n", f"line 1: rank '{'9' * 80}'... of passage 'a', expected a whole number"),
        (
            "q1 Q0 a 1 1 t\nq1 Q0 b 2 9 t\n",
            "line 1: query 'q1' has passage 'a' at rank 1 with score 1, and 'b' at rank 2",
        ),
        ("q1 Q0 a 1 abc t\n", "line 1: score 'abc' of passage 'a', expected a finite number"),
    ],
)
def test_runs_are_read_or_refused(tmp_path: Path, text: str, found: list[str] | str) -> None:
    path = tmp_path / "r"
    path.write_text(text, encoding="utf-8")
    if isinstance(found, str):
        with pytest.raises(TableError, match=rf"/r {re.escape(found)}"):
            read_rankings(locate(str(path)))
    else:
        assert read_rankings(locate(str(path))) == {"q1": found}
