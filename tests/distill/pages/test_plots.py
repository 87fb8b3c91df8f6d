"""Numbers that figures show, and the figures themselves."""

import numpy as np

from distill.pages import plots
from distill.tables import SCORES

SCORED = SCORES.from_rows(
    [
        {"query_id": "a", "passage_ids": ["x", "y", "z"], "scores": [0.5, -0.25, 0.25], "teacher": "t"},
        {"query_id": "b", "passage_ids": [], "scores": [], "teacher": "t"},
        {"query_id": "c", "passage_ids": ["x"], "scores": [0.5], "teacher": "t"},
    ]
)


def test_spreads_leave_out_queries_without_candidates() -> None:
    assert plots.spreads(SCORED).tolist() == [0.75, 0.0]
    assert plots.spreads(SCORES.empty()).tolist() == []


def test_running_mean() -> None:
    assert plots.running_mean(np.array([4.0, 2.0, 6.0, 1.0]), 2).tolist() == [4.0, 3.0, 4.0, 3.5]


def test_eight_colours_are_used_in_turn() -> None:
    systems = [str(number) for number in range(10)]
    assert [plots.series_number(system, systems) for system in systems] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]


def test_a_figure_is_svg_with_colours_of_the_page_and_ids_of_its_own() -> None:
    svg = plots.stage_bars({"sources": 1.0, "<train>": 2.0}, ["sources"])
    assert svg.startswith('<svg role="img" aria-label="Seconds by stage" style="width: ')
    assert "var(--plain, #56748f)" in svg
    assert "#030303" not in svg
    assert 'id="seconds-by-stage-' in svg
    assert "<train>" not in svg
    assert plots.stage_bars({"sources": 1.0, "<train>": 2.0}, ["sources"]) == svg
