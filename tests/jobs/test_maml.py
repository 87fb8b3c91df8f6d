"""MAML-Align as a user runs it: from the bundled corpus to a comparison, and again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cluster.storage import open_storage, read_table
from distill.encoders.checkpoints import load_single_vector
from distill.meta.config import MetaConfig
from distill.settings.load import ConfigError, load_as
from jobs.maml_align import METHOD, pipeline
from jobs.running.command import run

TRAINED = ("train_maml_align_0", "train_maml_trans_0")
STAGES = [
    "meta_sources", "meta_start", "meta_vectors", "tasks_mono_bi_multi_0", "tasks_trans_0", "train_maml_align_0", "evaluate_maml_align_0",
    "evaluate_zero_shot_0", "train_maml_trans_0", "evaluate_maml_trans_0", "compare",
]  # fmt: skip
SETTINGS: dict[str, Any] = {
    "languages": ["de", "fr", "zh"],
    "baselines": ["zero_shot", "maml"],
    "baseline_modes": ["trans"],
    "tasks": {"tasks": 8, "shots": 2, "queries": 3, "query_set": "similar", "negatives": "hard"},
    "student": {
        "type": "single_vector", "start": {"type": "fresh", "vocabulary": 600, "layers": 1, "hidden": 32},
        "query_tokens": 8, "passage_tokens": 16,
    },
    "train": {"steps": 4, "tasks_per_batch": 2, "inner_steps": 1, "log_every": 2, "checkpoint_every": 2, "learning_rate": 1e-3},
    "evaluate": {"languages": ["de", "fr", "es"]},
}  # fmt: skip


def config(folder: Path, *arguments: str) -> MetaConfig:
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(SETTINGS | {"storage": str(folder / "store")}), encoding="utf-8")
    return load_as(MetaConfig, [METHOD.default, file], arguments)


@pytest.fixture(scope="module")
def finished(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maml")
    run(pipeline(config(folder)))
    return folder


def table(folder: Path, stage: str, name: str) -> list[dict[str, Any]]:
    filesystem, root = open_storage(str(folder / "store"))
    (found,) = (one.folder for one in pipeline(config(folder)).stages if one.name == stage)
    return read_table(filesystem, f"{root}/{found}/{name}").to_pylist()


def test_every_system_is_measured_in_every_language(finished: Path) -> None:
    """The mean is over languages, seen are those with tasks, and the values are those of the questions."""
    rows = {
        (row["system"], row["group"]): row["value"]
        for row in table(finished, "compare", "meta_results")
        if row["fold"] == "all"
    }
    systems = ("maml_align", "zero_shot", "maml_trans")
    assert {system for system, _ in rows} == set(systems)
    for system in systems:
        of = {group: value for (name, group), value in rows.items() if name == system}
        assert set(of) == {"de", "fr", "es", "mean", "seen", "unseen"}
        assert of["mean"] == pytest.approx((of["de"] + of["fr"] + of["es"]) / 3)
        assert of["seen"] == pytest.approx((of["de"] + of["fr"]) / 2)
        assert of["unseen"] == pytest.approx(of["es"])
        questions = table(finished, f"evaluate_{system}_0", "question_precision")
        german = [row["value"] for row in questions if row["lang"] == "de"]
        assert len(german) == 48  # a fifth of 60 clusters of 4 passages
        assert of["de"] == pytest.approx(sum(german) / 48)


def test_the_figures_are_those_of_sentence_transformers(finished: Path) -> None:
    """From the checkpoint and the tables of the source to the printed mean, with nothing of the project: folds, vectors, AP and means."""
    from sentence_transformers import SentenceTransformer

    questions, answers, answered = (
        table(finished, "meta_sources", name) for name in ("questions", "answers", "answered")
    )
    articles = {row["article"] for row in (*questions, *answers)}
    dealt = sorted(articles, key=lambda name: hashlib.sha256(f"{config(finished).seed}/{name}".encode()).digest())
    held_out, langs = set(dealt[0::5]), ("de", "fr", "es")
    pool = [row for row in answers if row["article"] in held_out and row["lang"] in langs]
    asked = [row for row in questions if row["article"] in held_out and row["lang"] in langs]
    summary = json.loads((finished / "store/runs/maml_align/summary.json").read_text(encoding="utf-8"))
    folders = {stage.name: stage.folder for stage in pipeline(config(finished)).stages}
    checkpoints = {
        "maml_align": f"{folders['train_maml_align_0']}/checkpoint", "zero_shot": f"{folders['meta_start']}/start",
        "maml_trans": f"{folders['train_maml_trans_0']}/checkpoint",
    }  # fmt: skip
    for system, folder in checkpoints.items():
        model = SentenceTransformer(str(finished / "store" / folder), device="cpu")
        vectors = []
        for texts, tokens in ((asked, 8), (pool, 16)):
            model.max_seq_length = tokens
            vectors.append(model.encode([row["text"] for row in texts], normalize_embeddings=True))
        precisions: dict[str, list[float]] = {lang: [] for lang in langs}
        for row, scores in zip(asked, vectors[0] @ vectors[1].T, strict=True):
            right = {one["answer_id"] for one in answered if one["xling_id"] == row["xling_id"]}
            right &= {one["answer_id"] for one in pool}
            hits, total = 0, 0.0
            for rank, position in enumerate(np.argsort(-scores, kind="stable")[:20], start=1):
                if pool[position]["answer_id"] in right:
                    hits += 1
                    total += hits / rank
            precisions[row["lang"]].append(total / min(20, len(right)))
        means = {lang: float(np.mean(found)) for lang, found in precisions.items()}
        printed = summary["metrics"][system]["AP@20"]
        assert {lang: printed[lang] for lang in langs} == pytest.approx(means, abs=2e-3), system
        assert printed["mean"] == pytest.approx(np.mean(list(means.values())), abs=2e-3)
        assert printed["seen"] == pytest.approx((means["de"] + means["fr"]) / 2, abs=2e-3)


def test_no_task_is_made_of_what_is_tested(finished: Path) -> None:
    tested = {row["xling_id"] for row in table(finished, "evaluate_zero_shot_0", "question_precision")}
    tasks = table(finished, "tasks_mono_bi_multi_0", "retrieval_tasks")
    assert len(tasks) == 8
    assert not {name.rpartition("_")[0] for row in tasks for name in row["question_ids"]} & tested
    assert {row["transfer"] for row in tasks} == {
        "de_de-de_fr-de_fr,de,zh", "fr_fr-fr_zh-fr_zh,fr,de", "zh_zh-zh_de-zh_de,zh,fr"
    }  # fmt: skip


def test_systems_were_trained_on_their_own_and_end_in_checkpoints(finished: Path) -> None:
    filesystem, root = open_storage(str(finished / "store"))
    folders = {stage.name: stage.folder for stage in pipeline(config(finished)).stages}
    assert filesystem is not None
    vectors = {
        name: load_single_vector(f"{root}/{folders[name]}/checkpoint").encode_queries(["wie weit"]) for name in TRAINED
    }
    vectors["start"] = load_single_vector(f"{root}/{folders['meta_start']}/start").encode_queries(["wie weit"])
    names = sorted(vectors)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert (vectors[one] - vectors[other]).abs().max() > 1e-5, (one, other)


def test_a_second_run_reuses_everything_and_reports_the_same(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((finished / "store/runs/maml_align/summary.json").read_text(encoding="utf-8"))
    run(pipeline(config(finished)))
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.endswith("reused")]
    assert [line.split()[0] for line in lines] == STAGES
    after = json.loads((finished / "store/runs/maml_align/summary.json").read_text(encoding="utf-8"))
    assert after["metrics"] == before["metrics"]
    page = (finished / "store/runs/maml_align/report.html").read_text(encoding="utf-8")
    assert "MAML-Align" in page
    assert "<svg" in page
    assert f"maml_align less maml_trans: {comparison(after):+.4f}" in out


def comparison(summary: dict[str, Any]) -> float:
    (found,) = (row for row in summary["comparisons"] if row["baseline"] == "maml_trans" and row["group"] == "mean")
    metrics = summary["metrics"]
    expected = metrics["maml_align"]["AP@20"]["mean"] - metrics["maml_trans"]["AP@20"]["mean"]
    assert found["difference"] == pytest.approx(expected)
    return found["difference"]


def test_another_method_reuses_what_it_shares(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(pipeline(config(finished, "--train.distillation_weight", "0.9")), plan=True)
    plans = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:-1]}
    assert [name for name, state in plans.items() if state == "reuse"] == [
        "meta_sources", "meta_start", "meta_vectors", "tasks_mono_bi_multi_0", "tasks_trans_0", "evaluate_zero_shot_0",
    ]  # fmt: skip


def test_a_transfer_that_the_data_cannot_fill_says_what_is_missing(finished: Path) -> None:
    from distill.tables import TableError

    before = {path.name for path in (finished / "store" / "stages").iterdir()}
    with pytest.raises(TableError, match=r"meta_sources, fold 0: transfer 'de_de-de_el-de_el,de,zh' needs 'el'"):
        run(pipeline(config(finished, "--languages", "[de, el, zh]")))
    with pytest.raises(TableError, match=r"meta_sources has nothing in th \(evaluate.languages\); it has de, en, es"):
        run(pipeline(config(finished, "--evaluate.languages", "[de, th]")))
    split = config(finished, "--tasks.run_folds", "[0]")
    split = split.model_copy(update={"tasks": split.tasks.model_copy(update={"folds": None})})
    for stage, what in (("tasks", "no task can be made"), ("evaluate_zero_shot_0", "nothing to evaluate")):
        with pytest.raises(TableError, match=f"{what}: the source has no split of its own; set tasks.folds"):
            run(pipeline(split).until(stage))
    assert {path.name for path in (finished / "store" / "stages").iterdir()} == before


def test_what_the_data_lacks_is_said_as_soon_as_they_are_read(ray_session: None, tmp_path: Path) -> None:
    """In a new storage too: after the sources and before any encoder, task or training."""
    from distill.tables import TableError

    with pytest.raises(TableError, match=r"needs 'el', and no training candidate is in that language"):
        run(pipeline(config(tmp_path, "--languages", "[de, el, zh]")))
    assert [path.name.partition("-")[0] for path in (tmp_path / "store" / "stages").iterdir()] == ["meta_sources"]


def test_an_endpoint_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this job makes an encoder and no index to serve"):
        run(pipeline(config(tmp_path)), serve=True)
    assert not (tmp_path / "store" / "stages").exists()


def test_what_answers_a_question_does_so_in_every_language(finished: Path) -> None:
    """A passage, and where there are some the siblings that answer in part, in all seven languages."""
    answered = table(finished, "meta_sources", "answered")
    counts: dict[str, int] = {}
    for row in answered:
        counts[row["xling_id"]] = counts.get(row["xling_id"], 0) + 1
    assert len(counts) == 240
    assert sum(count == 7 for count in counts.values()) > 120
    assert all(count % 7 == 0 for count in counts.values())
