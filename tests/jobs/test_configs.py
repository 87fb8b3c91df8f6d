"""Every shipped configuration can be planned where it is, without a network: with its own job, and by stage."""

from pathlib import Path

import pytest

from distill.config import Config, load
from distill.encoders.settings import LateInteractionStudent, PretrainedStudent, SingleVectorStudent
from distill.meta.config import MetaConfig
from distill.score.settings import MonoT5Teacher
from distill.settings.load import ConfigError, load_as
from distill.train.loss_settings import KlLoss, RelevanceMarginLoss
from jobs import arm, maml_align, mtd, td
from jobs.running.command import run

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
JOBS = {
    "quickstart": mtd,
    "xquad": mtd,
    "mtd_neuclir": mtd,
    "mtd_clef": mtd,
    "arm": arm,
    "arm_msmarco": arm,
} | dict.fromkeys(("td", "td_zh", "td_fa", "td_ru"), td)
TEACHING = ("score", "calibrate")


def config(name: str, *arguments: str) -> Config:
    return load([CONFIGS / f"{name}.yaml"], arguments)


def planned(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines() if line.startswith("  ")]


META = ("maml_align", "maml_lareqa", "maml_stsb")


def test_every_configuration_has_its_job() -> None:
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == {*JOBS, *META}


