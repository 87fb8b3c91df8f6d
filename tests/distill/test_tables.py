import pyarrow as pa
import pytest

from distill.tables import CANDIDATES, QRELS, SCORES, TableError, duplicates, lookup

GOOD = [
    {"query_id": "q1", "passage_ids": ["a", "b"], "scores": [1.0, 0.5], "teacher": "t"},
    {"query_id": "q2", "passage_ids": [], "scores": [], "teacher": "t"},
]


def message(table: pa.Table) -> str:
    with pytest.raises(TableError) as caught:
        SCORES.check(table, "score")
    return str(caught.value)


def test_columns_come_back_in_the_contracts_order() -> None:
    table = SCORES.from_rows(GOOD)
    assert SCORES.check(table.select(["teacher", "scores", "query_id", "passage_ids"])).schema == SCORES.schema


def test_every_fault_of_shape_is_named_at_once() -> None:
    table = pa.table({"query_id": pa.array([1]), "passage_ids": [["a"]], "teacher": pa.array([None]), "lang": ["en"]})
    assert message(table) == (
        "score: not a 'scores' table: column 'query_id' is int64, expected string; column 'scores' is missing; "
        "column 'teacher' is null, expected string; unexpected columns ['lang']"
    )


def test_float64_scores_are_not_float32() -> None:
    table = SCORES.from_rows(GOOD).set_column(2, "scores", pa.array([[1.0], []], pa.list_(pa.float64())))
    assert "column 'scores' is list<item: double>, expected list<item: float>" in message(table)


def test_nulls_and_lengths_and_keys_are_named() -> None:
    rows = [*GOOD, {"query_id": "q1", "passage_ids": ["a"], "scores": [1.0, 2.0], "teacher": "t"}]
    columns = {column.name: pa.array([row[column.name] for row in rows], column.type) for column in SCORES.columns}
    table = pa.table(columns | {"teacher": pa.array(["t", None, "t"])})
    assert message(table) == (
        "score: not a 'scores' table: column 'teacher' has 1 nulls, the first in row 1; "
        "row 2 has 1 passage_ids but 2 scores (query_id 'q1'); 1 repeated keys, among them (query_id 'q1')"
    )


def test_rows_with_unknown_names_are_refused() -> None:
    with pytest.raises(TableError, match=r"not a 'candidates' table: unexpected columns \['k'\]"):
        CANDIDATES.from_rows([{"query_id": "q", "passage_ids": [], "selector": "s", "k": 1}])


def test_a_key_of_two_columns_may_repeat_in_one() -> None:
    rows = [{"query_id": "q", "passage_id": p, "relevance": 1} for p in "abca"]
    assert duplicates(pa.Table.from_pylist(rows), ("query_id", "passage_id")) == [("q", "a")]
    with pytest.raises(TableError, match=r"1 repeated keys, among them \(query_id 'q', passage_id 'a'\)"):
        QRELS.from_rows(rows)
    assert len(QRELS.from_rows(rows[:3])) == 3


def test_lookup_gives_the_rows_in_the_order_of_the_ids() -> None:
    table = pa.table({"id": ["a", "b", "c"], "n": [1, 2, 3]})
    assert lookup(table, "id", ["c", "a", "c"], "x")["n"].to_pylist() == [3, 1, 3]
    with pytest.raises(TableError, match=r"candidates: 2 of id do not exist, among them \['x', 'y'\]"):
        lookup(table, "id", ["a", "y", "x", "y"], "candidates")
