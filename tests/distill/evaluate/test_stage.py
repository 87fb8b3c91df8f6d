"""The evaluate stage on runs small enough to measure by hand."""

from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path
from random import Random
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
import pytest
import torch

from distill.evaluate.collections import split_tag
from distill.evaluate.settings import EvaluateSettings
from distill.evaluate.stage import (
    comparisons,
    evaluate,
    language_shares,
    primary_measure,
)
from distill.measures.metrics import MetricsError
from distill.tables import COMPARISONS, MEASUREMENTS, QRELS, QUERIES, RUN, TAGS, TableError
from tests.workspaces import LocalWorkspace

LANGUAGES = ("de", "zh")
QRELS_TABLE = QRELS.from_rows(
    [
        {"query_id": "q1", "passage_id": "a", "relevance": 3},
        {"query_id": "q1", "passage_id": "b", "relevance": 0},
        {"query_id": "q2", "passage_id": "b", "relevance": 3},
        {"query_id": "t1", "passage_id": "b", "relevance": 3},
    ]
)
QUERIES_TABLE = QUERIES.from_rows(
    {"query_id": query_id, "lang": lang, "text": query_id, "split": split}
    for query_id, lang, split in (
        ("q1", "en", "test"),
        ("q1", "de", "test"),
        ("q2", "en", "test"),
        ("q3", "en", "test"),
        ("t1", "en", "train"),
    )
)
DOCUMENTS = pa.table({"passage_id": ["a", "a", "b", "b", "b", "c"], "lang": ["en", "de", "en", "de", "zh", "de"]})
RUNS: dict[str, dict[str, list[str]]] = {
    "student-de": {"q1": ["a", "b"], "q2": ["a", "b"]},
    "bm25-de": {"q1": ["b", "a"]},
    "teacher-en": {"q1": ["a"], "q2": ["b"], "t1": ["a"]},
    "student-pooled": {"q1": ["b@zh", "a@de", "a@en"], "q2": ["b@de", "b@zh", "b@en"]},
}


def with_documents(passages: pa.Table) -> pa.Table:
    """Passages of an index, each a document of its own."""
    return passages.append_column("doc_id", passages["passage_id"])


def make_run(runs: Mapping[str, Mapping[str, Sequence[str]]]) -> pa.Table:
    return RUN.from_rows(
        {"query_id": query_id, "passage_id": passage_id, "rank": place + 1, "score": 10.0 - place / 4, "tag": tag}
        for tag, queries in runs.items()
        for query_id, passages in queries.items()
        for place, passage_id in enumerate(passages)
    )


def workspace_for(
    folder: Path,
    runs: Mapping[str, Mapping[str, Sequence[str]]] = RUNS,
    qrels: pa.Table = QRELS_TABLE,
    sources: str = "sources",
    tags: Sequence[str] = (),
    documents: pa.Table = DOCUMENTS,
) -> LocalWorkspace:
    inputs: dict[str, Any] = {
        sources: {"queries": QUERIES_TABLE, "qrels": qrels},
        "retrieve": {"run": make_run(runs), "tags": TAGS.from_rows({"tag": tag} for tag in tags or runs)},
        "index": {"documents": with_documents(documents)},
    }
    return LocalWorkspace(folder, "evaluate", inputs)


def measured(workspace: LocalWorkspace, measure: str) -> dict[tuple[str, str, str], float]:
    rows = MEASUREMENTS.check(workspace.output("measurements")).to_pylist()
    return {(r["system"], r["collection"], r["query_id"]): r["value"] for r in rows if r["measure"] == measure}


def test_every_judged_query_of_the_split_has_a_value(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path)
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    # q3 has no judgement and t1 is a training query. bm25-de found nothing for q2.
    assert measured(workspace, "RR@10") == {
        ("student", "de", "q1"): 1.0,
        ("student", "de", "q2"): 0.5,
        ("bm25", "de", "q1"): 0.5,
        ("bm25", "de", "q2"): 0.0,
        ("teacher", "en", "q1"): 1.0,
        ("teacher", "en", "q2"): 1.0,
        ("student", "pooled", "q1"): 0.5,
        ("student", "pooled", "q2"): 1.0,
    }
    assert set(workspace.output("measurements")["measure"].to_pylist()) == set(EvaluateSettings().measures)
    assert workspace.facts["queries"] == 2
    assert workspace.facts["unjudged_queries"] == 1
    assert workspace.facts["queries_without_results"] == {"bm25-de": 1}


