"""What a plan says, worked by hand."""

from pathlib import Path

import pytest

from cluster.session import Session
from cluster.stages import Runner, Stage
from cluster.storage import open_storage, write_json
from distill.config import Config
from distill.meta.config import MetaConfig
from distill.models.locate import ModelError
from distill.plan.estimates import Work
from distill.plan.settings import PlanSettings
from distill.score.settings import CrossEncoderTeacher
from jobs import maml_align
from jobs.mtd import pipeline
from jobs.running.plan import Cost, cost, print_plan, work_of

CONFIG = Config(
    languages=("de", "zh"),
    select={"by": {"type": "bm25", "top_k": 8}},  # pyright: ignore[reportArgumentType]
    mix={"n_way": 3, "epochs": 2},  # pyright: ignore[reportArgumentType]
    student={"type": "late_interaction", "query_tokens": 8, "passage_tokens": 24},  # pyright: ignore[reportArgumentType]
    train={"steps": 1000, "batch_size": 4},  # pyright: ignore[reportArgumentType]
)


MANIFEST = {"rows": 0, "seconds": 1.0, "finished": "2026-01-01T00:00:00+00:00"}


def finish(runner: Runner, stage: Stage, tables: dict[str, int]) -> None:
    """Write the manifest of a finished stage."""
    filesystem, root = open_storage(runner.storage)
    manifest = MANIFEST | {"tables": {name: {"rows": rows} for name, rows in tables.items()}}
    write_json(filesystem, f"{root}/{stage.folder}/manifest.json", manifest)


@pytest.mark.parametrize(
    ("stage", "known", "work"),
    [
        ("sources", False, "read the bundled source"),
        ("evaluation_sources", False, "read the beir source"),
        ("select", False, "up to 8 candidates a query"),
        ("select", True, "up to 12,000 candidates"),
        ("translate", True, "2 languages"),
        ("score_0", False, "up to 8 pairs a query"),
        ("score_1", True, "up to 12,000 pairs"),
        ("calibrate", True, "teacher report"),
        ("mix", True, "2 epochs of 3-way examples, mix_passages"),
        ("english_mix", True, "2 epochs of 3-way examples, single"),
        ("train", False, "1,000 steps x 4 = 4,000 examples, 1 workers"),
        ("english_train", False, "1,000 steps x 4 = 4,000 examples, 1 workers"),
        ("index", False, "all documents of at most 24 tokens"),
        ("index", True, "up to 15 documents of at most 24 tokens"),  # of the source that is evaluated on
        ("retrieve", True, "runs of depth 1,000"),
        ("evaluate", True, "nDCG@10, nDCG@20, AP, R@100, R@1000, RR@10"),
    ],
)
def test_work_is_given_in_numbers_where_they_are_known(stage: str, known: bool, work: str, tmp_path: Path) -> None:
    teachers = [{"type": "bi_encoder"}, {"type": "bi_encoder", "max_query_tokens": 32}]
    settings = Config.model_validate(
        CONFIG.model_dump()
        | {"score": {"teacher": {"type": "ensemble", "teachers": teachers}}}
        | {"evaluate": {"source": {"type": "beir", "path": str(tmp_path)}, "english_baseline": True}}
    )
    stages = {found.name: found for found in pipeline(settings).stages}
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    if known:
        finish(runner, stages["sources"], {"queries": 1500, "passages": 2000})
        finish(runner, stages["evaluation_sources"], {"passages": 5})
    assert work_of(stages[stage], runner) == work


