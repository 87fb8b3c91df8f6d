import math
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from distill.config import load
from distill.formats.scores import write_scores
from distill.formats.settings import ScoreUnit
from distill.numerics.ragged import Ragged
from distill.score.calibrate import calibrate
from distill.score.imported import import_scores
from distill.score.lists import ScoreLists
from distill.score.settings import (
    CalibrationSettings,
    CausalTeacher,
    CrossEncoderTeacher,
    EnsembleTeacher,
    HttpTeacher,
    ImportedTeacher,
    MonoT5Teacher,
    PromptSettings,
    ScoreSettings,
    SingleTeacher,
    TeacherCheckSettings,
    unit_of,
)
from distill.score.units import in_unit, log_odds, log_probability
from distill.tables import CANDIDATES, PARTS, QRELS, QUERIES, SCORES, TableError
from distill.train.losses import kl_divergence
from tests.workspaces import LocalWorkspace

Unit = Literal["log_odds", "log_probability"]
LOG_ODDS = np.array([6, 4, 2, -2], np.float32)
LOG_P = [-0.0024757, -0.0181499, -0.1269280, -2.1269280]
"""log(1 / (1 + exp(-s))), worked out apart."""
OF_LOG_ODDS = [0.86656, 0.11728, 0.01587, 0.00029]
OF_LOG_P = [0.33479, 0.32959, 0.29562, 0.04001]
"""p / sum(p) for p = 1 / (1 + exp(-s)) = .99753, .98201, .88080, .11920, whose sum is 2.97954: the papers' target."""
MONO = MonoT5Teacher(model="unicamp-dl/mt5-13b-mmarco-100k")
IDS = ["a", "b", "c", "d"]


def imported(path: Path, unit: ScoreUnit) -> ImportedTeacher:
    return ImportedTeacher(files=(str(path),), format="tdist", unit=unit, name="n")


def lists(*scores: float) -> ScoreLists:
    ids = [f"p{i}" for i in range(len(scores))]
    return ScoreLists(
        pa.array(["q"]), pa.array(ids), Ragged(np.array([0, len(scores)])), np.array(scores, np.float32), ("t",)
    )


def calibrated(tmp_path: Path, teacher: SingleTeacher, unit: Unit, scores: list[float] | None = None) -> np.ndarray:
    """Return what examples hold of one query's scores: the given raw ones, or those that the teacher imports."""
    before = {
        "sources": {
            "queries": QUERIES.from_rows([{"query_id": "q", "lang": "en", "text": "q", "split": "train"}]),
            "parts": PARTS.empty(),
            "qrels": QRELS.empty(),
        },
        "select": {"candidates": CANDIDATES.from_rows([{"query_id": "q", "passage_ids": IDS, "selector": "s"}])},
    }
    if scores is None:
        raw = LocalWorkspace(tmp_path, "score", before)
        assert isinstance(teacher, ImportedTeacher)
        import_scores(raw, teacher, "en", "en")
        stages = before | {"score": raw}
    else:
        rows = [{"query_id": "q", "passage_ids": IDS, "scores": scores, "teacher": "t"}]
        stages = before | {"score": {"scores": SCORES.from_rows(rows)}}
    settings = ScoreSettings(
        teacher=teacher, calibration=CalibrationSettings(unit=unit), check=TeacherCheckSettings(allow=("saturated",))
    )
    workspace = LocalWorkspace(tmp_path, "calibrate", stages)
    calibrate(workspace, settings, ["score"], "en")
    assert workspace.facts["unit"] == unit
    return np.array(workspace.output("scores")["scores"][0].as_py())


def target(scores: np.ndarray) -> list[float]:
    """Return the distribution that the loss draws a student to: where its gradient is the student's own minus it."""
    student = torch.zeros(1, len(scores), requires_grad=True)
    [gradient] = torch.autograd.grad(kl_divergence(student, torch.tensor(scores)[None]), student)
    return (torch.softmax(student, -1) - gradient)[0].tolist()


@pytest.mark.parametrize(("unit", "expected"), [("log_odds", OF_LOG_ODDS), ("log_probability", OF_LOG_P)])
def test_a_teacher_that_runs_and_its_file_give_one_target(tmp_path: Path, unit: Unit, expected: list[float]) -> None:
    write_scores(str(tmp_path / "s.jsonl"), "tdist", [("q", IDS, np.array(LOG_P, np.float32))])
    computed = calibrated(tmp_path / "1", MONO, unit, LOG_ODDS.tolist())
    read = calibrated(tmp_path / "2", imported(tmp_path / "s.jsonl", "log_probability"), unit)
    assert target(computed) == pytest.approx(expected, abs=1e-5)
    assert read == pytest.approx(computed, rel=2e-5)


