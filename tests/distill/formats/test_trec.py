import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster.locations import Location, locate
from distill.formats.rows import QREL_ROWS, Rejects, batches, parse_qrel
from distill.formats.settings import RunOrder
from distill.formats.trec import RunLine, read_qrels, read_rankings, read_run, write_qrels, write_run
from distill.tables import TableError

SCORES = np.array([2.5, 0.1], np.float32)


def file(folder: Path, text: str, name: str = "a.run") -> Location:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return locate(str(path))


@pytest.mark.parametrize("name", ["a.run", "a.run.gz"])
def test_lines_of_a_run(tmp_path: Path, name: str) -> None:
    location = file(tmp_path, "q1 Q0 p2 2 1.5 x\n\nq1\t0\tp1\tfirst\t2e-3\ty\r\n", name)
    assert list(read_run(location)) == [
        RunLine("q1", "p2", "2", "1.5", f"{tmp_path}/{name} line 1"),
        RunLine("q1", "p1", "first", "2e-3", f"{tmp_path}/{name} line 3"),
    ]


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    lines = read_run(file(tmp_path, "q1 Q0 p2 2 1.5 x\nq1 Q0 p2\n"))
    assert next(lines).passage_id == "p2"
    with pytest.raises(TableError, match=r"a.run line 2: expected 'query Q0 passage rank score tag', found 'q1 Q0 p2'"):
        next(lines)


def test_rankings_by_rank_not_by_line(tmp_path: Path) -> None:
    """Lines of a query need not follow one another; the score is not read; equal ranks give no order."""
    text = "q1 Q0 p2 2 1.5 x\nq2 Q0 p3 1 0.1 x\n\nq1 Q0 p1 1 2.5 x\nq1 Q0 p4 -1 none x\nq2 Q0 p0 2 0 x\n"
    assert read_rankings(file(tmp_path, text, "a.run.gz"), "rank") == {"q1": ["p4", "p1", "p2"], "q2": ["p3", "p0"]}
    with pytest.raises(
        TableError, match=r"a.run line 2: query 'q1' has passages 'p2' and 'p1' at rank 0; set select.by.order"
    ):
        read_rankings(file(tmp_path, "q1 Q0 p2 0 9 x\nq1 Q0 p1 0 8 x\n"), "rank")


@pytest.mark.parametrize("order", ["agreed", "score"])
def test_rankings_by_score_where_all_ranks_are_equal(tmp_path: Path, order: RunOrder) -> None:
    """As BEIR's save_runfile writes them; equal scores keep the order of the file."""
    text = "q1 Q0 a 0 -1.5 x\nq1 Q0 z 0 2e1 x\nq2 Q0 b 0 1 x\nq1 Q0 n 0 3 x\nq1 Q0 b 0 3 x\n"
    assert read_rankings(file(tmp_path, text), order) == {"q1": ["z", "n", "b", "a"], "q2": ["b"]}


def test_ranks_that_contradict_scores(tmp_path: Path) -> None:
    """Within equal scores ranks decide; a better rank of a lower score is an error, unless the order is said."""
    agreed = "q1 Q0 a 3 1 x\nq1 Q0 b 0 5 x\nq1 Q0 c 2 1 x\nq1 Q0 d 2 2 x\n"
    assert read_rankings(file(tmp_path, agreed)) == {"q1": ["b", "d", "c", "a"]}
    contradicting = file(tmp_path, "q1 Q0 a 1 1 t\nq1 Q0 b 2 9 t\n")
    with pytest.raises(
        TableError,
        match=r"a.run line 1: query 'q1' has passage 'a' at rank 1 with score 1, and 'b' at rank 2 with score 9; "
        r"set select.by.order to 'score' or 'rank'$",
    ):
        read_rankings(contradicting)
    assert read_rankings(contradicting, "score") == {"q1": ["b", "a"]}
    assert read_rankings(contradicting, "rank") == {"q1": ["a", "b"]}
    assert read_rankings(file(tmp_path, "q1 Q0 a - 1 t\nq1 Q0 b - 9 t\n"), "score") == {"q1": ["b", "a"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 Q0 p1 1 9\n", r"a.run line 1: expected 'query Q0 passage rank score tag', found 'q1 Q0 p1 1 9'"),
        ("q1 Q0 p1 1 9 x\nq1 Q0 p1 2 8 x\n", r"a.run line 2: passage 'p1' is already in the ranking of query 'q1'"),
        ("q1 Q0 p1 1.0 9 x\n", r"a.run line 1: rank '1.0' of passage 'p1', expected a whole number"),
        ("q1 Q0 p1 \u00b2 9 x\n", r"a.run line 1: rank '\u00b2' of passage 'p1', expected a whole number"),
        ("q1 Q0 p1 --1 9 x\n", r"a.run line 1: rank '--1' of passage 'p1', expected a whole number"),
        (f"q1 Q0 p1 {'9' * 5000} 9 x\n", r"a.run line 1: rank '9{80}'\.\.\. of passage 'p1', expected a whole number$"),
        ("q1 Q0 p1 1 nan x\n", r"a.run line 1: score 'nan' of passage 'p1', expected a finite number$"),
        ("q1 Q0 p1 1 1,5 x\n", r"a.run line 1: score '1,5' of passage 'p1', expected a finite number$"),
        ("q1 Q0 p1 1 1_000 x\n", r"a.run line 1: score '1_000' of passage 'p1', expected a finite number$"),
        ("q1 Q0 p1 1 1e999 x\n", r"a.run line 1: score '1e999' of passage 'p1', expected a finite number$"),
    ],
)
def test_faults_of_rankings_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_rankings(file(tmp_path, text))


