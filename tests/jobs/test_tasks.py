from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.session import Session
from cluster.stages import Runner, Stage, StageRun
from distill.meta.config import MetaConfig
from distill.tables import RETRIEVAL_TASKS
from jobs.tasks import TaskPipeline, main, take_show


def test_some_tasks_of_the_first_fold_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Mapping[str, Any]] = [{**RETRIEVAL_TASKS.example, "position": i} for i in range(5)]

    def write(workspace: StageRun) -> None:
        workspace.write("retrieval_tasks", RETRIEVAL_TASKS.from_rows(rows))

    names = ("tasks_mono_bi_1", "tasks_trans_1", "tasks_mono_bi_3")
    stages = [Stage(name, 1, write, {}, rows="retrieval_tasks", uses_ray=False) for name in names]
    config = MetaConfig.model_validate({"storage": str(tmp_path), "tasks": {"run_folds": [1, 3]}})
    runner = Runner(config.storage, Session(), progress=False)
    for stage in stages:
        runner.run(stage)
    capsys.readouterr()
    TaskPipeline(config, stages, show=2).write_report(runner)
    printed = capsys.readouterr().out
    assert f"tasks_trans_1: 5 tasks in {tmp_path}/{stages[1].folder}/retrieval_tasks" in printed
    assert printed.count("task 0  de_de-de_fr") == printed.count("task 1  de_de-de_fr") == 2
    assert "task 2 " not in printed
    assert "tasks_mono_bi_3" not in printed
    assert printed.count("      + fr  Parce que ...") == 4


def test_the_number_to_show_is_taken_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert take_show(["--show", "7", "--tasks.shots", "2", "--plan"]) == (7, ["--tasks.shots", "2", "--plan"])
    assert take_show(["--tasks.shots", "2", "--plan"]) == (3, ["--tasks.shots", "2", "--plan"])
    assert main(["--show", "-1"]) == 2
    assert capsys.readouterr().err == "jobs/tasks.py: --show -1: give a number of tasks, 0 or more\n"
    assert main(["--show", "few"]) == 2
    assert "argument --show: invalid int value: 'few'" in capsys.readouterr().err


def test_it_plans_up_to_the_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--storage", str(tmp_path), "--method", "maml", "--tasks.mode", "mixed", "--tasks.run_folds", "2"]
    assert main(["--show", "1", "--plan", *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["meta_sources", "tasks_mixed_2"]
