"""What a plan says, worked by hand."""

import json
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


def beir(folder: Path, passages: int = 5) -> Path:
    """Write a BEIR folder with two judged queries."""
    (folder / "qrels").mkdir(parents=True)
    records = [{"_id": f"d{i}", "title": "", "text": f"stone {i}"} for i in range(passages)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    queries = [{"_id": f"q{i}", "text": "stone"} for i in range(3)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(record) + "\n" for record in queries))
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq0\td1\t1\nq1\td0\t1\n")
    return folder


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize(
    ("stage", "work"),
    [
        ("sources", "read the bundled source"),
        ("evaluation_sources", "read the beir source"),
        ("select", "up to 5,760 candidates"),  # of 720 queries, of which 240 are in three languages
        ("translate", "2 languages"),
        ("score_0", "up to 5,760 pairs"),
        ("score_1", "up to 5,760 pairs"),
        ("calibrate", "teacher report"),
        ("mix", "2 epochs of 3-way examples, mix_passages"),
        ("english_mix", "2 epochs of 3-way examples, single"),
        ("train", "1,000 steps x 4 = 4,000 examples, 1 workers"),
        ("english_train", "1,000 steps x 4 = 4,000 examples, 1 workers"),
        (
            "index",
            "up to 5 documents of at most 24 tokens",
        ),  # of the source that is evaluated on, not of the training passages
        ("retrieve", "runs of depth 1,000"),
        ("evaluate", "nDCG@10, nDCG@20, AP, R@100, R@1000, RR@10"),
    ],
)
def test_work_is_given_in_numbers(stage: str, work: str, read: bool, tmp_path: Path) -> None:
    teachers = [{"type": "bi_encoder"}, {"type": "bi_encoder", "max_query_tokens": 32}]
    settings = Config.model_validate(
        CONFIG.model_dump()
        | {"score": {"teacher": {"type": "ensemble", "teachers": teachers}}}
        | {"evaluate": {"source": {"type": "beir", "path": str(beir(tmp_path / "beir"))}, "english_baseline": True}}
    )
    stages = {found.name: found for found in pipeline(settings).stages}
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    if read and stage not in {"sources", "evaluation_sources"}:
        runner.run(stages["sources"])
        runner.run(stages["evaluation_sources"])
    assert work_of(stages[stage], runner) == work


def test_what_is_cut_into_passages_is_counted_when_it_is_read(tmp_path: Path) -> None:
    cut = {"type": "beir", "path": str(beir(tmp_path / "beir")), "cut": {"length": 1}}
    settings = Config.model_validate(CONFIG.model_dump() | {"source": cut, "evaluate": {"source": cut}})
    stages = {found.name: found for found in pipeline(settings).stages}
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    assert work_of(stages["index"], runner) == "all documents of at most 24 tokens"
    assert work_of(stages["select"], runner) == "up to 8 candidates a query"
    runner.run(stages["evaluation_sources"])
    assert work_of(stages["index"], runner) == "up to 10 documents of at most 24 tokens"


def test_documents_are_those_of_every_language(tmp_path: Path) -> None:
    settings = CONFIG.model_copy(update={"storage": str(tmp_path)})
    stages = {found.name: found for found in pipeline(settings).stages}
    runner = Runner(str(tmp_path), Session(), progress=False)
    assert work_of(stages["index"], runner).startswith("up to 720 documents")  # 240 passages in three languages
    runner.run(stages["sources"])
    runner.run(stages["translate"])
    assert work_of(stages["index"], runner).startswith("up to 720 documents")


