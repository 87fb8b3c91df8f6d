from pathlib import Path

import pyarrow as pa
import pytest
import torch

from distill.encoder import LateInteractionEncoder, maxsim
from distill.losses import kl_divergence
from distill.settings.train import TrainSettings
from distill.tables import EXAMPLES
from distill.training import StudentScorer, Trainer, TrainingError, make_batch, rate_factor

TEXTS = ["honey bee dance", "stone bridge river", "city map light wave", "sun angle food"]


def examples(count: int, scores: tuple[float, ...] = (1.0, 0.0, -1.0)) -> pa.Table:
    return EXAMPLES.from_rows(
        {
            "position": i,
            "query_id": f"q{i}",
            "query": TEXTS[i % 4].split()[0],
            "query_lang": "en",
            "passage_ids": [f"p{j}" for j in range(len(scores))],
            "passages": [TEXTS[(i + j) % 4] for j in range(len(scores))],
            "langs": ["en"] * len(scores),
            "scores": list(scores),
        }
        for i in range(count)
    )


def trainer(student: Path, **settings: object) -> Trainer:
    encoder = LateInteractionEncoder.load(student)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    values = {"learning_rate": 1e-3, "batch_size": 4, "steps": 10, "log_every": 1, "checkpoint_every": 1} | settings
    return Trainer(StudentScorer(encoder), encoder, TrainSettings(**values), torch.device("cpu"), seed=0)  # pyright: ignore[reportArgumentType]


def test_scores_are_those_of_each_query_with_its_own_passages(tiny_student: Path) -> None:
    encoder = LateInteractionEncoder.load(tiny_student)
    batch = make_batch(encoder, examples(2))
    with torch.inference_mode():
        scores = StudentScorer(encoder)(batch.queries, batch.passages, batch.places)
    for i, row in enumerate(examples(2).to_pylist()):
        query = encoder.encode_queries([row["query"]])
        for j, text in enumerate(row["passages"]):
            passage = encoder.encode_passages([text])[0]
            expected = maxsim(query, passage[None, None], torch.ones(1, 1, len(passage), dtype=torch.bool))
            assert scores[i, j].item() == pytest.approx(expected.item(), abs=1e-4)


def test_a_text_that_occurs_twice_is_encoded_once(tiny_student: Path) -> None:
    encoder = LateInteractionEncoder.load(tiny_student)
    batch = make_batch(encoder, examples(4))
    assert len(batch.passages.ids) == 4
    assert batch.places.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]]


def test_a_step_is_adamw_on_the_gradient_of_the_loss(tiny_student: Path) -> None:
    """AdamW's first step moves a weight by lr * g / (|g| + eps): by the rate, against the sign of the gradient."""
    subject = trainer(tiny_student, max_grad_norm=1e9)
    batch = make_batch(subject.encoder, examples(4))
    loss = kl_divergence(subject.scorer(batch.queries, batch.passages, batch.places), batch.teacher)
    weight = subject.encoder.projection.weight
    [gradient] = torch.autograd.grad(loss, [weight])
    before = weight.detach().clone()
    value, rate = subject.train_step(batch)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    assert rate == pytest.approx(1e-3)
    clear = gradient.abs() > 1e-6
    moved = before - weight.detach()
    assert torch.allclose(moved[clear], 1e-3 * gradient[clear].sign(), rtol=0.02)


def test_training_learns_the_teachers_order(tiny_student: Path) -> None:
    subject = trainer(tiny_student, learning_rate=3e-3, steps=60)
    batch = make_batch(subject.encoder, examples(4))
    losses = [subject.train_step(batch)[0] for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]


def test_a_saved_training_goes_on_exactly(tiny_student: Path, tmp_path: Path) -> None:
    """With dropout on: every step has a seed of its own, so a resumed run repeats what the first would have done."""
    batches = [examples(4, (1.0, 0.0)), examples(4, (0.0, 1.0)), examples(4, (2.0, 0.0)), examples(4, (0.5, 0.2))]

    def start() -> Trainer:
        encoder = LateInteractionEncoder.load(tiny_student)
        settings = TrainSettings(
            learning_rate=1e-3, batch_size=4, steps=4, schedule="linear", log_every=1, checkpoint_every=1
        )
        return Trainer(StudentScorer(encoder), encoder, settings, torch.device("cpu"), seed=5)

    whole = start()
    expected = [whole.train_step(make_batch(whole.encoder, batch)) for batch in batches]
    first = start()
    for batch in batches[:2]:
        first.train_step(make_batch(first.encoder, batch))
    first.save(tmp_path, [{"step": 2, "loss": 1.0}])
    second = start()
    assert second.load(tmp_path) == [{"step": 2, "loss": 1.0}]
    assert second.step == 2
    found = [second.train_step(make_batch(second.encoder, batch)) for batch in batches[2:]]
    assert found == expected[2:]
    for (name, a), (_, b) in zip(whole.encoder.state_dict().items(), second.encoder.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_scores_stay_float32_under_bfloat16(tiny_student: Path) -> None:
    encoder = LateInteractionEncoder.load(tiny_student)
    batch = make_batch(encoder, examples(4))
    with torch.inference_mode():
        exact = StudentScorer(encoder)(batch.queries, batch.passages, batch.places)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = StudentScorer(encoder)(batch.queries, batch.passages, batch.places)
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded, exact, atol=0.1)
    assert not torch.equal(rounded, rounded.bfloat16().float())


def test_rates() -> None:
    constant = TrainSettings(steps=10, warmup_steps=4)
    assert [rate_factor(step, constant) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    linear = TrainSettings(steps=10, warmup_steps=2, schedule="linear")
    assert [rate_factor(step, linear) for step in (0, 1, 2, 6, 9, 10)] == [0.5, 1.0, 1.0, 0.5, 0.125, 0.0]


def test_weights_that_became_not_finite_stop_the_training(tiny_student: Path) -> None:
    subject = trainer(tiny_student)
    batch = make_batch(subject.encoder, examples(4))
    with torch.no_grad():
        subject.encoder.projection.weight.fill_(float("nan"))
    with pytest.raises((TrainingError, ValueError), match="not finite"):
        subject.train_step(batch)


def test_examples_of_unequal_width_are_refused(tiny_student: Path) -> None:
    encoder = LateInteractionEncoder.load(tiny_student)
    table = pa.concat_tables([examples(1), examples(1, (1.0, 0.0))])
    with pytest.raises(ValueError, match=r"different numbers of passages: \[2, 3\]"):
        make_batch(encoder, table)