def test_every_language_version_of_a_relevant_passage_is_relevant(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path)
    evaluate(workspace, EvaluateSettings(measures=("nDCG@20", "R@100")), "en", LANGUAGES)
    # q1: the versions a@en and a@de exist, at the ranks 3 and 2, with grade 3 each.
    ideal = 3 + 3 / log2(3)
    assert measured(workspace, "nDCG@20")["student", "pooled", "q1"] == pytest.approx((3 / log2(3) + 3 / 2) / ideal)
    assert measured(workspace, "nDCG@20")["student", "pooled", "q2"] == pytest.approx(1.0)
    assert measured(workspace, "R@100")["student", "pooled", "q2"] == 1.0


def test_shares_of_languages_in_the_pooled_collection(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path)
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    assert workspace.facts["pooled_language_shares"] == {"student": {"de": 1 / 3, "en": 1 / 3, "zh": 1 / 3}}


def test_language_shares_look_at_the_ten_best() -> None:
    run = make_run({"student-pooled": {"q": [f"p{i}@de" for i in range(9)] + ["p@pt-BR", "late@en"]}})
    assert language_shares(run) == {"de": 0.9, "pt-BR": 0.1}
    assert language_shares(RUN.empty()) == {}


def test_trec_files(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path)
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    folder = tmp_path / "evaluate" / "trec"
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [f"{tag}.run" for tag in RUNS] + ["en.qrels", "de.qrels", "pooled.qrels"]
    )
    assert (folder / "student-de.run").read_text() == (
        "q1 Q0 a 1 10.0 student-de\nq1 Q0 b 2 9.75 student-de\nq2 Q0 a 1 10.0 student-de\nq2 Q0 b 2 9.75 student-de\n"
    )
    assert (folder / "de.qrels").read_text() == "q1 0 a 3\nq1 0 b 0\nq2 0 b 3\n"
    assert (folder / "pooled.qrels").read_text() == (
        "q1 0 a@de 3\nq1 0 a@en 3\nq1 0 b@de 0\nq1 0 b@en 0\nq1 0 b@zh 0\nq2 0 b@de 3\nq2 0 b@en 3\nq2 0 b@zh 3\n"
    )


def test_trec_scores_keep_every_bit(tmp_path: Path) -> None:
    score = np.float32(0.1) + np.float32(1e-7)
    run = RUN.from_rows([{"query_id": "q1", "passage_id": "a", "rank": 1, "score": float(score), "tag": "student-de"}])
    inputs: dict[str, Any] = {
        "sources": {"queries": QUERIES_TABLE, "qrels": QRELS_TABLE},
        "retrieve": {"run": run, "tags": TAGS.from_rows([{"tag": "student-de"}])},
        "index": {"documents": with_documents(DOCUMENTS)},
    }
    evaluate(LocalWorkspace(tmp_path, "evaluate", inputs), EvaluateSettings(), "en", LANGUAGES)
    written = (tmp_path / "evaluate" / "trec" / "student-de.run").read_text().split()[4]
    assert np.float32(written) == score


def test_ids_with_white_space_give_no_trec_files_and_a_warning(tmp_path: Path) -> None:
    qrels = QRELS.from_rows([{"query_id": "q1", "passage_id": "my passage", "relevance": 1}])
    documents = pa.table({"passage_id": ["my passage"], "lang": ["de"]})
    workspace = workspace_for(tmp_path, {"student-de": {"q1": ["my passage"]}}, qrels, documents=documents)
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    assert workspace.warnings == [
        "no TREC files written: id 'my passage' holds white space, at which the format splits"
    ]
    assert not (tmp_path / "evaluate" / "trec").exists()
    assert measured(workspace, "RR@10") == {("student", "de", "q1"): 1.0}


