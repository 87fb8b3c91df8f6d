import math
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize_scalar

from distill.numerics.ragged import Ragged
from distill.score.calibrate import calibrate
from distill.score.ensemble import combine
from distill.score.report.suspicions import SuspiciousTeacherError
from distill.score.settings import (
    BiEncoderTeacher,
    CalibrationSettings,
    CrossEncoderTeacher,
    EnsembleTeacher,
    ScoreSettings,
    TeacherCheckSettings,
)
from distill.score.temperature import fit_temperature
from distill.tables import (
    CANDIDATES,
    PARTS,
    QRELS,
    QUERIES,
    REJECTED,
    SCORES,
    TEACHER_REPORT,
    TRUNCATED_PAIRS,
    TableError,
)
from tests.workspaces import LocalWorkspace

QUERY_IDS = [f"q{q:02d}" for q in range(30)]
IDS = ["p0", "p1", "p2", "p3"]


def good(query: int) -> list[float]:
    """Scores of which the second, the judged one, is the best but for every third query."""
    return [query + 0.1, query + (0.5 if query % 3 else -0.5), query - 0.2, query + 0.37]


def score_table(
    scores: dict[str, list[float]], teacher: str = "t@1", ids: dict[str, list[str]] | None = None
) -> pa.Table:
    return SCORES.from_rows(
        {"query_id": q, "passage_ids": (ids or {}).get(q, IDS), "scores": one, "teacher": teacher}
        for q, one in scores.items()
    )


def inputs(**scores: pa.Table) -> dict[str, dict[str, pa.Table]]:
    """Sources and candidates; the judged passage of each query is p1, of test queries p2 (which nothing may look at)."""
    split = [("train", "dev", "test")[q % 3] for q in range(30)]
    queries = [{"query_id": q, "lang": "en", "text": q, "split": s} for q, s in zip(QUERY_IDS, split, strict=True)]
    qrels = [
        {"query_id": q, "passage_id": "p2" if s == "test" else "p1", "relevance": 1}
        for q, s in zip(QUERY_IDS, split, strict=True)
    ]
    candidates = [{"query_id": q, "passage_ids": IDS, "selector": "s"} for q in QUERY_IDS]
    return {
        "sources": {"queries": QUERIES.from_rows(queries), "parts": PARTS.empty(), "qrels": QRELS.from_rows(qrels)},
        "select": {"candidates": CANDIDATES.from_rows(candidates)},
        **{stage: {"scores": table} for stage, table in scores.items()},
    }


def all_good() -> dict[str, list[float]]:
    return {q: good(i) for i, q in enumerate(QUERY_IDS)}


def ensemble(method: Literal["z_score", "reciprocal_rank"] = "z_score") -> ScoreSettings:
    members = (BiEncoderTeacher(), CrossEncoderTeacher(model="m"))
    return ScoreSettings(teacher=EnsembleTeacher(teachers=members, method=method))


def test_one_teachers_scores_pass_unchanged(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "calibrate", inputs(score=score_table(all_good())))
    calibrate(workspace, ScoreSettings(), ["score"], "en")
    assert workspace.output("scores").equals(score_table(all_good()))
    assert len(workspace.output("rejected")) == 0
    assert workspace.facts["temperature"] == 1.0
    assert workspace.facts["teachers"]["score"]["pairs"] == 120
    assert workspace.facts["teachers"]["score"]["lang"] == "en-en"
    assert workspace.warnings == []


