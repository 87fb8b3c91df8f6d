"""What a plan says, worked by hand."""

from pathlib import Path

import pytest

from cluster.session import Session
from cluster.stages import Runner, Stage
from distill.config import Config
from distill.score.settings import CrossEncoderTeacher
from jobs.running.plan import Samples, cost, estimate, print_plan

CONFIG = Config(
    languages=("de", "zh"),
    select={"by": {"type": "bm25", "top_k": 8}},  # pyright: ignore[reportArgumentType]
    mix={"n_way": 3, "epochs": 2},  # pyright: ignore[reportArgumentType]
    student={"type": "late_interaction", "query_tokens": 8, "passage_tokens": 24},  # pyright: ignore[reportArgumentType]
    train={"steps": 1000, "batch_size": 4},  # pyright: ignore[reportArgumentType]
)
DONE = {"sources": {"tables": {"queries": {"rows": 1500}, "passages": {"rows": 2000}}}}


@pytest.mark.parametrize(
    ("stage", "known", "work"),
    [
        ("sources", False, "read the bundled source"),
        ("evaluation_sources", False, "read the bundled source"),
        ("select", False, "up to 8 a query candidates"),
        ("select", True, "up to 12,000 candidates"),
        ("translate", True, "2 languages"),
        ("score", True, "up to 12,000 pairs"),
        ("score_1", True, "up to 12,000 pairs"),
        ("calibrate", True, "teacher report"),
        ("mix", True, "2 epochs of 3-way examples, mix_passages"),
        ("train", False, "1,000 steps x 4 = 4,000 examples, 1 workers"),
        ("english_train", False, "1,000 steps x 4 = 4,000 examples, 1 workers"),
        ("index", False, "up to all documents of at most 24 tokens"),
        ("index", True, "up to 6,000 documents of at most 24 tokens"),
        ("retrieve", True, "runs of depth 1,000"),
        ("evaluate", True, "nDCG@10, nDCG@20, AP, R@100, R@1000, RR@10"),
    ],
)
def test_work_is_said_in_numbers_where_they_are_known(stage: str, known: bool, work: str) -> None:
    assert estimate(stage, CONFIG, DONE if known else {}) == work


def config(teacher: Path, **plan: object) -> Config:
    """A plan on a GPU that does a million operations a second, half of them for us."""
    return CONFIG.model_copy(
        update={
            "score": CONFIG.score.model_copy(update={"teacher": CrossEncoderTeacher(model=str(teacher))}),
            "plan": CONFIG.plan.model_copy(update={"gpu_tflops": 1e-6, "efficiency": 0.5, **plan}),
        }
    )


@pytest.fixture
def samples(tmp_path: Path, tiny_cross_encoder: Path) -> Samples:
    """The bundled corpus, read, and nothing else."""
    from jobs.mtd import pipeline

    settings = config(tiny_cross_encoder)
    runner = Runner(str(tmp_path), Session(), progress=False)
    stages = pipeline(settings).stages
    runner.run(stages[0])
    return Samples(settings, stages, runner, {stage.name: runner.finished(stage) for stage in stages})


def test_a_stage_costs_what_its_sample_says(samples: Samples) -> None:
    """Every text is in the sample, so tokens are exact for one candidate of each kind, and hours are operations by hand."""
    work = samples.score("score")
    assert work.items == 8 * (samples.manifests["sources"] or {})["tables"]["queries"]["rows"]
    line, hours = cost("score", samples.config, samples)
    assert hours == pytest.approx(work.operations / 0.5e6 / 3600)
    assert line == f": {work.tokens:,.0f} tokens, {work.operations:.2g} operations, {hours:,.3g} GPU-hours"
    priced = samples.config.model_copy(
        update={"plan": samples.config.plan.model_copy(update={"price_per_gpu_hour": 3.0})}
    )
    assert cost("score", priced, samples)[0] == f"{line}, cost {3 * hours:,.2f}"
    assert cost("mix", samples.config, samples) == ("", 0.0)
    assert cost("translate", samples.config, samples) == ("", 0.0)


def test_a_plan_adds_up(samples: Samples, capsys: pytest.CaptureFixture[str]) -> None:
    def stage(name: str) -> Stage:
        return next(stage for stage in samples.stages if stage.name == name)

    print_plan(samples.config, [stage("sources"), stage("select"), stage("score")], samples.runner)
    lines = capsys.readouterr().out.splitlines()
    _, hours = cost("score", samples.config, samples)
    assert (
        lines[-1]
        == f"2 of 3 stages to run; {hours:,.3g} GPU-hours at 50% of 1e-06 TFLOP/s (plan.efficiency, plan.gpu_tflops)"
    )


def test_before_the_data_is_read_a_plan_says_so(
    tmp_path: Path, tiny_cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.mtd import pipeline

    settings = config(tiny_cross_encoder)
    print_plan(settings, pipeline(settings).stages, Runner(str(tmp_path), Session(), progress=False))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("; after jobs/sources.py a plan counts pairs, tokens and GPU-hours on a sample of the data")
