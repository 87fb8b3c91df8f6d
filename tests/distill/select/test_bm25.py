import pytest

from distill.select.bm25 import Bm25, fill


def test_bm25_scores_by_hand() -> None:
    """Lucene's form: idf * tf / (tf + k1 (1 - b + b dl/avgdl)), idf = ln(1 + (N - n + .5) / (n + .5)); b = 0 here."""
    import math

    index = Bm25(["a", "b", "c"], ["bee bee flower", "bee", "stone"], k1=0.9, b=0.0)
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    found = dict(index.search("bee", 10))
    assert found == {"a": pytest.approx(idf * 2 / 2.9, rel=1e-5), "b": pytest.approx(idf * 1 / 1.9, rel=1e-5)}


def test_equal_scores_rank_in_the_order_of_ids() -> None:
    index = Bm25(["a", "b", "c"], ["bee", "bee", "bee"])
    assert [i for i, _ in index.search("bee", 2)] == ["a", "b"]


def test_fill_is_a_function_of_the_query() -> None:
    ids = [f"p{i}" for i in range(100)]
    drawn = fill("q", ["p1", "p2"], ids, 5)
    assert drawn == fill("q", ["p1", "p2"], ids, 5)
    assert len(set(drawn)) == 5
    assert not {"p1", "p2"} & set(drawn)
    assert drawn != fill("r", ["p1", "p2"], ids, 5)
    assert sorted(fill("q", ["p1"], ["p1", "p2", "p3"], 9)) == ["p2", "p3"]


def test_ties_at_the_last_rank_go_to_the_first_ids() -> None:
    index = Bm25([f"p{i}" for i in range(9)], ["stone", "bee", *["bee stone"] * 5, "bee", "bee bee bee"])
    assert [found for found, _ in index.search("bee", 1)] == ["p8"]
    assert [found for found, _ in index.search("bee", 4)] == ["p8", "p1", "p7", "p2"]
    assert [found for found, _ in index.search("bee", 100)] == ["p8", "p1", "p7", "p2", "p3", "p4", "p5", "p6"]


def test_loanwords_with_long_vowels_are_found() -> None:
    """Each of the words ends in the prolonged sound mark, or holds it: cut there, all of them would share the one term."""
    loanwords = (
        "サーバー コーヒー ギター ヒーター モーター レーダー カレンダー エレベーター タワー シャワー セーター ポスター"
    )
    texts = {f"d{i:02}": f"この{word}を毎日点検している。" for i, word in enumerate(loanwords.split())}
    index = Bm25(list(texts), list(texts.values()))
    best = [index.search(f"{word}はどこですか", 1)[0][0] for word in loanwords.split()]
    assert best == list(texts)
    assert index.search("オーナー", 9) == []


def test_texts_of_one_id_are_passages_of_a_document() -> None:
    texts = ["bee", "stone bee bridge river", "bee", "bee bee", "stone"]
    by_passage = dict(Bm25(["1", "2", "3", "4", "5"], texts).search("bee", 9))
    found = Bm25(["a", "b", "c", "a", "b"], texts).search("bee", 9)
    # b and c have a passage each that matches; a is as good as its better passage, "bee bee".
    assert found == [("a", by_passage["4"]), ("c", by_passage["3"]), ("b", by_passage["2"])]
    assert Bm25(["a", "b", "c", "a", "b"], texts).search("bee", 2) == found[:2]