def test_conversions_by_hand() -> None:
    assert log_probability(LOG_ODDS) == pytest.approx(LOG_P, rel=1e-5)
    assert log_odds(np.array(LOG_P)) == pytest.approx(LOG_ODDS, rel=2e-5)
    assert log_probability(np.array([-800.0, 800.0])).tolist() == [-800.0, 0.0]


def test_conversions_keep_every_score_apart() -> None:
    """Log p of float32 saturates only where exp(-s) is no float32: the conversion is of 64 bits and small numbers have all digits."""
    scores = np.linspace(-60, 60, 2001, dtype=np.float32)
    found = in_unit({"s": lists(*scores)}, {"s": "log_odds"}, "log_probability")["s"].scores
    assert found.dtype == np.float32
    assert (np.diff(found) > 0).all()
    back = in_unit({"s": lists(*found)}, {"s": "log_probability"}, "log_odds")["s"].scores
    assert back == pytest.approx(scores, rel=1e-5, abs=1e-6)


def test_similarities_stay() -> None:
    found = in_unit({"s": lists(2.0, -1.0)}, {"s": "similarity"}, "log_odds")["s"].scores
    assert found.tolist() == [2.0, -1.0]


@pytest.mark.parametrize(
    ("scores", "held", "wanted", "message"),
    [
        ((-1.0, 0.5, 2.0), "log_probability", "log_probability", r"s: 2 of 3 scores, the first 0.5 of query 'q' passage 'p1': no log"),
        ((-1.0, math.nan, 0.0), "log_probability", "log_odds", r"s: 1 of 3 scores, the first 0 of .* passage 'p2': its log-odds are inf"),
    ],
)  # fmt: skip
def test_scores_that_have_no_such_unit(scores: tuple, held: ScoreUnit, wanted: ScoreUnit, message: str) -> None:
    with pytest.raises(TableError, match=message):
        in_unit({"s": lists(*scores)}, {"s": held}, wanted)


def prompt(no: str | None) -> PromptSettings:
    return PromptSettings(before_query="a", before_passage="b", after_passage="c", no=no, yes="y")


@pytest.mark.parametrize(
    ("teacher", "unit"),
    [
        (MONO, "log_odds"),
        (CrossEncoderTeacher(model="m"), "log_odds"),
        (CausalTeacher(model="m", prompt="qwen3"), "log_odds"),
        (CausalTeacher(model="m", prompt="mxbai"), "log_odds"),
        (CausalTeacher(model="m", prompt="bge_gemma"), "similarity"),
        (CausalTeacher(model="m", prompt=prompt("n")), "log_odds"),
        (CausalTeacher(model="m", prompt=prompt(None)), "similarity"),
        (HttpTeacher(url="http://h", api="vllm_score"), "log_odds"),
        (HttpTeacher(url="http://h", api="vllm_score", raw_scores=False), "similarity"),
        (imported(Path("f"), "log_probability"), "log_probability"),
    ],
)
def test_units_of_teachers(teacher: SingleTeacher, unit: ScoreUnit) -> None:
    assert unit_of(teacher) == unit
    assert ScoreSettings(teacher=teacher).units == (unit,)


def test_a_similarity_has_no_log_probability() -> None:
    calibration = CalibrationSettings(unit="log_probability")
    with pytest.raises(ValidationError, match="the scores of a bi_encoder teacher, as it is set, are no log-odds"):
        ScoreSettings(calibration=calibration)
    one_answer = CausalTeacher(model="m", prompt="bge_gemma")
    with pytest.raises(ValidationError, match="the scores of a causal teacher"):
        ScoreSettings(teacher=EnsembleTeacher(teachers=(MONO, one_answer)), calibration=calibration)


@pytest.mark.parametrize("name", ["td_zh", "td_fa", "td_ru", "mtd_neuclir", "mtd_clef"])
def test_the_papers_configurations_have_the_papers_target(name: str) -> None:
    score = load([f"jobs/configs/{name}.yaml"]).score
    assert (score.units, score.calibration.unit) == (("log_odds",), "log_probability")
