"""The report's numbers, worked by hand from two queries, and its HTML."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from distill.report.facts import StageFacts
from distill.report.run import DataFacts, ReportInput, report, summary
from distill.tables import COMPARISONS, MEASUREMENTS, REJECTED, SCORES, TRAINING_LOG, TableError

VALUES: dict[tuple[str, str, str], list[float]] = {
    ("student", "de", "nDCG@20"): [1.0, 0.5],
    ("student", "fr", "nDCG@20"): [0.25, 0.25],
    ("student", "de", "AP"): [0.125, 0.125],
    ("student", "fr", "AP"): [0.0, 1.0],
    ("bm25", "de", "nDCG@20"): [0.5, 0.125],
    ("bm25", "fr", "nDCG@20"): [0.0, 1.0],
    ("bm25", "de", "AP"): [0.0, 0.0],
    ("bm25", "fr", "AP"): [0.5, 0.5],
    ("teacher", "en", "nDCG@20"): [1.0, 0.875],
    ("teacher", "en", "AP"): [1.0, 1.0],
    ("student", "mixed", "nDCG@20"): [0.5, 0.5],
    ("student", "mixed", "AP"): [0.5, 0.5],
}


def measurements(values: Mapping[tuple[str, str, str], Sequence[float]] = VALUES) -> pa.Table:
    return MEASUREMENTS.from_rows(
        {"system": system, "collection": collection, "measure": measure, "query_id": f"q{number}", "value": value}
        for (system, collection, measure), numbers in values.items()
        for number, value in enumerate(numbers)
    )


def training_log(losses: Sequence[float]) -> pa.Table:
    return TRAINING_LOG.from_rows(
        {"step": 10 * (i + 1), "loss": loss, "learning_rate": 5e-6, "examples": 640 * (i + 1), "gradient_norm": 1.0}
        for i, loss in enumerate(losses)
    )


def compared(collection: str, baseline: str, difference: float, p: float) -> dict[str, object]:
    return {
        "system": "student",
        "baseline": baseline,
        "collection": collection,
        "measure": "nDCG@20",
        "queries": 2,
        "difference": difference,
        "low": difference - 0.1,
        "high": difference + 0.1,
        "test": "two_sided",
        "p": p / 2,
        "correction": "holm",
        "p_corrected": p,
    }


INPUTS = ReportInput(
    name="tiny",
    source_lang="en",
    languages=("de", "fr"),
    settings="name: tiny\nseed: 153\n",
    data=DataFacts(
        passages=1234,
        queries={"train": {"en": 5}, "test": {"en": 2, "de": 1}},
        translations={"de": 1234, "fr": 1230},
        missing={"fr": 4},
    ),
    stages={
        "sources": StageFacts(
            seconds=1.5, rows=300, rejected=1, reused=True, versions={"python": "3.11.7", "ray": "2.62.0"}
        ),
        "train": StageFacts(
            seconds=75.0, rows=30, rejected=0, reused=False, versions={"python": "3.12.1", "ray": "2.62.0"}
        ),
    },
    measurements=measurements(),
    comparisons=COMPARISONS.from_rows([compared("de", "bm25", 0.4375, 0.01), compared("fr", "bm25", -0.25, 0.6)]),
    training_logs={"student": training_log([1.75, 1.0, 0.5])},
    scores=SCORES.from_rows(
        [
            {"query_id": "a", "passage_ids": ["x", "y", "z"], "scores": [0.5, -0.25, 0.25], "teacher": "t"},
            {"query_id": "b", "passage_ids": [], "scores": [], "teacher": "t"},
            {"query_id": "c", "passage_ids": ["x"], "scores": [0.5], "teacher": "t"},
        ]
    ),
    rejected={
        "sources": REJECTED.from_rows(
            [{"source": "queries.jsonl", "line": 7, "id": "", "field": "text", "reason": "empty, expected a query"}]
        )
    },
)


PLAIN = replace(INPUTS, training_logs={}, scores=None, stages={})
"""Without the figures, which take their time."""


def html(inputs: ReportInput) -> str:
    return report(inputs, summary(inputs))


@pytest.fixture(scope="module")
def page() -> str:
    return html(INPUTS)


def rows_of(page: str, table_id: str) -> list[list[str]]:
    """The cells' texts of a table, row by row."""
    body = re.search(rf'<table id="{table_id}".*?</table>', page, re.DOTALL)
    assert body is not None
    cells = [
        re.findall(r"<t[hd]\b.*?>(.*?)</t[hd]>", row, re.DOTALL)
        for row in re.findall(r"<tr.*?</tr>", body[0], re.DOTALL)
    ]
    return [[" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in row] for row in cells]


def test_summary_of_the_tiny_run() -> None:
    found = summary(INPUTS)
    assert found["metrics"] == {
        "bm25": {"de": {"nDCG@20": 0.3125, "AP": 0.0}, "fr": {"nDCG@20": 0.5, "AP": 0.5}},
        "student": {
            "de": {"nDCG@20": 0.75, "AP": 0.125},
            "fr": {"nDCG@20": 0.25, "AP": 0.5},
            "mixed": {"nDCG@20": 0.5, "AP": 0.5},
        },
        "teacher": {"en": {"nDCG@20": 0.9375, "AP": 1.0}},
    }
    assert found["stages"] == {
        "sources": {"seconds": 1.5, "rows": 300, "rejected": 1, "reused": True},
        "train": {"seconds": 75.0, "rows": 30, "rejected": 0, "reused": False},
    }
    # The teacher was measured in neither language, so it has no mean over them.
    assert found["means"] == {"bm25": {"nDCG@20": 0.40625, "AP": 0.25}, "student": {"nDCG@20": 0.5, "AP": 0.3125}}
    assert found["intervals"]["student"]["mixed"]["nDCG@20"] == [0.5, 0.5]
    assert found["intervals"]["student"]["de"]["nDCG@20"] == [0.5, 1.0]
    assert found["training"] == {"student": {"steps": 30, "first_loss": 1.75, "last_loss": 0.5}}
    assert found["counts"] == {
        "queries": 2,
        "trained_on": 0,
        "passages": 1234,
        "translations": 2464,
        "missing_translations": 4,
        "rejected": 1,
    }
    assert found["versions"] == {"python": "3.11.7, 3.12.1", "ray": "2.62.0"}
    assert found["comparisons"][0]["p_corrected"] == 0.01
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_systems_collections_and_measures_have_an_order() -> None:
    rows = measurements(
        {
            (s, c, m): [0.5]
            for s in ("teacher", "own", "bm25")
            for c in ("pooled", "fr", "en")
            for m in ("AP", "nDCG@10", "nDCG@20", "R@1000", "R@100")
        }
    )
    inputs = replace(INPUTS, measurements=rows)
    assert list(summary(inputs)["metrics"]) == ["bm25", "teacher", "own"]
    assert inputs.collections == ["en", "fr", "pooled"]
    assert inputs.measures == ["nDCG@20", "nDCG@10", "AP", "R@100", "R@1000"]


def test_the_first_measure_of_the_settings_is_the_one_to_compare_by() -> None:
    """As in the comparisons and on the terminal, not the first of the alphabet."""
    rows = measurements({("student", "de", name): [0.5, 0.5] for name in ("AP", "RR@10", "P@5")})
    inputs = replace(PLAIN, measurements=rows, asked=("RR@10", "P@5", "AP"))
    assert inputs.measures == ["RR@10", "AP", "P@5"]
    assert summary(inputs)["primary"] == "RR@10"
    assert summary(PLAIN)["primary"] == "nDCG@20"


def test_collections_have_queries_of_their_own() -> None:
    """Means are over a collection's own queries, and those of languages over the measured ones, the job's or not."""
    table = measurements(
        {
            ("student", "de", "nDCG@20"): [1.0, 0.5, 0.0],
            ("student", "ko", "nDCG@20"): [0.5, 1.0],
            ("student", "pooled", "nDCG@20"): [0.25] * 4,
            ("bm25", "de", "nDCG@20"): [0.25, 0.5, 0.0],
        }
    )
    inputs = replace(PLAIN, languages=("de", "zh"), measurements=table, comparisons=COMPARISONS.empty())
    found = summary(inputs)
    assert found["queries_of_collections"] == {"de": 3, "ko": 2, "pooled": 4}
    assert found["counts"]["queries"] == 4
    assert found["mean_languages"] == ["de", "ko"]
    # BM25 was not measured in Korean: a mean of its own would not compare.
    assert found["means"] == {"student": {"nDCG@20": 0.625}}
    page = report(inputs, found)
    assert [row[0] for row in rows_of(page, "headline")[1:]] == [
        "mean over de, ko",
        "de 3 queries",
        "ko 2 queries",
        "pooled 4 queries",
    ]
    text = " ".join(page.split())
    assert "Over de, ko the student reaches" in text
    assert "Measured on 4 held-out queries, in each collection on those to which a document there is relevant." in text


def test_one_query_has_no_interval() -> None:
    table = measurements({("student", "de", "nDCG@20"): [0.5]})
    page = html(replace(PLAIN, measurements=table, comparisons=COMPARISONS.empty()))
    assert rows_of(page, "headline") == [["collection", "student"], ["de", "0.500 one query"]]


def test_equal_means_are_both_the_best() -> None:
    """0.1 + 0.2 + 0.6 is 0.8999999999999999 or 0.9, by the order of summands."""
    values = {("bm25", "de", "nDCG@20"): [0.1, 0.2, 0.6], ("student", "de", "nDCG@20"): [0.6, 0.2, 0.1]}
    page = html(replace(PLAIN, measurements=measurements(values), comparisons=COMPARISONS.empty()))
    assert page.partition("<tbody>")[2].count("<strong>0.300</strong>") == 2


def test_queries_that_were_trained_on_are_in_the_head() -> None:
    assert "were trained on" not in html(PLAIN)
    assert "1 of the 2 evaluated queries were trained on:" in html(replace(PLAIN, trained_on=1))
    page = html(replace(PLAIN, trained_on=2))
    assert "All of the 2 evaluated queries were trained on:" in page
    assert "held-out" not in page
    assert summary(replace(PLAIN, trained_on=2))["counts"]["trained_on"] == 2


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(TableError, match="not a 'measurements' table"):
        summary(replace(INPUTS, measurements=INPUTS.measurements.drop_columns(["value"])))


def test_first_table(page: str) -> None:
    assert rows_of(page, "headline") == [
        ["collection", "BM25", "student", "teacher"],
        ["mean of 2 languages", "0.406", "0.500", "–"],
        ["en", "–", "–", "0.938 0.875–1.000"],
        # Significantly better than BM25: a raised b. In fr the difference is not significant.
        ["de", "0.312 0.125–0.500", "0.750 b 0.500–1.000", "–"],
        ["fr", "0.500 0.000–1.000", "0.250 0.250–0.250", "–"],
        ["mixed", "–", "0.500 0.500–0.500", "–"],
    ]
    assert re.findall(r"<strong>([\d.]+)</strong>", page) == ["0.500", "0.500", "0.750", "0.500", "0.500"]


def test_a_baseline_that_is_significantly_better_gets_the_mark() -> None:
    inputs = replace(PLAIN, comparisons=COMPARISONS.from_rows([compared("fr", "bm25", -0.25, 0.04)]))
    assert rows_of(html(inputs), "headline")[4][1:3] == ["0.500 s 0.000–1.000", "0.250 0.250–0.250"]
    # At a level of 99 % it is not significant.
    assert rows_of(html(replace(inputs, confidence=0.99)), "headline")[4][1] == "0.500 0.000–1.000"


def test_the_test_and_its_correction_are_named() -> None:
    text = " ".join(html(PLAIN).split())
    assert "two-sided paired t-test over the queries, p &lt; 0.05 after Holm&#39;s correction for 2 comparisons" in text
    row = compared("fr", "bm25", 0.25, 0.04) | {"test": "one_sided", "correction": "bonferroni"}
    text = " ".join(html(replace(PLAIN, comparisons=COMPARISONS.from_rows([row]))).split())
    assert (
        "one-sided paired t-test (is the student better) over the queries, p &lt; 0.05 after Bonferroni&#39;s correction for 1 comparisons"
        in text
    )


def test_the_corrected_p_value_decides() -> None:
    comparisons = COMPARISONS.from_rows([compared("fr", "bm25", -0.25, 0.06)])
    assert comparisons["p"].to_pylist() == [0.03]
    assert rows_of(html(replace(PLAIN, comparisons=comparisons)), "headline")[4][1] == "0.500 0.000–1.000"


def test_the_teacher_does_not_compete() -> None:
    inputs = replace(
        PLAIN,
        measurements=measurements(
            {**VALUES, ("student", "en", "nDCG@20"): [0.375, 0.375], ("student", "en", "AP"): [0.0, 0.0]}
        ),
    )
    page = html(inputs)
    assert rows_of(page, "headline")[2] == ["en", "–", "0.375 0.375–0.375", "0.938 0.875–1.000"]
    assert "<strong>0.375</strong>" in page
    assert "<strong>0.938</strong>" not in page


def test_other_tables(page: str) -> None:
    assert rows_of(page, "measures")[:3] == [
        ["collection", "system", "nDCG@20", "AP"],
        ["en", "teacher", "0.938", "1.000"],
        ["de", "BM25", "0.312", "0.000"],
    ]
    assert rows_of(page, "languages") == [
        ["language", "passages", "without translation", "train queries", "test queries"],
        ["en", "1,234", "0", "5", "2"],
        ["de", "1,234", "0", "0", "1"],
        ["fr", "1,230", "4", "0", "0"],
    ]
    assert rows_of(page, "timings")[1:] == [
        ["sources", "1.5 s", "300", "1", "200.0", "reused"],
        ["train", "1 min 15 s", "30", "0", "0.4", "computed"],
    ]
    assert rows_of(page, "rejected")[1:] == [["sources", "queries.jsonl", "7", "", "text", "empty, expected a query"]]
    assert "loss from 1.75 to 0.5" in page
    assert "name: tiny\nseed: 153\n" in page


def test_at_most_twenty_rejected_rows_are_shown() -> None:
    row = {"source": "s", "line": 1, "id": "", "field": "", "reason": "bad"}
    stages = {"sources": replace(INPUTS.stages["sources"], rejected=25)}
    page = html(replace(INPUTS, stages=stages, rejected={"sources": REJECTED.from_rows([row] * 25)}))
    assert len(rows_of(page, "rejected")) == 21
    assert "25 in all, the first 20" in page


def test_text_is_escaped() -> None:
    attack = "<script>alert('x')</script>"
    reject = {"source": attack, "line": 1, "id": attack, "field": attack, "reason": attack}
    page = html(
        replace(
            INPUTS,
            name=attack,
            settings=f"name: {attack}",
            rejected={"sources": REJECTED.from_rows([reject])},
            stages={attack: replace(INPUTS.stages["sources"], versions={attack: attack})},
        )
    )
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; · Polyray report</title>" in page
    assert page.count("&lt;script&gt;") == 11


class _Page(HTMLParser):
    """What a page refers to, its ids, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data", "action")
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_the_page_loads_nothing_and_is_well_formed(page: str) -> None:
    parsed = _Page()
    parsed.feed(page)
    assert parsed.open == []
    assert not parsed.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert all(reference.startswith("#") for reference in parsed.references)
    assert {reference[1:] for reference in parsed.references} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not re.search(r"url\((?!#)|@import|@font-face", page)
    # The only addresses are the names of SVG's name spaces, which nothing fetches.
    assert set(re.findall(r'https?://[^"\s<]*', page)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert page.count("<svg ") == 4


def test_figures_follow_the_page_colours(page: str) -> None:
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", page)) == set()
    for variable in ("--student", "--bm25", "--teacher", "--rule", "--plain"):
        # Once for the light theme, once for the dark, and used.
        assert page.count(f"{variable}:") == 2
        assert f"var({variable}" in page


def test_a_run_without_evaluation_training_and_scores() -> None:
    inputs = replace(
        INPUTS,
        measurements=MEASUREMENTS.empty(),
        comparisons=COMPARISONS.empty(),
        training_logs={},
        scores=None,
        stages={},
        rejected={},
    )
    assert "<p>Nothing was evaluated: no qrels.</p>" in html(replace(inputs, not_evaluated="no qrels"))
    page = html(inputs)
    assert "Nothing was evaluated." in page
    assert "Nothing was trained." in page
    assert "No row was rejected." in page
    assert "<svg" not in page
    assert summary(inputs)["metrics"] == {}


def test_the_same_inputs_give_the_same_page(page: str) -> None:
    assert html(INPUTS) == page


def test_language_shares() -> None:
    page = html(replace(PLAIN, language_shares={"student": {"de": 0.5, "en": 0.25}}))
    assert "gives each 33.3 %" in page
    assert "<td>25.0 %</td><td>50.0 %</td><td>0.0 %</td>" in page


def test_counts_of_the_data() -> None:
    queries = pa.table({"split": ["test", "train", "test", "test"], "lang": ["en", "en", "de", "en"]})
    facts = DataFacts.count(3, queries, pa.table({"lang": ["fr", "de", "fr"]}), pa.table({"lang": pa.array(["de"])}))
    assert facts == DataFacts(3, {"test": {"de": 1, "en": 2}, "train": {"en": 1}}, {"de": 1, "fr": 2}, {"de": 1})
