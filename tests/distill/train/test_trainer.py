from pathlib import Path

import pyarrow as pa
import pytest
import torch

from distill.encoders.checkpoints import load_encoder, load_late_interaction
from distill.encoders.encoder import Encoder
from distill.numerics.maxsim import maxsim
from distill.tables import EXAMPLES
from distill.train.batches import TrainingBatch, make_batch
from distill.train.losses import kl_divergence
from distill.train.objective import Objective, Vectors
from distill.train.settings import TrainSettings
from distill.train.stream import examples_of
from distill.train.trainer import Trainer, TrainingError, prepare, rate_factor

TEXTS = ["honey bee dance", "stone bridge river", "city map light wave", "sun angle food"]
ALL_TOKENS = 100_000


def examples(count: int, scores: tuple[float, ...] = (1.0, 0.0, -1.0)) -> pa.Table:
    return EXAMPLES.from_rows(
        {
            "position": i,
            "query_id": f"q{i}",
            "query": TEXTS[i % 4].split()[0],
            "query_lang": "en",
            "passage_ids": [f"p{(i + j) % 4}" for j in range(len(scores))],
            "passages": [TEXTS[(i + j) % 4] for j in range(len(scores))],
            "langs": ["en"] * len(scores),
            "scores": list(scores),
        }
        for i in range(count)
    )


def student(folder: Path, *, dropout: bool = False) -> Encoder:
    encoder = load_encoder(folder)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout) and not dropout:
            module.p = 0.0
    if not dropout:
        encoder.backbone.config.attention_probs_dropout_prob = 0.0
    return encoder


def trainer(folder: Path, *, dropout: bool = False, seed: int = 0, **settings: object) -> Trainer:
    encoder = student(folder, dropout=dropout)
    values = {"learning_rate": 1e-3, "batch_size": 4, "steps": 10, "log_every": 1, "checkpoint_every": 1} | settings
    chosen = TrainSettings(**values)  # pyright: ignore[reportArgumentType]
    prepare(encoder, chosen)
    return Trainer(encoder, encoder, chosen, Objective(chosen.loss), seed)


def batch_of(encoder: Encoder, table: pa.Table, tokens: int = ALL_TOKENS) -> TrainingBatch:
    return make_batch(encoder, examples_of(table), tokens)


def weights_after(subject: Trainer, tables: list[list[pa.Table]], tokens: int = ALL_TOKENS) -> dict[str, torch.Tensor]:
    """The student's weights after steps on these parts."""
    for parts in tables:
        subject.train_step([batch_of(subject.encoder, part, tokens) for part in parts])
    return {name: value.clone() for name, value in subject.encoder.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float) -> None:
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=atol), name


def scores_of(subject: Trainer, batch: TrainingBatch) -> torch.Tensor:
    encoder = subject.encoder
    chunks = [encoder(*chunk) for chunk in batch.queries.batches + batch.passages.batches]
    return subject._vectors(batch, chunks).scores


