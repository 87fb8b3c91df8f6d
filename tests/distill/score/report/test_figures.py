import math

import numpy as np
import pytest

from distill.numerics.ragged import Ragged
from distill.score.lists import ScoreLists
from distill.score.report.figures import Agreement, Examination, Extreme, Moments, report_table
from distill.score.report.suspicions import SuspiciousTeacherError, refuse_suspicious, suspicions
from distill.score.settings import TeacherCheckSettings
from distill.tables import SCORES


def lists(*scores: list[float]) -> ScoreLists:
    rows = [
        {"query_id": f"q{q}", "passage_ids": [f"p{i}" for i in range(len(one))], "scores": one, "teacher": "t"}
        for q, one in enumerate(scores)
    ]
    return ScoreLists.of(SCORES.from_rows(rows))


def examined(
    *scores: list[float], relevant: list[tuple[int, int]] | None = None, not_finite: int = 0, truncated: int = 0
) -> Examination:
    """What is found of these lists; `relevant` are pairs of query and place."""
    found = lists(*scores)
    examination = Examination("score", "en-de", not_finite, truncated)
    places = found.lists.offsets[[q for q, _ in relevant or []]] + np.array([i for _, i in relevant or []], np.int64)
    mask = np.zeros(len(found.scores), bool)
    mask[places.astype(np.int64)] = True
    judged = found.lists.sums(mask) > 0
    examination.add(found, found.lists.positions + 1, mask, judged, np.ones(len(judged), bool))
    return examination


def test_figures_by_hand() -> None:
    """Best candidates: the third of q0, both of q1, the only one of q2. q2 has no other candidate, so it tells nothing of the teacher."""
    found = examined([1, 2, 3], [5, 5], [4], [], relevant=[(0, 2), (1, 0), (2, 0)], not_finite=2, truncated=4)
    variance = 1 / 3 * 2 / 3 + 1 / 2 * 1 / 2
    assert found.facts() == {
        "queries": 4,
        "pairs": 6,
        "not_finite_share": 2 / 8,
        "truncated_share": 4 / 8,
        "mean": pytest.approx(20 / 6),
        "deviation": pytest.approx(np.std([1, 2, 3, 5, 5, 4])),
        "minimum": 1,
        "maximum": 5,
        "tied_share": 2 / 6,
        "saturated_share": 1 / 6,
        "constant_share": 1 / 2,
        "spread": 1,
        "judged_queries": 3,
        "judged_found_share": 1,
        "judged_best_share": (1 + 0.5) / 2,
        "judged_best_by_chance": pytest.approx((1 / 3 + 1 / 2) / 2),
        "judged_best_deviations": pytest.approx((1.5 - 5 / 6) / math.sqrt(variance)),
    }
    rows = {(row["ranks"], row["measure"]): row["value"] for row in found.rows()}
    assert rows["1", "best_share"] == rows["2-5", "best_share"] == 1.5 / 3
    assert rows["1", "mean"] == pytest.approx((1 + 5 + 4) / 3)
    assert rows["2-5", "median"] == 3
    assert rows["all", "q25"] == np.quantile([1, 2, 3, 5, 5, 4], 0.25)
    assert ("6-10", "mean") not in rows


def test_figures_do_not_depend_on_blocks() -> None:
    random = np.random.default_rng(0)
    scores = [random.normal(5, 2, 120).round(1).tolist() for _ in range(6)]
    whole, parts = examined(*scores), Examination("score", "en-de")
    for one in scores:
        found = lists(one)
        none = np.zeros(len(found.scores), bool)
        parts.add(found, found.lists.positions + 1, none, np.zeros(1, bool), np.ones(1, bool))
    one, other = ({(r["ranks"], r["measure"]): r["value"] for r in e.rows()} for e in (whole, parts))
    assert one == pytest.approx(other)
    flat = np.concatenate(scores).astype(np.float32)
    assert one["all", "saturated_share"] == (np.sum(flat == flat.min()) + np.sum(flat == flat.max()) - 2) / 720
    by_place = np.array(scores)
    assert one["101-", "mean"] == pytest.approx(by_place[:, 100:].mean(), rel=1e-6)
    assert one["21-50", "deviation"] == pytest.approx(by_place[:, 20:50].std(), rel=1e-6)


def test_streams_merge() -> None:
    moments, extreme = Moments(), Extreme()
    for part in ([3.0, 1.0], [], [1.0, 1.0, 8.0], [2.0]):
        moments.add(np.array(part))
        extreme.add(np.array(part))
    assert (moments.count, moments.mean) == (6, pytest.approx(16 / 6))
    assert moments.deviation == pytest.approx(np.std([3, 1, 1, 1, 8, 2]))
    assert (extreme.value, extreme.times) == (1, 3)


def test_agreement_by_hand() -> None:
    """q0: ranks 1 2 3 and 1 3 2, correlation 1/2, same best. q1: opposite, correlation -1. q2: constant in one: no correlation, and one
    of its two best is the other's. q3: a lone candidate says nothing."""
    agreement = Agreement("score_0", "score_1")
    offsets = Ragged(np.array([0, 3, 5, 7, 8]))
    left, right = np.array([9.0, 5, 1, 2, 1, 4, 4, 1]), np.array([7.0, 2, 3, 0, 6, 1, 0, 1])
    agreement.add(offsets, left, right)
    rows = {row["measure"]: (row["value"], row["count"]) for row in agreement.rows(Examination("score_0", "en-en"))}
    assert rows == {
        "spearman": (pytest.approx((0.5 - 1) / 2), 2),
        "best_agreement": (pytest.approx((1 + 0 + 0.5) / 3), 3),
    }


