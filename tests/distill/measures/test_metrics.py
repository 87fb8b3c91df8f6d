"""Measures against numbers worked by hand."""

from collections.abc import Mapping, Sequence
from math import log2

import pyarrow as pa
import pytest

from distill.measures.metrics import MetricsError, measure, ranked
from distill.tables import QRELS, RUN


def make_run(found: Mapping[str, Sequence[tuple[str, float]]], tag: str = "student-de") -> pa.Table:
    """Ranks as listed."""
    return RUN.from_rows(
        {"query_id": query_id, "passage_id": passage_id, "rank": place + 1, "score": score, "tag": tag}
        for query_id, documents in found.items()
        for place, (passage_id, score) in enumerate(documents)
    )


def make_qrels(judged: Mapping[str, Mapping[str, int]]) -> pa.Table:
    return QRELS.from_rows(
        {"query_id": query_id, "passage_id": passage_id, "relevance": grade}
        for query_id, grades in judged.items()
        for passage_id, grade in grades.items()
    )


GRADED = make_qrels({"q": {"a": 3, "b": 1, "c": 2, "x": 0}})
"""a, b and c are relevant; the run below finds x (judged not relevant), a and b, at the ranks 1, 2, 3."""
FOUND = make_run({"q": [("x", 9.0), ("a", 8.0), ("b", 7.0)]})


def value(name: str, run: pa.Table = FOUND, qrels: pa.Table = GRADED) -> float:
    return measure(run, qrels, [name], ["q"])[name].tolist()[0]


def test_ndcg_discounts_grades_by_rank() -> None:
    gained = 3 / log2(3) + 1 / log2(4)
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert gained / ideal == pytest.approx(0.50249, abs=1e-5)
    assert value("nDCG@20") == pytest.approx(gained / ideal)
    # Up to rank 2 only a is found, and the ideal is a before c.
    assert value("nDCG@2") == pytest.approx((3 / log2(3)) / (3 + 2 / log2(3)))


def test_binary_measures_take_grade_1_for_relevant() -> None:
    assert value("AP") == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert value("RR@10") == 0.5
    assert value("RR@1") == 0.0
    assert value("R@100") == pytest.approx(2 / 3)
    assert value("R@2") == pytest.approx(1 / 3)


def test_negative_grades_gain_nothing() -> None:
    qrels = make_qrels({"q": {"a": 1, "x": -2}})
    assert value("nDCG@10", qrels=qrels) == pytest.approx(1 / log2(3))
    assert value("RR@10", qrels=qrels) == 0.5


def test_a_query_without_results_counts_with_zero() -> None:
    qrels = make_qrels({"q": {"a": 1}, "r": {"a": 1}, "s": {"b": 1}, "other": {"a": 1}})
    run = make_run({"s": [("b", 1.0)], "other": [("a", 1.0)]})
    values = measure(run, qrels, ["nDCG@10", "AP", "R@100", "RR@10"], ["r", "s", "q"])
    assert {name: numbers.tolist() for name, numbers in values.items()} == {
        "nDCG@10": [0.0, 1.0, 0.0],
        "AP": [0.0, 1.0, 0.0],
        "R@100": [0.0, 1.0, 0.0],
        "RR@10": [0.0, 1.0, 0.0],
    }


def test_a_run_without_rows_is_zero_everywhere() -> None:
    assert measure(RUN.empty(), GRADED, ["nDCG@20", "RR@10"], ["q"]) == {"nDCG@20": [0.0], "RR@10": [0.0]}


def test_a_query_without_relevant_passage_counts_with_zero() -> None:
    qrels = make_qrels({"q": {"a": 0}})
    assert value("nDCG@10", qrels=qrels) == 0.0
    assert value("AP", qrels=qrels) == 0.0


@pytest.mark.parametrize("name", ["nDCG@10", "AP", "RR@10"])
def test_ties_are_broken_by_id_the_larger_first(name: str) -> None:
    qrels = make_qrels({"q": {"a": 1}})
    first = make_run({"q": [("a", 1.0), ("b", 1.0)]})
    second = make_run({"q": [("b", 1.0), ("a", 1.0)]})
    # trec_eval puts b first whatever the order of rows: a is second.
    expected = {"nDCG@10": 1 / log2(3), "AP": 0.5, "RR@10": 0.5}[name]
    assert value(name, first, qrels) == pytest.approx(expected)
    assert value(name, second, qrels) == pytest.approx(expected)
    assert value(name, first.take([1, 0]), qrels) == pytest.approx(expected)
    larger = make_qrels({"q": {"b": 1}})
    assert value(name, first, larger) == 1.0


def test_ranked_orders_by_score_and_writes_ranks_anew() -> None:
    run = pa.concat_tables(
        [
            make_run({"r": [("a", 2.0)], "q": [("a", 2.0), ("b", 2.0), ("c", 1.0)]}),
            make_run({"q": [("z", 0.5)]}, "bm25-de"),
        ]
    )
    rows = [tuple(row[name] for name in ("tag", "query_id", "passage_id", "rank")) for row in ranked(run).to_pylist()]
    assert rows == [
        ("bm25-de", "q", "z", 1),
        ("student-de", "q", "b", 1),
        ("student-de", "q", "a", 2),
        ("student-de", "q", "c", 3),
        ("student-de", "r", "a", 1),
    ]


def test_ranks_that_contradict_scores_are_refused() -> None:
    run = make_run({"p": [("a", 9.0)], "q": [("a", 1.0), ("b", 2.0)], "r": [("a", 3.0)]})
    with pytest.raises(MetricsError) as caught:
        ranked(run)
    assert str(caught.value) == "run 'student-de', query 'q': rank 1 has score 1, rank 2 the larger score 2"


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(MetricsError, match="run 'student-de': the score of 'a' for query 'q' is not a number"):
        ranked(make_run({"q": [("a", float("nan"))]}))


@pytest.mark.parametrize("name", ["precise@10", "nDCG@", "P", "nDCG(foo=1)@10", "", "nDCG@10; AP"])
def test_an_unknown_measure_is_named(name: str) -> None:
    with pytest.raises(MetricsError) as caught:
        value(name)
    assert str(caught.value).startswith(
        f"measure {name!r} is not in the notation of ir_measures; write for example nDCG@20"
    )


def test_a_measure_that_no_library_computes_is_named() -> None:
    with pytest.raises(MetricsError, match=r"measure 'alpha_nDCG@10' needs a library that is not installed"):
        value("alpha_nDCG@10")


def test_two_names_of_one_measure() -> None:
    values = measure(FOUND, GRADED, ["MAP", "AP"], ["q"])
    assert values["MAP"].tolist() == values["AP"].tolist() == [pytest.approx((1 / 2 + 2 / 3) / 3)]


def test_queries_must_be_judged_and_distinct() -> None:
    with pytest.raises(MetricsError, match=r"1 queries have no judgement, among them \['nowhere'\]"):
        measure(FOUND, GRADED, ["AP"], ["q", "nowhere"])
    with pytest.raises(MetricsError, match="1 queries are named twice"):
        measure(FOUND, GRADED, ["AP"], ["q", "q"])


def test_one_tag_at_a_time() -> None:
    with pytest.raises(MetricsError, match=r"one run at a time, got the tags \['bm25-de', 'student-de'\]"):
        measure(pa.concat_tables([FOUND, make_run({"q": [("a", 1.0)]}, "bm25-de")]), GRADED, ["AP"], ["q"])
