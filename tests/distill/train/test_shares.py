"""However a batch is shared out over workers and cut in parts, in equal shares or not, the gradient and the loss are those of the whole."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from distill.encoders.encoder import Encoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.train.batches import Example, make_batch
from distill.train.objective import Objective
from distill.train.settings import TrainSettings
from distill.train.trainer import Trainer
from tests.distill.train.test_trainer import student
from tests.worker_processes import start_workers

WORKERS = 3
KL: dict[str, Any] = {"type": "kl", "teacher_scale": 2}
LOSSES: dict[str, dict[str, Any]] = {
    "kl": KL,
    "reverse_kl": KL | {"direction": "student_teacher"},
    "margin_mse": {"type": "margin_mse"},
    "margin_mse_all": {"type": "margin_mse", "pairs": "all", "weight": 0.5},
    "cross_entropy": {"type": "cross_entropy"},
    "info_nce": {"type": "info_nce", "across_workers": True},
    "language": {"type": "sum", "losses": [KL, {"type": "language", "weight": 5}]},
    "sum": {"type": "sum", "losses": [KL, {"type": "margin_mse"}, {"type": "margin_mse", "pairs": "all"}]},
    "static": {"type": "relevance_margin", "margin": "static"},
    "adaptive": {"type": "relevance_margin", "margin": "adaptive", "error": "soft"},
}
IN_BATCH = {"info_nce"}
"""Losses that see a part only, whose step therefore depends on `accumulate`."""
WORDS = ["honey", "bee dance", "stone", "bridge river", "city map", "light wave", "sun", "angle food"]
NO = None
TEACHER = [[1, NO, -1], [0.5, 0, NO], [NO, 2, 1.5], [2, NO, NO], [0, 1, 2], [1, -1, 0.2], [0.1, 0.3, -2.0]]


def examples(name: str) -> list[Example]:
    """Seven entries: three workers have 2, 2 and 3 of them, and different numbers of scores. In `language` each comes in two languages.

    For InfoNCE passages come under two ids, and queries with two positives, on different workers.
    """
    n_way = 2 if name in {"static", "adaptive"} else 3
    made: list[Example] = []
    for i, scores in enumerate(TEACHER):
        ids = [f"p{(i + j) % 8}" for j in range(n_way)]
        texts = [WORDS[(i + j) % 8] for j in range(n_way)]
        for _ in range(1 + (name == "language")):
            made.append(Example(f"q{i}", WORDS[i].split()[0], ids, texts, scores[:n_way], len(made)))
            texts = [text.rsplit(maxsplit=1)[-1] for text in texts]
    if name == "info_nce":
        made[4] = made[4]._replace(passage_ids=["other", "p5", "p6"], passages=[WORDS[0], *made[4].passages[1:]])
        made[5] = made[5]._replace(query_id="q1")
        made[6] = made[6]._replace(query_id="twin", query=made[0].query, passages=[WORDS[3], *made[6].passages[1:]])
    return made


def encoder_for(name: str, folder: Path) -> Encoder:
    encoder = student(folder)
    if name not in {"static", "adaptive"}:
        return encoder
    return SingleVectorEncoder(encoder.backbone, encoder.tokenizer, SingleVectorSettings())


def run(name: str, folder: Path, rank: int = 0, world: int = 1, accumulate: int = 1) -> dict[str, Any]:
    """Return the gradient of a step, and the loss times the share of the examples."""
    batch = examples(name)
    unit = 2 if name == "language" else 1
    values: dict[str, Any] = {"loss": LOSSES[name], "batch_size": len(batch), "steps": 9, "accumulate": accumulate}
    settings = TrainSettings(**values, max_grad_norm=1e9, max_workers=WORKERS if world > 1 else None)
    encoder = encoder_for(name, folder)
    model = DistributedDataParallel(encoder, broadcast_buffers=False) if world > 1 else encoder
    trainer = Trainer(model, encoder, settings, Objective(settings.loss), 0, rank, world)
    gradients: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        gradients.update({k: p.grad.clone() for k, p in encoder.named_parameters() if p.grad is not None})

    trainer.optimizer.register_step_pre_hook(keep)
    units = len(batch) // unit
    begin, end = (units * i // world * unit for i in (rank, rank + 1))
    share = batch[begin:end]
    cuts = [len(share) // unit * i // accumulate * unit for i in range(accumulate + 1)]
    step = trainer.train_step([make_batch(encoder, share[a:b], 10) for a, b in pairwise(cuts)])
    parts = {part: value * len(share) / len(batch) for part, value in step.losses.items()}
    return {"gradients": gradients, "losses": parts, "loss": step.loss * len(share) / len(batch)}


def worker(rank: int, folder: str, model: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORKERS)
    for name in LOSSES:
        for accumulate in (1,) if name in IN_BATCH else (1, 2):
            torch.save(run(name, Path(model), rank, WORKERS, accumulate), f"{folder}/{name}-{accumulate}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of three workers with every loss, in one part and in two."""
    folder = tmp_path_factory.mktemp("shares")
    start_workers(worker, str(folder), str(tiny_student), count=WORKERS)
    return folder


def error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return the length of the difference of two gradients as a share of the length of the expected one."""
    assert found.keys() == expected.keys()
    apart, whole = (
        torch.cat([part.double().flatten() for part in parts])
        for parts in ([found[k] - expected[k] for k in expected], expected.values())
    )
    return float(apart.norm() / whole.norm())


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in IN_BATCH])
@pytest.mark.parametrize("accumulate", [2, 3])
def test_parts_are_the_whole(name: str, accumulate: int, tiny_student: Path) -> None:
    whole, cut = run(name, tiny_student), run(name, tiny_student, accumulate=accumulate)
    assert error(cut["gradients"], whole["gradients"]) < 1e-6
    assert cut["losses"] == pytest.approx(whole["losses"], rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_three_workers_are_one(name: str, accumulate: int, shared: Path, tiny_student: Path) -> None:
    if name in IN_BATCH and accumulate > 1:
        return
    whole = run(name, tiny_student)
    results = [torch.load(shared / f"{name}-{accumulate}-{rank}.pt", weights_only=True) for rank in range(WORKERS)]
    for result in results:
        assert error(result["gradients"], whole["gradients"]) < 1e-6
    for part, value in whole["losses"].items():
        assert sum(result["losses"][part] for result in results) == pytest.approx(value, rel=1e-6)
