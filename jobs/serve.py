#!/usr/bin/env python3
"""Serve the search endpoint of a finished run: its student, its index, a search page and an API.

    python jobs/serve.py --run polyray-data/runs/mtd
    python jobs/serve.py --run s3://bucket/polyray/runs/mtd --serve.port 9000 --cluster.address auto

Runs until Ctrl-C or SIGTERM. It takes the settings that the run's job was given, unless told otherwise.
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
from typing import Any, NoReturn

import pyarrow as pa
from pydantic import ValidationError
from pydantic_settings import (
    CliSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)

from cluster.errors import UserError, report_error
from cluster.session import Session
from cluster.settings import ClusterSettings
from cluster.storage import join, open_storage, read_json
from distill.config import Config
from distill.settings.load import ConfigError, GivenSettings, explain, merge
from distill.settings.serve import ServeSettings

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
        from serve.launch import needs, start, stop

        session.check(needs(settings), autoscales=cluster.autoscales)
        url = start(checkpoint, index, settings, ray_ends=session.local)
        try:
            body = json.dumps({"query": "How do honey bees tell each other where food is?", "k": 3})
            print(
                f"serving {run} at {url}; try: curl {url}/search -H 'Content-Type: application/json' -d '{body}'",
                flush=True,
            )
            while True:
                time.sleep(1.0)
        finally:
            stop(ray_ends=session.local)


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
        raise ConfigError(
            f"--run {run}: the run has no stage {' and no stage '.join(missing)}; run the whole job first"
        )
    for stage in STAGES:
        if read_json(filesystem, f"{folder.rsplit('/', 2)[0]}/{stages[stage]}/manifest.json") is None:
            raise ConfigError(
                f"--run {run}: its stage {stage} is not finished or was deleted ({stages[stage]}); run the job again"
            )
    return join(storage, stages["train"], "checkpoint"), join(storage, stages["index"])


class Options(GivenSettings):
    """The command line: the run, and what its saved settings of `serve` and `cluster` are replaced by."""

    model_config = SettingsConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix="POLYRAY_",
        env_nested_delimiter="__",
        env_nested_max_split=4,
    )

    run: str = ""
    """A run's folder: local, or s3://bucket/prefix/runs/name."""
    serve: ServeSettings = ServeSettings()
    """The endpoint."""
    cluster: ClusterSettings = ClusterSettings()
    """Ray."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists what there is")


def configure(arguments: Sequence[str]) -> tuple[str, ServeSettings, ClusterSettings]:
    """The run folder, and the settings that its job was given, overlaid by `POLYRAY_*` variables and the command line."""
    parser = _Parser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command = CliSettingsSource(
        Options,
        cli_parse_args=list(arguments),
        root_parser=parser,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )
    try:
        given = Options(**merge(EnvSettingsSource(Options)(), command()))
        if not given.run:
            raise ConfigError("--run is missing: give the folder of a run, such as polyray-data/runs/mtd")
        saved = _run_facts(given.run).get("config", {})
        serve = ServeSettings(**saved.get("serve", {}) | given.serve.model_dump(exclude_unset=True))
        cluster = ClusterSettings(**saved.get("cluster", {}) | given.cluster.model_dump(exclude_unset=True))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None
    return given.run, serve, cluster


def _run_facts(run: str) -> dict[str, Any]:
    filesystem, folder = open_storage(run)
    try:
        facts = read_json(filesystem, f"{folder}/run.json")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"--run {run}: run.json cannot be read: {' '.join(str(error).split())}") from error
    if facts is None:
        raise ConfigError(
            f"--run {run}: there is no run.json; give the folder of a finished run, such as polyray-data/runs/mtd"
        )
    return facts


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Serve, and return the exit code: 0 stopped by a signal, 1 failed, 2 wrong usage."""
    try:
        serve_folder(*configure(arguments))
    except UserError as error:
        return report_error(PROGRAM, error)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
