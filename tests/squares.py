"""A shard worker for tests, in a module that Ray's workers can import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from distill.workspace import Shard


@dataclass
class Squares:
    """Squares of a range; leaves a note of every computation, and dies where it is told to."""

    table: pa.Table
    log: str
    die_once_at: int = -1
    die_always_at: int = -1
    fail_at: int = -1

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        with Path(self.log).open("a") as log:
            log.write(f"{shard.index}\n")
        first = not Path(f"{self.log}.died").exists()
        if shard.index == self.die_always_at or (shard.index == self.die_once_at and first):
            Path(f"{self.log}.died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if shard.index == self.fail_at:
            message = f"shard {shard.index} is wrong:\n  give another"
            raise ValueError(message)
        values = self.table["n"].to_pylist()[shard.args["start"] : shard.args["start"] + 10]
        return {"squares": pa.table({"n": values, "square": [n * n for n in values]})}
