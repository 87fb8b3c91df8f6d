"""What is known of models before the first stage: by the name of their setting, without a start of Ray."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.settings import PoolSettings
from distill.encoders.settings import LateInteractionStudent, PretrainedStudent, SingleVectorStudent
from distill.models.locate import ModelError
from distill.score.settings import BiEncoderTeacher, CrossEncoderTeacher, HttpTeacher, MonoT5Teacher
from distill.select.settings import DenseSelector, LateInteractionSelector, SelectSettings
from distill.train.settings import TrainSettings
from distill.translate.settings import (
    CommandTranslator,
    CTranslate2Translator,
    TransformersTranslator,
    TranslateSettings,
    VllmTranslator,
)
from jobs.running import model_checks
from jobs.running.model_checks import Check

POOL = PoolSettings()
LOCAL: Any = SimpleNamespace(session=SimpleNamespace(local=True))
CLUSTER: Any = SimpleNamespace(session=SimpleNamespace(local=False))
UNKNOWN = "nobody/nothing"


@pytest.fixture
def broken(tiny_cross_encoder: Path, tmp_path: Path) -> str:
    folder = Path(shutil.copytree(tiny_cross_encoder, tmp_path / "broken"))
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


def translators(by: Any) -> Check:
    return model_checks.translator(TranslateSettings(by=by), "en", ("de",))


def every(model: str) -> dict[str, Check]:
    """The check of each kind of model, by the setting that names it."""
    start = PretrainedStudent(model=model)
    return {
        "student.start.model": model_checks.student(SingleVectorStudent(start=start)),
        "score.teacher.model": model_checks.teacher(CrossEncoderTeacher(model=model), POOL),
        "score.teacher.model: ": model_checks.teacher(BiEncoderTeacher(model=model), POOL),
        "select.by.model": model_checks.selector(SelectSettings(by=LateInteractionSelector(model=model))),
        "translate.by.model": translators(TransformersTranslator(model=model)),
        "translate.by.model: ": translators(CTranslate2Translator(models={"de": model})),
    }


def test_a_damaged_model_is_named_by_its_setting(broken: str) -> None:
    for setting, check in every(broken).items():
        with pytest.raises(ModelError, match=rf"^{setting}.*model\.safetensors is empty; fetch") as caught:
            check(LOCAL)
        assert "\n" not in str(caught.value)


def test_a_name_that_the_hub_does_not_have_is_named_by_its_setting() -> None:
    for setting, check in every(UNKNOWN).items():
        with pytest.raises(ModelError, match=rf"^{setting}.*'{UNKNOWN}' is no local folder and not in the cache"):
            check(LOCAL)


def test_on_a_cluster_only_what_the_driver_loads_must_be_here(capsys: pytest.CaptureFixture[str]) -> None:
    """The student's start and a late-interaction selector are loaded by the driver; the others by actors, which may have them."""
    for setting, check in every(UNKNOWN).items():
        if setting in {"student.start.model", "select.by.model"}:
            with pytest.raises(ModelError, match=rf"^{setting}"):
                check(CLUSTER)
            continue
        check(CLUSTER)
        assert f"not checked, the cluster's workers may have it: {setting}" in capsys.readouterr().out


def test_whole_models_pass(tiny_bert: Path, tiny_student: Path, tiny_cross_encoder: Path) -> None:
    student = LateInteractionStudent(start=PretrainedStudent(model=str(tiny_bert)))
    for check in (
        model_checks.student(student, TrainSettings(loggers=("tensorboard",))),
        model_checks.teacher(CrossEncoderTeacher(model=str(tiny_cross_encoder)), POOL),
        model_checks.selector(SelectSettings(by=LateInteractionSelector(model=str(tiny_student)))),
        translators(CommandTranslator(name="copy", command=("cat",))),
    ):
        check(LOCAL)


def test_a_model_that_is_no_such_teacher_is_said(tiny_bert: Path) -> None:
    with pytest.raises(ModelError, match=r"^score\.teacher: the tokenizer of .* has no end-of-sequence token"):
        model_checks.teacher(MonoT5Teacher(model=str(tiny_bert)), POOL)(LOCAL)


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    check = model_checks.teacher(HttpTeacher(url="http://127.0.0.1:9/score", api="vllm_score", model="m"), POOL)
    with pytest.raises(
        ModelError, match=r"^score\.teacher\.url: no server answers at http://127\.0\.0\.1:9/score \(.*refused"
    ):
        check(LOCAL)
    check(CLUSTER)


def test_a_program_that_is_not_there_is_named() -> None:
    check = translators(CommandTranslator(name="own", command=("translate-{lang}", "--fast")))
    with pytest.raises(
        ModelError, match=r"^translate\.by\.command: there is no program 'translate-de' that can be run"
    ):
        check(LOCAL)


def test_missing_packages_are_said_with_what_installs_them(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    monkeypatch.setattr(model_checks.importlib.util, "find_spec", lambda name: None)
    dense = DenseSelector.model_validate({"encoder": {"model": str(tiny_bert)}, "factory": "Flat"})
    for check, said in (
        (translators(CTranslate2Translator(model=str(tiny_bert))), r"^translate\.by needs sentencex: pip install"),
        (translators(VllmTranslator(model=str(tiny_bert))), r"^translate\.by needs sentencex"),
        (
            model_checks.selector(SelectSettings(by=dense)),
            r"^select\.by\.factory needs faiss: pip install 'polyray\[cpu\]'",
        ),
        (
            model_checks.student(SingleVectorStudent(), TrainSettings(loggers=("wandb",))),
            r"^train\.loggers 'wandb' needs",
        ),
    ):
        with pytest.raises(ModelError, match=said):
            check(LOCAL)
