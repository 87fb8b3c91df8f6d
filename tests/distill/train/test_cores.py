"""The student's encoders, losses and training step run where neither Ray nor Arrow is installed."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from distill.encoders.checkpoints import load_encoder
from distill.train.batches import Example, make_batch
from distill.train.objective import Objective
from distill.train.settings import TrainSettings
from distill.train.trainer import Trainer

STEP = """
    import json, sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("ray", "pyarrow"):
                raise ImportError(f"{name} is blocked")

    sys.meta_path.insert(0, Blocked())

    from distill.encoders import start
    from distill.encoders.checkpoints import load_encoder, notes
    from distill.models import costs, locate, vllm
    from distill.score import teachers
    from distill.score.teachers import causal, checks, cross_encoder, encoders, first_token, http, interface, monot5, prompts, vllm
    from distill.train import gates
    from distill.train.batches import Example, make_batch
    from distill.train.objective import Objective
    from distill.train.settings import TrainSettings
    from distill.train.trainer import Trainer

    encoder = load_encoder(sys.argv[1])
    settings = TrainSettings(learning_rate=1e-3, batch_size=2, steps=10)
    trainer = Trainer(encoder, encoder, settings, Objective(settings.loss), seed=0)
    examples = [Example(*values) for values in json.loads(sys.argv[2])]
    steps = [trainer.train_step([make_batch(encoder, examples, 1000)]) for _ in range(2)]
    print(json.dumps([[step.loss, step.norm] for step in steps]))
    assert not {"ray", "pyarrow"} & set(sys.modules)
"""
EXAMPLES = [
    ["q0", "bee", ["a", "b"], ["honey bee dance", "stone bridge river"], [1.0, -1.0], 0],
    ["q1", "bridge", ["a", "b"], ["honey bee dance", "stone bridge river"], [-1.0, None], 1],
]


def test_a_training_step_needs_neither_ray_nor_arrow(tiny_student: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(STEP), str(tiny_student), json.dumps(EXAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    encoder = load_encoder(tiny_student)
    settings = TrainSettings(learning_rate=1e-3, batch_size=2, steps=10)
    trainer = Trainer(encoder, encoder, settings, Objective(settings.loss), seed=0)
    batch = make_batch(encoder, [Example(*values) for values in EXAMPLES], 1000)
    here = [trainer.train_step([batch]) for _ in range(2)]
    there = json.loads(done.stdout)
    assert there[0] == pytest.approx([here[0].loss, here[0].norm], rel=1e-4)
    assert there[1][0] != there[0][0]
