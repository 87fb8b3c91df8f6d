#!/usr/bin/env python3
"""Write training examples as files that other tools train on: PyLate, sentence-transformers, PLAID-X.

    python jobs/export_examples.py --run polyray-data/runs/mtd --format pylate --out examples
    python jobs/export_examples.py --config my.yaml --format sentence_transformers --out s3://bucket/examples

The job is named by its run folder, or by its configuration (then also before the job is done, once the mix stage is). Examples are read
and written some thousands at a time. What is in the files: `distill/formats/write_examples.py`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pyarrow.compute as pc

from cluster.errors import UserError, report_error
from cluster.storage import open_storage, read_json
from cluster.stored_table import StoredTable
from distill.formats.write_examples import Format, export_examples
from distill.settings.load import ConfigError
from jobs.export_scores import find_stage

PROGRAM = "jobs/export_examples.py"


def main(arguments: Sequence[str]) -> int:
    """Export, and return the exit code: 0 done, 1 failed, 2 wrong usage."""
    options, rest = _parser().parse_known_args(arguments)
    try:
        storage, folder = find_stage(options, rest)
        export(storage, folder, options.stage, options.format, options.out)
    except UserError as error:
        return report_error(PROGRAM, error)
    return 0


def export(storage: str, folder: str, stage: str, kind: Format, out: str) -> None:
    """Write the table `examples` of a finished mix stage, and print what was written."""
    filesystem, root = open_storage(storage)
    manifest = read_json(filesystem, f"{root}/{folder}/manifest.json")
    if manifest is None:
        raise ConfigError(
            f"stage '{stage}' is not finished in {storage}; run the job, or jobs/mix.py with the same settings"
        )
    if filesystem.get_file_info(f"{root}/{folder}/examples").type.name != "Directory":
        raise ConfigError(f"stage '{stage}' has no table 'examples'; name mix or english_mix")
    table = StoredTable.open(filesystem, f"{root}/{folder}/examples")
    settings = manifest["settings"]["mix"]
    written = export_examples(table, kind, out, mixed=_mixed(table), positive_first=_positive_first(settings))
    print(f"{', '.join(f'{name} {rows:,} rows' for name, rows in written.items())}: {out}")


def _mixed(table: StoredTable, rows: int = 50_000) -> bool:
    """Whether the passages of the examples are in several languages."""
    found: set[str] = set()
    for start in range(0, len(table), rows):
        found.update(pc.unique(pc.list_flatten(table.read(start, start + rows, ["langs"])["langs"])).to_pylist())
        if len(found) > 1:
            return True
    return False


def _positive_first(settings: dict[str, dict[str, bool] | None]) -> bool:
    """Whether every example begins with a positive, by the settings of the mix stage."""
    negatives = settings.get("negatives")
    return bool(negatives and negatives["include_positive"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", metavar="FOLDER", help="the folder of a run, local or s3://")
    parser.add_argument(
        "--config", action="append", metavar="FILE", help="a job's configuration; may be repeated; settings may follow"
    )
    parser.add_argument("--stage", default="mix", help="mix, or english_mix: the examples of the English-only baseline")
    parser.add_argument("--format", choices=("pylate", "sentence_transformers", "plaidx"), required=True)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="local or s3://")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
