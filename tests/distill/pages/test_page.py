"""Pages from templates."""

import jinja2
import pytest

from distill.pages.page import page

REJECTED = {"stage": "sources", "source": "<q>.jsonl", "line": 3, "id": "7", "field": "text", "reason": "is empty"}


def test_text_is_escaped() -> None:
    html = page("report/rejected.html.j2", summary={}, rejected=[REJECTED], rejected_count=1200)
    assert '<td class="text">&lt;q&gt;.jsonl</td>' in html
    assert "1,200 in all, the first 1; the tables" in html
    assert page("report/rejected.html.j2", summary={}, rejected=[], rejected_count=0) == "<p>No row was rejected.</p>\n"
    warned = page("report/rejected.html.j2", summary={"warnings": {"index": ["a<b"]}}, rejected=[], rejected_count=0)
    assert "<li><code>index</code>: a&lt;b</li>" in warned


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'rejected_count' is undefined"):
        page("report/rejected.html.j2", summary={}, rejected=[])
