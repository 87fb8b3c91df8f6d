"""Run folders: the one reader and writer of `run.json`, which tells where the stages of a finished job lie.

A run's folder is `runs/NAME` of its storage and holds `config.yaml` (the resolved settings), `report.html`, `summary.json` (numbers of the
report) and `run.json`. A run of the same name with other stages is kept in `runs/NAME-DIGEST`. Stages are named relative to the storage, so
a storage that was moved or copied whole stays readable.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.atomic import write_bytes
from cluster.errors import one_line, storage_remedy
from cluster.locations import shown
from cluster.storage import join, open_storage, read_bytes, read_json, write_json
from cluster.stored_table import StoredTable
from distill.settings.load import ConfigError, JobConfig, dump

_FILE = "run.json"


@dataclass(frozen=True)
class Run:
    """A finished job, opened with `Run.open`.

    Attributes:
        location: the run's folder, as it was given.
        storage: the storage that the run lies in now, a local path or a URI.
        name: the run's name.
        settings: the job's resolved settings, as JSON values; empty where run.json holds none.
        stages: folders of the stages by name, relative to the storage.
    """

    location: str
    storage: str
    name: str
    settings: Mapping[str, Any]
    stages: Mapping[str, str]

    @classmethod
    def open(cls, location: str) -> "Run":
        """Read a run's folder, a local path or s3://bucket/prefix/runs/NAME.

        Raises:
            ConfigError: the folder has no readable run.json, or does not lie in a folder `runs` of a storage.
            StorageError: the file system cannot be reached.
        """
        filesystem, folder = open_storage(location)
        try:
            facts = read_json(filesystem, f"{folder}/{_FILE}")
        except (OSError, ValueError, pa.ArrowException) as error:
            remedy = storage_remedy(error) if isinstance(error, OSError) else None
            said = f"run {shown(location)}: {_FILE} cannot be read: {one_line(error)}"
            raise ConfigError(f"{said}; {remedy}" if remedy else said) from error
        if facts is None:
            raise ConfigError(
                f"run {shown(location)}: there is no {_FILE}; give the folder of a finished run, such as polyray-data/runs/mtd"
            )
        base, mark, query = location.partition("?")
        parts = base.rstrip("/").rsplit("/", 2) if "://" in location else folder.rsplit("/", 2)
        if len(parts) < 3 or parts[1] != "runs":
            raise ConfigError(f"run {shown(location)}: a run's folder lies in a folder 'runs' of its storage")
        storage, name = parts[0] + mark + query, facts.get("name", parts[2])
        return cls(location, storage, name, facts.get("config", {}), facts.get("stages", {}))

    def folder(self, stage: str) -> str:
        """Return the location of a stage's folder. Raises ConfigError where the run has no such stage."""
        if stage not in self.stages:
            raise ConfigError(
                f"run {shown(self.location)} has no stage '{stage}'; it has {', '.join(self.stages) or 'none'}"
            )
        return join(self.storage, self.stages[stage])

    def manifest(self, stage: str) -> Mapping[str, Any]:
        """Return what a stage recorded at its end: settings, inputs, rows of its tables, duration, software.

        Raises ConfigError where the stage was deleted.
        """
        filesystem, folder = open_storage(self.folder(stage))
        manifest = read_json(filesystem, f"{folder}/manifest.json")
        if manifest is None:
            raise ConfigError(
                f"run {shown(self.location)}: its stage {stage} is not finished or was deleted ({self.stages[stage]}); run the job again"
            )
        return manifest

    def stored_table(self, stage: str, table: str) -> StoredTable:
        """Open a table of a stage, to be read in parts. Raises ConfigError where the stage has no such table."""
        tables = self.manifest(stage)["tables"]
        if table not in tables:
            raise ConfigError(
                f"run {shown(self.location)}: stage '{stage}' has no table '{table}'; it has {', '.join(tables)}"
            )
        filesystem, folder = open_storage(self.folder(stage))
        return StoredTable.open(filesystem, f"{folder}/{table}")

    def table(self, stage: str, table: str) -> pa.Table:
        """Read a table of a stage, whole. Raises ConfigError where the stage has no such table."""
        return self.stored_table(stage, table).read()

    @property
    def checkpoint(self) -> str:
        """The location of the trained student's checkpoint."""
        return join(self.folder("train"), "checkpoint")

    @property
    def index(self) -> str:
        """The location of the index."""
        return self.folder("index")

    @property
    def summary(self) -> Mapping[str, Any]:
        """The numbers of the run's report, those of summary.json. Raises ConfigError where there is no such file."""
        filesystem, folder = open_storage(self.location)
        content = read_json(filesystem, f"{folder}/summary.json")
        if content is None:
            raise ConfigError(f"run {shown(self.location)}: there is no summary.json; run the job again")
        return content


def run_folder(storage: str, name: str) -> str:
    """Return the location of a run's folder; of a local storage its absolute path."""
    return join(storage if "://" in storage else open_storage(storage)[1], "runs", name)


def keep_other_run(storage: str, name: str, stages: Mapping[str, str]) -> str:
    """Copy the run folder of this name to one beside it if it tells of other stages; return the copy's location, empty if there is none.

    So a job that is run again under its name with changed settings loses no report. The copy is `runs/NAME-DIGEST`, a run like any other;
    the digest is that of its stages, and the same run is copied to the same folder.

    Args:
        storage: where the stages lie, a local path or s3://bucket/prefix.
        name: the run's name.
        stages: folders of the stages that are to be written, by name.
    """
    location = run_folder(storage, name)
    filesystem, folder = open_storage(location)
    try:
        facts = read_json(filesystem, f"{folder}/{_FILE}")
    except ValueError:  # no run that could be opened
        return ""
    if facts is None or facts.get("stages", {}) == dict(stages):
        return ""
    digest = hashlib.sha256(json.dumps(facts.get("stages", {}), sort_keys=True).encode()).hexdigest()[:8]
    kept = f"{folder}-{digest}"
    for file in ("config.yaml", "report.html", "summary.json", _FILE):
        if filesystem.get_file_info(f"{folder}/{file}").type == pafs.FileType.File:
            write_bytes(filesystem, f"{kept}/{file}", read_bytes(filesystem, f"{folder}/{file}"))
    return run_folder(storage, f"{name}-{digest}")


def write_run(
    storage: str, config: JobConfig, stages: Mapping[str, str], summary: Mapping[str, Any], report: str
) -> str:
    """Write a run's folder and return its location. run.json is written last: a folder with it is whole.

    Args:
        storage: where the stages lie, a local path or s3://bucket/prefix.
        config: the job's resolved settings.
        stages: folders of the stages by name, relative to the storage.
        summary: numbers of the report, as JSON values.
        report: the report, HTML.
    """
    location = run_folder(storage, config.name)
    filesystem, folder = open_storage(location)
    write_bytes(filesystem, f"{folder}/config.yaml", dump(config).encode())
    write_bytes(filesystem, f"{folder}/report.html", report.encode())
    write_json(filesystem, f"{folder}/summary.json", summary)
    write_json(
        filesystem,
        f"{folder}/{_FILE}",
        {"name": config.name, "config": config.model_dump(mode="json"), "stages": dict(stages)},
    )
    return location
