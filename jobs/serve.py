#!/usr/bin/env python3
"""Serve the search endpoint of a finished run: its student, its index, a search page and an API.

    python jobs/serve.py --run polyray-data/runs/mtd
    python jobs/serve.py --run s3://bucket/polyray/runs/mtd --serve.port 9000 --cluster.address auto

Runs until Ctrl-C or SIGTERM. Settings of groups `serve` and `cluster` apply; --help lists them.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import signal
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pyarrow as pa

from cluster.session import Session, SessionError
from cluster.storage import StorageError, join, open_storage, read_json
from distill.config import ClusterSettings, Config, ConfigError, ServeSettings, load
from serve.api import ServeError

PROGRAM = "jobs/serve.py"
STAGES = ("train", "index")


def serve_run(config: Config) -> None:
    """Serve the run that the job of `config` wrote, until interrupted."""
    serve_folder(join(config.storage, "runs", config.name), config.serve, config.cluster)


def serve_folder(run: str, settings: ServeSettings, cluster: ClusterSettings) -> None:
    """Serve a run folder until Ctrl-C or SIGTERM, then let running requests finish."""
    checkpoint, index = locations(run)
    with Session(cluster.address, cluster.num_cpus) as session:
        session.connect()
        # After Ray, which has a handler of its own: both signals end the endpoint in the same clean way.
        signal.signal(signal.SIGTERM, _interrupt)
        from serve.app import needs, start, stop

        session.check(needs(settings), autoscales=cluster.autoscales)
        url = start(checkpoint, index, settings)
        try:
            body = json.dumps({"query": "How do honey bees tell each other where food is?", "k": 3})
            print(f"serving {run} at {url}; try: curl {url}/search -H 'Content-Type: application/json' -d '{body}'", flush=True)  # noqa: T201
            while True:
                time.sleep(1.0)
        finally:
            stop()


def locations(run: str) -> tuple[str, str]:
    """The checkpoint and the index of a run, found by its run.json; storage is the folder two above, wherever it was moved.

    A folder without run.json, or without a trained student and its index, is a `ConfigError`.
    """
    base, mark, query = run.partition("?")
    filesystem, folder = open_storage(run)
    facts = _run_facts(run)
    parts = base.rstrip("/").rsplit("/", 2) if mark or "://" in run else folder.rsplit("/", 2)
    if len(parts) < 3 or parts[1] != "runs":
        raise ConfigError(f"--run {run}: a run's folder lies in a folder 'runs' of its storage")
    storage = parts[0] + mark + query
    stages = facts.get("stages", {})
    missing = [stage for stage in STAGES if stage not in stages]
    if missing:
        raise ConfigError(f"--run {run}: the run has no stage {' and no stage '.join(missing)}; run the whole job first")
    for stage in STAGES:
        if read_json(filesystem, f"{folder.rsplit('/', 2)[0]}/{stages[stage]}/manifest.json") is None:
            raise ConfigError(f"--run {run}: its stage {stage} is not finished or was deleted ({stages[stage]}); run the job again")
    return join(storage, stages["train"], "checkpoint"), join(storage, stages["index"])


def configure(arguments: Sequence[str]) -> tuple[str, Config]:
    """The run folder and the configuration: what the run used, with the command line's `--serve.*` and `--cluster.*`."""
    parser = argparse.ArgumentParser(prog=PROGRAM, add_help=False, allow_abbrev=False, usage=f"{PROGRAM} --run FOLDER [--serve.SETTING VALUE ...]")
    parser.add_argument("--run", metavar="FOLDER", help="a run's folder: local, or s3://bucket/prefix/runs/name")
    options, rest = parser.parse_known_args(arguments)
    if {"-h", "--help"} & set(rest):
        print(f"{__doc__}")  # noqa: T201
        load([], ["--help"], PROGRAM)
    if not options.run:
        raise ConfigError("--run is missing: give the folder of a run, such as polyray-data/runs/mtd")
    foreign = [word for word in rest if word.startswith("--") and not word.startswith(("--serve.", "--cluster."))]
    if foreign:
        raise ConfigError(f"{foreign[0]} does not apply to a finished run; only --serve.* and --cluster.* do")
    given = load([], rest, PROGRAM)
    saved = Config(**_run_facts(options.run).get("config", {}))
    return options.run, _with_given(saved, given)


def _with_given(saved: Config, given: Config) -> Config:
    changes: dict[str, Any] = {}
    for name in ("serve", "cluster"):
        ours, theirs = getattr(saved, name), getattr(given, name)
        changes[name] = ours.model_copy(update={field: getattr(theirs, field) for field in theirs.model_fields_set})
    return saved.model_copy(update=changes)


def _run_facts(run: str) -> dict[str, Any]:
    filesystem, folder = open_storage(run)
    try:
        facts = read_json(filesystem, f"{folder}/run.json")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"--run {run}: run.json cannot be read: {' '.join(str(error).split())}") from error
    if facts is None:
        raise ConfigError(f"--run {run}: there is no run.json; give the folder of a finished run, such as polyray-data/runs/mtd")
    return facts


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Serve, and return the exit code: 0 stopped by a signal, 1 failed, 2 wrong usage."""
    try:
        run, config = configure(arguments)
        serve_folder(run, config.serve, config.cluster)
    except (ConfigError, SessionError, StorageError, ServeError) as error:
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("stopped", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
