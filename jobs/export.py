#!/usr/bin/env python3
"""Write what a job made as files that other tools read: a teacher's scores, training examples, the student.

    python jobs/export.py scores --run polyray-data/runs/mtd --format tdist --out scores.jsonl.gz
    python jobs/export.py scores --config my.yaml --stage score_0 --format trec --out s3://bucket/scores.run
    python jobs/export.py examples --run polyray-data/runs/mtd --format pylate --out examples
    python jobs/export.py student --run polyray-data/runs/mtd --format sentence_transformers --out student
    python jobs/export.py student --checkpoint pylate-model --format hf_colbert --out s3://bucket/student

`export.py scores --help` and the like list the options. The job is named by its run folder, or by its configuration; then scores and
examples can be written before the job is done, once their stage is finished.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from cluster import interrupts

    interrupts.begin()

import pyarrow.fs as pafs

from cluster.copying import upload
from cluster.locations import shown
from cluster.storage import join, open_storage, read_json
from cluster.stored_table import StoredTable
from distill.runs import Run
from distill.settings.load import ConfigError, load_as
from jobs.running.programs import Parser, as_typed, program, run_program, script_parser

if TYPE_CHECKING:
    import numpy as np

    from distill.formats.settings import ScoreUnit
    from distill.formats.write_examples import Format

SCORES = """Write a teacher's scores: in the layout of hltcoe/tdist-msmarco-scores, or as a TREC run.

tdist holds log-probabilities, so log-odds are written as log p; a TREC run holds the scores as the stage does. The last line says which
they are: the `unit` for `score.teacher.type: imported`. Scores are read and written a query at a time, with as many digits as tell them
from every other 32-bit number. Settings of the job may follow where it is named by --config."""
EXAMPLES = """Write training examples for PyLate, sentence-transformers or PLAID-X.

Examples are read and written some thousands at a time; distill/formats/write_examples.py says what is in the files. Settings of the job
may follow where it is named by --config."""
STUDENT = """Write a trained student as a checkpoint that other projects load.