def test_scores_are_those_of_each_query_with_its_own_passages(tiny_student: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    subject = trainer(tiny_student)
    with torch.inference_mode():
        scores = scores_of(subject, batch_of(subject.encoder, examples(2), 10))
    for i, row in enumerate(examples(2).to_pylist()):
        query = encoder.encode_queries([row["query"]])
        for j, text in enumerate(row["passages"]):
            passage = encoder.encode_passages([text])[0]
            expected = maxsim(query, passage[None, None], torch.ones(1, 1, len(passage), dtype=torch.bool))
            assert scores[i, j].item() == pytest.approx(expected.item(), abs=1e-4)


def test_a_step_is_adamw_on_the_gradient_of_the_loss(tiny_student: Path) -> None:
    """AdamW's first step moves a weight by lr * g / (|g| + eps): by the rate, against the sign of the gradient."""
    subject = trainer(tiny_student, max_grad_norm=1e9)
    subject.encoder.train()
    batch = batch_of(subject.encoder, examples(4))
    loss = kl_divergence(scores_of(subject, batch), batch.teacher)
    weight = subject.encoder.get_parameter("projection.weight")
    [gradient] = torch.autograd.grad(loss, [weight])
    before = weight.detach().clone()
    step = subject.train_step([batch])
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    assert step.losses == {"kl": step.loss}
    assert step.rate == pytest.approx(1e-3)
    clear = gradient.abs() > 1e-6
    moved = before - weight.detach()
    assert torch.allclose(moved[clear], 1e-3 * gradient[clear].sign(), rtol=0.02)


def test_training_learns_the_teachers_order(tiny_student: Path) -> None:
    subject = trainer(tiny_student, learning_rate=3e-3, steps=60)
    batch = batch_of(subject.encoder, examples(4))
    losses = [subject.train_step([batch]).loss for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]


def test_chunks_by_token_budget_equal_one_padded_batch(tiny_student: Path) -> None:
    steps = [[examples(4)], [examples(3)]]
    padded = weights_after(trainer(tiny_student), steps)
    assert len(batch_of(student(tiny_student), examples(4), 8).passages.batches) == 4
    assert_same(weights_after(trainer(tiny_student), steps, tokens=8), padded, 2e-6)


@pytest.mark.parametrize("dropout", [False, True])
def test_gradient_caching_equals_the_plain_step(tiny_student: Path, *, dropout: bool) -> None:
    """With dropout too: what is encoded twice draws the same."""
    steps = [[examples(4)], [examples(4)]]
    plain = trainer(tiny_student, dropout=dropout)
    cached = trainer(tiny_student, dropout=dropout, gradient_cache=True)
    assert_same(weights_after(cached, steps, tokens=8), weights_after(plain, steps, tokens=8), 2e-6)


def test_recomputed_activations_equal_kept_ones(tiny_student: Path) -> None:
    steps = [[examples(4)], [examples(4)]]
    plain = weights_after(trainer(tiny_student, dropout=True), steps)
    recomputed = trainer(tiny_student, dropout=True, activation_checkpointing=True)
    assert recomputed.encoder.backbone.is_activation_checkpointing
    assert_same(weights_after(recomputed, steps), plain, 2e-6)


def test_accumulated_parts_of_different_size_equal_the_whole_batch(tiny_student: Path) -> None:
    table = examples(4)
    parts = [[table.slice(0, 3), table.slice(3, 1)]]
    whole = weights_after(trainer(tiny_student), [[table]])
    assert_same(weights_after(trainer(tiny_student, accumulate=2), parts), whole, 2e-6)


def test_the_average_follows_the_weights(tiny_student: Path, tmp_path: Path) -> None:
    subject = trainer(tiny_student, ema=0.75)
    name = "projection.weight"
    values = [subject.encoder.get_parameter(name).detach().clone()]
    for _ in range(3):
        subject.train_step([batch_of(subject.encoder, examples(4))])
        values.append(subject.encoder.get_parameter(name).detach().clone())
    expected = values[0]
    for value in values[1:]:
        expected = 0.75 * expected + 0.25 * value
    with subject.averaged() as averaged:
        assert torch.allclose(averaged.get_parameter(name), expected, atol=1e-6)
    assert torch.equal(subject.encoder.get_parameter(name), values[-1])
    subject.save(tmp_path, {})
    assert torch.allclose(load_encoder(tmp_path).get_parameter(name), expected, atol=1e-6)


def test_only_matrices_decay(tiny_student: Path) -> None:
    subject = trainer(tiny_student, weight_decay=0.5, learning_rate=0.1)
    decayed, others = subject.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    names = {id(p): name for name, p in subject.encoder.named_parameters()}
    assert all("LayerNorm" in names[id(p)] or names[id(p)].endswith("bias") for p in others["params"])
    assert not any("LayerNorm" in names[id(p)] or names[id(p)].endswith("bias") for p in decayed["params"])


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_saved_training_goes_on_exactly(tiny_student: Path, tmp_path: Path, ema: float | None) -> None:
    """With dropout on: every step has a seed of its own, so a resumed run repeats what the first would have done."""
    tables = [examples(4, (1.0, 0.0)), examples(4, (0.0, 1.0)), examples(4, (2.0, 0.0)), examples(4, (0.5, 0.2))]

    def start() -> Trainer:
        return trainer(tiny_student, dropout=True, seed=5, steps=4, schedule="linear", ema=ema)

    whole = start()
    expected = [whole.train_step([batch_of(whole.encoder, table)]) for table in tables]
    first = start()
    for table in tables[:2]:
        first.train_step([batch_of(first.encoder, table)])
    first.save(tmp_path, {"log": [{"step": 2, "loss": 1.0}]})
    second = start()
    assert second.load(tmp_path) == {"log": [{"step": 2, "loss": 1.0}]}
    assert second.step == 2
    found = [second.train_step([batch_of(second.encoder, table)]) for table in tables[2:]]
    assert found == expected[2:]
    with whole.averaged() as a, second.averaged() as b:
        for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
            assert torch.equal(x, y), name


def test_scores_stay_float32_under_bfloat16(tiny_student: Path) -> None:
    exact, rounded = trainer(tiny_student), trainer(tiny_student, dtype="bfloat16")
    batch = batch_of(exact.encoder, examples(4))
    with torch.inference_mode():
        expected = exact._encode(batch.passages.batches[0], 0, 0)
        found = rounded._encode(batch.passages.batches[0], 0, 0)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.05)
    assert not torch.allclose(found, expected, atol=1e-5)
    assert not torch.equal(found, found.bfloat16().float())


