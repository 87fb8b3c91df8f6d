"""Two workers under DDP are one worker with the whole batch, with every option of the training."""

import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from distill.train.batches import make_batch
from distill.train.objective import Objective
from distill.train.settings import TrainSettings
from distill.train.stream import examples_of
from distill.train.trainer import Trainer, prepare
from tests.distill.train.test_trainer import examples, student
from tests.worker_processes import start_workers

INFO_NCE = {"type": "info_nce", "across_workers": True}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate": {"accumulate": 2},
    "gradient_cache": {"gradient_cache": True},
    "activation_checkpointing": {"activation_checkpointing": True},
    "ema": {"ema": 0.5},
    "bfloat16": {"dtype": "bfloat16"},
    "uneven": {"batch_size": 5, "max_workers": 2},
    "info_nce": {"loss": INFO_NCE},
    "info_nce_cached": {"loss": INFO_NCE, "gradient_cache": True},
    "sum": {"loss": {"type": "sum", "losses": [{"type": "kl"}, {"type": "margin_mse", "weight": 0.1}, INFO_NCE]}},
    "weight_decay": {"weight_decay": 0.1, "schedule": "linear"},
    "compile": {"compile": True},
}
STEPS, TOKENS = 2, 8
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")


def settings_of(option: str) -> TrainSettings:
    values: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "steps": 10, "max_grad_norm": 0.5}
    return TrainSettings(**values | OPTIONS[option])


def run(option: str, folder: Path, rank: int, world: int) -> dict[str, Any]:
    settings = settings_of(option)
    encoder = student(folder)
    prepare(encoder, settings)
    model = DistributedDataParallel(encoder, broadcast_buffers=False) if world > 1 else encoder
    trainer = Trainer(model, encoder, settings, Objective(settings.loss), 0, rank, world)
    losses = []
    for step in range(STEPS):
        table = examples(settings.batch_size, (1.0, 0.3 * step, -1.0))
        begin, end = (settings.batch_size * i // world for i in (rank, rank + 1))
        losses.append(trainer.train_step(parts(trainer, table.slice(begin, end - begin))).loss * (end - begin))
    with trainer.averaged() as averaged:
        return {"losses": losses, "weights": {name: value.clone() for name, value in averaged.state_dict().items()}}


def parts(trainer: Trainer, share: pa.Table) -> list[Any]:
    count = trainer.settings.accumulate
    bounds = [len(share) * i // count for i in range(count + 1)]
    return [make_batch(trainer.encoder, examples_of(share.slice(a, b - a)), TOKENS) for a, b in pairwise(bounds)]


def worker(rank: int, folder: str, model: str) -> None:
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # or torch.compile starts a pool of processes
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for option in OPTIONS:
        if option == "compile" and shutil.which("g++") is None:
            continue
        torch.save(run(option, Path(model), rank, 2), f"{folder}/{option}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of two workers with every option."""
    folder = tmp_path_factory.mktemp("ddp")
    start_workers(worker, str(folder), str(tiny_student))
    return folder


@pytest.mark.parametrize("option", [pytest.param(o, marks=needs_compiler) if o == "compile" else o for o in OPTIONS])
def test_two_workers_are_one_with_the_whole_batch(option: str, pair: Path, tiny_student: Path) -> None:
    results = [torch.load(pair / f"{option}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    start = student(tiny_student).state_dict()
    uncompiled = "plain" if option == "compile" else option
    one = run(uncompiled, tiny_student, 0, 1)
    moved = 0.0
    for name, value in one["weights"].items():
        assert torch.equal(results[0]["weights"][name], results[1]["weights"][name]), name
        # Rounded gradients that should be 0 have a sign, and AdamW's first steps have the size of the rate: bfloat16 is judged by losses.
        if option != "bfloat16":
            assert torch.allclose(results[0]["weights"][name], value, atol=1e-5), name
        moved = max(moved, (value.float() - start[name].float()).abs().max().item())
    assert moved > 1e-4
    both = [a + b for a, b in zip(results[0]["losses"], results[1]["losses"], strict=True)]
    assert both == pytest.approx(one["losses"], rel=2e-2 if option == "bfloat16" else 1e-4)
