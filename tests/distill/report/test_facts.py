"""The parts that the reports of all runs share."""

import pyarrow as pa
import pytest

from distill.report.facts import RunFacts, StageFacts, training_summary
from distill.tables import REJECTED, TRAINING_LOG


def test_facts_of_a_manifest() -> None:
    manifest = {"seconds": 2.5, "rows": 10, "rejected": 1, "software": {"ray": "2.62.0"}, "notes": {"warnings": ["w"]}}
    assert StageFacts.read(manifest, reused=True) == StageFacts(2.5, 10, 1, True, {"ray": "2.62.0"}, ("w",))


def test_the_shared_summary() -> None:
    stages = {
        "sources": StageFacts(1.5, 300, 1, reused=True, versions={"ray": "2.62.0", "python": "3.11"}),
        "train": StageFacts(75.0, 30, 2, reused=False, versions={"ray": "2.62.0", "python": "3.12"}),
    }
    facts = RunFacts(name="tiny", settings="", stages=stages)
    assert facts.rejected_count == 3
    assert facts.shared_summary() == {
        "name": "tiny",
        "confidence": 0.95,
        "stages": {
            "sources": {"seconds": 1.5, "rows": 300, "rejected": 1, "reused": True},
            "train": {"seconds": 75.0, "rows": 30, "rejected": 2, "reused": False},
        },
        "warnings": {},
        "versions": {"python": "3.11, 3.12", "ray": "2.62.0"},
    }


def test_warnings_of_stages_are_shown() -> None:
    stages = {
        "sources": StageFacts(1.0, 1, 0, reused=True),
        "index": StageFacts(1.0, 1, 0, reused=True, warnings=("de 3 of 4 are cut", "<b>")),
    }
    facts = RunFacts(name="tiny", settings="", stages=stages)
    assert facts.shared_summary()["warnings"] == {"index": ["de 3 of 4 are cut", "<b>"]}
    page = facts.page("report/rejected.html.j2", facts.shared_summary(), {})
    assert "<code>index</code>: de 3 of 4 are cut" in page
    assert "<code>index</code>: &lt;b&gt;" in page
    assert "warnings" not in facts.page("report/rejected.html.j2", {}, {})


@pytest.mark.parametrize(("rows", "shown"), [(3, 3), (25, 20)])
def test_at_most_twenty_rejected_rows_are_shown(rows: int, shown: int) -> None:
    rejected = REJECTED.from_rows(
        {"source": "q", "line": line, "id": "", "field": "", "reason": "empty"} for line in range(rows)
    )
    facts = RunFacts(
        name="tiny",
        settings="",
        stages={"sources": StageFacts(1.0, 1, rows, reused=False)},
        rejected={"sources": rejected},
    )
    page = facts.page("pages/page.html.j2", facts.shared_summary(), {})
    assert page.count("<svg ") == 1
    page = facts.page("report/rejected.html.j2", {}, {})
    assert page.count("<tr><th>sources</th>") == shown


def test_the_first_and_last_line_of_a_log_by_step() -> None:
    rows = [
        {"step": step, "loss": loss, "learning_rate": 0.1, "examples": step, "gradient_norm": 1.0}
        for step, loss in ((20, 1.0), (10, 3.0))
    ]
    log: pa.Table = TRAINING_LOG.from_rows(rows)
    assert training_summary(log) == {"steps": 20, "first_loss": 3.0, "last_loss": 1.0}
