"""What a user can get wrong: one line on stderr within seconds, before any stage runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from distill.config import load
from distill.meta.config import MetaConfig
from distill.settings.load import load_as
from jobs import arm, maml_align, mtd, td
from jobs.running.command import CONFIGS, Pipeline, find_config
from tests.jobs_small import ROOT, Driver, Finished, SmallJob, environment

SECONDS = 60.0
"""More than starting Ray takes on a busy machine, and much less than Ray's own waiting for what never comes."""


def start(job: SmallJob, *arguments: str, **variables: str) -> Driver:
    command = [sys.executable, str(ROOT / "jobs/mtd.py"), "--config", str(job.config()), *arguments]
    return Driver(command, job.folder, environment(**variables))


def refusal(job: SmallJob, driver: Driver, code: int = 1) -> str:
    """What a job said that must refuse to run."""
    found = driver.wait(SECONDS)
    assert found.code == code, found
    place = "a local Ray|the cluster at .*"
    begun = rf"job 'small', storage .*\n(\d+ of 10 stages to run on ({place})\n)?"
    assert re.fullmatch(begun if code == 1 else "", found.out), found
    assert found.err.count("\n") == 1, found.err
    assert not job.stage_folders("sources")
    return found.err.strip()


def fails(job: SmallJob, *arguments: str, code: int = 1, **variables: str) -> str:
    return refusal(job, start(job, *arguments, **variables), code)


@pytest.fixture
def job(tiny_cross_encoder: Path, tmp_path: Path) -> SmallJob:
    return SmallJob(tmp_path, tiny_cross_encoder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--train.learning_rate", "fast"),
            "train.learning_rate: Input should be a valid number, unable to parse string as a number (got 'fast')",
        ),
        (("--train.learning_rate", "-1"), "train.learning_rate: Input should be greater than 0 (got '-1')"),
        (
            ("--train.learning_rat", "1"),
            "command line: no such setting --train.learning_rat (did you mean --train.learning_rate?); --help lists them",
        ),
        (("--train.workers", "3"), "train: batch_size 4 is not a multiple of workers 3"),
        (
            ("--mix.languages", "de,fr"),
            "mix draws from ['fr'], which are neither source_lang nor in languages ['de', 'en', 'zh']",
        ),
        (("--config", "nowhere.yaml"), "configuration file nowhere.yaml does not exist"),
    ],
)
def test_wrong_settings(job: SmallJob, arguments: tuple[str, ...], message: str) -> None:
    assert fails(job, *arguments, code=2) == f"jobs/mtd.py: {message}"


def test_wrong_settings_of_every_kind_are_named_at_once(job: SmallJob) -> None:
    said = fails(job, "--train.steps", "0", "--serve.port", "x", code=2, POLYRAY_MIX__N_WAY="1")
    assert said.startswith(
        "jobs/mtd.py: mix.n_way: Input should be greater than or equal to 2 (got '1'); train.steps: "
    )
    assert "; serve.port: Input should be a valid integer" in said


def test_a_missing_file_is_named(job: SmallJob) -> None:
    assert (
        fails(job, "--source.queries", "lost.jsonl")
        == f"jobs/mtd.py: {job.folder}/data/lost.jsonl does not exist; relative paths start from {job.folder}/data"
    )


def test_unknown_models_are_refused_before_any_stage(job: SmallJob) -> None:
    assert (
        fails(job, "--score.teacher.model", "bundled:giant")
        == "jobs/mtd.py: no model is bundled as 'bundled:giant'; there are 'bundled:all-MiniLM-L6-v2' and 'bundled:student'"
    )
    assert (
        fails(job, "--score.teacher.model", "/nowhere/model")
        == "jobs/mtd.py: model folder '/nowhere/model' has no config.json; give a Hugging Face model folder or the name of one on the hub"
    )


def test_storage_that_cannot_be_written_is_refused(job: SmallJob) -> None:
    assert (
        fails(job, "--storage", "/proc/polyray")
        == "jobs/mtd.py: storage /proc/polyray cannot be written: [Errno 2] Cannot create directory '/proc/polyray'. "
        "Detail: [errno 2] No such file or directory"
    )
    assert (
        fails(job, "--storage", "gs://bucket/store")
        == "jobs/mtd.py: storage gs://bucket/store: gs:// is not supported; give a local path or s3://bucket/key"
    )