def test_a_run_that_found_nothing_at_all_counts_with_zero(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path, {"student-de": RUNS["student-de"]}, tags=("bm25-en", "student-de"))
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    values = measured(workspace, "nDCG@20")
    assert {key: value for key, value in values.items() if key[0] == "bm25"} == {
        ("bm25", "en", "q1"): 0.0,
        ("bm25", "en", "q2"): 0.0,
    }
    assert workspace.facts["queries_without_results"] == {"bm25-en": 2}
    assert (tmp_path / "evaluate" / "trec" / "bm25-en.run").read_text() == ""


def test_queries_and_qrels_of_another_stage(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path, sources="evaluation_sources")
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES, sources="evaluation_sources")
    assert workspace.facts["queries"] == 2


def test_queries_in_another_language(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path)
    evaluate(workspace, EvaluateSettings(query_lang="de"), "en", LANGUAGES)
    assert {query_id for _, _, query_id in measured(workspace, "AP")} == {"q1"}
    # One query supports no test.
    assert len(workspace.output("comparisons")) == 0


def test_nothing_to_evaluate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        evaluate(workspace_for(tmp_path), EvaluateSettings(split="dev"), "en", LANGUAGES)
    assert str(caught.value) == (
        "sources: nothing to evaluate: 0 queries in split 'dev' and language 'en' (evaluate.split, evaluate.query_lang), "
        "none of them judged; judged queries: 1 in split 'test' and language 'de', 2 in split 'test' "
        "and language 'en', 1 in split 'train' and language 'en'; a "
        "field can give each query its split (query_fields.split)"
    )


def test_unknown_measures_and_tags_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match="measure 'precise@10'"):
        evaluate(workspace_for(tmp_path), EvaluateSettings(measures=("precise@10",)), "en", LANGUAGES)
    with pytest.raises(
        TableError,
        match=r"tag 'student-fr' is not a system, a hyphen and one of the collections \['en', 'de', 'zh', 'mixed', 'pooled'\]",
    ):
        evaluate(workspace_for(tmp_path, {"student-fr": {"q1": ["a"]}}), EvaluateSettings(), "en", LANGUAGES)


def test_comparisons(tmp_path: Path) -> None:
    workspace = workspace_for(tmp_path)
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    rows = COMPARISONS.check(workspace.output("comparisons")).to_pylist()
    assert [(r["system"], r["baseline"], r["collection"], r["measure"], r["queries"]) for r in rows] == [
        ("student", "bm25", "de", "nDCG@20", 2)
    ]
    # Student 1 and 1/log2(3), BM25 1/log2(3) and 0.
    assert rows[0]["difference"] == pytest.approx(((1 - 1 / log2(3)) + 1 / log2(3)) / 2)
    assert rows[0]["low"] < 0 < rows[0]["high"]
    assert rows[0]["p_corrected"] == rows[0]["p"]


def test_comparisons_are_corrected_for_their_number() -> None:
    better, worse = np.array([0.6, 0.7, 0.8, 0.9]), np.array([0.5, 0.7, 0.6, 0.4])
    values = {
        ("student", "de"): {"nDCG@20": better},
        ("student", "zh"): {"nDCG@20": better},
        ("bm25", "de"): {"nDCG@20": worse},
        ("english_distillation", "de"): {"nDCG@20": worse},
        ("bm25", "zh"): {"nDCG@20": worse},
    }
    rows = comparisons(values, ["de", "zh", "mixed"], EvaluateSettings()).to_pylist()
    assert [(r["baseline"], r["collection"]) for r in rows] == [
        ("bm25", "de"),
        ("english_distillation", "de"),
        ("bm25", "zh"),
    ]
    # Differences .1 0 .2 .5: mean .2, sd .216025, t = 1.851640 with 3 degrees of freedom.
    assert [r["difference"] for r in rows] == pytest.approx([0.2] * 3)
    assert [r["p"] for r in rows] == pytest.approx([0.161162] * 3, abs=1e-5)
    assert [r["p_corrected"] for r in rows] == pytest.approx([3 * 0.161162] * 3, abs=3e-5)
    assert {(r["test"], r["correction"]) for r in rows} == {("two_sided", "holm")}
    # The 97.5 % and 99.5 % points of t with 3 degrees of freedom are 3.182446 and 5.840909; the error is .216025 / 2.
    assert rows[0]["high"] == pytest.approx(0.2 + 3.182446 * 0.1080123, abs=1e-5)
    wide = comparisons(values, ["de"], EvaluateSettings(confidence=0.99)).to_pylist()
    assert wide[0]["high"] == pytest.approx(0.2 + 5.840909 * 0.1080123, abs=1e-5)


