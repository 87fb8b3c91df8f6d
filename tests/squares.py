"""A shard worker for tests, in a module that Ray's workers can import."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cluster.errors import UserError
from cluster.workspace import Shard


@dataclass
class Squares:
    """Squares of a range; leaves a note of every computation, and dies or deletes files (marker 0 below `forget`) where it is told to."""

    table: pa.Table
    log: str
    die_once_at: int = -1
    die_always_at: int = -1
    fail_at: int = -1
    forget: str = ""

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        with Path(self.log).open("a") as log:
            log.write(f"{shard.index}\n")
        first = not Path(f"{self.log}.died").exists()
        if shard.index == self.die_always_at or (shard.index == self.die_once_at and first):
            Path(f"{self.log}.died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if shard.index == self.fail_at:
            raise ValueError(f"shard {shard.index} is wrong:\n  give another")
        if self.forget and shard.index == 5:
            for file in Path(self.forget).glob("*/_shards/00000.json"):
                file.unlink()
        values = self.table["n"].to_pylist()[shard.args["start"] : shard.args["start"] + 10]
        return {"squares": pa.table({"n": values, "square": [n * n for n in values]})}


@dataclass
class SeparableSquares:
    """Squares of a range, row by row; rows named in `poison` kill the process, those in `hungry` run out of memory.

    Leaves a note of every row that it computes. More rows at once than `together` kill the process, and a row of `flaky` does so once.
    """

    log: str
    poison: tuple[int, ...] = ()
    flaky: tuple[int, ...] = ()
    hungry: tuple[int, ...] = ()
    together: int = 1_000_000

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        return self.without_rows(shard, {})

    def row_ids(self, shard: Shard) -> list[str]:
        return [str(n) for n in range(shard.args["start"], shard.args["stop"])]

    def try_rows(self, shard: Shard, start: int, stop: int) -> None:
        self._compute([int(row) for row in self.row_ids(shard)[start:stop]])

    def without_rows(self, shard: Shard, lost: Mapping[int, str]) -> dict[str, pa.Table]:
        ids = self.row_ids(shard)
        values = [int(row) for place, row in enumerate(ids) if place not in lost]
        rejected = {"id": [ids[place] for place in lost], "reason": list(lost.values())}
        schema = pa.schema([("id", pa.string()), ("reason", pa.string())])
        return {
            "squares": pa.table(
                {"n": pa.array(values, pa.int64()), "square": pa.array(self._compute(values), pa.int64())}
            ),
            "rejected": pa.table(rejected, schema=schema),
        }

    def _compute(self, values: list[int]) -> list[int]:
        with Path(self.log).open("a") as log:
            log.write("".join(f"{n}\n" for n in values))
        fresh = [Path(f"{self.log}.{n}") for n in set(values) & set(self.flaky)]
        unlucky = [mark.touch() for mark in fresh if not mark.exists()]
        if len(values) > self.together or set(values) & set(self.poison) or unlucky:
            os.kill(os.getpid(), signal.SIGKILL)
        if set(values) & set(self.hungry):
            raise MemoryError(f"no room for {sorted(set(values) & set(self.hungry))}")
        return [n * n for n in values]


def numbers(log: str, count: int) -> pa.Table:
    """A table that leaves a note of being made."""
    with Path(log).open("a") as file:
        file.write("made\n")
    return pa.table({"n": list(range(count))})


@dataclass
class Stillborn:
    """A worker that kills its process when it is made."""

    log: str

    def __post_init__(self) -> None:
        with Path(self.log).open("a") as log:
            log.write("born\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        raise NotImplementedError


@dataclass
class Unmade:
    """A worker that cannot be made, for a reason that the user can mend."""

    log: str

    def __post_init__(self) -> None:
        with Path(self.log).open("a") as log:
            log.write("tried\n")
        raise UserError("score.teacher: model.safetensors is empty; fetch the checkpoint again")

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        raise NotImplementedError


@dataclass
class Sleeper:
    """Sleeps for each row, then squares it, and says on which node and in which process. Leaves a note of every shard that it begins.

    A shard is not finished before as many processes as `peers` have begun one.
    """

    seconds: float
    log: str = os.devnull
    peers: int = 0

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        import ray

        with Path(self.log).open("a") as log:
            log.write(f"{shard.index} {os.getpid()}\n")
        values = list(range(shard.args["start"], shard.args["stop"]))
        while self.peers and len({line.split()[1] for line in Path(self.log).read_text().splitlines()}) < self.peers:
            time.sleep(0.1)
        time.sleep(self.seconds * len(values))
        node = ray.get_runtime_context().get_node_id()
        columns = {"square": [n * n for n in values], "node": [node] * len(values), "pid": [os.getpid()] * len(values)}
        return {"squares": pa.table({"n": values, **columns})}
