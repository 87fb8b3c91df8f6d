"""Time and memory of a meta-step against a plain step on the same texts, first and second order.

    python benchmarks/meta_step.py [--encoder minilm] [--steps 2]

Four tasks of sets of three triplets, 24 tokens a question and 64 a candidate; 5 inner steps; AdamW. The plain step trains on one set of
each task. Each row is measured in a process of its own: CPU-seconds of a step (the first one left out), and the most memory that the
process had above what it had with the encoder and its optimiser alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch

from distill.encoders.encoder import Encoder, TokenBatch
from distill.encoders.settings import PretrainedStudent, SingleVectorStudent
from distill.encoders.start import start_student
from distill.meta.settings import MetaTrainSettings
from distill.meta.train.batches import TaskLoss, TripletSet
from distill.meta.train.trainer import MetaTrainer, prepare
from distill.models.locate import BUNDLED_STUDENT, BUNDLED_TEACHER

MODELS = {"student": BUNDLED_STUDENT, "minilm": BUNDLED_TEACHER}
TASKS, TRIPLETS, QUESTION_TOKENS, CANDIDATE_TOKENS = 4, 3, 24, 64
ROWS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "plain step": ("fine_tune", 1, {}),
    "MAML, first order": ("maml", 2, {}),
    "MAML, second order": ("maml", 2, {"order": "second"}),
    "MAML-Align paper, first order": ("maml_align", 3, {}),
    "MAML-Align paper, second order": ("maml_align", 3, {"order": "second"}),
    "MAML-Align released code, first order": ("maml_align", 3, {"variant": "released_code"}),
    "MAML-Align released code, second order": ("maml_align", 3, {"variant": "released_code", "order": "second"}),
}


def tokens(encoder: Encoder, count: int, length: int, numbers: torch.Generator) -> TokenBatch:
    """Texts of random tokens, all of one length."""
    ids = torch.randint(1000, len(encoder.tokenizer), (count, length), generator=numbers)
    ones = torch.ones_like(ids)
    return TokenBatch(ids, ones, ones.bool())


def measure(name: str, model: str, steps: int) -> dict[str, float]:
    """Return the cost of one row, in this process."""
    torch.set_num_threads(1)
    method, sets, options = ROWS[name]
    settings = MetaTrainSettings.model_validate({"tasks_per_batch": TASKS} | options)
    student = SingleVectorStudent(start=PretrainedStudent(model=MODELS[model]), query_tokens=96, passage_tokens=256)
    encoder = start_student(student, [], 0)
    prepare(encoder, settings)
    trainer = MetaTrainer(encoder, TaskLoss(encoder, 1.0), settings, method, 0)  # pyright: ignore[reportArgumentType]
    numbers = torch.Generator().manual_seed(0)
    # The optimiser's state is there from the first step on, whatever the method.
    for parameter in encoder.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    before, seconds = peak(), []
    for _ in range(steps + 1):
        tasks = [
            [
                TripletSet(
                    tokens(encoder, TRIPLETS, QUESTION_TOKENS, numbers),
                    tokens(encoder, 2 * TRIPLETS, CANDIDATE_TOKENS, numbers),
                )
                for _ in range(sets)
            ]
            for _ in range(TASKS)
        ]
        began = time.process_time()
        trainer.meta_step(tasks)
        seconds.append(time.process_time() - began)
    return {"seconds": sum(seconds[1:]) / steps, "memory": peak() - before}


def peak() -> float:
    """Return the most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=tuple(MODELS), default="student")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--row", choices=tuple(ROWS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.encoder, options.steps)))
        return
    print("| step | CPU-seconds | to plain | memory, MiB | to plain |\n|---|---|---|---|---|")
    plain: dict[str, float] = {}
    for name in ROWS:
        command = [sys.executable, __file__, "--encoder", options.encoder, "--steps", str(options.steps), "--row", name]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        plain = plain or found
        ratios = {key: found[key] / plain[key] for key in found}
        print(
            f"| {name} | {found['seconds']:.2f} | {ratios['seconds']:.1f} | {found['memory']:.0f} | {ratios['memory']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