def test_data_sets_of_known_size_give_a_range_before_they_are_downloaded(
    tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their counts come with ir_datasets; how long their texts are is known when they are read."""
    source = {
        "type": "ir_datasets",
        "passages": {"en": "msmarco-passage", "zh": "neumarco/zh"},
        "queries": {"train": "msmarco-passage/train", "test": "msmarco-passage/dev/small"},
    }
    evaluated = {
        "type": "ir_datasets",
        "passages": {"zh": "neuclir/1/zh"},
        "queries": {"test": "neuclir/1/zh/trec-2022"},
    }
    settings = Config.model_validate(
        CONFIG.model_dump()
        | {"languages": ["zh"], "source": source, "evaluate": {"source": evaluated}, "storage": str(tmp_path)}
        | {"select": {"by": {"type": "late_interaction", "model": str(tiny_student), "top_k": 50}}}
        | {"score": {"teacher": {"type": "bi_encoder"}}, "plan": {"price_per_gpu_hour": 2.0}}
        | {"student": {"type": "late_interaction", "start": {"type": "pretrained", "model": str(tiny_student)}}}
    )
    stages = {found.name: found for found in pipeline(settings).stages}
    runner = Runner(str(tmp_path), Session(), progress=False)
    assert work_of(stages["score"], runner) == f"up to {(808_731 + 6_980) * 50:,} pairs"
    assert work_of(stages["index"], runner) == "up to 3,179,209 documents of at most 220 tokens"
    least, most = stages["score"].estimate(runner) or (None, None)  # pyright: ignore[reportOptionalCall]
    assert isinstance(least, Work)
    assert isinstance(most, Work)
    pairs, queries = (808_731 + 6_980) * 50, 808_731 + 6_980
    # A word is a token; [CLS] and [SEP] are two more.
    assert (least.tokens, most.tokens) == (7 * queries + 32 * pairs, 22 * queries + 252 * pairs)
    print_plan(settings, list(stages.values()), runner, settings.plan)
    lines = capsys.readouterr().out.splitlines()
    assert all(
        " GPU-hours, cost " in line and " to " in line
        for line in lines
        if line.split()[0] in {"select", "score", "index"}
    )
    assert lines[-1].endswith(
        "; texts that are not downloaded yet are taken to have 5 to 20 words a query and 30 to 250 a passage"
    )


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
        estimate=lambda _: (estimate, estimate),
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
    work, most = estimate(runner) or (None, None)
    assert isinstance(work, Work)
    assert work == most
    assert work.items == 8 * 720
    costs = cost(stages["score"], runner, settings.plan)
    hours = work.operations / 0.5e6 / 3600
    assert costs.hours == pytest.approx((hours, hours))
    assert costs.words == f": {work.tokens:,.0f} tokens, {work.operations:.2g} operations, {hours:,.3g} GPU-hours"
    priced = settings.plan.model_copy(update={"price_per_gpu_hour": 3.0})
    assert cost(stages["score"], runner, priced).words == f"{costs.words}, cost {3 * hours:,.2f}"
    for free in ("mix", "translate"):
        assert cost(stages[free], runner, settings.plan) == Cost()


def test_a_plan_adds_up(planned: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    settings, stages, runner = planned
    print_plan(settings, [stages[name] for name in ("sources", "select", "score")], runner, settings.plan)
    lines = capsys.readouterr().out.splitlines()
    hours, _ = cost(stages["score"], runner, settings.plan).hours
    assert (
        lines[-1]
        == f"2 of 3 stages to run; {hours:,.3g} GPU-hours at 50% of 1e-06 TFLOP/s (plan.efficiency, plan.gpu_tflops)"
    )


def test_a_plan_is_much_the_same_before_and_after_its_texts_are_read(planned: Planned, tmp_path: Path) -> None:
    """The bundled corpus is there at once; a sample of what was read holds fewer of its queries."""
    _, stages, runner = planned
    estimate = stages["score"].estimate
    assert estimate is not None
    before, after = (estimate(of) for of in (Runner(str(tmp_path / "other"), Session(), progress=False), runner))
    assert before is not None
    assert after is not None
    assert before[0].tokens == pytest.approx(after[0].tokens, rel=0.01)


def test_a_plan_says_what_it_will_know_when_the_data_is_read(
    tmp_path: Path, tiny_cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = {"type": "beir", "path": str(beir(tmp_path / "beir")), "cut": {"length": 1}}
    settings = Config.model_validate(config(tiny_cross_encoder).model_dump() | {"source": cut})
    print_plan(settings, pipeline(settings).stages, Runner(str(tmp_path), Session(), progress=False), settings.plan)
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