def test_the_report_lies_beside_the_scores(tmp_path: Path) -> None:
    stages = inputs(score=score_table(all_good(), "<m&m>"))
    stages["score"]["truncated_pairs"] = TRUNCATED_PAIRS.from_rows([{"query_id": "q00", "passage_id": "p1"}])
    workspace = LocalWorkspace(tmp_path, "calibrate", stages)
    calibrate(workspace, ScoreSettings(passage_lang="de"), ["score"], "en")
    table = TEACHER_REPORT.check(workspace.output("teacher_report"))
    rows = {(row["ranks"], row["measure"]): row for row in table.to_pylist()}
    assert rows["all", "truncated_share"]["value"] == 1 / 120
    # Ten training queries, whose number is a multiple of 3, fail; ten development queries succeed; test queries are not looked at.
    assert rows["all", "judged_best_share"] == {
        "stage": "score", "teacher": "<m&m>", "other": "", "lang": "en-de", "ranks": "all", "measure": "judged_best_share", "value": 0.5,
        "count": 20,
    }  # fmt: skip
    assert rows["2-5", "best_share"]["value"] == 1.0
    page = (Path(workspace.folder) / "teacher_report.html").read_text(encoding="utf-8")
    assert "&lt;m&amp;m&gt;" in page
    assert "<m&m>" not in page
    assert "Nothing is suspicious." in page
    assert "<td>50.00%</td>" in page
    assert 'aria-label="Raw scores of &lt;m&amp;m&gt; (score)"' in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("kind", "scores"),
    [
        ("constant", {q: [float(i)] * 4 for i, q in enumerate(QUERY_IDS)}),
        # p1 is the best of 5 of the 20 training and development queries: as a random order gives
        (
            "random",
            {q: [i + 0.1, i + (0.5 if i % 4 == 1 else -0.5), i - 0.2, i + 0.37] for i, q in enumerate(QUERY_IDS)},
        ),
        ("saturated", {q: [1.0, 1.0 if i % 3 else 0.9, 0.3, 0.1] for i, q in enumerate(QUERY_IDS)}),
    ],
)
def test_a_suspicious_teacher_stops_the_job_after_the_report(
    tmp_path: Path, kind: str, scores: dict[str, list[float]]
) -> None:
    workspace = LocalWorkspace(tmp_path, "calibrate", inputs(score=score_table(scores)))
    with pytest.raises(
        SuspiciousTeacherError, match=rf"teacher 't@1' \(stage score\) is suspicious \({kind}\): .*score.check.allow"
    ):
        calibrate(workspace, ScoreSettings(), ["score"], "en")
    assert len(workspace.output("teacher_report")) > 10
    assert f"is suspicious ({kind})" in (Path(workspace.folder) / "teacher_report.html").read_text(encoding="utf-8")
    assert not (Path(workspace.folder) / "scores").exists()


def test_an_allowed_suspicion_is_a_warning(tmp_path: Path) -> None:
    scores = {q: [float(i)] * 4 for i, q in enumerate(QUERY_IDS)}
    workspace = LocalWorkspace(tmp_path, "calibrate", inputs(score=score_table(scores)))
    settings = ScoreSettings(check=TeacherCheckSettings(allow=("constant", "random")))
    calibrate(workspace, settings, ["score"], "en")
    assert len(workspace.output("scores")) == 30
    assert len(workspace.warnings) == 2
    assert all(warning.endswith("(allowed)") for warning in workspace.warnings)


def test_rejected_pairs_without_a_number_are_counted(tmp_path: Path) -> None:
    rows = {q: s[:3] if q == "q05" else s for q, s in all_good().items()}
    stages = inputs(score=score_table(rows, ids={"q05": ["p0", "p1", "p3"]}))
    lost = {"source": "candidates", "line": 0, "id": "q05 p2", "field": "score", "reason": "the teacher gave nan"}
    stages["score"]["rejected"] = REJECTED.from_rows([lost, lost | {"field": "passage_ids"}])
    workspace = LocalWorkspace(tmp_path, "calibrate", stages)
    with pytest.raises(
        SuspiciousTeacherError, match=r"not_finite\): 0\.8% of the pairs got no finite score, the limit is 0\.1%"
    ):
        calibrate(workspace, ScoreSettings(), ["score"], "en")


def test_the_embedded_defaults_teacher_passes(tmp_path: Path) -> None:
    """Cosines of the bundled encoder on a part of the bundled corpus, through the score stage."""
    from distill.score.settings import BiEncoderTeacher
    from distill.score.stage import score
    from distill.sources import corpus
    from distill.tables import PASSAGES

    passages = [p | {"passage_id": p.pop("id")} for _, p in corpus.passages() if p["lang"] == "en"][:16]
    passages = [p | {"doc_id": p["passage_id"]} for p in passages]
    ids = [p["passage_id"] for p in passages]
    queries = [q | {"query_id": q.pop("id")} for _, q in corpus.queries() if q["lang"] == "en"]
    qrels = [{"query_id": r["query"], "passage_id": r["passage"], "relevance": r["grade"]} for _, r in corpus.qrels()]
    qrels = [r for r in qrels if r["passage_id"] in ids]
    asked = sorted({r["query_id"] for r in qrels})
    stages = {
        "sources": {
            "passages": PASSAGES.from_rows(passages),
            "queries": QUERIES.from_rows(q for q in queries if q["query_id"] in asked),
            "parts": PARTS.empty(),
            "qrels": QRELS.from_rows(qrels),
        },
        "select": {
            "candidates": CANDIDATES.from_rows({"query_id": q, "passage_ids": ids, "selector": "s"} for q in asked)
        },
    }
    scored = LocalWorkspace(tmp_path, "score", stages)
    score(scored, ScoreSettings(), BiEncoderTeacher(max_passage_tokens=32), "en")
    workspace = LocalWorkspace(tmp_path, "calibrate", {**stages, "score": scored})
    settings = ScoreSettings(check=TeacherCheckSettings(allow=("truncated",)))
    calibrate(workspace, settings, ["score"], "en")
    facts = workspace.facts["teachers"]["score"]
    assert facts["judged_best_share"] > 0.7
    assert facts["judged_best_by_chance"] < 0.2
    assert [w for w in workspace.warnings if "truncated" not in w] == []


