"""Table checks: each fault in its exact words, all at once."""

import pyarrow as pa
import pytest

from distill.tables import EXAMPLES, MISSING_TRANSLATIONS, QRELS, SCORES, Table, TableError, duplicates


def fault(table: Table, data: pa.Table, source: str = "") -> str:
    with pytest.raises(TableError) as caught:
        table.check(data, source)
    return str(caught.value)


def test_shape_faults_are_named_at_once() -> None:
    data = pa.table({"query_id": ["q"], "relevance": ["1"], "grade": [1]})
    assert fault(QRELS, data, "a.qrels") == (
        "a.qrels: not a 'qrels' table: column 'passage_id' is missing; column 'relevance' is string, expected int32; "
        "unexpected columns ['grade']"
    )


def test_nulls_and_repeated_keys() -> None:
    nulls = pa.table({"passage_id": ["a", None], "lang": ["de", "de"]})
    assert fault(MISSING_TRANSLATIONS, nulls) == (
        "not a 'missing_translations' table: column 'passage_id' has 1 nulls, the first in row 1"
    )
    twice = pa.table({"passage_id": ["a", "a"], "lang": ["de", "de"]})
    assert fault(MISSING_TRANSLATIONS, twice) == (
        "not a 'missing_translations' table: 1 repeated keys, among them (passage_id 'a', lang 'de')"
    )
    assert duplicates(twice, ["passage_id"]) == [("a",)]


def test_unequal_lists() -> None:
    with pytest.raises(TableError) as caught:
        SCORES.from_rows([{"query_id": "q", "passage_ids": ["a", "b"], "scores": [1.0], "teacher": "t"}])
    assert str(caught.value) == ("not a 'scores' table: row 0 has 2 passage_ids but 1 scores (query_id 'q')")


def test_columns_come_back_in_contract_order() -> None:
    data = pa.table({"lang": ["de"], "passage_id": ["a"]})
    assert MISSING_TRANSLATIONS.check(data).schema == MISSING_TRANSLATIONS.schema


def test_only_lists_with_gaps_may_hold_nulls() -> None:
    """The scores of an example may be missing, those of a teacher may not."""
    row = {**SCORES.example, "scores": [0.5, None]}
    with pytest.raises(TableError, match="column 'scores' has 1 nulls in its lists"):
        SCORES.from_rows([row])
    assert EXAMPLES.from_rows([{**EXAMPLES.example, "scores": [None, 0.5]}])["scores"].to_pylist() == [[None, 0.5]]
    with pytest.raises(TableError, match="column 'passages' has 2 nulls in its lists"):
        EXAMPLES.from_rows([{**EXAMPLES.example, "passages": [None, None]}])
