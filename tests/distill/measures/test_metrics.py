"""Measures and tests against numbers worked by hand."""

from collections.abc import Mapping, Sequence
from math import log2, sqrt

import numpy as np
import pyarrow as pa
import pytest

from distill.measures.metrics import MetricsError, measure, ranked
from distill.measures.significance import bootstrap_interval, holm, paired_t_test
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


def test_paired_t_test_by_hand() -> None:
    """Differences 1 to 5: mean 3, sd sqrt(2.5), standard error sqrt(0.5), t = 3 sqrt(2), 4 degrees of freedom.

    Student's t with 4 degrees of freedom has the closed form F(t) = 1/2 + 3/8 u (1 - t^2 / (12 s)) with s = 1 + t^2 / 4
    and u = t / sqrt(s); tables give its 97.5 % point as 2.776445.
    """
    test = paired_t_test(np.array([1.0, 3.0, 5.0, 7.0, 9.0]), np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert test.difference == 3.0
    assert test.low == pytest.approx(3 - 2.776445 * sqrt(0.5), abs=1e-6)
    assert test.high == pytest.approx(3 + 2.776445 * sqrt(0.5), abs=1e-6)
    t, s = 3 * sqrt(2), 1 + 18 / 4
    assert test.p == pytest.approx(2 * (0.5 - 3 / 8 * t / sqrt(s) * (1 - 18 / (12 * s))))
    assert test.p == pytest.approx(0.013236, abs=1e-6)


def test_paired_t_test_is_symmetric() -> None:
    a, b = np.array([0.2, 0.9, 0.4]), np.array([0.1, 0.3, 0.6])
    one, other = paired_t_test(a, b), paired_t_test(b, a)
    assert (one.difference, one.low, one.high, one.p) == pytest.approx(
        (-other.difference, -other.high, -other.low, other.p)
    )


def test_level_of_confidence_widens_the_interval() -> None:
    # The 99.5 % point of t with 4 degrees of freedom is 4.604095.
    test = paired_t_test(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.zeros(5), confidence=0.99)
    assert test.high == pytest.approx(3 + 4.604095 * sqrt(0.5), abs=1e-6)


def test_equal_systems_do_not_differ() -> None:
    same = np.array([0.1, 0.5, 0.9])
    test = paired_t_test(same, same)
    assert (test.difference, test.low, test.high, test.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_constant_difference_is_certain() -> None:
    test = paired_t_test(np.array([1.5, 2.5, 3.5]), np.array([1.0, 2.0, 3.0]))
    assert (test.difference, test.low, test.high, test.p) == (0.5, 0.5, 0.5, 0.0)


def test_paired_t_test_needs_pairs() -> None:
    with pytest.raises(MetricsError, match="compares the same queries, got 2 and 3 values"):
        paired_t_test(np.zeros(2), np.zeros(3))
    with pytest.raises(MetricsError, match="needs two queries or more, got 1"):
        paired_t_test(np.zeros(1), np.ones(1))


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, and none below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_bootstrap_interval_of_zeros_and_ones() -> None:
    """The mean of n draws from half ones is binomial: with n = 100 its 2.5 % and 97.5 % points are 0.40 and 0.60."""
    values = np.array([0.0, 1.0] * 50)
    low, high = bootstrap_interval(values, resamples=20_000)
    assert low == pytest.approx(0.40, abs=0.011)
    assert high == pytest.approx(0.60, abs=0.011)
    narrow = bootstrap_interval(values, confidence=0.5, resamples=20_000)
    assert narrow == pytest.approx((0.47, 0.53), abs=0.011)


def test_bootstrap_interval_is_deterministic_and_stays_within_the_values() -> None:
    values = np.array([1.0] * 9 + [0.0])
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values)[1] == 1.0
    assert bootstrap_interval(np.array([0.25])) == (0.25, 0.25)


def test_bootstrap_interval_needs_a_value() -> None:
    with pytest.raises(MetricsError, match="one query or more, got 0"):
        bootstrap_interval(np.zeros(0))
