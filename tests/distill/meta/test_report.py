import html as escaping
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from distill.meta.report import MetaReportInput, mean_log, mean_names, report, summary, system_name
from distill.meta.settings import Kind
from distill.report.facts import StageFacts
from distill.tables import META_COMPARISONS, META_RESULTS, REJECTED, TRAINING_LOG

VALUES = {
    ("maml_align", "de"): 0.5, ("maml_align", "th"): 0.25, ("maml_align", "seen"): 0.5, ("maml_align", "unseen"): 0.25,
    ("maml_align", "mean"): 0.375, ("zero_shot", "de"): 0.125, ("zero_shot", "th"): 0.375, ("zero_shot", "seen"): 0.125,
    ("zero_shot", "unseen"): 0.375, ("zero_shot", "mean"): 0.25,
}  # fmt: skip


def results(values: dict[tuple[str, str], float], measure: str = "AP@20") -> pa.Table:
    """Two folds around each value, 0.0625 to either side, and their mean."""
    rows = []
    for (system, group), value in values.items():
        for fold, shift, items in (("0", -0.0625, 5), ("1", 0.0625, 5), ("all", 0.0, 10)):
            names = {"system": system, "fold": fold, "measure": measure, "group": group}
            middle = value + shift
            rows.append({**names, "value": middle, "low": middle - 0.1, "high": middle + 0.1, "items": items})
    return META_RESULTS.from_rows(rows)


def comparison(p: float) -> pa.Table:
    row = {"system": "maml_align", "baseline": "zero_shot", "measure": "AP@20", "group": "mean", "items": 10}
    numbers = {"difference": 0.125, "low": 0.05, "high": 0.2, "p": p / 2, "p_corrected": p}
    return META_COMPARISONS.from_rows([row | numbers])


def log(*losses: float, every: int = 10) -> pa.Table:
    return TRAINING_LOG.from_rows(
        {"step": every * (i + 1), "loss": loss, "learning_rate": 5e-5, "examples": 4 * (i + 1), "gradient_norm": 1.0}
        for i, loss in enumerate(losses)
    )


REJECT = {"source": "q.jsonl", "line": 3, "id": "7", "field": "text", "reason": "is empty"}
INPUTS = MetaReportInput(
    name="align <1>",
    kind="retrieval",
    main="maml_align",
    seen=("de",),
    settings="tasks: {mode: mono_bi_multi}",
    counts={"questions": 40, "candidates": 1200},
    stages={
        "meta_sources": StageFacts(1.0, 40, 1, reused=False, versions={"torch": "2.0"}),
        "train_maml_align_0": StageFacts(75.0, 2, 0, reused=True, versions={"torch": "2.0"}),
    },
    results=results(VALUES),
    comparisons=comparison(0.002),
    training_logs={"maml_align": {0: log(4.0, 2.0), 1: log(2.0, 1.0)}},
    rejected={"meta_sources": REJECTED.from_rows([REJECT])},
)


def rendered(inputs: MetaReportInput) -> str:
    return report(inputs, summary(inputs))


@pytest.fixture(scope="module")
def page() -> str:
    return rendered(INPUTS)


def rows_of(page: str, table_id: str) -> list[list[str]]:
    table = re.search(rf'<table id="{table_id}".*?</table>', page, re.DOTALL)
    assert table is not None, table_id
    rows = re.findall(r"<tr.*?</tr>", table.group(0), re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[escaping.unescape(" ".join(re.sub(r"<[^>]+>", " ", cell).split())) for cell in row] for row in cells]


def test_summary_by_hand() -> None:
    found = summary(INPUTS)
    assert json.loads(json.dumps(found)) == found
    assert found["metrics"]["zero_shot"] == {
        "AP@20": {"de": 0.125, "th": 0.375, "seen": 0.125, "unseen": 0.375, "mean": 0.25}
    }
    assert found["intervals"]["maml_align"]["AP@20"]["mean"] == pytest.approx([0.275, 0.475])
    assert found["by_fold"]["maml_align"] == {"AP@20": {"0": 0.3125, "1": 0.4375}}
    assert found["folds"] == ["0", "1"]
    assert found["counts"] == {"questions": 40, "candidates": 1200, "evaluated": 10, "rejected": 1}
    assert found["training"] == {
        "maml_align": {
            "0": {"steps": 20, "first_loss": 4.0, "last_loss": 2.0},
            "1": {"steps": 20, "first_loss": 2.0, "last_loss": 1.0},
        }
    }
    assert found["stages"]["train_maml_align_0"] == {"seconds": 75.0, "rows": 2, "rejected": 0, "reused": True}
    assert (found["main"], found["seen"], found["versions"]) == ("maml_align", ["de"], {"torch": "2.0"})
    assert found["comparisons"][0]["p_corrected"] == 0.002


