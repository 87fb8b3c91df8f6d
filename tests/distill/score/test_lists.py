from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from cluster.stored_table import StoredTable
from distill.score.lists import Judgements, ScoreLists, blocks, common, selector_ranks
from distill.tables import CANDIDATES, PARTS, QRELS, QUERIES, SCORES, TableError


def scores(rows: dict[str, dict[str, float]], teacher: str = "t") -> pa.Table:
    return SCORES.from_rows(
        {"query_id": q, "passage_ids": list(by), "scores": list(by.values()), "teacher": teacher}
        for q, by in rows.items()
    )


def stored(folder: Path, *parts: pa.Table) -> StoredTable:
    folder.mkdir()
    for number, part in enumerate(parts):
        pq.write_table(part, folder / f"{number:05d}.parquet")
    return StoredTable.open(pafs.LocalFileSystem(), str(folder))


def test_candidates_that_every_teacher_scored() -> None:
    one = ScoreLists.of(scores({"q0": {"a": 1, "b": 2, "c": 3}, "q1": {"a": 4}, "q2": {"d": 5}}))
    other = ScoreLists.of(scores({"q0": {"c": 30, "a": 10}, "q1": {"a": 40}, "q2": {}}))
    found = common({"one": one, "other": other})
    assert found["one"].passage_ids.to_pylist() == found["other"].passage_ids.to_pylist() == ["a", "c", "a"]
    assert found["one"].lists.offsets.tolist() == [0, 2, 3, 3]
    assert found["one"].scores.tolist() == [1, 3, 4]
    assert found["other"].scores.tolist() == [10, 30, 40]


def test_blocks_hold_the_same_rows_of_every_table(tmp_path: Path) -> None:
    rows = {f"q{i}": {f"p{j}": float(10 * i + j) for j in range(i)} for i in range(6)}
    ids = list(rows)
    one = stored(tmp_path / "one", scores(rows))
    other = stored(
        tmp_path / "other", scores({q: rows[q] for q in ids[:4]}, "u"), scores({q: rows[q] for q in ids[4:]}, "u")
    )
    found = list(blocks({"one": one, "other": other}, pairs=5))
    assert [start for start, _ in found] == [0, 2, 4]
    for start, block in found:
        assert block["one"].query_ids.to_pylist() == block["other"].query_ids.to_pylist() == ids[start : start + 2]
        assert block["one"].scores.tolist() == block["other"].scores.tolist()
        assert block["other"].teachers == ("u",)
    assert found[2][1]["one"].lists.lengths.tolist() == [4, 5]


def test_tables_of_other_queries_are_refused(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", scores({"q0": {"a": 1}, "q1": {"a": 1}}))
    swapped = stored(tmp_path / "swapped", scores({"q1": {"a": 1}, "q0": {"a": 1}}))
    with pytest.raises(TableError, match="stages 'one' and 'swapped' are not of the same queries in the same order"):
        list(blocks({"one": one, "swapped": swapped}))
    short = stored(tmp_path / "short", scores({"q0": {"a": 1}}))
    with pytest.raises(TableError, match=r"different lengths: \{'one': 2, 'short': 1\}"):
        list(blocks({"one": one, "short": short}))


def test_ranks_are_the_selectors_where_pairs_were_rejected() -> None:
    lists = ScoreLists.of(scores({"q0": {"a": 1, "c": 3}, "q1": {}, "q2": {"x": 1, "y": 2}}))
    candidates = CANDIDATES.from_rows(
        {"query_id": q, "passage_ids": ids, "selector": "s"}
        for q, ids in {"q0": ["a", "b", "c"], "q1": ["z"], "q2": ["x", "y"]}.items()
    )
    assert selector_ranks(lists, candidates).tolist() == [1, 3, 1, 2]
    with pytest.raises(TableError, match="not of the same queries"):
        selector_ranks(lists, candidates.take([1, 0, 2]))


def test_judged_candidates() -> None:
    queries = QUERIES.from_rows(
        {"query_id": q, "lang": "en", "text": q, "split": split}
        for q, split in {"q0": "train", "q1": "dev", "q2": "test", "q3": "train"}.items()
    )
    qrels = QRELS.from_rows(
        {"query_id": q, "passage_id": p, "relevance": grade}
        for q, p, grade in [
            ("q0", "b", 1),
            ("q0", "a", 0),
            ("q1", "a", 2),
            ("q1", "zz", 1),
            ("q2", "a", 1),
            ("q0", "c", -1),
        ]
    )
    lists = ScoreLists.of(
        scores({"q0": {"a": 1, "b": 2, "c": 3}, "q1": {"b": 1, "a": 2}, "q2": {"a": 1}, "q3": {"b": 1}})
    )
    relevant, judged = Judgements.of(qrels, queries, ("train", "dev")).relevant(lists)
    assert relevant.tolist() == [False, True, False, False, True, False, False]
    assert judged.tolist() == [True, True, False, False]
    only_dev, judged = Judgements.of(qrels, queries, ("dev",)).relevant(lists)
    assert only_dev.tolist() == [False, False, False, False, True, False, False]
    none, judged = Judgements.of(qrels.slice(0, 0), queries, ("dev",)).relevant(lists)
    assert not none.any()
    assert not judged.any()


def test_a_relevant_document_is_told_by_its_best_passage() -> None:
    """a1 to a3 are passages of document a, b1 and b2 of b; a is relevant to q0 and q1, b to q1."""
    lists = ScoreLists.of(
        scores({"q0": {"a1": 1, "b1": 9, "a2": 3, "c": 2, "a3": 3}, "q1": {"b2": 1, "a1": 5, "b1": 0}, "q2": {"a1": 1}})
    )
    parts = PARTS.from_rows({"passage_id": i, "doc_id": i[0], "lang": ""} for i in ("a1", "a2", "a3", "b1", "b2"))
    relevant = np.array([1, 0, 1, 0, 1, 1, 1, 1, 0], bool)
    judgements = Judgements(pa.array([], pa.string()), pa.array([], pa.string()), parts)
    kept = judgements.representatives(lists, relevant)
    # a2 is the first of equals in q0; each document has one in q1; nothing is relevant to q2.
    assert kept.tolist() == [False, True, True, True, False, True, True, False, True]
    assert Judgements(judgements.query_ids, judgements.passage_ids).representatives(lists, relevant).all()