def test_a_bucket_that_does_not_exist_is_refused(job: SmallJob, s3_bucket: str) -> None:
    said = fails(job, "--storage", "s3://no-such-bucket/store")
    missing = "there is no bucket 'no-such-bucket'; make it, or check the URI and AWS_ENDPOINT_URL"
    assert said == f"jobs/mtd.py: storage s3://no-such-bucket/store: {missing}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("mtd.py", "--plan", "--storage", "s3://bucket/x"),
        ("train.py", "--storage", "s3://bucket/x"),
        ("tasks.py", "--plan", "--storage", "s3://bucket/x"),
        ("serve.py", "--run", "s3://bucket/x/runs/small"),
        ("export.py", "scores", "--run", "s3://bucket/x/runs/small", "--format", "trec", "--out", "x"),
        ("export.py", "student", "--checkpoint", "s3://bucket/x", "--format", "hf_colbert", "--out", "x"),
    ],
)
def test_storage_that_cannot_be_reached_is_one_line_of_every_script(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Whether something is to run, is planned, or is read from there."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    script, *rest = arguments
    variables = environment(AWS_DEFAULT_REGION="us-east-1", **nowhere)
    found = Driver([sys.executable, str(ROOT / "jobs" / script), *rest], tmp_path, variables).wait(SECONDS)
    assert found.code in {1, 2}
    (line,) = found.err.splitlines()
    assert line.startswith(f"jobs/{script}: ")
    assert "Failed to connect to 127.0.0.1:9" in line
    assert line.endswith("; check the URI, the AWS_* variables and the access rights")


@pytest.mark.ray
def test_a_cluster_that_does_not_answer_is_refused(job: SmallJob) -> None:
    """By setting and by variable; Ray alone would try for two minutes."""
    said = (
        "no Ray cluster answers at 127.0.0.1:9: [Errno 111] Connection refused; check cluster.address and RAY_ADDRESS"
    )
    assert fails(job, "--cluster.address", "127.0.0.1:9") == f"jobs/mtd.py: {said}"
    assert fails(job, RAY_ADDRESS="127.0.0.1:9") == f"jobs/mtd.py: {said}"
    said = fails(job, "--cluster.address", "nonsense")
    assert said == "jobs/mtd.py: no Ray cluster answers at nonsense: Invalid address format: nonsense"


@pytest.mark.ray
def test_more_cpus_or_gpus_than_there_are_is_refused(job: SmallJob) -> None:
    """A real local Ray is asked; Ray alone would wait for half an hour."""
    remedy = "lower it, or add nodes (cluster.autoscales where they come on demand)"
    drivers = [
        start(job, "--score.pool.min_actors", "5", "--score.pool.max_actors", "5"),
        start(job, "--train.gpus_per_worker", "64", "--train.workers", "2"),
    ]
    said = [refusal(job, driver) for driver in drivers]
    assert said[0] == f"jobs/mtd.py: score asks for 5 x 1 CPUs at once (score.pool), the 1 nodes have 4 CPUs; {remedy}"
    asked = "jobs/mtd.py: train asks for 2 x 64 GPUs at once (train.workers), the 1 nodes have"
    assert re.fullmatch(rf"{re.escape(asked)} \d+ GPUs; {re.escape(remedy)}", said[1])


def test_output_that_nobody_reads_is_no_error() -> None:
    """As in `jobs/mtd.py --help score | head`, whose `head` ends first."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "jobs/mtd.py", "--help", "score"],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("method", [mtd, td, arm, maml_align], ids=lambda module: module.METHOD.name)
def test_help_is_one_screen(method: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """What it does, flags, stages in order, a line for each group of settings; nothing is cut in two lines."""
    assert method.main(["--help"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert said.startswith((method.__doc__ or "no docstring").split("\n")[0])
    assert len(lines) <= 50
    for flag in ("--config FILE", "--plan", "--until STAGE", "--serve", "--print-config", "--help [GROUP]"):
        assert sum(line.strip().startswith(flag) or f", {flag}" in line for line in lines) == 1, flag
    assert f"stages: {method.STAGES}" in lines
    kind = method.METHOD.kind
    assert [line.split()[0] for line in lines[-len(kind.model_fields) :]] == list(kind.model_fields)


def test_the_stages_that_help_names_are_those_of_the_jobs_in_order() -> None:
    for method in (mtd, td, arm):
        words = method.STAGES.replace("[", "").replace("]", "").split()
        config = load_as(method.METHOD.kind, [method.METHOD.default], ["--evaluate.english_baseline"])
        built = [stage.name for stage in method.METHOD.build(config).stages]
        assert [word for word in words if word in built] == built
        assert set(words) - set(built) <= {"english_mix", "english_train", "english_index"}
    names = ["--tasks.run_folds", "0", "--tasks.query_set", "similar", "--tasks.neighbours", "9"]
    built = maml_align.pipeline(load_as(MetaConfig, [maml_align.METHOD.default], names)).stages
    kinds = list(dict.fromkeys(stage.kind or stage.name for stage in built))
    assert kinds == re.findall(r"sources|start|vectors|tasks|train|evaluate|compare", maml_align.STAGES)


def test_help_on_a_group_and_on_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert mtd.main(["--help", "train"]) == 0
    said = capsys.readouterr().out
    assert "  --train.learning_rate FLOAT (default: 5e-06)\n      AdamW learning rate (5e-6: arXiv 2401.04810)." in said
    assert "--train.loss.type kl|margin_mse|cross_entropy|info_nce|relevance_margin|sum (default: kl)" in said
    assert mtd.main(["--help", "score.pool.max_actors"]) == 0
    assert capsys.readouterr().out.startswith("--score.pool.max_actors INT (default: 1)\n")
    assert mtd.main(["--help", "scor"]) == 2
    assert capsys.readouterr().err == "jobs/mtd.py: no such setting scor (did you mean score?); --help lists them\n"


def test_the_resolved_configuration_is_printed_and_loads_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert td.main(["--print-config", "--seed", "9"]) == 0
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    assert load([file]) == load([td.METHOD.default], ["--seed", "9"])
    assert "# Seed of every draw: sampling, languages, new weights.\nseed: 9\n" in file.read_text()


def test_a_shipped_configuration_is_named_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("td_zh") == CONFIGS / "td_zh.yaml"
    assert find_config("mine.yaml") == Path("mine.yaml")
    (tmp_path / "td_zh").touch()
    assert find_config("td_zh") == Path("td_zh")
    assert mtd.main(["--config", "quick", "--plan"]) == 2
    assert capsys.readouterr().err == "jobs/mtd.py: configuration file quick does not exist\n"


@pytest.mark.parametrize(
    ("until", "stages"),
    [
        ("select", ["sources", "select"]),
        ("score", ["sources", "select", "score"]),
        ("train", ["sources", "translate", "select", "score", "calibrate", "mix", "train"]),
    ],
)
def test_until_a_stage(until: str, stages: list[str], job: SmallJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert mtd.main(["--config", str(job.config()), "--plan", "--until", until]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]] == stages


def test_until_of_meta_learning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--storage", str(tmp_path), "--tasks.run_folds", "1", "--baselines", "zero_shot", "--plan", "--until"]
    assert maml_align.main([*arguments, "train"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert names == ["meta_sources", "meta_start", "tasks_mono_bi_multi_1", "train_maml_align_1"]
    assert maml_align.main([*arguments, "start"]) == 0
    assert "meta_start" in capsys.readouterr().out


def test_until_what_is_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert arm.main(["--plan", "--until", "score"]) == 2
    stages = "sources, translate, select, mix, train, index, retrieve, evaluate"
    assert capsys.readouterr().err == f"jobs/arm.py: the job has no stage 'score'; it has {stages}\n"
    assert mtd.main(["--until", "train", "--serve"]) == 2
    assert capsys.readouterr().err.startswith("jobs/mtd.py: --serve needs all stages; leave out --until")


def test_every_script_plans_alone(whole: tuple[SmallJob, Finished]) -> None:
    """In one process each; what a script would run is its stage and what that depends on."""
    job, _ = whole
    first = ["sources", "translate", "select", "score", "calibrate", "mix", "train", "index", "retrieve", "evaluate"]
    wanted = {
        "sources": ["sources"],
        "mine": ["sources", "select"],
        "translate": ["sources", "translate"],
        "score": ["sources", "select", "score", "calibrate"],
        "mix": first[:6],
        "train": first[:7],
        "index": first[:8],
        "evaluate": first,
    }
    for script, stages in wanted.items():
        found = job.run("--plan", script=f"{script}.py", limit_s=SECONDS).done()
        lines = found.out.splitlines()
        assert [line.split()[0] for line in lines[1:-1]] == stages, script
        assert lines[-1] == f"0 of {len(stages)} stages to run"


def test_until_keeps_what_a_stage_depends_on_in_order(job: SmallJob) -> None:
    built = mtd.pipeline(load([job.config()]))
    assert isinstance(built, Pipeline)
    assert [stage.name for stage in built.until("score").stages] == ["sources", "select", "score"]
    assert [stage.name for stage in built.until("evaluate").stages] == [stage.name for stage in built.stages]


def test_a_baseline_and_another_source_to_evaluate_on_add_their_stages(job: SmallJob) -> None:
    arguments = ["--evaluate.english_baseline", "--evaluate.source.type", "bundled"]
    names = [stage.name for stage in mtd.pipeline(load([job.config()], arguments)).stages]
    assert names == [
        "sources", "evaluation_sources", "translate", "select", "score", "calibrate", "mix", "train", "index",
        "english_mix", "english_train", "english_index", "retrieve", "evaluate",
    ]  # fmt: skip