def test_a_new_stage_is_planned_without_a_change_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its words, its tokens and operations come with it."""
    first = Stage("first", 1, print, {}, work="one word")
    estimate = Work(3, 1234.0, 5e6)
    second = Stage(
        "deploy",
        7,
        print,
        {},
        (first,),
        work=lambda runner: f"{runner.rows(first, 'x')} rows",
        estimate=lambda _: estimate,
    )
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    print_plan(CONFIG.model_copy(update={"name": "n", "storage": "s"}), [first, second], runner)
    assert capsys.readouterr().out.splitlines() == [
        "plan of 'n' in s; each stage's folder is stages/NAME-DIGEST",
        f"  first                run    {first.digest}  one word",
        f"  deploy               run    {second.digest}  None rows: 1,234 tokens, 5e+06 operations",
        "2 of 2 stages to run",
    ]
    finish(runner, first, {"x": 5})
    print_plan(CONFIG, [first, second], runner, PlanSettings(gpu_tflops=1e-6, efficiency=0.5, price_per_gpu_hour=9.0))
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"  first                reuse  {first.digest}  0 rows, took 1 s, finished 2026-01-01T00:00:00+00:00",
        f"  deploy               run    {second.digest}  5 rows: 1,234 tokens, 5e+06 operations, 0.00278 GPU-hours, cost 0.03",
        "1 of 2 stages to run; 0.00278 GPU-hours, cost 0.03 at 50% of 1e-06 TFLOP/s (plan.efficiency, plan.gpu_tflops)",
    ]


def test_a_model_without_a_known_shape_is_a_note(tmp_path: Path) -> None:
    def estimate(runner: Runner) -> None:
        del runner
        raise ModelError("no config.json")

    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    assert cost(Stage("x", 1, print, {}, estimate=estimate), runner) == Cost(" (not estimated: no config.json)")


def config(teacher: Path, **plan: object) -> Config:
    """A plan on a GPU that does a million operations a second, half of them for us."""
    return CONFIG.model_copy(
        update={
            "score": CONFIG.score.model_copy(update={"teacher": CrossEncoderTeacher(model=str(teacher))}),
            "plan": CONFIG.plan.model_copy(update={"gpu_tflops": 1e-6, "efficiency": 0.5, **plan}),
        }
    )


Planned = tuple[Config, dict[str, Stage], Runner]


@pytest.fixture
def planned(tmp_path: Path, tiny_cross_encoder: Path) -> Planned:
    """The bundled corpus, read, and nothing else."""
    settings = config(tiny_cross_encoder)
    runner = Runner(str(tmp_path), Session(), progress=False)
    stages = {stage.name: stage for stage in pipeline(settings).stages}
    runner.run(stages["sources"])
    return settings, stages, runner


def test_a_stage_costs_what_its_sample_says(planned: Planned) -> None:
    """Every text is in the sample, so tokens are exact for one candidate of each kind, and hours are operations by hand."""
    settings, stages, runner = planned
    estimate = stages["score"].estimate
    assert estimate is not None
    work = estimate(runner)
    assert isinstance(work, Work)
    assert work.items == 8 * (runner.rows(stages["sources"], "queries") or 0) > 0
    costs = cost(stages["score"], runner, settings.plan)
    hours = work.operations / 0.5e6 / 3600
    assert costs.hours == pytest.approx(hours)
    assert costs.words == f": {work.tokens:,.0f} tokens, {work.operations:.2g} operations, {hours:,.3g} GPU-hours"
    priced = settings.plan.model_copy(update={"price_per_gpu_hour": 3.0})
    assert cost(stages["score"], runner, priced).words == f"{costs.words}, cost {3 * hours:,.2f}"
    for free in ("mix", "translate"):
        assert cost(stages[free], runner, settings.plan) == Cost()


def test_a_plan_adds_up(planned: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    settings, stages, runner = planned
    print_plan(settings, [stages[name] for name in ("sources", "select", "score")], runner, settings.plan)
    lines = capsys.readouterr().out.splitlines()
    hours = cost(stages["score"], runner, settings.plan).hours
    assert (
        lines[-1]
        == f"2 of 3 stages to run; {hours:,.3g} GPU-hours at 50% of 1e-06 TFLOP/s (plan.efficiency, plan.gpu_tflops)"
    )


def test_before_the_data_is_read_a_plan_says_so(
    tmp_path: Path, tiny_cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(tiny_cross_encoder)
    runner = Runner(str(tmp_path), Session(), progress=False)
    print_plan(settings, pipeline(settings).stages, runner, settings.plan)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("; after jobs/sources.py a plan counts pairs, tokens and GPU-hours on a sample of the data")


def test_meta_learning_is_planned_by_the_same_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = MetaConfig.model_validate({"storage": str(tmp_path), "tasks": {"tasks": 12, "run_folds": [1]}})
    stages = maml_align.pipeline(settings).stages
    print_plan(settings, stages, Runner(str(tmp_path), Session(), progress=False))
    lines = {line.split()[0]: line.split(maxsplit=3)[3] for line in capsys.readouterr().out.splitlines()[1:-1]}
    assert lines["meta_sources"] == "read the bundled source"
    assert lines["tasks_mono_bi_multi_1"].startswith("12 tasks of de_de-de_fr-de_fr,de,es")
    # Paper's variant: the teacher's 5 inner steps, the student's 5, and three losses, of 4 tasks in each of 3,500 steps.
    assert lines["train_maml_align_1"] == "3,500 steps x 4 tasks, 182,000 forward and backward passes of a set"
    assert lines["evaluate_zero_shot_1"] == "mAP@20"
    assert lines["compare"] == "maml_align with zero_shot, fine_tune"
