from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import StageError
from cluster.session import Need, Session, SessionError
from cluster.settings import PoolSettings
from cluster.stages import Runner, Stage, StageRun, summary_line
from cluster.storage import open_storage, read_table
from cluster.workspace import Shard
from tests.squares import Squares


def numbers(run: StageRun) -> None:
    run.write("numbers", pa.table({"n": [1, 2, 3]}))


def stage(name: str, function: Callable[[StageRun], None], **facts: object) -> Stage:
    values = {"version": 1, "settings": {}, "uses_ray": False, "rows": "numbers"} | facts
    return Stage(name, run=function, **values)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(str(tmp_path), Session(), progress=False)


def test_a_stage_runs_once(runner: Runner) -> None:
    first = runner.run(stage("numbers", numbers))
    second = runner.run(stage("numbers", lambda _: pytest.fail("ran again")))
    assert (first.reused, second.reused) == (False, True)
    assert first.manifest["tables"] == {"numbers": {"rows": 3, "files": 1}}
    assert second.manifest == first.manifest
    assert summary_line(second) == "numbers                3 rows      0 rejected     reused"


def test_what_decides_the_content_decides_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    base = stage("x", numbers, settings={"a": 1}, reads=(str(tmp_path / "file"),))
    same = stage("x", numbers, settings={"a": 1}, reads=(str(tmp_path / "file"),), needs=(Need("x", 9, 1, 0, "s"),))
    assert base.digest == same.digest
    upstream = stage("up", numbers)
    others = [
        stage("x", numbers, settings={"a": 2}, reads=base.reads),
        stage("x", numbers, settings={"a": 1}, reads=base.reads, version=2),
        stage("x", numbers, settings={"a": 1}, reads=base.reads, inputs=(upstream,)),
        stage("x", numbers, settings={"a": 1}, reads=base.reads, inputs=(replace(upstream, version=2),)),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 5
    before = base.digest
    (tmp_path / "file").write_text("b")
    assert stage("x", numbers, settings={"a": 1}, reads=base.reads).digest != before


def test_a_stage_that_failed_is_run_again(runner: Runner) -> None:
    def fail(run: StageRun) -> None:
        run.write("numbers", pa.table({"n": [9]}))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        runner.run(stage("numbers", fail))
    assert runner.run(stage("numbers", numbers)).manifest["rows"] == 3


def test_a_full_disk_is_one_line_and_other_errors_stay_as_they_are(runner: Runner) -> None:
    """The device /dev/full refuses every byte, as a full disk does."""

    def fill(_: StageRun) -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x")

    with pytest.raises(
        StageError, match=r"stage 'numbers' failed in .*No space left on device; the disk is full: free some of it"
    ):
        runner.run(stage("numbers", fill))

    def lose(_: StageRun) -> None:
        Path("/no/such/file").read_text()

    with pytest.raises(FileNotFoundError):
        runner.run(stage("numbers", lose))


def test_too_many_rejected_rows_fail_the_stage(runner: Runner) -> None:
    def reject(run: StageRun) -> None:
        run.write("numbers", pa.table({"n": [1] * 9}))
        run.write("rejected", pa.table({"reason": ["line 7 is not JSON"]}))

    with pytest.raises(
        StageError,
        match=r"stage 'numbers' rejected 1 of 10 rows, max_rejected is 0.01; first reasons: line 7 is not JSON",
    ):
        runner.run(stage("numbers", reject))
    lenient = Runner(runner.storage, Session(), max_rejected=0.1)
    assert lenient.run(stage("numbers", reject)).manifest["rejected"] == 1


def test_inputs_are_read_by_stage_name(runner: Runner) -> None:
    upstream = stage("numbers", numbers)
    runner.run(upstream)

    def double(run: StageRun) -> None:
        found = run.input("numbers", "numbers")["n"].to_pylist()
        run.write("numbers", pa.table({"n": [2 * n for n in found]}))
        with pytest.raises(StageError, match=r"stage 'double' has no input 'other'; it has \['numbers'\]"):
            run.input("other", "numbers")

    runner.run(stage("double", double, inputs=(upstream,)))


def squares(tmp_path: Path, pool: PoolSettings, **arguments: object) -> Stage:
    def run(workspace: StageRun) -> None:
        table = pa.table({"n": list(range(60))})
        shards = [Shard(i, {"start": 10 * i}) for i in range(6)]
        workspace.map_shards(
            shards, Squares, {"table": table, "log": str(tmp_path / "log"), **arguments}, pool, "numbers"
        )

    return stage("squares", run, rows="squares", uses_ray=True)


def rows(runner: Runner, subject: Stage) -> list[tuple[int, int]]:
    filesystem, root = open_storage(runner.storage)
    table = read_table(filesystem, f"{root}/{subject.folder}/squares")
    return list(zip(table["n"].to_pylist(), table["square"].to_pylist(), strict=True))


EXPECTED = [(n, n * n) for n in range(60)]


@pytest.mark.parametrize("actors", [1, 4])
def test_shards_give_the_same_table_on_any_number_of_actors(ray_session: None, tmp_path: Path, actors: int) -> None:
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    subject = squares(tmp_path, PoolSettings(min_actors=actors, max_actors=actors))
    result = runner.run(subject)
    assert rows(runner, subject) == EXPECTED
    assert result.manifest["shards"] == {"total": 6, "computed": 6}
    assert result.manifest["tables"]["squares"] == {"rows": 60, "files": 6}


def test_a_relative_storage_is_the_same_for_workers(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # workers were started elsewhere
    runner = Runner("store", Session(), progress=False)
    subject = squares(tmp_path, PoolSettings(min_actors=1, max_actors=1))
    runner.run(subject)
    assert rows(runner, subject) == EXPECTED


def test_shards_that_the_job_does_not_see_fail_the_stage(ray_session: None, tmp_path: Path) -> None:
    """The marker of the first shard is not there when the last one is done, as on a disk that nodes do not share."""
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    stages = str(tmp_path / "store" / "stages")
    subject = squares(tmp_path, PoolSettings(min_actors=1, max_actors=1), forget=stages)
    with pytest.raises(
        StageError, match=r"workers wrote 1 of 6 shards where the job does not see them; storage \(.*store\) must"
    ):
        runner.run(subject)


def test_an_actor_that_is_killed_is_replaced_and_loses_nothing(ray_session: None, tmp_path: Path) -> None:
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    subject = squares(tmp_path, PoolSettings(min_actors=1, max_actors=1), die_once_at=3)
    runner.run(subject)
    assert rows(runner, subject) == EXPECTED
    log = (tmp_path / "log").read_text().split()
    assert log.count("3") == 2
    assert set(log) == {str(i) for i in range(6)}


def test_a_shard_that_always_kills_its_actor_fails_the_stage_and_keeps_the_rest(
    ray_session: None, tmp_path: Path
) -> None:
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    with pytest.raises(StageError, match=r"shard 5 .* crashed its actor more often than pool.max_restarts"):
        runner.run(squares(tmp_path, PoolSettings(min_actors=1, max_actors=1, max_restarts=1), die_always_at=5))
    assert (tmp_path / "log").read_text().split().count("5") == 2
    (tmp_path / "log").unlink()
    healed = squares(tmp_path, PoolSettings(min_actors=1, max_actors=1))
    result = runner.run(healed)
    assert rows(runner, healed) == EXPECTED
    # only what was not committed is computed
    assert "0" not in (tmp_path / "log").read_text().split()
    assert result.manifest["shards"]["computed"] == len((tmp_path / "log").read_text().split()) < 6


def test_an_error_in_a_worker_is_said_in_one_line(ray_session: None, tmp_path: Path) -> None:
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    with pytest.raises(StageError, match=r"stage 'squares' failed: .*unexpected keyword argument 'nonsense'"):
        runner.run(squares(tmp_path, PoolSettings(min_actors=1, max_actors=1), nonsense=1))


def test_an_error_in_a_shard_is_said_as_it_was_raised(ray_session: None, tmp_path: Path) -> None:
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    with pytest.raises(StageError, match=r"^stage 'squares' failed: ValueError: shard 5 is wrong: +give another$"):
        runner.run(squares(tmp_path, PoolSettings(min_actors=1, max_actors=1), fail_at=5))


def test_shards_on_s3_give_the_same_table(ray_session: None, s3_bucket: str, tmp_path: Path) -> None:
    runner = Runner(f"{s3_bucket}/store", Session(), progress=False)
    subject = squares(tmp_path, PoolSettings(min_actors=2, max_actors=2))
    runner.run(subject)
    assert rows(runner, subject) == EXPECTED
    assert runner.run(subject).reused


def test_what_the_cluster_cannot_give_is_refused(ray_session: None) -> None:
    session = Session()
    session.check([Need("score", 8, 1.0, 0.0, "score.pool")])
    with pytest.raises(
        SessionError, match=r"score asks for 9 x 1 CPUs at once \(score.pool\), the 1 nodes have 8 CPUs"
    ):
        session.check([Need("score", 9, 1.0, 0.0, "score.pool")])
    with pytest.raises(
        SessionError, match=r"train asks for 2 x 1 GPUs at once \(train.workers\), the 1 nodes have 0 GPUs"
    ):
        session.check([Need("train", 2, 1.0, 1.0, "train.workers")])
    with pytest.raises(SessionError, match="train asks for 2 x 1 GPUs"):  # no node comes to a local Ray
        session.check([Need("train", 2, 1.0, 1.0, "train.workers")], autoscales=True)


def test_what_cannot_succeed_is_said_of_the_stages_that_would_run(runner: Runner) -> None:
    asked: list[str] = []

    def refuse(of: Runner) -> None:
        asked.append("refuse")
        raise StageError("no such model")

    def note(of: Runner) -> None:
        asked.append("note")

    done = stage("done", numbers, rows="numbers", check=refuse)
    runner.run(done)
    runner.check([done, stage("waiting", numbers, version=2, check=note), stage("unchecked", numbers, version=3)])
    assert asked == ["note"]
    with pytest.raises(StageError, match="no such model"):
        runner.check([stage("wrong", numbers, version=2, check=refuse), stage("never", numbers, check=note)])
    assert asked == ["note", "refuse"]
