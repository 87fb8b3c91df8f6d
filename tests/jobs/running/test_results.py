from pathlib import Path

import pyarrow as pa
import pytest

from cluster.session import Session
from cluster.stages import Runner, Stage, StageRun
from jobs.running.results import print_outputs, print_quality


def test_a_table_of_systems(capsys: pytest.CaptureFixture[str]) -> None:
    print_quality("nDCG@20, 2 queries", ["de", "mean"], {"bm25": [0.25, 0.5], "teacher": [None, None]})
    assert capsys.readouterr().out.splitlines() == [
        "",
        "nDCG@20, 2 queries",
        "system                        de    mean",
        "bm25                       0.250   0.500",
        "teacher                        -       -",
    ]
    print_quality("mAP", ["mean"], {"zero_shot": [0.33336]}, width=10, digits=4)
    assert capsys.readouterr().out.splitlines()[-1] == "zero_shot                   0.3334"


def test_a_stage_script_ends_with_what_it_made_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a training the last loss, and the checkpoint: with a development set that of its best step."""

    def train(run: StageRun) -> None:
        run.write("training_log", pa.table({"step": [10, 20], "loss": [0.5, 0.25]}))
        run.note(kept_step=10)

    stage = Stage("train", 1, train, {}, uses_ray=False, rows="training_log")
    runner = Runner(str(tmp_path), Session(), progress=False)
    runner.run(stage)
    capsys.readouterr()
    print_outputs(runner, [stage])
    folder = tmp_path / stage.folder
    assert capsys.readouterr().out.splitlines() == [
        "",
        f"train: {folder}",
        "  training_log                     2 rows",
        "  loss                        0.2500 at step 20",
        f"  checkpoint             {folder}/checkpoint (of step 10, the best on the development set)",
    ]