The student is that of a finished job, or any checkpoint that Polyray reads. `hf_colbert` is for PLAID-X, Stanford ColBERT, PyLate and
sentence-transformers 6; `sentence_transformers` is MultiVectorEncoder for late interaction and SentenceTransformer for single vectors.
Of what another project cannot represent, an error or a note tells."""


def main(arguments: Sequence[str]) -> int:
    """Export from the command line; return the exit code: 0 done, 1 failed, 2 wrong usage."""

    def action() -> None:
        options, settings = _parser().parse_known_args(arguments)
        if options.what == "student":
            if settings:
                raise ConfigError(f"unrecognized arguments: {' '.join(settings)}; --help lists the options")
            export_student(find_checkpoint(options), options.format, options.out, options.dim)
            return
        folder = find_stage(options, settings)
        if options.what == "scores":
            whole = options.whole_number_ids
            export_scores(folder, options.stage, options.format, options.out, whole_number_ids=whole)
        else:
            export_examples(folder, options.stage, options.format, options.out)

    return run_program(program("export"), action, interrupted="what was written is not whole")


def find_stage(options: argparse.Namespace, settings: Sequence[str]) -> str:
    """Return the location of the stage that `--run` or `--config`, one of the two, and `--stage` name."""
    if bool(options.run) == bool(options.config):
        raise ConfigError("name the job by --run FOLDER or by --config FILE, one of the two")
    if options.config:
        return stage_of_config(options.config, settings, options.stage)
    if settings:
        raise ConfigError(f"--run takes no settings, found {' '.join(settings)}")
    return Run.open(options.run).folder(options.stage)


def stage_of_config(files: Sequence[str], settings: Sequence[str], stage: str) -> str:
    """Return the location of a stage of a configured job."""
    from jobs.running.command import find_config
    from jobs.running.methods import find_method

    method = find_method(files, settings)
    config = load_as(method.kind, [find_config(file) for file in files], settings, program("export"))
    stages = {known.name: known for known in method.build(config).stages}
    if stage not in stages:
        raise ConfigError(f"--stage {stage}: the job has no such stage; it has {', '.join(stages)}")
    return join(config.storage, stages[stage].folder)


def find_checkpoint(options: argparse.Namespace) -> str:
    """Return the location of the checkpoint that `--run` or `--checkpoint`, one of the two, name."""
    if bool(options.run) == bool(options.checkpoint):
        raise ConfigError("name the student by --run FOLDER or by --checkpoint FOLDER, one of the two")
    return options.checkpoint or join(Run.open(options.run).folder(options.stage), "checkpoint")


def export_scores(folder: str, stage: str, kind: str, out: str, *, whole_number_ids: bool = False) -> None:
    """Write the table `scores` of a finished stage, and print what was written."""
    from distill.formats.scores import write_scores

    table, manifest = _open_table(folder, stage, "scores", "name calibrate or a score stage", "score")
    layout = "tdist" if kind == "tdist" else "trec"
    held = _unit(stage, manifest)
    unit = "log_probability" if layout == "tdist" and held == "log_odds" else held
    queries, pairs = write_scores(
        out, layout, _lists(stage, table, held, unit), stage, whole_number_ids=whole_number_ids
    )
    print(f"{queries:,} queries with {pairs:,} scores, unit {unit}: {shown(out)}")
    if layout == "tdist" and unit == "similarity":
        print("note: tdist holds log-probabilities as a rule; these scores have none and are written as they are")


def _unit(stage: str, manifest: Mapping[str, Any]) -> "ScoreUnit":
    """Return the unit of a finished stage's scores: `calibrate` notes it, and a score stage's teacher decides it."""
    from distill.score.settings import ScoreSettings

    if "unit" in manifest.get("notes", {}):
        return manifest["notes"]["unit"]
    if "score" not in manifest.get("settings", {}):
        raise ConfigError(f"stage '{stage}' does not say what unit its scores have; run the job again")
    [unit] = ScoreSettings.model_validate(manifest["settings"]["score"]).units
    return unit


def _lists(
    stage: str, table: StoredTable, held: "ScoreUnit", unit: "ScoreUnit"
) -> "Iterator[tuple[str, list[str], np.ndarray]]":
    """Yield every query's id, passages and scores, which are `held` in one unit and wanted in another."""
    from distill.score.lists import blocks
    from distill.score.units import in_unit

    for _, found in blocks({stage: table}):
        lists = in_unit(found, {stage: held}, unit)[stage]
        ids, offsets = lists.passage_ids.to_pylist(), lists.lists.offsets.tolist()
        for row, query_id in enumerate(lists.query_ids.to_pylist()):
            start, stop = offsets[row], offsets[row + 1]
            yield query_id, ids[start:stop], lists.scores[start:stop]


def export_examples(folder: str, stage: str, kind: "Format", out: str) -> None:
    """Write the table `examples` of a finished mix stage, and print what was written."""
    from distill.formats.write_examples import export_examples as write

    table, manifest = _open_table(folder, stage, "examples", "name mix or english_mix", "mix")
    negatives = manifest["settings"]["mix"].get("negatives")
    positive_first = bool(negatives and negatives["include_positive"])
    written = write(table, kind, out, mixed=_has_several_languages(table), positive_first=positive_first)
    print(f"{', '.join(f'{name} {rows:,} rows' for name, rows in written.items())}: {shown(out)}")


def _has_several_languages(table: StoredTable, rows: int = 50_000) -> bool:
    """Return whether the passages of the examples are in several languages; reads `rows` at a time."""
    import pyarrow.compute as pc

    languages: set[str] = set()
    for start in range(0, len(table), rows):
        languages.update(pc.unique(pc.list_flatten(table.read(start, start + rows, ["langs"])["langs"])).to_pylist())
        if len(languages) > 1:
            return True
    return False


def _open_table(folder: str, stage: str, name: str, advice: str, script: str) -> tuple[StoredTable, dict]:
    """Return a table of a finished stage, and the stage's manifest."""
    filesystem, path = open_storage(folder)
    manifest = read_json(filesystem, f"{path}/manifest.json")
    if manifest is None:
        again = as_typed(f"python jobs/{script}.py")
        raise ConfigError(
            f"stage '{stage}' is not finished in {shown(folder)}; run the job, or {again} with the same settings"
        )
    if filesystem.get_file_info(f"{path}/{name}").type != pafs.FileType.Directory:
        raise ConfigError(f"stage '{stage}' has no table '{name}'; {advice}")
    return StoredTable.open(filesystem, f"{path}/{name}"), manifest