def test_comparisons_as_in_the_papers_are_one_sided_with_bonferroni() -> None:
    """Differences .1 0 .2 .5 (p .161162 two-sided, above), and 1.5, 1.5, 1.5, 1.4: mean 1.475, error .025, t = 59, p 5.3e-6 one-sided."""
    values = {
        ("student", "de"): {"nDCG@20": np.array([0.6, 0.7, 0.8, 0.9])},
        ("bm25", "de"): {"nDCG@20": np.array([0.5, 0.7, 0.6, 0.4])},
        ("english_distillation", "de"): {"nDCG@20": np.array([-0.9, -0.8, -0.7, -0.5])},
    }
    rows = comparisons(values, ["de"], EvaluateSettings(test="one_sided", correction="bonferroni")).to_pylist()
    assert [r["p"] for r in rows] == pytest.approx([0.161162 / 2, 5.3e-6], abs=1e-6)
    # Holm's would leave the larger of the two as it is.
    assert [r["p_corrected"] for r in rows] == pytest.approx([0.161162, 2 * 5.3e-6], abs=3e-6)
    assert {(r["test"], r["correction"]) for r in rows} == {("one_sided", "bonferroni")}


def test_the_measure_to_compare_by() -> None:
    assert primary_measure(["AP", "nDCG@20"]) == "nDCG@20"
    assert primary_measure(["AP", "nDCG@10"]) == "AP"


BY_LANGUAGE = pa.table({"passage_id": ["d1", "d2", "z1", "z2", "k1"], "lang": ["de", "de", "zh", "zh", "ko"]})
"""Every document in one language, one of them in neither of the job's."""
JUDGED_BY_LANGUAGE = QRELS.from_rows(
    {"query_id": query_id, "passage_id": passage_id, "relevance": grade}
    for query_id, passage_id, grade in (
        ("q1", "d1", 1), ("q1", "z1", 3), ("q1", "z2", -1), ("q1", "k1", 1), ("q1", "gone", 2), ("q2", "d2", 2), ("q2", "z1", 0),
    )
)  # fmt: skip
PERFECT = {
    "student-de": {"q1": ["d1", "d2"], "q2": ["d2", "d1"]},
    "student-zh": {"q1": ["z1", "z2"], "q2": ["z1", "z2"]},
    "student-ko": {"q1": ["k1"], "q2": ["k1"]},
    "student-pooled": {"q1": ["z1@zh", "k1@ko", "d1@de"], "q2": ["d2@de", "d1@de"]},
    "bm25-zh": {"q2": ["z2"]},
}


def by_language(folder: Path) -> LocalWorkspace:
    inputs: dict[str, Any] = {
        "sources": {"queries": QUERIES_TABLE, "qrels": JUDGED_BY_LANGUAGE},
        "retrieve": {"run": make_run(PERFECT), "tags": TAGS.from_rows({"tag": tag} for tag in PERFECT)},
        "index": {"documents": with_documents(BY_LANGUAGE)},
    }
    return LocalWorkspace(folder, "evaluate", inputs)


