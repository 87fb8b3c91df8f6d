"""What a user can get wrong: one line on stderr within seconds, before any stage runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.running.command import Pipeline
from tests.jobs_small import ROOT, Driver, Finished, SmallJob, environment

SECONDS = 60.0
"""More than starting Ray takes on a busy machine, and much less than Ray's own waiting for what never comes."""


def start(job: SmallJob, *arguments: str, **variables: str) -> Driver:
    command = [sys.executable, str(ROOT / "jobs/mtd.py"), "--config", str(job.config()), *arguments]
    return Driver(command, job.folder, environment(**variables))


def refusal(job: SmallJob, driver: Driver, code: int = 1) -> str:
    """What a job said that must refuse to run."""
    found = driver.wait(SECONDS)
    assert (found.code, found.out) == (code, ""), found
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
        == "jobs/mtd.py: storage '/proc/polyray' cannot be written: [Errno 2] Cannot create directory '/proc/polyray'. "
        "Detail: [errno 2] No such file or directory"
    )
    assert (
        fails(job, "--storage", "gs://bucket/store")
        == "jobs/mtd.py: storage 'gs://bucket/store': scheme 'gs' is not supported; give a local path or s3://bucket/prefix"
    )


def test_a_bucket_that_does_not_exist_is_refused(job: SmallJob, s3_bucket: str) -> None:
    said = fails(job, "--storage", "s3://no-such-bucket/store")
    assert said.startswith("jobs/mtd.py: storage 's3://no-such-bucket/store' cannot be written: ")


def test_a_cluster_that_does_not_answer_is_refused(job: SmallJob) -> None:
    """By setting and by variable; Ray alone would try for two minutes."""
    said = (
        "no Ray cluster answers at 127.0.0.1:9: [Errno 111] Connection refused; check cluster.address and RAY_ADDRESS"
    )
    assert fails(job, "--cluster.address", "127.0.0.1:9") == f"jobs/mtd.py: {said}"
    assert fails(job, RAY_ADDRESS="127.0.0.1:9") == f"jobs/mtd.py: {said}"
    said = fails(job, "--cluster.address", "nonsense")
    assert said == "jobs/mtd.py: no Ray cluster answers at nonsense: Invalid address format: nonsense"


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


def test_help_prints_every_setting_with_its_meaning_and_default() -> None:
    found = subprocess.run(
        [sys.executable, str(ROOT / "jobs/mtd.py"), "--help"],
        capture_output=True, text=True, check=True, timeout=SECONDS, env=environment(COLUMNS="400"),
    )  # fmt: skip
    assert found.stderr == ""
    said = " ".join(found.stdout.split())
    assert said.startswith("Multilingual Translate-Distill (arXiv 2405.00977)")
    for text in (
        "--plan print what would run and what would be reused, and stop",
        "--storage str Where stages and runs lie: a local folder or s3://bucket/prefix. (default: polyray-data)",
        "--train.learning_rate float AdamW learning rate (5e-6: arXiv 2401.04810). (default: 5e-06)",
        "--score.pool.max_actors int Actors that the pool may grow to while shards wait. (default: 1)",
        "The train stage.",
        "--cluster.address str Cluster to connect to; none: RAY_ADDRESS",
    ):
        assert text in said


def test_help_names_every_field_of_every_group() -> None:
    from pydantic import BaseModel

    from distill.config import Config

    found = subprocess.run(
        [sys.executable, str(ROOT / "jobs/mtd.py"), "--help"],
        capture_output=True, text=True, check=True, timeout=SECONDS, env=environment(COLUMNS="400"),
    )  # fmt: skip

    def names(group: type[BaseModel], prefix: str) -> list[str]:
        found: list[str] = []
        for name, field in group.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += names(kind, f"{prefix}{name}.")
            else:
                found.append(f"{prefix}{name}")
        return found

    single = [
        name for name in names(Config, "") if name != "source" and not name.endswith((".by", ".teacher", ".start"))
    ]
    assert len(single) > 60
    lost = [name for name in single if f"--{name}" not in found.stdout and f"--{name}." not in found.stdout]
    assert lost == []


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
    from distill.config import load
    from jobs.mtd import pipeline

    built = pipeline(load([job.config()]))
    assert isinstance(built, Pipeline)
    assert [stage.name for stage in built.until("score").stages] == ["sources", "select", "score"]
    assert [stage.name for stage in built.until("evaluate").stages] == [stage.name for stage in built.stages]


def test_a_baseline_and_another_source_to_evaluate_on_add_their_stages(job: SmallJob) -> None:
    from distill.config import load
    from jobs.mtd import pipeline

    arguments = ["--evaluate.english_baseline", "--evaluate.source.type", "bundled"]
    names = [stage.name for stage in pipeline(load([job.config()], arguments)).stages]
    assert names == [
        "sources", "translate", "select", "score", "calibrate", "mix", "train", "evaluation_sources", "index",
        "english_mix", "english_train", "english_index", "retrieve", "evaluate",
    ]  # fmt: skip