def export_student(
    checkpoint: str, kind: Literal["hf_colbert", "sentence_transformers"], out: str, dim: int | None = None
) -> None:
    """Read a checkpoint, write it in another layout, and print what was written and what its readers do differently."""
    from distill.encoders.checkpoints import cut, load_encoder, reader_notes, save_encoder
    from distill.encoders.checkpoints.fetch import fetch_encoder
    from distill.encoders.single_vector import SingleVectorEncoder

    filesystem, folder = open_storage(checkpoint)
    if filesystem.get_file_info(f"{folder}/config.json").type != pafs.FileType.File:
        raise ConfigError(f"{shown(checkpoint)} holds no checkpoint; run the train stage first")
    target, path = open_storage(out)
    if target.get_file_info(f"{path}/config.json").type == pafs.FileType.File:
        raise ConfigError(f"--out {shown(out)}: there is a checkpoint already; name another folder")
    with tempfile.TemporaryDirectory() as scratch:
        local = f"{scratch}/{Path(path).name}"
        # A local folder is read where it is, so that errors name it.
        here = isinstance(filesystem, pafs.LocalFileSystem)
        encoder = load_encoder(folder) if here else fetch_encoder(filesystem, folder)
        if dim is not None:
            if not isinstance(encoder, SingleVectorEncoder):
                raise ConfigError(f"--dim {dim}: only vectors of single-vector students can be cut")
            encoder = cut(encoder, dim)
        save_encoder(encoder, local, layout=kind)
        upload(local, target, path)
    print(f"{type(encoder).__name__} of {encoder.dim} numbers a vector as {kind}: {shown(out)}")
    for note in reader_notes(encoder, kind):
        print(f"note: {note}")


def _parser() -> Parser:
    parser = script_parser("export", __doc__)
    parts = parser.add_subparsers(dest="what", required=True, metavar="{scores,examples,student}")

    def add(name: str, description: str) -> argparse.ArgumentParser:
        part = parts.add_parser(
            name,
            help=description.splitlines()[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        part.add_argument("--run", metavar="FOLDER", help="the folder of a run, local or s3://")
        return part

    def add_config(part: argparse.ArgumentParser) -> None:
        part.add_argument("--config", action="append", metavar="FILE", help="a job's configuration; may be repeated")

    scores = add("scores", SCORES)
    add_config(scores)
    stages = "calibrate: the scores that examples are made of (default); score, score_0 ...: a teacher's raw ones"
    scores.add_argument("--stage", default="calibrate", help=stages)
    layouts = "one JSON list a query, or a TREC run"
    scores.add_argument("--format", choices=("tdist", "trec"), required=True, help=layouts)
    scores.add_argument("--out", required=True, metavar="FILE", help="local or s3://, compressed where it ends in .gz")
    scores.add_argument("--whole_number_ids", action="store_true", help="tdist: write ids such as 12 as numbers")

    examples = add("examples", EXAMPLES)
    add_config(examples)
    stages = "mix (default), or english_mix: the examples of the English-only baseline"
    examples.add_argument("--stage", default="mix", help=stages)
    examples.add_argument("--format", choices=("pylate", "sentence_transformers", "plaidx"), required=True)
    examples.add_argument("--out", required=True, metavar="FOLDER", help="local or s3://")

    student = add("student", STUDENT)
    student.add_argument("--checkpoint", metavar="FOLDER", help="the folder of a checkpoint, local or s3://")
    student.add_argument("--stage", default="train", help="of a run: train (default), or english_train: the baseline's")
    layouts = ("hf_colbert", "sentence_transformers")
    student.add_argument("--format", choices=layouts, required=True, help="the layout")
    student.add_argument("--dim", type=int, metavar="N", help="cut the vectors of a single-vector student (Matryoshka)")
    student.add_argument("--out", required=True, metavar="FOLDER", help="local or s3://, without a checkpoint yet")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