def test_rates() -> None:
    constant = TrainSettings(steps=10, warmup_steps=4)
    assert [rate_factor(step, constant) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    linear = TrainSettings(steps=10, warmup_steps=2, schedule="linear")
    assert [rate_factor(step, linear) for step in (0, 1, 2, 6, 9, 10)] == [0.5, 1.0, 1.0, 0.5, 0.125, 0.0]
    exponential = TrainSettings(steps=10, warmup_steps=1, schedule="exponential", decay=0.5)
    assert [rate_factor(step, exponential) for step in (0, 1, 2, 4)] == [1.0, 1.0, 0.5, 0.125]


def test_weights_that_became_not_finite_stop_the_training(tiny_student: Path) -> None:
    subject = trainer(tiny_student)
    batch = batch_of(subject.encoder, examples(4))
    with torch.no_grad():
        subject.encoder.get_parameter("projection.weight").fill_(float("nan"))
    with pytest.raises(TrainingError, match="step 1: gradients are not finite"):
        subject.train_step([batch])


def test_a_loss_that_does_not_fit_the_examples_names_the_step(tiny_student: Path) -> None:
    subject = trainer(tiny_student, loss={"type": "relevance_margin"})
    with pytest.raises(
        TrainingError, match=r"step 1: .*student\.type single_vector and mix\.n_way 2, found 8 vectors a query and 3"
    ):
        subject.train_step([batch_of(subject.encoder, examples(4))])


def test_the_last_vectors_are_kept_for_gates(tiny_student: Path) -> None:
    subject = trainer(tiny_student)
    batch = batch_of(subject.encoder, examples(4))
    subject.train_step([batch])
    assert isinstance(subject.last, Vectors)
    assert not subject.last.passages.requires_grad
    assert subject.last.scores.shape == (4, 3)


def gradients_of(subject: Trainer) -> list[torch.Tensor]:
    """Return a list to which every step adds the gradient that its optimiser sees."""
    seen: list[torch.Tensor] = []

    def see(*_: object) -> None:
        seen.append(torch.cat([p.grad.flatten().clone() for p in subject._parameters if p.grad is not None]))

    subject.optimizer.register_step_pre_hook(see)
    return seen


@pytest.mark.parametrize("limit", [0.05, 1e6])
def test_gradients_are_clipped_to_their_norm_over_all_parts(tiny_student: Path, limit: float) -> None:
    """The norm that is told is the one before; the optimiser sees at most the limit, in the same direction."""
    table = examples(4)
    subject, free = trainer(tiny_student, max_grad_norm=limit, accumulate=2), trainer(tiny_student, max_grad_norm=1e9)
    clipped, unclipped = gradients_of(subject), gradients_of(free)
    step = subject.train_step([batch_of(subject.encoder, part) for part in (table.slice(0, 3), table.slice(3, 1))])
    whole = free.train_step([batch_of(free.encoder, table)])
    assert step.norm == pytest.approx(whole.norm, rel=1e-5)
    assert whole.norm == pytest.approx(unclipped[0].norm().item(), rel=1e-5)
    assert 0.05 < whole.norm < 1e6
    assert clipped[0].norm().item() == pytest.approx(min(limit, whole.norm), rel=1e-4)
    assert torch.allclose(clipped[0] / clipped[0].norm(), unclipped[0] / unclipped[0].norm(), atol=1e-5)


def test_every_chunk_of_every_part_step_rank_and_seed_has_its_own_dropout(tiny_student: Path) -> None:
    def vectors(number: int = 0, chunk: int = 0, **attributes: int) -> torch.Tensor:
        subject = trainer(tiny_student, dropout=True, seed=attributes.pop("seed", 5))
        subject.encoder.train()
        for name, value in attributes.items():
            setattr(subject, name, value)
        [batch] = batch_of(subject.encoder, examples(1)).passages.batches
        return subject._encode(batch, number, chunk).detach()

    first = vectors()
    assert torch.equal(vectors(), first)
    others = [vectors(number=1), vectors(chunk=1), vectors(step=1), vectors(rank=1), vectors(seed=6)]
    for place, other in enumerate(others):
        assert not torch.allclose(other, first, atol=1e-3)
        assert all(not torch.allclose(other, later, atol=1e-3) for later in others[place + 1 :])
