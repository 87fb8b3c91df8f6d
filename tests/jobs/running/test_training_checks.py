from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.stages import Runner, Stage
from cluster.storage import open_storage, write_json, write_table
from distill.config import Config
from distill.encoders.settings import FreshStudent, LateInteractionStudent, SingleVectorStudent
from distill.encoders.start import start_student
from distill.tables import QRELS, QUERIES
from jobs.mtd import pipeline
from jobs.running.training_checks import check_student

BUNDLED = {"type": "pretrained", "model": "bundled:student"}


def trained(settings: dict[str, Any], storage: Path) -> tuple[Stage, Stage, Runner]:
    """Return the stages `sources` and `train` of a job, and a runner that asks for no cluster."""
    config = Config.model_validate({"storage": str(storage), **settings})
    stages = {stage.name: stage for stage in pipeline(config).stages}
    return stages["sources"], stages["train"], Runner(str(storage), cast("Any", None), progress=False)


def finish(data: Stage, storage: Path, split: str, relevance: int, lang: str = "en") -> None:
    filesystem, root = open_storage(str(storage))
    queries = QUERIES.from_rows([{"query_id": "q", "lang": lang, "text": "q", "split": split}])
    qrels = QRELS.from_rows([{"query_id": "q", "passage_id": "p", "relevance": relevance}])
    for name, table in {"queries": queries, "qrels": qrels}.items():
        write_table(filesystem, f"{root}/{data.folder}/{name}/0.parquet", table)
    write_json(filesystem, f"{root}/{data.folder}/manifest.json", {"tables": {}})


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (
            {"passage_tokens": 800},
            r"^student\.passage_tokens 800: 'bundled:student' has 320 positions; lower it to 320, or take",
        ),
        ({"query_tokens": 321}, r"^student\.query_tokens 321: 'bundled:student' has 320 positions"),
        ({"type": "single_vector", "passage_tokens": 321}, r"^student\.passage_tokens 321: "),
    ],
)
def test_texts_beyond_the_positions_are_refused_before_the_first_stage(
    student: dict[str, Any], message: str, tmp_path: Path
) -> None:
    settings = {"student": {"type": "late_interaction", "start": BUNDLED, **student}}
    _, train, runner = trained(settings, tmp_path)
    with pytest.raises(UserError, match=message):
        runner.check([train])
    fitting = {name: 320 if name.endswith("tokens") else value for name, value in student.items()}
    check_student(Config.model_validate({"student": settings["student"] | fitting}))


@pytest.mark.parametrize("lengths", [{"query_tokens": 600}, {"passage_tokens": 600}])
@pytest.mark.parametrize("kind", [LateInteractionStudent, SingleVectorStudent])
def test_a_fresh_student_has_positions_for_both(kind: Any, lengths: dict[str, int]) -> None:
    start = FreshStudent(hidden=32, layers=1, vocabulary=200)
    encoder = start_student(kind(start=start, **lengths), ["bees dance " * 20], 0)
    long = ["bees dance " * 400]
    vectors = encoder.encode_queries(long) if "query_tokens" in lengths else encoder.encode_passages(long)
    assert len(vectors) == 1


@pytest.mark.parametrize(("split", "relevance", "lang"), [("train", 1, "en"), ("dev", 0, "en"), ("dev", 1, "de")])
def test_a_watch_without_queries_is_refused_once_the_source_is_read(
    split: str, relevance: int, lang: str, tmp_path: Path
) -> None:
    data, train, runner = trained(
        {"train": {"dev": {"every": 2000}}, "student": {"type": "late_interaction", "start": BUNDLED}}, tmp_path
    )
    runner.check([train])
    finish(data, tmp_path, split, relevance, lang)
    with pytest.raises(
        UserError, match=r"train\.dev: the source has no judged query of split dev in 'en'; give it one"
    ):
        runner.check([train])
    finish(data, tmp_path, "dev", 1)
    runner.check([train])
    assert isinstance(runner.table(data, "qrels").read(), pa.Table)