def test_collections_in_one_language_each(tmp_path: Path) -> None:
    workspace = by_language(tmp_path)
    evaluate(workspace, EvaluateSettings(measures=("nDCG@20", "R@1000")), "en", LANGUAGES)
    ideal = 3 + 2 / log2(3) + 1 / log2(4) + 1 / log2(5)
    found = measured(workspace, "nDCG@20")
    assert found == {
        ("student", "de", "q1"): 1.0,
        ("student", "de", "q2"): 1.0,
        # No Chinese or Korean document is relevant to q2.
        ("student", "zh", "q1"): 1.0,
        ("student", "ko", "q1"): 1.0,
        # BM25 found nothing for q1, which counts.
        ("bm25", "zh", "q1"): 0.0,
        # `gone` is judged and nowhere: the merged collection counts it as not found.
        ("student", "pooled", "q1"): pytest.approx((3 + 1 / log2(3) + 1 / log2(4)) / ideal),
        ("student", "pooled", "q2"): 1.0,
    }
    assert measured(workspace, "R@1000")["student", "zh", "q1"] == 1.0
    assert workspace.facts["queries"] == 2
    assert workspace.facts["queries_of_collections"] == {"zh": 1, "ko": 1}
    assert workspace.facts["queries_without_results"] == {"bm25-zh": 1}
    assert workspace.facts["judged_passages_without_document"] == 1
    assert workspace.warnings == []


def test_trec_files_give_the_measured_values(tmp_path: Path) -> None:
    """The files, read and measured by ir_measures on its own, give the means of the table, also per collection."""
    workspace = by_language(tmp_path)
    names = ("nDCG@20", "AP@100", "R@1000", "RR@10", "P@2")
    evaluate(workspace, EvaluateSettings(measures=names), "en", LANGUAGES)
    folder = tmp_path / "evaluate" / "trec"
    assert (folder / "zh.qrels").read_text() == "q1 0 z1 3\nq1 0 z2 -1\n"
    assert (folder / "ko.qrels").read_text() == "q1 0 k1 1\n"
    rows = workspace.output("measurements").to_pylist()
    for tag in PERFECT:
        system, collection = split_tag(tag, ["de", "zh", "ko", "pooled"])
        aggregated = ir_measures.calc_aggregate(
            [ir_measures.parse_measure(name) for name in names],
            ir_measures.read_trec_qrels(str(folder / f"{collection}.qrels")),
            ir_measures.read_trec_run(str(folder / f"{tag}.run")),
        )
        for name in names:
            values = [
                r["value"] for r in rows if (r["system"], r["collection"], r["measure"]) == (system, collection, name)
            ]
            assert sum(values) / len(values) == pytest.approx(aggregated[ir_measures.parse_measure(name)]), (tag, name)


def test_a_collection_without_relevant_documents_is_not_measured(tmp_path: Path) -> None:
    qrels = QRELS.from_rows([{"query_id": "q1", "passage_id": "a", "relevance": 1}])
    workspace = workspace_for(
        tmp_path, {"student-de": {"q1": ["a"]}, "student-zh": {"q1": ["b"]}, "bm25-zh": {"q1": ["b"]}}, qrels
    )
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    assert set(measured(workspace, "AP")) == {("student", "de", "q1")}
    assert workspace.warnings == ["not measured: zh: no document there is relevant to one of the 1 queries"]
    assert not (tmp_path / "evaluate" / "trec" / "zh.qrels").exists()


def test_queries_without_a_relevant_document_are_counted(tmp_path: Path) -> None:
    qrels = QRELS.from_rows(
        [
            {"query_id": "q1", "passage_id": "a", "relevance": 1},
            {"query_id": "q2", "passage_id": "b", "relevance": 0},
        ]
    )
    workspace = workspace_for(tmp_path, qrels=qrels)
    evaluate(workspace, EvaluateSettings(), "en", LANGUAGES)
    assert workspace.facts["queries_without_relevant"] == 1
    # Of a language's means it is left out, in the merged collection it counts with 0, as in trec_eval.
    values = measured(workspace, "AP")
    assert ("student", "de", "q2") not in values
    assert values["student", "pooled", "q2"] == 0.0


