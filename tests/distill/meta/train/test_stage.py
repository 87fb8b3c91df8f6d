"""Meta-training on a real Ray Train worker group, with a worker killed for real."""

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.session import Session
from cluster.stages import Runner, Stage, StageRun
from distill.encoders.checkpoints import load_encoder, save_encoder
from distill.meta.settings import MetaTrainSettings
from distill.tables import RETRIEVAL_TASKS, TableError
from tests.distill.meta.samples import task_row
from tests.train_processes import train_workers, wait_for_checkpoint


@dataclass(frozen=True)
class Job:
    """One training in a folder of its own."""

    root: Path
    encoder: Path

    def stages(self, method: str, sets: int, settings: MetaTrainSettings) -> tuple[Stage, Stage, Stage]:
        def start(run: StageRun) -> None:
            save_encoder(load_encoder(self.encoder), f"{run.folder}/start")

        def tasks(run: StageRun) -> None:
            run.write(
                "retrieval_tasks", RETRIEVAL_TASKS.from_rows(task_row(i, sets) for i in range(20)), row_group_size=6
            )

        def train(run: StageRun) -> None:
            from distill.meta.train.stage import meta_train

            meta_train(run, settings, method, "retrieval", 3, start="start", tasks="tasks")  # pyright: ignore[reportArgumentType]

        begun = Stage("start", 1, start, {}, uses_ray=False)
        made = Stage("tasks", 1, tasks, {"sets": sets}, uses_ray=False)
        identity = settings.identity() | {"method": method}
        return begun, made, Stage("train", 1, train, identity, (begun, made), rows="training_log")

    def run(self, method: str = "maml_align", sets: int = 3, **settings: object) -> dict[str, Any]:
        values: dict[str, object] = {"inner_rate": 0.1, "inner_steps": 2, "learning_rate": 1e-3, "tasks_per_batch": 2}
        values |= {"steps": 24, "log_every": 2, "checkpoint_every": 8}
        chosen = MetaTrainSettings.model_validate(values | settings)
        runner = Runner(str(self.root), Session(), progress=False)
        stages = self.stages(method, sets, chosen)
        for stage in stages:
            runner.run(stage)
        from cluster.storage import open_storage, read_table

        filesystem, root = open_storage(runner.storage)
        folder = f"{root}/{stages[-1].folder}"
        return {
            "log": read_table(filesystem, f"{folder}/training_log").to_pylist(),
            "losses": read_table(filesystem, f"{folder}/meta_losses").to_pylist(),
            "weights": load_encoder(f"{folder}/checkpoint").state_dict(),
        }


@pytest.fixture(scope="module")
def uninterrupted(ray_session: None, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Job(tmp_path_factory.mktemp("whole"), tiny_encoder).run()


def test_the_log_tells_the_losses_apart(uninterrupted: dict[str, Any]) -> None:
    """Each line's loss is half of both learners' plus half (lambda) of the gap."""
    log, losses = uninterrupted["log"], uninterrupted["losses"]
    assert [line["step"] for line in log] == list(range(2, 25, 2))
    assert [line["examples"] for line in log] == list(range(4, 49, 4))
    by_step = {(line["step"], line["part"]): line["value"] for line in losses}
    for line in log:
        teacher, student, gap = (by_step[line["step"], part] for part in ("teacher", "student", "gap"))
        assert line["loss"] == pytest.approx((teacher + student) / 2 + 0.5 * gap, rel=1e-9)
    assert sum(line["loss"] for line in log[-3:]) < sum(line["loss"] for line in log[:3])


def test_a_killed_worker_is_replaced_and_the_run_goes_on_exactly(
    uninterrupted: dict[str, Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill() -> None:
        wait_for_checkpoint(tmp_path, 8)
        killed.extend(train_workers())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = Job(tmp_path, tiny_encoder).run()
    killer.join()
    assert len(killed) == 1
    assert found["log"] == uninterrupted["log"]
    assert found["losses"] == uninterrupted["losses"]
    for name, value in uninterrupted["weights"].items():
        assert torch.equal(value, found["weights"][name]), name


def test_two_workers_are_one_with_all_tasks(uninterrupted: dict[str, Any], tiny_encoder: Path, tmp_path: Path) -> None:
    found = Job(tmp_path, tiny_encoder).run(workers=2)
    assert [line["loss"] for line in found["log"]] == pytest.approx(
        [line["loss"] for line in uninterrupted["log"]], rel=1e-4
    )
    for name, value in uninterrupted["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=1e-2, atol=1e-4, msg=name)


def test_tasks_with_too_few_sets_are_refused(ray_session: None, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"task 0 \(de_de-de_fr\) has 2 sets, but maml_align takes 3"):
        Job(tmp_path, tiny_encoder).run(sets=2, max_failures=0)
