"""Measures against numbers worked by hand."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

import ir_measures
import pyarrow as pa
import pytest

from distill.measures.metrics import MetricsError, check_measures, measure, ranked
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


def test_negative_grades_are_unjudged_to_the_measures_that_ask() -> None:
    """As in trec_eval: bpref counts the judged, not relevant passages above each relevant one, here x, unless its grade is negative."""
    assert value("Bpref", qrels=make_qrels({"q": {"a": 1, "x": 0}})) == 0.0
    assert value("Bpref", qrels=make_qrels({"q": {"a": 1, "x": -1}})) == 1.0


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


@pytest.mark.parametrize("name", ["precise@10", "nDCG@", "nDCG@-1", "ndcg@10", "P(10)", "", "nDCG@10; AP", "((((", "1"])
def test_an_unknown_measure_is_named(name: str) -> None:
    with pytest.raises(MetricsError) as caught:
        value(name)
    assert str(caught.value).startswith(
        f"measure {name!r} is not in the notation of ir_measures; nDCG@20, AP, AP@100, R@1000, RR@10"
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nDCG@0", "its cutoff is 0, expected a whole number from 1 to 2147483647"),
        ("RR@0", "its cutoff is 0,"),
        ("P@2147483648", "its cutoff is 2147483648,"),
        ("P@True", "its cutoff is True,"),
        ("nDCG@1.5", "its cutoff is 1.5,"),
        ("AP(rel=0)", "its rel is 0,"),
        ("P(rel=True)@5", "its rel is True,"),
        ("nDCG(gains={2:99999999999})@10", "its gains are {2: 99999999999}, expected whole numbers from 0"),
        ("P", "cutoff is missing"),
        ("SDCG@5", "max_rel is missing"),
        ("nDCG(foo=1)@10", "unsupported params found: ['foo']"),
        ("ERR@10", "gdeval computes it, a Perl script that takes numbers for ids"),
        ("nDCG(dcg='exp-log2')@10", "gdeval computes it"),
        ("Accuracy@5", "it has no value for a query without a relevant and another judged passage"),
        ("NumRet", "it counts passages or queries and has no mean"),
        ("alpha_nDCG@10", "it needs a library that is not installed; the documentation of ir_measures names it"),
        ("RBP(p=0.8)", "it needs a library that is not installed"),
        ("IPrec@0", "invalid param recall=0"),
    ],
)
def test_a_measure_that_cannot_be_computed_is_named_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(MetricsError) as caught:
        check_measures(["AP", name])
    assert str(caught.value).startswith(f"measure {name!r} cannot be computed: {why}")
    assert str(caught.value).endswith(
        "; nDCG@20, AP, AP@100, R@1000, RR@10, P@10, Success@5, Rprec, Bpref and Judged@10 work, for example"
    )


def test_what_works_works() -> None:
    named = ["nDCG@20", "AP", "AP@100", "R@1000", "RR@10", "P@10", "Success@5", "Rprec", "Bpref", "Judged@10"]
    check_measures(named)
    found = measure(FOUND, GRADED, named, ["q"])
    assert {name: numbers.shape for name, numbers in found.items()} == dict.fromkeys(named, (1,))


_EVERY = """
import json, sys, ir_measures
from distill.measures.metrics import MetricsError, check_measures, measure
from tests.distill.measures.test_metrics import FOUND, GRADED
said = {}
for name in json.loads(sys.argv[1]):
    try:
        check_measures([name])
        said[name] = measure(FOUND, GRADED, [name], ["q"])[name].tolist()
    except MetricsError as error:
        said[name] = str(error)
    print(json.dumps({name: said[name]}), flush=True)
"""


def test_every_measure_of_ir_measures_is_computed_or_refused() -> None:
    """In a process of its own, which a measure that the C code below ir_measures does not know would end."""
    names = []
    for name in sorted(ir_measures.measures.registry):
        names += [name, f"{name}@0", f"{name}@1", f"{name}@10", f"{name}(rel=0)", f"{name}(rel=2)", f"{name}(rel=2)@3"]
        names += [f"{name}@0.5", f"{name}(judged_only=True)@5", f"{name}@99999999999", f"{name}(rel=99999999999)"]
    done = subprocess.run(
        [sys.executable, "-c", _EVERY, json.dumps(names)], capture_output=True, text=True, timeout=300, check=False
    )
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    assert done.returncode == 0, (list(said)[-1:], done.stderr[-500:])
    assert list(said) == names
    computed = {name for name, values in said.items() if isinstance(values, list)}
    assert all(0 <= said[name][0] <= 1 for name in computed)
    for family in (
        "AP",
        "nDCG",
        "RR",
        "R",
        "P",
        "Success",
        "Rprec",
        "Bpref",
        "infAP",
        "SetP",
        "SetF",
        "Judged",
        "Compat",
        "IPrec",
    ):
        assert any(name.partition("@")[0].partition("(")[0] == family for name in computed), family


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