def test_judged_documents_are_measured_as_ir_measures_measures_a_run_grouped_by_hand(tmp_path: Path) -> None:
    """Passages are ranked at random, documents joined here by a loop, and the stage reads what the retrieve stage makes of them."""
    import ir_measures

    from distill.numerics.groups import Groups

    random = Random(5)
    passages = [f"d{n}_{k}" for n in range(30) for k in range(random.randint(1, 9))]
    document = {name: name.partition("_")[0] for name in passages}
    queries = [f"q{n}" for n in range(12)]
    scores = torch.tensor([[random.randint(0, 40) / 4 for _ in passages] for _ in queries])
    grades = {query: {f"d{n}": random.randint(0, 3) for n in random.sample(range(30), 8)} for query in queries}
    for judged in grades.values():
        judged[next(iter(judged))] = 2
    by_hand: dict[str, dict[str, float]] = {query: {} for query in queries}
    for query, row in zip(queries, scores.tolist(), strict=True):
        for name, score in zip(passages, row, strict=True):
            by_hand[query][document[name]] = max(score, by_hand[query].get(document[name], 0.0))
    # Ties by the larger id, as trec_eval breaks them.
    ranked_by_hand = {
        query: {d: -float(rank) for rank, d in enumerate(sorted(found, key=lambda d: (found[d], d), reverse=True))}
        for query, found in by_hand.items()
    }
    names = ("nDCG@10", "AP", "R@5", "RR@10")
    expected = {
        (str(value.measure), value.query_id): value.value
        for value in ir_measures.iter_calc([ir_measures.parse_measure(name) for name in names], grades, ranked_by_hand)
    }

    groups = Groups([document[name] for name in passages])
    values, numbers = groups.top_k(scores, 1000)
    run = RUN.from_rows(
        {"query_id": query, "passage_id": groups.keys[number], "rank": rank, "score": score, "tag": "student-de"}
        for query, best, row in zip(queries, values.tolist(), numbers.tolist(), strict=True)
        for rank, (score, number) in enumerate(zip(best, row, strict=True), 1)
    )
    qrels = QRELS.from_rows(
        {"query_id": query, "passage_id": name, "relevance": grade}
        for query, judged in grades.items()
        for name, grade in judged.items()
    )
    index = pa.table({"passage_id": passages, "doc_id": list(document.values()), "lang": ["de"] * len(passages)})
    inputs = {
        "sources": {
            "queries": QUERIES.from_rows({"query_id": q, "lang": "en", "text": q, "split": "test"} for q in queries),
            "qrels": qrels,
        },
        "retrieve": {"run": run, "tags": TAGS.from_rows([{"tag": "student-de"}])},
        "index": {"documents": index},
    }
    workspace = LocalWorkspace(tmp_path, "evaluate", inputs)
    evaluate(workspace, EvaluateSettings(measures=names), "en", ["de"])
    found = {(row["measure"], row["query_id"]): row["value"] for row in workspace.output("measurements").to_pylist()}
    assert found == pytest.approx(expected, abs=1e-9)
    assert "judged_passages_without_document" not in workspace.facts


def test_pooled_documents_are_judged_once_in_each_language(tmp_path: Path) -> None:
    index = pa.table(
        {"passage_id": ["a1", "a2", "a1", "b"], "doc_id": ["a", "a", "a", "b"], "lang": ["en", "en", "de", "de"]}
    )
    qrels = QRELS.from_rows([{"query_id": "q1", "passage_id": "a", "relevance": 1}])
    inputs = {
        "sources": {"queries": QUERIES_TABLE, "qrels": qrels},
        "retrieve": {
            "run": make_run({"student-pooled": {"q1": ["a@en", "b@de", "a@de"]}}),
            "tags": TAGS.from_rows([{"tag": "student-pooled"}]),
        },
        "index": {"documents": index},
    }
    workspace = LocalWorkspace(tmp_path, "evaluate", inputs)
    evaluate(workspace, EvaluateSettings(measures=("AP", "R@2")), "en", ["de"])
    # Two relevant documents, at ranks 1 and 3.
    assert measured(workspace, "AP") == {("student", "pooled", "q1"): pytest.approx((1 + 2 / 3) / 2)}
    assert measured(workspace, "R@2") == {("student", "pooled", "q1"): 0.5}