def test_tables(page: str) -> None:
    assert rows_of(page, "quality-1") == [
        ["language", "MAML-Align", "zero-shot"],
        ["mean of all 2 languages", "0.375 0.275–0.475", "0.250 0.150–0.350"],
        ["mean of the 1 seen", "0.500 0.400–0.600", "0.125 0.025–0.225"],
        ["mean of the 1 unseen", "0.250 0.150–0.350", "0.375 0.275–0.475"],
        ["de", "0.500 0.400–0.600", "0.125 0.025–0.225"],
        ["th", "0.250 0.150–0.350", "0.375 0.275–0.475"],
    ]
    assert rows_of(page, "by-fold") == [
        ["mean AP@20", "fold 0", "fold 1", "all"],
        ["MAML-Align", "0.312", "0.438", "0.375"],
        ["zero-shot", "0.188", "0.312", "0.250"],
    ]
    assert rows_of(page, "comparisons")[1] == [
        "mean of all 2 languages", "MAML-Align − zero-shot", "AP@20", "+0.125", "+0.050 to +0.200", "0.001", "0.002",
    ]  # fmt: skip
    assert rows_of(page, "counts") == [["questions", "40"], ["candidates", "1,200"]]
    assert rows_of(page, "rejected")[1] == ["meta_sources", "q.jsonl", "3", "7", "text", "is empty"]
    assert rows_of(page, "timings")[2][:2] == ["train_maml_align_0", "1 min 15 s"]
    lead = re.search(r'<p class="lead">(.*?)</p>', page, re.DOTALL)
    assert lead is not None
    assert " ".join(re.sub(r"<[^>]+>", "", lead.group(1)).split()) == (
        "Over all languages MAML-Align reaches a mean AP@20 of 0.375, against 0.250 for zero-shot. "
        "Measured on 10 held-out questions in 2 folds."
    )


def test_bold_is_the_best_and_what_is_significant(page: str) -> None:
    assert re.findall(r"<strong>(0\.\d+)</strong>\s*<small>", page) == ["0.375", "0.500", "0.375", "0.500", "0.375"]
    assert "<strong>0.002</strong>" in page
    assert "<strong>0.200</strong>" not in rendered(replace(INPUTS, comparisons=comparison(0.2)))


def test_pairs_of_languages_are_told_apart() -> None:
    groups = {"mean": 0.3, "seen": 0.4, "de-de": 0.5, "de-en": 0.1, "en-de": 0.2, "en-en": 0.6}
    values = {("zero_shot", group): value for group, value in groups.items()}
    table = pa.concat_tables([results(values, measure) for measure in ("pearson", "spearman")])
    kind: Kind = "similarity"
    inputs = replace(
        INPUTS, kind=kind, main="zero_shot", results=table, comparisons=META_COMPARISONS.empty(), training_logs={}
    )
    page = rendered(inputs)
    assert [row[0] for row in rows_of(page, "quality-2")] == [
        "languages", "mean of all 4 pairs", "mean of the 1 seen", "de-de", "en-en",
    ]  # fmt: skip
    assert "are of each language with itself; the means are over pairs of different languages, too" in page
    assert [row[0] for row in rows_of(page, "pairs-1")] == ["languages", "de-en", "en-de"]
    assert 'id="comparisons"' not in page
    assert "Nothing was trained." in page


def test_means_say_what_they_are_over() -> None:
    """Seen is a pair of which both languages are: of 3 x 3 pairs with two languages seen, 4."""
    pairs = [f"{one}-{other}" for one in ("de", "en", "th") for other in ("de", "en", "th")]
    assert mean_names(["mean", "seen", "unseen", *pairs], ("de", "th", "fr"), "similarity") == {
        "mean": "mean of all 9 pairs", "seen": "mean of the 4 seen", "unseen": "mean of the 5 unseen",
    }  # fmt: skip
    assert mean_names(["mean", "unseen", "de", "th"], ("fr",), "retrieval") == {
        "mean": "mean of all 2 languages", "unseen": "mean of the 2 unseen",
    }  # fmt: skip


def test_the_page_loads_nothing_is_escaped_and_well_formed(page: str) -> None:
    assert "align &lt;1&gt;" in page
    assert "align <1>" not in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert page.count("<svg") == 4
    assert len(set(re.findall(r'\bid="([^"]+)"', page))) == len(re.findall(r'\bid="([^"]+)"', page))

    class Balance(HTMLParser):
        depth = 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.depth += tag not in {"meta", "br", "path", "use"}

        def handle_endtag(self, tag: str) -> None:
            self.depth -= tag not in {"meta", "br", "path", "use"}

    balance = Balance()
    balance.feed(page)
    assert balance.depth == 0


def test_a_system_keeps_its_colour(page: str) -> None:
    """Zero-shot is second in tables, bars and dots; the curves, which it is not among, take nothing from it."""
    assert page.count("background: var(--series-1)") == 1
    curves = page[page.index('aria-label="Training loss') :]
    assert "var(--series-0, #56748f)" in curves
    first = rendered(replace(INPUTS, results=results(dict(sorted(VALUES.items(), reverse=True)))))
    curves = first[first.index('aria-label="Training loss') :]
    assert "var(--series-1, #56748f)" in curves


def test_names_of_systems() -> None:
    names = [system_name(system) for system in ("maml_align", "maml_mono_bi", "fine_tune", "other")]
    assert names == ["MAML-Align", "MAML mono_bi", "fine-tuning", "other"]


def test_curves_are_means_over_folds() -> None:
    found = mean_log([log(4.0, 2.0), log(2.0, 1.0, 8.0)])
    assert (found["step"].to_pylist(), found["loss"].to_pylist()) == ([10, 20, 30], [3.0, 1.5, 8.0])