def test_the_table_has_every_figure_once() -> None:
    one, other = examined([1, 2], [3, 1]), examined([1, 2], [3, 1])
    other.stage = "score_1"
    table = report_table([one, other], [Agreement("score", "score_1", 2, 1.0, 2, 1.0)])
    assert set(table["stage"].to_pylist()) == {"score", "score_1"}
    assert [row["value"] for row in table.to_pylist() if row["other"] == "score_1"] == [0.5, 0.5]


# --- suspicions ------------------------------------------------------------------------------------------------------

LIMITS = TeacherCheckSettings()


def kinds(examination: Examination, limits: TeacherCheckSettings = LIMITS) -> set[str]:
    return {suspicion.kind for suspicion in suspicions(examination, limits)}


def good(queries: int = 30) -> list[list[float]]:
    """Different scores everywhere; the judged passage, the second, is the best but for every third query."""
    return [[q + 0.1, q + (0.5 if q % 3 else -0.5), q - 0.2, q + 0.37] for q in range(queries)]


def judged(queries: int = 30) -> list[tuple[int, int]]:
    return [(q, 1) for q in range(queries)]


def test_a_good_teacher_passes() -> None:
    """20 of 30 best candidates are judged, 7.5 expected, variance 30 * 3/16: 5.27 standard errors."""
    examination = examined(*good(), relevant=judged())
    assert examination.facts()["judged_best_deviations"] == pytest.approx((20 - 7.5) / math.sqrt(30 * 3 / 16))
    assert kinds(examination) == set()


def test_a_near_constant_teacher_is_suspicious() -> None:
    """16 of 30 lists are equal to a millionth: more than half; 15 are not."""
    constant = [[7.0, 7.0 + 5e-7, 7.0, 7.0]] * 16
    assert examined(*constant, *good()[16:]).facts()["constant_share"] == 16 / 30
    assert "constant" in kinds(examined(*constant, *good()[16:]))
    assert "constant" not in kinds(examined(*constant[:15], *good()[15:]))


def test_a_near_random_teacher_is_suspicious() -> None:
    """9 of 30 best candidates are judged where 7.5 are expected: 0.63 standard errors."""
    scores = [[0.1 * q, 9 if q < 9 else -9 - q, 1, 2] for q in range(30)]
    found = suspicions(examined(*scores, relevant=judged()), LIMITS)
    assert [s.kind for s in found] == ["random"]
    assert (
        "(stage score) is suspicious (random): the best candidate is judged relevant for 30.0% of 30 queries"
        in found[0].message
    )
    assert "a random order gives 25.0%: +0.6 standard errors, expected more than 2" in found[0].message


def test_a_teacher_whose_sign_is_turned_is_suspicious() -> None:
    scores = [[-s for s in one] for one in good()]
    assert kinds(examined(*scores, relevant=judged())) == {"random"}


def test_few_judged_queries_say_nothing_of_randomness() -> None:
    scores = [[2.0 + q, 1.0, 0.5 - q] for q in range(19)]
    assert kinds(examined(*scores, relevant=judged(19))) == set()
    assert kinds(examined(*scores, relevant=judged(19)), TeacherCheckSettings(random_queries=19)) == {"random"}


def test_saturated_teachers_are_suspicious() -> None:
    """At an end: a log-probability of 0 for 7 of 30 best candidates. Near 0 and 1 within [0, 1]: a sigmoid of large logits."""
    ends = [[0.0 if q < 26 else -0.5 - q, -1.0 - q, -40.0 - q, -50.0 - q] for q in range(30)]
    found = examined(*ends)
    assert found.facts()["saturated_share"] == 25 / 120
    assert kinds(found) == {"saturated"}
    assert kinds(examined(*[[-1e-6 * q if q < 26 else -0.5 - q, *one[1:]] for q, one in enumerate(ends)])) == set()
    logits = np.array([[8.0 + q / 10, -9.0 - q / 10, 0.1 + q / 50, 1.1 - q / 50] for q in range(30)])
    sigmoid = (1 / (1 + np.exp(-logits))).tolist()
    assert len({score for one in sigmoid for score in one}) > 100
    assert kinds(examined(*sigmoid)) == {"saturated"}
    assert kinds(examined(*logits.tolist())) == set()


def test_pairs_without_score_and_cut_pairs_are_suspicious() -> None:
    """120 pairs: one without a score is 1/121, above a thousandth; 60 cut of 120 are not more than half, 61 are."""
    assert kinds(examined(*good(), not_finite=1)) == {"not_finite"}
    assert kinds(examined(*good(), truncated=60)) == set()
    assert kinds(examined(*good(), truncated=61)) == {"truncated"}


def test_suspicions_stop_unless_allowed() -> None:
    found = suspicions(examined(*[[1.0, 1.0]] * 3, truncated=6), LIMITS)
    assert [s.kind for s in found] == ["constant", "saturated", "truncated"]
    with pytest.raises(SuspiciousTeacherError) as error:
        refuse_suspicious(found, TeacherCheckSettings(allow=("saturated",)), "out/teacher_report.html")
    assert "100.0% of the queries have candidates that all score the same, the limit is 50.0%" in str(error.value)
    assert str(error.value).endswith(
        "The report is out/teacher_report.html. To continue set score.check.allow to [constant, saturated, truncated]"
    )
    allowed = TeacherCheckSettings(allow=("constant", "saturated", "truncated"))
    assert refuse_suspicious(found, allowed, "x") == [s.message for s in found]


def test_an_empty_table_is_reported() -> None:
    found = examined([], [])
    assert found.facts() == {"queries": 2, "pairs": 0}
    assert kinds(found) == set()
