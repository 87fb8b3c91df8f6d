"""Which documents a collection holds, and by which judgements it is judged."""

from collections import Counter

import pyarrow as pa
import pytest

from distill.evaluate.collections import (
    collections,
    judgements,
    mixed_assignment,
    ordered,
    pooled_qrels,
    split_tag,
    target_languages,
)
from distill.tables import QRELS, TableError

DOCUMENTS = pa.table({"passage_id": ["a", "a", "b", "b", "b", "c"], "lang": ["en", "de", "en", "de", "zh", "de"]})


def qrels(*rows: tuple[str, str, int]) -> pa.Table:
    return QRELS.from_rows({"query_id": q, "passage_id": p, "relevance": r} for q, p, r in rows)


def listed(table: pa.Table) -> list[tuple[str, str, int]]:
    return sorted(zip(*(table[name].to_pylist() for name in ("query_id", "passage_id", "relevance")), strict=True))


def test_collections() -> None:
    langs = ["de", "en", "fr", "en", "de", "en", "fr"]
    ids = ["a", "a", "a", "b", "c", "c", "c"]
    documents = pa.table({"passage_id": ids, "lang": langs})
    # b has one version: it is in no mixed collection.
    assert collections(documents, ["de", "fr"]) == {
        "de": [0, 4], "en": [1, 3, 5], "fr": [2, 6], "mixed": [0, 6], "pooled": [0, 1, 2, 3, 4, 5, 6],
    }  # fmt: skip


def test_split_tag() -> None:
    assert split_tag("english_distillation-pt-BR", ["pt-BR"]) == ("english_distillation", "pt-BR")
    for tag in ("student", "-de", "student-", "de"):
        with pytest.raises(TableError, match=f"tag '{tag}'"):
            split_tag(tag, ["de"])


def test_pooled_qrels_keep_a_passage_that_the_index_lacks() -> None:
    qrels = QRELS.from_rows(
        [{"query_id": "q", "passage_id": "lost", "relevance": 2}, {"query_id": "q", "passage_id": "c", "relevance": 1}]
    )
    rows = pooled_qrels(qrels, DOCUMENTS, "en").sort_by("passage_id").to_pylist()
    assert [(r["passage_id"], r["relevance"]) for r in rows] == [("c@de", 1), ("lost@en", 2)]


def test_mixed_assignment_deals_sorted_ids_round() -> None:
    assignment = mixed_assignment(["n-02", "n-01", "n-04", "n-03", "n-05"], ["de", "zh"])
    assert assignment == {"n-01": "de", "n-02": "zh", "n-03": "de", "n-04": "zh", "n-05": "de"}
    many = mixed_assignment([f"{i:03d}" for i in range(100)], ["de", "fr", "es", "zh", "fa", "ru"])
    assert sorted(Counter(many.values()).values()) == [16, 16, 17, 17, 17, 17]
    with pytest.raises(ValueError, match="1 passage ids occur twice"):
        mixed_assignment(["a", "a"], ["de"])
    with pytest.raises(ValueError, match="one language or more, got none"):
        mixed_assignment(["a"], [])


def test_a_language_is_judged_by_the_judgements_of_its_documents() -> None:
    """Every document in one language: a query counts where a document is relevant to it, and each of its judgements in one collection."""
    documents = pa.table({"passage_id": ["d1", "d2", "z1", "z2", "z3"], "lang": ["de", "de", "zh", "zh", "zh"]})
    judged = qrels(
        ("both", "d1", 2), ("both", "z1", 1), ("both", "z2", 0),
        ("german", "d2", 1), ("german", "z3", 0),
        ("none", "d1", 0),
        ("negative", "z1", -1), ("negative", "d1", 1),
        ("lost", "nowhere", 3),
    )  # fmt: skip
    held = judgements(judged, documents, ["de", "zh", "pooled"], "en", ["de", "zh"])
    assert listed(held["de"]) == [("both", "d1", 2), ("german", "d2", 1), ("negative", "d1", 1)]
    # Judged, not relevant: z2 stays for a query that has another relevant document there, z3 and z1 do not.
    assert listed(held["zh"]) == [("both", "z1", 1), ("both", "z2", 0)]
    # The merged collection keeps every query and every judgement, also of what is no document.
    assert listed(held["pooled"]) == [
        ("both", "d1@de", 2), ("both", "z1@zh", 1), ("both", "z2@zh", 0),
        ("german", "d2@de", 1), ("german", "z3@zh", 0),
        ("lost", "nowhere@en", 3),
        ("negative", "d1@de", 1), ("negative", "z1@zh", -1),
        ("none", "d1@de", 0),
    ]  # fmt: skip


def test_the_mixed_collection_is_judged_by_the_passages_in_it() -> None:
    judged = qrels(("q", "a", 1), ("q", "b", 2), ("r", "c", 1))
    held = judgements(judged, DOCUMENTS, ["mixed", "en"], "en", ["de", "zh"])
    # Of a and c there is no Chinese version: they are in no mixed collection.
    assert listed(held["mixed"]) == [("q", "b", 2)]
    assert listed(held["en"]) == [("q", "a", 1), ("q", "b", 2)]


def test_where_every_passage_is_in_every_language_all_judgements_hold_everywhere() -> None:
    documents = pa.table({"passage_id": ["a", "a", "b", "b"], "lang": ["de", "zh"] * 2})
    judged = qrels(("q", "a", 1), ("q", "b", 0), ("r", "b", 3))
    held = judgements(judged, documents, ["de", "zh", "mixed"], "en", ["de", "zh"])
    assert [listed(held[name]) for name in ("de", "zh", "mixed")] == [listed(judged)] * 3


def test_one_language_is_not_mixed() -> None:
    assert set(collections(DOCUMENTS, ["de"])) == {"de", "en", "zh", "pooled"}


def test_order_of_collections() -> None:
    names = ["pooled", "zh", "ja", "mixed", "en", "de", "ar", "zh"]
    assert ordered(names, "en", ["zh", "de"]) == ["en", "zh", "de", "ar", "ja", "mixed", "pooled"]
    assert target_languages(names, "en", ["zh", "de"]) == ["zh", "de", "ar", "ja"]
    assert target_languages(["en", "pooled"], "en", ["zh"]) == []
