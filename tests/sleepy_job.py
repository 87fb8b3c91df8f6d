"""A job for tests of clusters: squares in shards of one row that take a while. `python -m tests.sleepy_job '{"store": ...}'`."""

import json
import sys
from typing import Any

from cluster.session import Session
from cluster.settings import PoolSettings
from cluster.stages import Runner, Stage, StageRun
from cluster.workspace import row_shards
from tests.squares import Sleeper


def run(store: str, log: str, shards: int, seconds: float, peers: int, pool: dict[str, Any]) -> None:
    """Run the job and print what became of it as one line of JSON."""

    def squares(workspace: StageRun) -> None:
        arguments = {"seconds": seconds, "log": log, "peers": peers}
        workspace.map_shards(row_shards(shards, 1), Sleeper, arguments, PoolSettings(**pool), "numbers")

    with Session() as session:
        result = Runner(store, session, progress=False).run(Stage("squares", 1, squares, {}, rows="squares"))
    print(json.dumps(result.manifest["shards"]))


if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))