def test_a_line_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.run").write_bytes(b"q1 Q0 p1 1 9 x\nq1 Q0 \xff 1 9 x\n")
    with pytest.raises(TableError, match=r"a.run line 2: not UTF-8: byte 7 of the line is 0xff"):
        read_rankings(locate(str(tmp_path / "a.run")))


@pytest.mark.parametrize("name", ["new/a.run", "new/a.run.gz"])
def test_a_run_is_written_in_the_given_order(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rankings = [
        ("q2", ["b", "a"], SCORES),
        ("q1", [], np.zeros(0, np.float32)),
        ("q0", ["c"], np.array([1e-30], np.float32)),
    ]
    assert write_run(locate(str(path)), rankings, "t") == (3, 3)
    data = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    assert data == b"q2 Q0 b 1 2.5 t\nq2 Q0 a 2 0.1 t\nq0 Q0 c 1 1e-30 t\n"


def test_a_run_that_was_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, list[str], np.ndarray]]:
        yield "q", ["a", "b"], SCORES
        raise RuntimeError

    location = file(tmp_path, "old")
    with pytest.raises(RuntimeError):
        write_run(location, broken(), "t")
    assert (tmp_path / "a.run").read_text() == "old"


def test_runs_and_judgements_in_an_object_store(s3_bucket: str) -> None:
    run, qrels = locate(f"{s3_bucket}/trec/a.run.gz"), locate(f"{s3_bucket}/trec/a.qrels")
    write_run(run, [("q", ["a", "b"], SCORES)], "t")
    assert read_rankings(run) == {"q": ["a", "b"]}
    write_qrels(qrels, [("q", "a", 1)])
    assert list(read_qrels(qrels)) == [(1, {"query": "q", "passage": "a", "grade": "1"})]


def test_judgements_come_back(tmp_path: Path) -> None:
    location = locate(str(tmp_path / "a.qrels.gz"))
    write_qrels(location, [("q1", "b", 0), ("q1", "a", -2)])
    assert gzip.decompress((tmp_path / "a.qrels.gz").read_bytes()) == b"q1 0 b 0\nq1 0 a -2\n"
    [table] = batches("x", read_qrels(location), parse_qrel, QREL_ROWS, Rejects(0.0))
    assert table["relevance"].to_pylist() == [0, -2]


def test_faulty_judgements_are_rejected(tmp_path: Path) -> None:
    location = file(
        tmp_path,
        f"q1 0 p1 1\nq1\t0\tp2\t-2\nq2 0 p1\nq2 0 p1 high\nq2 0 p1 99999999999\nq2 0 p1 1.0\nq2 0 p1 {'1' * 5000}\n",
    )
    rejects = Rejects(1.0)
    tables = list(batches("x", read_qrels(location), parse_qrel, QREL_ROWS, rejects))
    assert [(row["query_id"], row["passage_id"], row["relevance"]) for row in tables[0].to_pylist()] == [
        ("q1", "p1", 1),
        ("q1", "p2", -2),
    ]
    assert [(row["line"], row["id"], row["field"], row["reason"]) for row in rejects.rows] == [
        (3, "", "", "3 columns, expected 4 (query, 0, passage, grade)"),
        (4, "q2", "grade", "'high', expected a whole number"),
        (5, "q2", "grade", "'99999999999', expected a whole number"),
        (6, "q2", "grade", "'1.0', expected a whole number"),
        (7, "q2", "grade", f"'{'1' * 80}'..., expected a whole number"),
    ]
