import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster.locations import SourceError
from distill.formats.scores import ScoreList, read_scores, write_scores
from distill.formats.settings import ScoreFormat
from distill.tables import TableError


def read(path: Path | str, kind: ScoreFormat = "tdist") -> list[tuple[str, dict[str, float]]]:
    return [
        (s.query_id, dict(zip(s.passage_ids, s.scores.tolist(), strict=True))) for s in read_scores([str(path)], kind)
    ]


def test_the_released_layout(tmp_path: Path) -> None:
    """Ids as numbers and as strings, scores as whole numbers and as fractions, gzip, a query without passages."""
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(gzip.compress(b'["121352", [7187157, -0.5], ["b", 2]]\n\n[7, ["x", 1e-3]]\n["empty"]\n'))
    one, seven, empty = read_scores([str(path)], "tdist")
    assert one.scores.dtype == np.float32
    assert (one.query_id, one.passage_ids, one.scores.tolist()) == ("121352", ["7187157", "b"], [-0.5, 2.0])
    assert (seven.query_id, seven.passage_ids) == ("7", ["x"])
    assert seven.scores.tolist() == [np.float32(0.001)]
    assert (empty.query_id, empty.passage_ids) == ("empty", [])
    assert empty.source == f"{path} line 4"


def test_trec_runs_keep_their_scores(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    path.write_text("q1 Q0 p2 1 2.5 x\nq1 Q0 p1 2 -1e-7 x\nq2\t0\tp3\t1\t3 x\n")
    assert read(path, "trec") == [("q1", {"p2": 2.5, "p1": float(np.float32(-1e-7))}), ("q2", {"p3": 3.0})]


def test_a_folder_of_files_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('["q2", ["p", 2]]\n')
    (tmp_path / "a.jsonl").write_text('["q1", ["p", 1]]\n')
    assert [query for query, _ in read(tmp_path)] == ["q1", "q2"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"q": 1}', r"expected a list \[query, \[passage, score\], ...\], found"),
        ("[]", r"expected a list \[query"),
        ('["q", ["p", 1]', "not JSON"),
        ('["q", ["p"]]', r'expected \[passage, score\], found \["p"\]'),
        ('["q", "p"]', r'expected \[passage, score\], found "p"'),
        ('["q", ["p", "1"]]', r'score "1" of passage \'p\', expected a finite number'),
        ('["q", ["p", true]]', "score true of passage"),
        ('["q", ["p", null]]', "score null of passage"),
        ('["q", ["p", NaN]]', "score NaN of passage 'p'"),
        ('["q", ["p", Infinity]]', "score Infinity of passage"),
        ('["q", ["p", 1e39]]', r"score 1e\+39 of passage 'p', expected a finite number of 32 bits"),
        ('["q", ["p", 1' + "0" * 400 + "]]", "expected a finite number of 32 bits"),
        ('["q", ["p", 1], ["p", 2]]', "passage 'p' is twice in the list of query 'q'"),
        ('["q", [1, 1], ["1", 2]]', "passage '1' is twice"),
        ('["q", [1.5, 1]]', "passage id 1.5, expected a string"),
        ('["a b", ["p", 1]]', 'query id "a b", expected a string without white space'),
        ('["", ["p", 1]]', 'query id ""'),
        ('[true, ["p", 1]]', "query id true"),
        ('["q0", ["p", 1]]', r"query 'q0' was in .*s.jsonl line 1 before"),
        (b'["\xff", ["p", 1]]', "not UTF-8"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, line: str | bytes, fault: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'["q0", ["p", 1]]\n\n' + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(TableError, match=rf"s.jsonl line 3: .*{fault}"):
        read(path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("q1 Q0 p2 2 1.5", "line 2: expected 'query Q0 passage rank score tag', found 'q1 Q0 p2 2 1.5'"),
        ("q1 Q0 p2 2 high x", "line 2: score 'high' of passage 'p2'"),
        ("q1 Q0 p2 2 nan x", "line 2: score 'nan' of passage 'p2'"),
        ("q1 Q0 p1 2 1.5 x", "line 1: passage 'p1' is twice in the list of query 'q1'"),
        ("q2 Q0 p1 1 1.5 x\nq1 Q0 p4 9 0 x", r"line 3: query 'q1' was in .*a.run line 1 before; sort the run by query"),
    ],
)
def test_faults_of_runs_name_file_and_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "a.run"
    path.write_text(f"q1 Q0 p1 1 2.5 x\n{line}\n")
    with pytest.raises(TableError, match=rf"a.run {fault}"):
        read(path, "trec")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.jsonl does not exist"):
        read(tmp_path / "none.jsonl")


def random_lists(count: int) -> list[tuple[str, list[str], np.ndarray]]:
    """Every kind of finite 32-bit number, by its bits."""
    bits = np.random.default_rng(5).integers(0, 2**32, (count, 50), dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(0.1))
    return [(f"{q}", [f"d{i}ü" if i % 2 else str(i) for i in range(50)], row) for q, row in enumerate(values)]


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_scores_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    lists = random_lists(400)
    assert write_scores(str(tmp_path / "new" / name), "tdist", lists) == (400, 20_000)
    found = list(read_scores([str(tmp_path / "new" / name)], "tdist"))
    assert [(s.query_id, s.passage_ids) for s in found] == [(q, ids) for q, ids, _ in lists]
    assert all(
        np.array_equal(s.scores.view(np.uint32), v.view(np.uint32)) for s, (_, _, v) in zip(found, lists, strict=True)
    )
    assert (tmp_path / "new" / name).read_bytes()[:2] == (b"\x1f\x8b" if name.endswith("gz") else b'["')


def test_runs_come_back_ranked(tmp_path: Path) -> None:
    lists = random_lists(100)
    write_scores(str(tmp_path / "a.run"), "trec", lists, "name")
    for found, (query, ids, values) in zip(read_scores([str(tmp_path / "a.run")], "trec"), lists, strict=True):
        assert found.query_id == query
        assert found.scores.tolist() == sorted(values.tolist(), reverse=True)
        assert dict(zip(found.passage_ids, found.scores, strict=True)) == dict(zip(ids, values, strict=True))
    assert not list(tmp_path.glob("*.part"))
    write_scores(str(tmp_path / "b.run"), "trec", [("q", ["b", "a", "c"], np.array([1, 1, 2.5], np.float32))], "t")
    assert (tmp_path / "b.run").read_text() == "q Q0 c 1 2.5 t\nq Q0 a 2 1.0 t\nq Q0 b 3 1.0 t\n"


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, list[str], np.ndarray]]:
        yield "q", ["p"], np.ones(1, np.float32)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_scores(str(tmp_path / "s.jsonl"), "tdist", broken())
    assert not (tmp_path / "s.jsonl").exists()


def test_ids_as_numbers_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    write_scores(
        str(path), "tdist", [("12", ["7", "007", "x7"], np.array([1, 2, 3], np.float32))], whole_number_ids=True
    )
    assert path.read_text() == '[12, [7, 1.0], ["007", 2.0], ["x7", 3.0]]\n'


def test_files_in_an_object_store(s3_bucket: str) -> None:
    path = f"{s3_bucket}/scores/s.jsonl.gz"
    write_scores(path, "tdist", [("q", ["p"], np.array([0.1], np.float32))])
    assert read(path) == [("q", {"p": float(np.float32(0.1))})]


def test_scores_are_finite_numbers(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('["q", ["p", 0.25]]')
    [scored] = read_scores([str(tmp_path / "s.jsonl")], "tdist")
    assert isinstance(scored, ScoreList)
    assert math.isfinite(scored.scores[0])
