"""Every shipped configuration can be planned where it is: with its own job, and by stage.

The tests have no network, so a plan of models on the hub ends with the first one that cannot be reached.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from distill.config import Config, load
from distill.meta.config import MetaConfig
from distill.models.locate import ModelError
from distill.settings.load import ConfigError, load_as
from jobs import arm, maml_align, mtd, td
from jobs.running.command import Job, run

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
SHIPPED = {"quickstart", "xquad", "arm", "td", "maml_align"}
"""Configurations whose models ship with the project."""


def plan(job: Job[Any], *, shipped: bool) -> None:
    """Plan a job, of models that ship with the project or of models on the hub."""
    unreachable = pytest.raises(
        ModelError, match=r"^[\w.]+: '.+' is no local folder and not in the cache of the Hugging"
    )
    with nullcontext() if shipped else unreachable:
        run(job, plan=True)


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
    plan(job, shipped=name in SHIPPED)
    assert planned(capsys.readouterr().out) == [stage.name for stage in job.stages]
    assert not (tmp_path / "store").exists()


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
    plan(job, shipped=name in SHIPPED)
    stages = planned(capsys.readouterr().out)
    assert stages == [stage.name for stage in job.stages]
    assert ("score" in stages, "calibrate" in stages) == (found.has_teacher, found.has_teacher)
    assert not (tmp_path / "store").exists()
    # jobs/train.py, jobs/index.py ... find the stages of every job.
    assert [stage.folder for stage in mtd.pipeline(found).stages] == [stage.folder for stage in job.stages]


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
    plan(job.until("train"), shipped=start == "fresh")
    out = capsys.readouterr().out
    # A fresh student's tokenizer is trained on the job's passages.
    assert planned(out) == (["mix", "train"] if start == "pretrained" else ["sources", "translate", "mix", "train"])
    assert "1 epochs of 6-way examples, in the languages of the files, from sentence_transformers files" in out
    assert not {"select", *TEACHING} & {stage.name for stage in job.stages}
    before = job.stages[-1].digest
    file.write_text("{}")
    assert mtd.pipeline(load([settings])).stages[-1].digest != before
