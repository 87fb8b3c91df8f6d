import pyarrow as pa
import pytest

from cluster.locations import SourceError
from distill.formats.rows import QREL_ROWS, Rejects
from distill.sources.checks import (
    Known,
    check_no_floats,
    check_unique,
    check_versions,
    known_judgements,
    origin,
    plural,
)


def judgements(*query_ids: str) -> pa.Table:
    rows = [
        {"query_id": query_id, "passage_id": "p", "relevance": 1, "line": line, "source": "a.qrels"}
        for line, query_id in enumerate(query_ids, start=1)
    ]
    return pa.Table.from_pylist(rows, QREL_ROWS)


def test_judgements_of_known_skipped_and_rejected_ids() -> None:
    rejects = Rejects(1.0)
    known = Known("query_id", "query", pa.array(["b", "a"]), ["r"], pa.array(["s", "a"]))
    found = known_judgements(judgements("a", "s", "r", "b", "s"), [known], rejects)
    assert found.kept["line"].to_pylist() == [1, 4]
    assert (found.skipped, found.unknown) == ({"query": 2}, 0)
    assert rejects.rows == [
        {
            "source": "a.qrels",
            "line": 3,
            "id": "r",
            "field": "query",
            "reason": "'r' was rejected, so its judgement is too",
        }
    ]


def test_judgements_of_ids_that_exist_nowhere_are_rejected() -> None:
    rejects = Rejects(0.25)
    known = [Known("query_id", "query", pa.array(["a", "b"])), Known("passage_id", "passage", pa.array(["p"]))]
    found = known_judgements(judgements("a", "b", "\ufeffa", "a"), known, rejects)
    assert (found.kept["line"].to_pylist(), found.unknown) == ([1, 2, 4], 1)
    reason = r"'\ufeffa' exists nowhere, so its judgement is left out"
    assert rejects.rows == [{"source": "a.qrels", "line": 3, "id": "\ufeffa", "field": "query", "reason": reason}]


def test_too_many_judgements_of_ids_that_exist_nowhere_are_an_error() -> None:
    message = (
        r"^a.qrels: 5 of 6 judgements are of queries or passages that exist nowhere, more than max_rejected 0.8: query 'w' \(line 1\), "
        r"query 'x' \(line 3\), query 'y' \(line 4\); add files that have them, remove the lines, or raise max_rejected$"
    )
    known = [Known("query_id", "query", pa.array(["a"])), Known("passage_id", "passage", pa.array(["p"]))]
    with pytest.raises(SourceError, match=message):
        known_judgements(judgements("w", "a", "x", "y", "z", "w"), known, Rejects(0.8))


def test_the_share_is_of_a_files_judgements_and_of_queries_and_passages_together() -> None:
    """One of two files has two of four: a query and a passage."""
    rows = [("q", "p"), ("x", "p"), ("q", "y"), ("q", "p2")]
    tables = [
        pa.Table.from_pylist(
            [
                {"query_id": q, "passage_id": p, "relevance": 1, "line": i, "source": name}
                for i, (q, p) in enumerate(pairs)
            ],
            QREL_ROWS,
        )
        for name, pairs in (("a", rows), ("b", [("q", f"p{i}") for i in range(3, 20)]))
    ]
    known = [
        Known("query_id", "query", pa.array(["q"])),
        Known("passage_id", "passage", pa.array(["p", *(f"p{i}" for i in range(2, 20))])),
    ]
    assert known_judgements(pa.concat_tables(tables), known, Rejects(0.5)).unknown == 2
    with pytest.raises(SourceError, match=r"^a: 2 of 4 judgements"):
        known_judgements(pa.concat_tables(tables), known, Rejects(0.49))


def test_versions_agree() -> None:
    rows = [
        {"id": "a", "lang": "en", "split": "dev", "source": "f", "line": 1},
        {"id": "a", "lang": "de", "split": "dev", "source": "f", "line": 2},
        {"id": "c", "lang": "en", "split": "dev", "source": "f", "line": 3},
        {"id": "c", "lang": "de", "split": "train", "source": "f", "line": 4},
        {"id": "b", "lang": "en", "split": "test", "source": "f", "line": 5},
        {"id": "b", "lang": "de", "split": "dev", "source": "g", "line": 1},
    ]
    check_versions(pa.Table.from_pylist(rows[:3]), "id", "split", "query")
    message = r"^2 queries have versions of different splits, among them 'b': 'test' in en \(f line 5\), 'dev' in de \(g line 1\)$"
    with pytest.raises(SourceError, match=message):
        check_versions(pa.Table.from_pylist(rows), "id", "split", "query")


def test_ids_are_unique() -> None:
    check_unique(judgements("a", "b"), ("query_id", "passage_id"), "judgement")
    message = (
        r"^judgement more than once: query_id 'a' passage_id 'p' in a.qrels line 1 and a.qrels line 3 \(1 more such\); "
        "ids must be unique$"
    )
    with pytest.raises(SourceError, match=message):
        check_unique(judgements("a", "b", "a", "b"), ("query_id", "passage_id"), "judgement")


def test_words_of_messages() -> None:
    assert origin({"source": "a.jsonl", "line": 7}) == "a.jsonl line 7"
    assert [plural(noun) for noun in ("query", "passage", "candidate")] == ["queries", "passages", "candidates"]


@pytest.mark.parametrize(
    ("known", "judged", "number"),
    [(["12", "p"], ["12.0"], "12"), (["7.0", "a"], ["7"], "7"), (["3", "3.0"], [], "3"), ([], ["5.0", "5"], "5")],
)
def test_an_id_as_a_number_and_as_a_float(known: list[str], judged: list[str], number: str) -> None:
    arrays = pa.array(known, pa.string()), pa.chunked_array([pa.array(judged, pa.string())])
    with pytest.raises(
        SourceError, match=rf"^passage ids '{number}\.0' and '{number}': a whole number is written as a float"
    ):
        check_no_floats(*arrays, "passage")


def test_ids_that_only_look_like_floats_are_ids() -> None:
    check_no_floats(
        pa.array(["1.0", "2.5", "a1.0", "25"]), pa.chunked_array([pa.array(["1.0", "2.5", "01"])]), "passage"
    )
