import pyarrow as pa
import pytest

from cluster.locations import SourceError
from distill.formats.rows import QREL_ROWS, Rejects
from distill.sources.checks import check_unique, check_versions, known_judgements, origin, plural


def judgements(*query_ids: str) -> pa.Table:
    rows = [
        {"query_id": query_id, "passage_id": "p", "relevance": 1, "line": line, "source": "a.qrels"}
        for line, query_id in enumerate(query_ids, start=1)
    ]
    return pa.Table.from_pylist(rows, QREL_ROWS)


def test_judgements_of_known_skipped_and_rejected_ids() -> None:
    rejects = Rejects(1.0)
    known, skipped = known_judgements(
        judgements("a", "s", "r", "b", "s"),
        "query_id",
        "query",
        pa.array(["b", "a"]),
        rejects,
        ["r"],
        pa.array(["s", "a"]),
    )
    assert known["line"].to_pylist() == [1, 4]
    assert skipped == 2
    assert rejects.rows == [
        {
            "source": "a.qrels",
            "line": 3,
            "id": "r",
            "field": "query",
            "reason": "'r' was rejected, so its judgement is too",
        }
    ]


def test_judgements_of_unknown_ids_are_named() -> None:
    message = (
        r"^qrels judge 4 queries that exist nowhere: 'w' \(a.qrels line 1\), 'x' \(a.qrels line 3\), 'y' \(a.qrels line 4\);"
        " add files that have them, or remove the lines$"
    )
    with pytest.raises(SourceError, match=message):
        known_judgements(
            judgements("w", "a", "x", "y", "z", "w"), "query_id", "query", pa.array(["a"]), Rejects(1.0), []
        )


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