# --- ensembles -------------------------------------------------------------------------------------------------------

LISTS = Ragged(np.array([0, 3, 4, 6]))
ONE = np.array([1.0, 2.0, 3.0, 9.0, 4.0, 4.0], np.float32)
OTHER = np.array([30.0, 10.0, 20.0, -5.0, 0.0, 8.0], np.float32)


def test_z_scores_by_hand() -> None:
    """1 2 3 are -a 0 a and 30 10 20 are a -a 0 with a = sqrt(3/2); a lone candidate is 0; equal ones are 0 beside -1 and 1."""
    a = math.sqrt(1.5)
    assert combine("z_score", LISTS, [ONE, OTHER]) == pytest.approx([0, -a / 2, a / 2, 0, -0.5, 0.5])


def test_reciprocal_ranks_by_hand() -> None:
    """Ranks 3 2 1 and 1 3 2; a lone candidate is first twice; equal ones share rank 1.5."""
    expected = [
        1 / 63 + 1 / 61, 1 / 62 + 1 / 63, 1 / 61 + 1 / 62, 2 / 61, 1 / 61.5 + 1 / 62, 1 / 61.5 + 1 / 61,
    ]  # fmt: skip
    assert combine("reciprocal_rank", LISTS, [ONE, OTHER]) == pytest.approx(expected)


def test_an_ensemble_takes_what_every_teacher_scored(tmp_path: Path) -> None:
    first = score_table(all_good(), "a")
    lacking = {q: ([2.0 + i, 1.0, 3.5] if q == "q01" else [2 * s for s in good(i)]) for i, q in enumerate(QUERY_IDS)}
    second = score_table(lacking, "b@2", {"q01": ["p3", "p0", "p1"]})
    workspace = LocalWorkspace(tmp_path, "calibrate", inputs(score_0=first, score_1=second))
    calibrate(workspace, ensemble(), ["score_0", "score_1"], "en")
    rows = {row["query_id"]: row for row in workspace.output("scores").to_pylist()}
    assert list(rows) == QUERY_IDS
    assert rows["q00"]["teacher"] == "z_score(a, b@2)"
    # Twice the scores have the same z-scores.
    ten = np.array(good(10))
    assert rows["q10"]["scores"] == pytest.approx((ten - ten.mean()) / ten.std(), abs=1e-5)
    assert rows["q01"]["passage_ids"] == ["p0", "p1", "p3"]
    one, other = np.array([1.1, 1.5, 1.37]), np.array([1.0, 3.5, 3.0])
    expected = ((one - one.mean()) / one.std() + (other - other.mean()) / other.std()) / 2
    assert rows["q01"]["scores"] == pytest.approx(expected, abs=1e-5)
    [rejected] = workspace.output("rejected").to_pylist()
    assert rejected["id"] == "q01 p2"
    assert rejected["reason"].startswith("no score of score_1;")
    report = {
        (r["stage"], r["other"], r["measure"]): r["value"] for r in workspace.output("teacher_report").to_pylist()
    }
    assert report["score_0", "score_1", "best_agreement"] == 1.0
    # q01: ranks 3 1 2 and 3 1 2 of the three that both scored
    assert report["score_0", "score_1", "spearman"] == pytest.approx(1.0)
    assert "a and b@2" in (Path(workspace.folder) / "teacher_report.html").read_text(encoding="utf-8")


def test_shards_do_not_change_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {
        "score_0": score_table(all_good()),
        "score_1": score_table({q: good(29 - i) for i, q in enumerate(QUERY_IDS)}),
    }
    whole = LocalWorkspace(tmp_path / "whole", "calibrate", inputs(**tables))
    calibrate(whole, ensemble("reciprocal_rank"), list(tables), "en")
    monkeypatch.setattr("distill.score.calibrate._PAIRS_PER_SHARD", 28)
    parts = LocalWorkspace(tmp_path / "parts", "calibrate", inputs(**tables))
    calibrate(parts, ensemble("reciprocal_rank"), list(tables), "en")
    assert parts.computed == [0, 1, 2, 3, 4]
    assert parts.output("scores").equals(whole.output("scores"))


