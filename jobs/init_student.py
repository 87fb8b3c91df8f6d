#!/usr/bin/env python3
"""Make the multilingual student that training starts from: a late-interaction checkpoint, of an English encoder and parallel text.

    python jobs/init_student.py --out distill/student --parallel tico19.jsonl.gz

made `bundled:student`; tico19.jsonl.gz holds the segments of TICO-19 (CC0), one JSON object a line, from language code to text. Without
`--parallel` the bundled passages are all there is to learn from; their queries are never read. Runs on one machine, without Ray, in
minutes. docs/student.md explains the steps.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from cluster import interrupts

    interrupts.begin()

from cluster.errors import StorageError
from distill.models.locate import BUNDLED_TEACHER, locate
from jobs.running.programs import Parser, program, run_program, script_parser


def main(arguments: Sequence[str]) -> int:
    """Make the student; return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    begin = time.monotonic()

    def action() -> None:
        options = _options().parse_args(arguments)
        try:
            run(options, lambda line: print(f"{time.monotonic() - begin:5.0f} s  {line}", flush=True))
        except OSError as error:
            raise StorageError(str(error)) from error

    return run_program(program("init_student"), action, interrupted="nothing was written")


def run(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Read the text, make the student and write it."""
    teacher = Path(locate(BUNDLED_TEACHER))
    options.out.mkdir(parents=True, exist_ok=True)

    import torch

    from distill.bundled.parallel import corpus_units, segment_units
    from distill.bundled.recipe import Recipe, initialise, save

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # Adam's tiny moments slow contextual alignment down otherwise
    units = corpus_units()
    for file in options.parallel:
        units += segment_units(file)
    recipe = Recipe(em_iterations=options.em_iterations, alignment_steps=options.alignment_steps, seed=options.seed)
    student = initialise(units, teacher, recipe, report)
    save(student, options.out, recipe)
    size = (options.out / "model.safetensors").stat().st_size
    report(f"wrote {options.out}, weights of {size / 2**20:.1f} MiB")


def _options() -> Parser:
    parser = script_parser("init_student", __doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write the checkpoint to")
    parser.add_argument(
        "--parallel",
        action="append",
        default=[],
        metavar="FILE",
        help="JSONL file (.gz too), one object a line from language code to text; may be repeated",
    )
    parser.add_argument(
        "--em-iterations", type=_at_least(1), default=1, metavar="N", help="iterations of word alignment (default: 1)"
    )
    parser.add_argument(
        "--alignment-steps",
        type=_at_least(0),
        default=0,
        metavar="N",
        help="steps of contextual alignment after the word vectors (default: 0)",
    )
    parser.add_argument("--seed", type=_at_least(0), default=12_345, metavar="N", help="seed of every draw")
    parser.add_argument(
        "--threads",
        type=_at_least(1),
        default=1,
        metavar="N",
        help="CPU threads; the last bits of the weights depend on it (default: 1)",
    )
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
