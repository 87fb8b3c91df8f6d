"""The teacher report as one self-contained HTML page."""

from collections.abc import Mapping, Sequence

from distill.pages import plots
from distill.pages.page import page
from distill.score.report.figures import QUANTILES, RANKS, Agreement, Examination
from distill.score.report.suspicions import Suspicion
from distill.score.settings import TeacherCheckSettings

_WORDS = {
    "queries": "queries",
    "pairs": "scored pairs",
    "mean": "mean score",
    "deviation": "standard deviation of the scores",
    "minimum": "smallest score",
    "maximum": "largest score",
    "spread": "best minus worst candidate of a query, mean",
    "tied_share": "candidates that share their score with another of the same query",
    "constant_share": "queries whose candidates all score the same",
    "saturated_share": "scores at an end of their range",
    "not_finite_share": "pairs without a finite score",
    "truncated_share": "pairs of which the teacher read less than the whole passage",
    "judged_queries": "queries with relevant passages (training and development)",
    "judged_found_share": "of them with a relevant passage among the candidates",
    "judged_best_share": "queries whose best candidate is judged relevant",
    "judged_best_by_chance": "the same if the order were random",
    "judged_best_deviations": "the difference in standard errors",
}


def teacher_page(
    examinations: Sequence[Examination],
    agreements: Sequence[Agreement],
    found: Mapping[str, Sequence[Suspicion]],
    limits: TeacherCheckSettings,
) -> str:
    """Return the page. It loads nothing from elsewhere, and all text is escaped.

    Args:
        examinations: the teachers.
        agreements: the agreement of each two.
        found: the suspicions by score stage.
        limits: the suspicions that are checked, and those that are allowed.
    """
    names = {examination.stage: examination.teacher for examination in examinations}
    return page(
        "score/report/page.html.j2",
        teachers=[
            {
                "stage": examination.stage,
                "name": examination.teacher,
                "lang": examination.lang,
                "figures": [(_WORDS[name], _shown(name, value)) for name, value in examination.facts().items()],
                "ranks": _by_rank(examination),
                "suspicions": found[examination.stage],
                "figure": _figure(examination),
            }
            for examination in examinations
        ],
        agreements=[
            {row["measure"]: row["value"] for row in agreement.rows(examinations[0])}
            | {"one": names[agreement.stage], "other": names[agreement.other], "queries": agreement.queries}
            for agreement in agreements
        ],
        allowed=limits.allow,
    )


def _shown(measure: str, value: float) -> str:
    if measure in {"queries", "pairs", "judged_queries"}:
        return f"{value:,.0f}"
    if measure == "judged_best_deviations":
        return f"{value:+.1f}"
    return f"{value:.2%}" if measure.endswith(("_share", "_chance")) else f"{value:.4g}"


def _by_rank(examination: Examination) -> list[dict[str, object]]:
    """Return a line for each group of ranks: pairs, mean, quantiles, and how often the best candidate is there."""
    rows: dict[str, dict[str, object]] = {}
    for row in examination.rows():
        rows.setdefault(str(row["ranks"]), {"ranks": row["ranks"]})[str(row["measure"])] = row["value"]
    return [rows[ranks] for ranks in RANKS if "median" in rows.get(ranks, {})]


def _figure(examination: Examination) -> str:
    from markupsafe import Markup

    if not examination.pairs:
        return ""
    by_rank = {str(row["ranks"]): [float(str(row[name])) for name in QUANTILES] for row in _by_rank(examination)}
    svg = plots.teacher_scores(examination.sample(), by_rank, f"{examination.teacher} ({examination.stage})")
    return Markup(svg)  # noqa: S704 - drawn here, its label is escaped
