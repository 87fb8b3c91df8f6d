"""Shards on a real Ray: what is lost when rows kill actors (nothing else), what is shared, and what is not waited for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import StageError
from cluster.session import Session
from cluster.settings import PoolSettings
from cluster.shards import actor_options
from cluster.stages import Runner, Stage, StageRun
from cluster.storage import open_storage, read_table
from cluster.workspace import Shared, Workspace, planned_shards, row_shards
from tests.squares import SeparableSquares, Sleeper, Squares, Stillborn, Unmade, numbers


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(str(tmp_path / "store"), Session(), max_rejected=0.2, progress=False)


def squares(worker: type, pool: PoolSettings, rows: int, size: int, **arguments: Any) -> Stage:
    def run(workspace: StageRun) -> None:
        workspace.map_shards(row_shards(rows, size), worker, arguments, pool, "numbers")

    return Stage("squares", 1, run, {}, rows="squares")


def read(runner: Runner, stage: Stage, table: str) -> dict[str, list[Any]]:
    filesystem, root = open_storage(runner.storage)
    return read_table(filesystem, f"{root}/{stage.folder}/{table}").to_pydict()


def left_over(runner: Runner, stage: Stage) -> list[str]:
    return sorted(path.name for path in (Path(runner.storage) / stage.folder).iterdir() if path.name.startswith("_"))


def test_rows_that_kill_their_actor_are_left_out_by_id_and_the_rest_finishes(
    ray_session: None, runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two that kill in one shard, one that runs out of memory in another, and one that kills once and is innocent."""
    facts = {"log": str(tmp_path / "log"), "poison": (3, 12), "hungry": (25,), "flaky": (34,)}
    stage = squares(SeparableSquares, PoolSettings(min_actors=2, max_actors=2, max_restarts=0), 48, 16, **facts)
    result = runner.run(stage)
    found = read(runner, stage, "squares")
    assert dict(zip(found["n"], found["square"], strict=True)) == {n: n * n for n in range(48) if n not in {3, 12, 25}}
    assert len(found["n"]) == 45
    rejected = read(runner, stage, "rejected")
    assert rejected["id"] == ["3", "12", "25"]
    assert [reason.split()[0] for reason in rejected["reason"]] == ["crashed", "crashed", "out"]
    assert (result.manifest["rows"], result.manifest["rejected"]) == (45, 3)
    assert left_over(runner, stage) == ["_shards"]
    assert "squares: 3 rows crashed their actor or ran out of memory and were left out" in capsys.readouterr().out


def test_an_actor_that_dies_when_it_is_made_is_not_made_for_ever(
    ray_session: None, runner: Runner, tmp_path: Path
) -> None:
    stage = squares(Stillborn, PoolSettings(max_restarts=1), 2, 1, log=str(tmp_path / "log"))
    with pytest.raises(StageError, match=r"^stage 'squares' failed: an actor crashed whenever it made its worker"):
        runner.run(stage)
    assert (tmp_path / "log").read_text().split() == ["born"] * 2


def test_an_error_of_a_workers_making_is_its_own_one_line_at_once(
    ray_session: None, runner: Runner, tmp_path: Path
) -> None:
    """Ray would make the actor four times, and end with pages of its own."""
    log = tmp_path / "log"
    pool = PoolSettings(min_actors=1, max_actors=1)
    with pytest.raises(StageError) as caught:
        runner.run(squares(Unmade, pool, 8, 4, log=str(log)))
    assert str(caught.value) == (
        "stage 'squares': score.teacher: model.safetensors is empty; fetch the checkpoint again"
    )
    assert log.read_text() == "tried\n"


def test_what_is_shared_is_made_once(ray_session: None, runner: Runner, tmp_path: Path) -> None:
    table = Shared(numbers, {"log": str(tmp_path / "made"), "count": 40})
    stage = squares(Squares, PoolSettings(min_actors=2, max_actors=2), 40, 10, table=table, log=str(tmp_path / "log"))
    runner.run(stage)
    assert read(runner, stage, "squares")["square"] == [n * n for n in range(40)]
    assert (tmp_path / "made").read_text() == "made\n"


def test_what_cannot_be_made_is_said(ray_session: None, runner: Runner) -> None:
    table = Shared(numbers, {"log": "/dev/null/none", "count": 40})
    with pytest.raises(StageError, match=r"stage 'squares' failed: .*NotADirectoryError: .*/dev/null/none"):
        runner.run(squares(Squares, PoolSettings(), 40, 10, table=table, log=""))


def test_a_place_that_never_comes_is_not_waited_for(ray_session: None, runner: Runner) -> None:
    pool = PoolSettings(resources={"nowhere": 1.0}, start_timeout_s=1.0)
    with pytest.raises(StageError, match=r"^stage 'squares': no actor could start in 1 s \(pool.start_timeout_s\)"):
        runner.run(squares(Sleeper, pool, 2, 1, seconds=0.0))


def test_a_shard_that_never_ends_is_not_waited_for(ray_session: None, runner: Runner) -> None:
    with pytest.raises(StageError, match=r"no shard was finished in 1 s \(pool.stall_timeout_s\) though 1 actors run"):
        runner.run(squares(Sleeper, PoolSettings(stall_timeout_s=1.0), 1, 1, seconds=600.0))


def test_a_plan_is_measured_once_and_kept(ray_session: None, runner: Runner, tmp_path: Path) -> None:
    """Rows of 20 ms: shards of 0.2 s hold at most ten of them."""
    plans: list[Any] = []

    def run(workspace: Workspace) -> None:
        call: Mapping[str, Any] = {
            "worker": Sleeper,
            "arguments": {"seconds": 0.02},
            "pool": PoolSettings(),
            "unit": "numbers",
        }
        shards = planned_shards(workspace, 50, 0.2, **call)
        plans.append(shards)
        if len(plans) == 1:
            raise ValueError("stop here")
        workspace.map_shards(shards, **call)

    stage = Stage("squares", 1, run, {}, rows="squares")
    with pytest.raises(ValueError, match="stop here"):
        runner.run(stage)
    measured = {path.stem for path in (tmp_path / "store" / stage.folder / "_shards").iterdir()}
    result = runner.run(stage)
    assert result.manifest["rows"] == 50
    assert result.manifest["shards"] == {"total": len(plans[0]), "computed": len(plans[0]) - len(measured)}
    assert plans[0] == plans[1]
    found = read(runner, stage, "squares")
    assert found["square"] == [n * n for n in range(50)]
    assert len(set(found["pid"])) == 2  # one actor measured, one did the rest; the first was not asked again
    assert max(shard.args["stop"] - shard.args["start"] for shard in plans[0]) <= 10


def test_every_demand_of_a_pool_reaches_ray() -> None:
    settings = PoolSettings(
        num_cpus=2, num_gpus=4, memory_gb=1.5, accelerator_type="A100", resources={"slot": 1}, labels={"zone": "a"},
        fallback_labels=({"zone": "b"}, {"zone": "c"}), runtime_env={"env_vars": {"A": "1"}},
    )  # fmt: skip
    assert actor_options(PoolSettings(**settings.model_dump())) == {
        "num_cpus": 2.0, "num_gpus": 4.0, "memory": 1_500_000_000, "accelerator_type": "A100", "resources": {"slot": 1.0},
        "label_selector": {"zone": "a"}, "fallback_strategy": [{"label_selector": {"zone": "b"}}, {"label_selector": {"zone": "c"}}],
        "runtime_env": {"env_vars": {"A": "1"}},
    }  # fmt: skip
    assert actor_options(PoolSettings()) == {"num_cpus": 1.0}
