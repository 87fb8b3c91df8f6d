from random import Random

import pyarrow as pa
import pytest

from distill.score.ids import SortedIds, sorted_ids
from distill.tables import TableError


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 1000])
def test_every_id_is_found_where_it_is(count: int) -> None:
    ids = [f"é{i}" if i % 3 else str(i) for i in range(count)]
    Random(0).shuffle(ids)
    index = SortedIds(sorted_ids(pa.chunked_array([ids[: count // 2], ids[count // 2 :]], pa.string())), "passage_id")
    wanted = [*ids, *ids[:2]]
    assert [ids[place] for place in index.find(wanted, "candidates")] == wanted


@pytest.mark.parametrize("lost", ["", "a", "bb", "z"])
def test_ids_that_are_not_there_are_named(lost: str) -> None:
    index = SortedIds(sorted_ids(pa.chunked_array([["c", "b", "y"]])), "passage_id")
    with pytest.raises(TableError, match=rf"^candidates: 1 of passage_id do not exist, among them \['{lost}'\]$"):
        index.find(["b", lost, "y"], "candidates")
