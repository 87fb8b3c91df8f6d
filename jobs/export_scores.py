#!/usr/bin/env python3
"""Write a teacher's scores as a file that other tools read: the layout of hltcoe/tdist-msmarco-scores, or a TREC run.

    python jobs/export_scores.py --run polyray-data/runs/mtd --format tdist --out scores.jsonl.gz
    python jobs/export_scores.py --config my.yaml --stage score_0 --format trec --out s3://bucket/scores.run

The job is named by its run folder, or by its configuration (then also before the job is done, once the stage is). Scores are read and
written a query at a time, with as many digits as tell them from every other 32-bit number.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from cluster.errors import UserError, report_error
from cluster.storage import open_storage, read_json
from cluster.stored_table import StoredTable
from distill.config import load
from distill.formats.scores import write_scores
from distill.score.lists import blocks
from distill.settings.load import ConfigError

PROGRAM = "jobs/export_scores.py"


def main(arguments: Sequence[str]) -> int:
    """Export, and return the exit code: 0 done, 1 failed, 2 wrong usage."""
    options, rest = _parser().parse_known_args(arguments)
    try:
        storage, folder = find_stage(options, rest)
        export(storage, folder, options.stage, options.format, options.out, whole_number_ids=options.whole_number_ids)
    except UserError as error:
        return report_error(PROGRAM, error)
    return 0


def find_stage(options: argparse.Namespace, settings: Sequence[str]) -> tuple[str, str]:
    """The storage and the folder of the stage that `--run` or `--config` name, one of the two, and `--stage`."""
    if bool(options.run) == bool(options.config):
        raise ConfigError("name the job by --run FOLDER or by --config FILE, one of the two")
    if options.config:
        return stage_of_config(options.config, settings, options.stage)
    if settings:
        raise ConfigError(f"--run takes no settings, found {' '.join(settings)}")
    return stage_of_run(options.run, options.stage)


def stage_of_run(run: str, stage: str) -> tuple[str, str]:
    """The storage of a run folder and the folder of one of its stages there, by run.json."""
    filesystem, folder = open_storage(run)
    facts = read_json(filesystem, f"{folder}/run.json")
    if facts is None:
        raise ConfigError(
            f"--run {run}: there is no run.json; give the folder of a finished run, such as polyray-data/runs/mtd"
        )
    stages = facts.get("stages", {})
    if stage not in stages:
        raise ConfigError(f"--stage {stage}: the run has no such stage; it has {', '.join(stages)}")
    base, mark, query = run.partition("?")
    parts = base.rstrip("/").rsplit("/", 2) if "://" in run else folder.rsplit("/", 2)
    if len(parts) < 3 or parts[1] != "runs":
        raise ConfigError(f"--run {run}: a run's folder lies in a folder 'runs' of its storage")
    return parts[0] + mark + query, stages[stage]


def stage_of_config(files: Sequence[str], settings: Sequence[str], stage: str) -> tuple[str, str]:
    """The storage of a configured job and the folder of one of its stages there."""
    from jobs.mtd import pipeline

    config = load(files, settings, PROGRAM)
    stages = {known.name: known for known in pipeline(config).stages}
    if stage not in stages:
        raise ConfigError(f"--stage {stage}: the job has no such stage; it has {', '.join(stages)}")
    return config.storage, stages[stage].folder


def export(storage: str, folder: str, stage: str, kind: str, out: str, *, whole_number_ids: bool = False) -> None:
    """Write the table `scores` of a finished stage, and print what was written."""
    if kind not in {"tdist", "trec"}:
        raise ConfigError(f"--format {kind}: expected tdist or trec")
    filesystem, root = open_storage(storage)
    if read_json(filesystem, f"{root}/{folder}/manifest.json") is None:
        raise ConfigError(
            f"stage '{stage}' is not finished in {storage}; run the job, or jobs/score.py with the same settings"
        )
    if filesystem.get_file_info(f"{root}/{folder}/scores").type.name != "Directory":
        raise ConfigError(f"stage '{stage}' has no table 'scores'; name calibrate or a score stage")
    table = StoredTable.open(filesystem, f"{root}/{folder}/scores")
    lists = _lists(stage, table)
    queries, pairs = write_scores(
        out, "tdist" if kind == "tdist" else "trec", lists, stage, whole_number_ids=whole_number_ids
    )
    print(f"{queries:,} queries with {pairs:,} scores: {out}")


def _lists(stage: str, table: StoredTable) -> Iterator[tuple[str, list[str], np.ndarray]]:
    for _, found in blocks({stage: table}):
        lists = found[stage]
        ids, offsets = lists.passage_ids.to_pylist(), lists.lists.offsets.tolist()
        for row, query_id in enumerate(lists.query_ids.to_pylist()):
            start, stop = offsets[row], offsets[row + 1]
            yield query_id, ids[start:stop], lists.scores[start:stop]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", metavar="FOLDER", help="the folder of a run, local or s3://")
    parser.add_argument(
        "--config", action="append", metavar="FILE", help="a job's configuration; may be repeated; settings may follow"
    )
    parser.add_argument(
        "--stage",
        default="calibrate",
        help="calibrate: the scores that examples are made of; score, score_0 ...: a teacher's raw ones",
    )
    parser.add_argument(
        "--format", choices=("tdist", "trec"), required=True, help="one JSON list a query, or a TREC run"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="local or s3://, compressed where it ends in .gz")
    parser.add_argument("--whole_number_ids", action="store_true", help="tdist: write ids such as 12 as numbers")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
