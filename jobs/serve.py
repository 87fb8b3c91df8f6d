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
    from cluster import interrupts

    interrupts.begin()

import json
import time
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from cluster import interrupts
from cluster.locations import shown
from cluster.session import Session
from cluster.settings import ClusterSettings
from distill.config import Config
from distill.runs import Run, run_folder
from distill.settings.describe import details
from distill.settings.load import ConfigError, GivenSettings, explain, merge, read_arguments, read_environment
from distill.settings.serve import ServeSettings
from jobs.running.programs import help_width, program, run_program, script_parser
from serve.port import check_port


def serve_run(config: Config) -> None:
    """Serve the run that the job of `config` wrote, until interrupted."""
    serve_folder(run_folder(config.storage, config.name), config.serve, config.cluster)


def serve_folder(run: str, settings: ServeSettings, cluster: ClusterSettings) -> None:
    """Serve a run folder until Ctrl-C or SIGTERM, then let running requests finish."""
    checkpoint, index = locations(run)
    with Session(cluster.address, cluster.num_cpus) as session:
        if session.local:
            check_port(settings.host, settings.port)
        print(f"starting the endpoint of {shown(run)} on {session.place}", flush=True)
        session.connect()
        from serve.launch import needs, start, stop

        session.check(needs(settings), autoscales=cluster.autoscales)
        url = start(checkpoint, index, settings, ray_ends=session.local)
        try:
            body = json.dumps({"query": "How do honey bees tell each other where food is?", "k": 3})
            print(
                f"serving {shown(run)} at {url}; try: curl {url}/search -H 'Content-Type: application/json' -d '{body}'",
                flush=True,
            )
            while True:
                time.sleep(1.0)
        finally:
            with interrupts.shielded():
                stop(ray_ends=session.local)


def locations(run: str) -> tuple[str, str]:
    """Return the locations of a run's checkpoint and index.

    Raises ConfigError for a folder without run.json, or without a trained student and its index.
    """
    opened = Run.open(run)
    missing = [stage for stage in ("train", "index") if stage not in opened.stages]
    if missing:
        raise ConfigError(f"run {shown(run)} has no stage {' and no stage '.join(missing)}; run the whole job first")
    for stage in ("train", "index"):
        opened.manifest(stage)
    return opened.checkpoint, opened.index


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
    """The folder of a run: local, or s3://bucket/prefix/runs/name."""
    serve: ServeSettings = ServeSettings()
    """The endpoint."""
    cluster: ClusterSettings = ClusterSettings()
    """The Ray cluster."""


def configure(arguments: Sequence[str]) -> tuple[str, ServeSettings, ClusterSettings]:
    """Return the run folder, and the settings that its job was given, overlaid by `POLYRAY_*` variables and the command line."""
    layers = (read_environment(Options), read_arguments(Options, arguments, program("serve")))
    try:
        given = Options(**merge(*layers))
        if not given.run:
            raise ConfigError("--run is missing: give the folder of a run, such as polyray-data/runs/mtd")
        saved = Run.open(given.run).settings
        serve = ServeSettings(**saved.get("serve", {}) | given.serve.model_dump(exclude_unset=True))
        cluster = ClusterSettings(**saved.get("cluster", {}) | given.cluster.model_dump(exclude_unset=True))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None
    return given.run, serve, cluster


def main(arguments: Sequence[str]) -> int:
    """Serve from the command line; return the exit code: 130 stopped by Ctrl-C, 143 by SIGTERM, 1 failed, 2 wrong usage."""

    def action() -> None:
        parser = script_parser("serve", __doc__, add_help=False)
        parser.add_argument("-h", "--help", action="store_true")
        options, settings = parser.parse_known_args(arguments)
        if options.help:
            groups = "\n".join(details(Options, name, help_width()) or "" for name in Options.model_fields)
            print(f"{parser.description}\nSettings, where not those of the run's job:\n\n{groups}")
            return
        serve_folder(*configure(settings))

    return run_program(program("serve"), action, interrupted="the endpoint has stopped")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