@pytest.mark.parametrize("name", META)
def test_plans_of_meta_learning(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--storage", str(tmp_path / "store")]
    if name == "maml_lareqa":  # the data is the user's
        arguments += ["--source.path", str(tmp_path)]
    if name == "maml_stsb":
        for split in ("train", "dev", "test"):
            (tmp_path / split).write_bytes(b"")
            arguments += [f"--source.{split}", str(tmp_path / split)]
    job = maml_align.pipeline(load_as(MetaConfig, [CONFIGS / f"{name}.yaml"], arguments))
    run(job, plan=True)
    assert planned(capsys.readouterr().out) == [stage.name for stage in job.stages]
    assert not (tmp_path / "store").exists()


def test_the_settings_of_the_released_code_of_maml_align() -> None:
    """meryemmhamdi1/meta-multi-sem-search: 7,000 tasks, 4 a step for 2 epochs, 5 inner steps of 1e-3, AdamW of 5e-5, lambda 0.5."""
    found = load_as(MetaConfig, [CONFIGS / "maml_lareqa.yaml"])
    assert (found.tasks.tasks, found.tasks.shots, found.tasks.queries, found.tasks.folds) == (7000, 3, 3, 5)
    train = found.train
    assert (train.inner_steps, train.inner_rate, train.learning_rate, train.margin) == (5, 1e-3, 5e-5, 1.0)
    assert train.steps * train.tasks_per_batch == 2 * found.tasks.tasks
    assert (train.distillation_weight, train.order, train.adapting_steps, train.sums_losses) == (0.5, "first", 5, False)
    released = load_as(MetaConfig, [CONFIGS / "maml_lareqa.yaml"], ["--train.variant", "released_code"]).train
    assert (released.adapting_steps, released.sums_losses) == (0, True)
    assert [str(transfer) for transfer in found.tasks.wanted_transfers(found.languages)] == [
        "el_el-el_ar-el_ar,el,hi",
        "hi_hi-hi_de-hi_de,hi,ar",
    ]


@pytest.mark.parametrize("name", sorted(JOBS))
def test_plans(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--storage", str(tmp_path / "store")]
    if name == "xquad":  # its data is the user's
        for file in ("passages.jsonl.gz", "queries.jsonl.gz", "qrels/all.qrels"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_bytes(b"")
        arguments += ["--source.root", str(tmp_path)]
    found = config(name, *arguments)
    job = JOBS[name].pipeline(found)
    run(job, plan=True)
    stages = planned(capsys.readouterr().out)
    assert stages == [stage.name for stage in job.stages]
    assert ("score" in stages, "calibrate" in stages) == (found.has_teacher, found.has_teacher)
    assert not (tmp_path / "store").exists()
    # jobs/train.py, jobs/index.py ... find the stages of every job.
    assert [stage.folder for stage in mtd.pipeline(found).stages] == [stage.folder for stage in job.stages]


@pytest.mark.parametrize("name", ["td_zh", "td_fa", "td_ru", "mtd_neuclir", "mtd_clef"])
def test_the_papers_settings(name: str) -> None:
    """arXiv 2401.04810 and 2405.00977, and the released models' artifact.metadata."""
    found = config(name)
    student, train, mix, teacher = found.student, found.train, found.mix, found.score.teacher
    assert isinstance(student, LateInteractionStudent)
    assert isinstance(student.start, PretrainedStudent)
    assert (student.start.model, student.dim, student.query_tokens, student.passage_tokens) == (
        "xlm-roberta-large", 128, 32, 220,
    )  # fmt: skip
    assert (student.marker_mode, student.mask_punctuation, student.attend_to_mask_tokens) == ("overwrite", True, False)
    assert (train.steps, train.batch_size, train.workers, train.learning_rate) == (200_000, 64, 8, 5e-6)
    assert (train.schedule, train.warmup_steps, train.weight_decay, train.max_grad_norm) == ("constant", 0, 0.0, 2.0)
    assert train.loss == KlLoss()
    assert (mix.n_way, mix.sampling, mix.draw_from, mix.negatives) == (6, "random", None, None)
    assert isinstance(teacher, MonoT5Teacher)
    assert teacher.model == "unicamp-dl/mt5-13b-mmarco-100k"
    assert (found.score.query_lang, found.score.passage_lang) == (None, None)  # it reads English
    assert found.select.by.top_k == 50
    languages = {"mtd_neuclir": ("zh", "fa", "ru"), "mtd_clef": ("de", "es", "fr")}
    assert found.mixed_languages == languages.get(name, (name[-2:],))


def test_the_round_robin_of_the_released_model() -> None:
    found = config("mtd_neuclir", "--mix.strategy", "round_robin", "--train.batch_size", "48")
    assert found.train.batch_size // found.train.workers == 2 * 3  # two entries in three languages


def test_the_settings_of_adaptive_relevance_margins() -> None:
    """The released code's configuration for MPNet."""
    found = config("arm_msmarco")
    student, train = found.student, found.train
    assert isinstance(student, SingleVectorStudent)
    assert isinstance(student.start, PretrainedStudent)
    assert (student.start.model, student.pooling, student.normalize) == ("microsoft/mpnet-base", "cls", True)
    assert (student.query_tokens, student.passage_tokens) == (20, 200)
    assert (train.batch_size, train.learning_rate, train.weight_decay) == (128, 5e-7, 1e-6)
    assert (train.schedule, train.decay) == ("exponential", 0.99999)
    assert train.loss == RelevanceMarginLoss(margin="distributed", error="squared", alignment="code")
    assert (found.mix.sampling, found.mix.n_way, found.mix.epochs) == ("pairs", 2, 128)
    assert train.dev is not None
    assert (train.dev.every, train.dev.measure, train.dev.patience) == (500, "nDCG@10", 16)
    assert found.mixed_languages == ("en",)


def test_translate_distill_is_for_one_language() -> None:
    with pytest.raises(ConfigError, match=r"mix.strategy 'mix_passages': Translate-Distill trains for one language"):
        td.pipeline(config("quickstart"))
    with pytest.raises(ConfigError, match=r"method 'distillation': jobs/arm.py distils a student from itself"):
        arm.pipeline(config("quickstart"))


def test_translate_train_leaves_the_teacher_out() -> None:
    job = mtd.pipeline(config("quickstart", "--method", "translate_train"))
    assert [stage.name for stage in job.stages] == [
        "sources", "translate", "select", "mix", "train", "index", "retrieve", "evaluate",
    ]  # fmt: skip
    [mix] = [stage for stage in job.stages if stage.name == "mix"]
    assert [stage.name for stage in mix.inputs] == ["sources", "translate", "select"]


def test_english_distillation_is_the_quickstarts_baseline_by_itself() -> None:
    """The same examples: the same settings of the same stages, under the name of the student's."""
    both = {stage.name: stage for stage in mtd.pipeline(config("quickstart")).stages}
    alone = {
        stage.name: stage for stage in mtd.pipeline(config("quickstart", "--method", "english_distillation")).stages
    }
    assert "english_mix" not in alone
    assert alone["mix"].settings == both["english_mix"].settings
    assert alone["mix"].settings["languages"] == ["en"]
    assert alone["train"].settings == both["english_train"].settings


@pytest.mark.parametrize("start", ["pretrained", "fresh"])
def test_imported_examples_are_trained_on_without_the_earlier_stages(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("")
    settings = tmp_path / "job.yaml"
    settings.write_text(
        f"storage: {tmp_path}/store\nmix: {{imported: {{type: sentence_transformers, files: [{file}]}}}}\n"
        f"student: {{start: {{type: {start}}}}}\n"
    )
    job = mtd.pipeline(load([settings]))
    run(job.until("train"), plan=True)
    out = capsys.readouterr().out
    # A fresh student's tokenizer is trained on the job's passages.
    assert planned(out) == (["mix", "train"] if start == "pretrained" else ["sources", "translate", "mix", "train"])
    assert "1 epochs of 6-way examples, in the languages of the files, from sentence_transformers files" in out
    assert not {"select", *TEACHING} & {stage.name for stage in job.stages}
    before = job.stages[-1].digest
    file.write_text("{}")
    assert mtd.pipeline(load([settings])).stages[-1].digest != before