# --- temperature -----------------------------------------------------------------------------------------------------


def test_temperature_is_applied_and_recorded(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "calibrate", inputs(score=score_table(all_good())))
    settings = ScoreSettings(calibration=CalibrationSettings(temperature=0.25))
    calibrate(workspace, settings, ["score"], "en")
    row = workspace.output("scores").to_pylist()[4]
    assert row["scores"] == pytest.approx([4 * s for s in good(4)], rel=1e-6)
    assert row["teacher"] == "t@1 / 0.25"
    assert workspace.facts["temperature"] == 0.25


def test_temperature_by_hand() -> None:
    """Two candidates 2 apart, the better one judged in 3 of 4 queries: softmax must give it 3/4, so 2 / T = ln 3."""
    lists = Ragged(np.arange(0, 9, 2))
    scores = np.array([1.0, -1, 5, 3, 0, -2, 9, 7])
    relevant = np.array([1, 0, 1, 0, 1, 0, 0, 1], bool)
    assert fit_temperature(lists, scores, relevant) == pytest.approx(2 / math.log(3))
    assert fit_temperature(lists, 100 * scores, relevant) == pytest.approx(200 / math.log(3))


def test_temperature_maximises_the_likelihood() -> None:
    random = np.random.default_rng(3)
    lengths = random.integers(2, 9, 50)
    lists = Ragged(np.concatenate([[0], np.cumsum(lengths)]))
    scores = random.normal(0, 4, lists.offsets[-1])
    noisy = scores + random.gumbel(0, 2.5, len(scores))
    relevant = noisy >= lists.largest(noisy)[lists.owners] - 0.5 * (lists.lengths > 4)[lists.owners]

    def loss(temperature: float) -> float:
        return sum(
            -np.mean(scores[a:b][relevant[a:b]]) / temperature + np.log(np.exp(scores[a:b] / temperature).sum())
            for a, b in zip(lists.offsets, lists.offsets[1:], strict=False)
        )

    best = minimize_scalar(loss, bounds=(0.1, 50), method="bounded", options={"xatol": 1e-8}).x
    assert fit_temperature(lists, scores, relevant) == pytest.approx(best, rel=1e-5)


def test_no_temperature_fits_a_random_or_a_perfect_teacher() -> None:
    lists, scores = Ragged(np.array([0, 2, 4])), np.array([1.0, 2.0, 1.0, 2.0])
    with pytest.raises(TableError, match="score no better than the other candidates"):
        fit_temperature(lists, scores, np.array([1, 0, 0, 1], bool))
    with pytest.raises(TableError, match="is the best candidate of every query"):
        fit_temperature(lists, scores, np.array([0, 1, 0, 1], bool))


def test_temperature_is_fitted_on_the_splits_judged_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training queries are those whose judged passage is not the best: only development queries have p1 above p0."""
    scores = {
        q: [1.0 + i, 3.0 + i, *([5.0 + i, 0.1 * i] if i % 9 == 1 else [-9.0 - i, -9.5 - i])]
        for i, q in enumerate(QUERY_IDS)
    }
    settings = ScoreSettings(
        calibration=CalibrationSettings(temperature="fit", split="dev"), check=TeacherCheckSettings(allow=("random",))
    )
    monkeypatch.setattr("distill.score.lists.BLOCK_PAIRS", 8)
    workspace = LocalWorkspace(tmp_path, "calibrate", inputs(score=score_table(scores)))
    calibrate(workspace, settings, ["score"], "en")
    dev = [i for i in range(30) if i % 3 == 1]
    flat = np.concatenate([scores[QUERY_IDS[i]] for i in dev]).astype(np.float32).astype(np.float64)
    expected = fit_temperature(Ragged(np.arange(0, 41, 4)), flat, np.arange(40) % 4 == 1)
    assert workspace.facts["temperature"] == pytest.approx(expected)
    first = workspace.output("scores")["scores"][0].as_py()
    assert first == pytest.approx([s / expected for s in scores["q00"]], rel=1e-5)


def test_a_fit_without_judged_queries_is_refused(tmp_path: Path) -> None:
    stages = inputs(score=score_table(all_good()))
    stages["sources"]["qrels"] = stages["sources"]["qrels"].slice(0, 0)
    workspace = LocalWorkspace(tmp_path, "calibrate", stages)
    settings = ScoreSettings(calibration=CalibrationSettings(temperature="fit"))
    with pytest.raises(TableError, match="finds no dev query with a judged and another passage"):
        calibrate(workspace, settings, ["score"], "en")


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_temperatures_are_positive_numbers(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature .* is not a number above 0"):
        CalibrationSettings(temperature=temperature)
