#!/usr/bin/env python3
"""Write a trained student as a checkpoint that other projects load.

    python jobs/export_student.py --run polyray-data/runs/mtd --format sentence_transformers --out student
    python jobs/export_student.py --checkpoint pylate-model --format hf_colbert --out s3://bucket/student
    python jobs/export_student.py --run polyray-data/runs/mtd --format sentence_transformers --dim 128 --out small

The student is that of a finished job, named by its run folder, or any checkpoint that Polyray reads. `hf_colbert` is for PLAID-X, Stanford
ColBERT, PyLate and sentence-transformers 6; `sentence_transformers` is MultiVectorEncoder for late interaction and SentenceTransformer for
single vectors. What another project cannot represent is an error or is said.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pyarrow.fs as pafs

from cluster.errors import UserError, report_error
from cluster.storage import open_storage
from distill.settings.load import ConfigError
from jobs.export_scores import stage_of_run

PROGRAM = "jobs/export_student.py"


def main(arguments: Sequence[str]) -> int:
    """Export, and return the exit code: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        export(_find(options), options.format, options.out, options.dim)
    except UserError as error:
        return report_error(PROGRAM, error)
    return 0


def _find(options: argparse.Namespace) -> str:
    """The folder of the checkpoint, local or s3://."""
    if bool(options.run) == bool(options.checkpoint):
        raise ConfigError("name the student by --run FOLDER or by --checkpoint FOLDER, one of the two")
    if options.checkpoint:
        return options.checkpoint
    storage, folder = stage_of_run(options.run, options.stage)
    base, mark, query = storage.partition("?")
    return f"{base}/{folder}/checkpoint{mark}{query}"


def export(
    checkpoint: str, kind: Literal["hf_colbert", "sentence_transformers"], out: str, dim: int | None = None
) -> None:
    """Read a checkpoint, write it in another layout, and print what was written and what its readers do differently."""
    from distill.encoders.checkpoints import cut, load_encoder, reader_notes, save_encoder
    from distill.encoders.checkpoints.fetch import fetch_encoder
    from distill.encoders.single_vector import SingleVectorEncoder

    filesystem, folder = open_storage(checkpoint)
    if filesystem.get_file_info(f"{folder}/config.json").type != pafs.FileType.File:
        raise ConfigError(f"{checkpoint} holds no checkpoint; run the train stage first")
    target, path = open_storage(out)
    if target.get_file_info(f"{path}/config.json").type == pafs.FileType.File:
        raise ConfigError(f"--out {out}: there is a checkpoint already; name another folder")
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
        target.create_dir(path, recursive=True)
        pafs.copy_files(local, path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=target)
    print(f"{type(encoder).__name__} of {encoder.dim} numbers a vector as {kind}: {out}")
    for note in reader_notes(encoder, kind):
        print(f"note: {note}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", metavar="FOLDER", help="the folder of a run, local or s3://")
    parser.add_argument("--checkpoint", metavar="FOLDER", help="the folder of a checkpoint, local or s3://")
    parser.add_argument("--stage", default="train", help="of a run: train; english_train: the baseline's student")
    parser.add_argument("--format", choices=("hf_colbert", "sentence_transformers"), required=True, help="the layout")
    parser.add_argument("--dim", type=int, metavar="N", help="cut the vectors of a single-vector student (Matryoshka)")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="local or s3://, without a checkpoint yet")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
