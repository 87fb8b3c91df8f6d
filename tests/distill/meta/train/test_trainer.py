"""Outer steps: a family of tasks whose outcome is known, two workers, seeds of dropout, faults."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from distill.encoders.checkpoints import load_encoder
from distill.encoders.encoder import Encoder
from distill.meta.settings import MetaTrainSettings
from distill.meta.train.batches import TaskLoss, TaskSet, task_sets
from distill.meta.train.learners import Inner
from distill.meta.train.trainer import MetaTrainer, TrainedMethod, prepare
from distill.train.trainer import TrainingError
from tests.worker_processes import start_workers

INPUTS, SHOTS, STEPS = 8, 6, 3
Set = tuple[Tensor, Tensor]


class TwoLayers(nn.Module):
    """x -> a'Bx: a task's direction is a, what the tasks share is B."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        numbers = torch.Generator().manual_seed(seed)
        self.shared = nn.Parameter(0.3 * torch.randn(2, INPUTS, generator=numbers))
        self.own = nn.Parameter(0.3 * torch.randn(2, generator=numbers))


def regression_loss(parameters: Mapping[str, Tensor], task_set: Set) -> Tensor:
    inputs, targets = task_set
    return ((inputs @ parameters["shared"].T @ parameters["own"] - targets) ** 2).mean()


def rotated(numbers: torch.Generator) -> list[Set]:
    """A task: y is a direction in the plane of the first two of 8 inputs, turned by the task's angle. Its mean over tasks is 0."""
    angle = 2 * torch.pi * torch.rand((), generator=numbers)
    sets = []
    for count in (SHOTS, 16):
        inputs = torch.randn(count, INPUTS, generator=numbers)
        sets.append((inputs, inputs[:, 0] * angle.cos() + inputs[:, 1] * angle.sin()))
    return sets


def adapted_error(method: TrainedMethod, seed: int) -> float:
    """The error on 60 new tasks after three steps on six examples each."""
    settings = MetaTrainSettings.model_validate(
        {"inner_steps": STEPS, "inner_rate": 0.1, "learning_rate": 0.04, "tasks_per_batch": 4}
    )
    model, numbers = TwoLayers(seed), torch.Generator().manual_seed(1000 + seed)
    trainer = MetaTrainer(model, regression_loss, settings, method, seed)
    for _ in range(100):
        trainer.meta_step([rotated(numbers) for _ in range(4)])
    inner, parameters = Inner(regression_loss, 0.1), dict(model.named_parameters())
    fresh = torch.Generator().manual_seed(9999)
    errors = []
    for _ in range(60):
        support, query = rotated(fresh)
        errors.append(regression_loss(inner.adapt(parameters, support, STEPS), query).item())
    return sum(errors) / len(errors)


def test_few_shot_adaptation_beats_fine_tuning_on_rotated_regressions() -> None:
    """Fine-tuning learns the mean of the tasks, which is 0. Over 10 seeds MAML has at most 0.65 of its error, and 0.45 in the mean."""
    shares = [adapted_error("maml", seed) / adapted_error("fine_tune", seed) for seed in range(10)]
    assert max(shares) < 0.65, shares
    assert sum(shares) / len(shares) < 0.45, shares


def test_a_step_reports_the_mean_losses_of_its_tasks() -> None:
    """MAML's are those after the inner steps, by the weights before the outer one; fine-tuning's of each set, and their mean."""
    values = {"inner_steps": STEPS, "inner_rate": 0.1, "learning_rate": 0.04, "tasks_per_batch": 3}
    settings = MetaTrainSettings.model_validate(values)
    numbers = torch.Generator().manual_seed(3)
    tasks = [rotated(numbers) for _ in range(3)]
    model = TwoLayers(1)
    before = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    inner = Inner(regression_loss, 0.1)
    expected = [regression_loss(inner.adapt(before, support, STEPS), query).item() for support, query in tasks]
    step = MetaTrainer(model, regression_loss, settings, "maml", 0).meta_step(tasks)
    assert step.loss == pytest.approx(sum(expected) / 3)
    assert step.parts == {"query": step.loss}
    model = TwoLayers(1)
    step = MetaTrainer(model, regression_loss, settings, "fine_tune", 0).meta_step(tasks)
    support = [regression_loss(before, task[0]).item() for task in tasks]
    assert step.parts["set_0"] == pytest.approx(sum(support) / 3)
    assert step.loss == pytest.approx((step.parts["set_0"] + step.parts["set_1"]) / 2)


@pytest.mark.parametrize(("order", "kernels"), [("first", "sdpa"), ("second", "eager")])
def test_second_order_has_the_plain_kernels_of_attention(order: str, kernels: str, tiny_encoder: Path) -> None:
    encoder = load_encoder(tiny_encoder)
    prepare(encoder, MetaTrainSettings.model_validate({"order": order}))
    assert encoder.backbone.config._attn_implementation == kernels


TEXTS = ["honey bee", "dance hive flower", "sun angle", "river bridge", "stone arch road", "city map", "light wave"]
METHODS: dict[str, tuple[TrainedMethod, dict[str, Any]]] = {
    "maml": ("maml", {}),
    "maml_second": ("maml", {"order": "second"}),
    "paper": ("maml_align", {}),
    "released_code": ("maml_align", {"variant": "released_code", "distillation_weight": 3.0}),
    "fine_tune": ("fine_tune", {}),
}
BATCH = 4


def settings_of(name: str) -> MetaTrainSettings:
    values = {"inner_rate": 0.3, "inner_steps": 2, "learning_rate": 1e-3, "tasks_per_batch": BATCH}
    return MetaTrainSettings.model_validate(values | METHODS[name][1])


