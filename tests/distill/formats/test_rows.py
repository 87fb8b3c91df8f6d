from collections.abc import Iterator

import pytest

from distill.formats.rows import BATCH_ROWS, PASSAGE_ROWS, PassageParser, QueryParser, Rejects, RowError, batches
from distill.formats.settings import PassageFields, QueryFields


def test_query_split_is_checked() -> None:
    parse = QueryParser(QueryFields(lang="lang", split="part"), "en", "train")
    assert parse({"id": "q", "text": "x", "lang": "de", "part": "test"}) == ("q", "de", "x", "test")
    with pytest.raises(RowError, match=r"^part: 'validation', expected train, dev, test$"):
        parse({"id": "q", "text": "x", "lang": "de", "part": "validation"})


def test_reading_is_lazy() -> None:
    """Nothing is read ahead of the batch that is asked for."""
    asked = []

    def endless() -> Iterator[tuple[int, dict[str, str]]]:
        number = 0
        while True:
            number += 1
            asked.append(number)
            yield number, {"id": str(number), "text": "x"}

    tables = batches("endless", endless(), PassageParser(PassageFields(), "en"), PASSAGE_ROWS, Rejects(0.0))
    assert len(next(tables)) == BATCH_ROWS
    assert len(asked) == BATCH_ROWS