def task(encoder: Encoder, number: int, sets: int) -> list[TaskSet]:
    """Sets of two triplets of words that depend on the task's number."""

    def words(offset: int) -> list[str]:
        return [TEXTS[(number * 3 + place + offset) % len(TEXTS)] for place in range(2 * sets)]

    places = [place // 2 for place in range(2 * sets)]
    row = {"sets": places, "questions": words(0), "positives": words(2), "negatives": words(5)}
    return task_sets(encoder, row)


def trainer_of(name: str, folder: Path, rank: int = 0, world: int = 1, dropout: float = 0.2) -> tuple[Any, Encoder]:
    encoder = load_encoder(folder)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    prepare(encoder, settings_of(name))
    return MetaTrainer(encoder, TaskLoss(encoder, 1.0), settings_of(name), METHODS[name][0], 7, rank, world), encoder


def run(name: str, folder: Path, rank: int, world: int) -> dict[str, Any]:
    trainer, encoder = trainer_of(name, folder, rank, world)
    sets = 3 if METHODS[name][0] == "maml_align" else 2
    first, last = (BATCH * i // world for i in (rank, rank + 1))
    steps = [
        trainer.meta_step([task(encoder, BATCH * step + number, sets) for number in range(first, last)], first)
        for step in range(2)
    ]
    return {"steps": [(step.loss, step.parts, step.norm) for step in steps], "weights": encoder.state_dict()}


def worker(rank: int, folder: str, model: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for name in METHODS:
        torch.save(run(name, Path(model), rank, 2), f"{folder}/{name}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of two workers with every method."""
    folder = tmp_path_factory.mktemp("workers")
    start_workers(worker, str(folder), str(tiny_encoder))
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_two_workers_are_one_with_all_tasks(name: str, pair: Path, tiny_encoder: Path) -> None:
    """With dropout, which belongs to a task and not to a worker."""
    alone = run(name, tiny_encoder, 0, 1)
    for rank in range(2):
        found = torch.load(pair / f"{name}-{rank}.pt", weights_only=True)
        for (loss, parts, norm), (expected, expected_parts, expected_norm) in zip(
            found["steps"], alone["steps"], strict=True
        ):
            assert loss == pytest.approx(expected, rel=1e-5)
            assert parts == pytest.approx(expected_parts, rel=1e-4, abs=1e-8)
            assert norm == pytest.approx(expected_norm, rel=1e-4)
        for key, value in alone["weights"].items():
            torch.testing.assert_close(found["weights"][key], value, rtol=1e-4, atol=2e-5, msg=key)


class Recorder:
    """A loss that draws a number at every call, as dropout does, and remembers it with the set's name."""

    def __init__(self) -> None:
        self.draws: dict[str, list[float]] = {}

    def __call__(self, parameters: Mapping[str, Tensor], task_set: str) -> Tensor:
        draw = torch.rand(())
        self.draws.setdefault(task_set, []).append(draw.item())
        return draw * parameters["shared"].square().sum() + parameters["own"].sum()


def draws(method: TrainedMethod, seed: int, tasks: range, inner_steps: int = 1) -> dict[str, list[float]]:
    """What the loss of each set of two steps drew, by step, task and set; tasks before `tasks` are another worker's."""
    values = {"tasks_per_batch": 4, "inner_steps": inner_steps, "inner_rate": 1e-3, "learning_rate": 1e-3}
    recorder = Recorder()
    trainer = MetaTrainer(TwoLayers(0), recorder, MetaTrainSettings.model_validate(values), method, seed)
    sets = 3 if method == "maml_align" else 2
    for step in range(2):
        trainer.meta_step([[f"{step}-{task}-{number}" for number in range(sets)] for task in tasks], tasks.start)
    return recorder.draws


@pytest.mark.parametrize("method", ["maml", "maml_align", "fine_tune"])
def test_every_task_of_every_step_has_random_numbers_of_its_own(method: TrainedMethod) -> None:
    """Dropout differs between tasks, sets and steps, depends on the seed, and is a task's own whichever worker it is on."""
    found = draws(method, 7, range(4))
    every = [draw for one in found.values() for draw in one]
    assert len(set(every)) == len(every)
    other = [draw for one in draws(method, 8, range(4)).values() for draw in one]
    assert not set(every) & set(other)
    part = draws(method, 7, range(2, 4))
    assert part == {name: found[name] for name in part}
    assert len(part) == len(found) / 2


def test_methods_train_differently(tiny_encoder: Path) -> None:
    norms = [run(name, tiny_encoder, 0, 1)["steps"][0][2] for name in METHODS]
    assert len({round(norm, 5) for norm in norms}) == len(METHODS)


def test_a_loss_that_is_not_finite_names_step_losses_and_remedy(tiny_encoder: Path) -> None:
    trainer, encoder = trainer_of("maml", tiny_encoder)
    with torch.no_grad():
        next(encoder.parameters()).fill_(torch.nan)
    with pytest.raises(
        TrainingError, match=r"step 1: the gradient is not finite \(losses: query nan\); lower train.inner_rate"
    ):
        trainer.meta_step([task(encoder, number, 2) for number in range(BATCH)])


def test_state_is_gone_on_from(tiny_encoder: Path) -> None:
    """A trainer that is given another's weights and state after a step makes the same second step."""
    whole, encoder = trainer_of("paper", tiny_encoder)
    batches: Sequence[Any] = [[task(encoder, BATCH * step + i, 3) for i in range(BATCH)] for step in range(2)]
    whole.meta_step(batches[0])
    resumed, other = trainer_of("paper", tiny_encoder)
    other.load_state_dict(encoder.state_dict())
    resumed.restore(deepcopy(whole.state()))
    assert whole.meta_step(batches[1]) == resumed.meta_step(batches[1])
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
