"""Tasks as tensors, and the loss of a set under the encoder's own and under other parameters."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.encoders.checkpoints import load_encoder
from distill.encoders.encoder import Encoder
from distill.meta.train.batches import PairSet, TaskLoss, TripletSet, task_sets
from distill.meta.train.losses import distances, similarities, triplet_loss

TRIPLETS = {
    "sets": [0, 0, 1],
    "questions": ["honey bee", "dance", "river bridge"],
    "positives": ["bee hive flower sun", "angle", "stone arch"],
    "negatives": ["city map", "light wave sound", "honey"],
}
PAIRS = {
    "sets": [0, 0, 1],
    "firsts": ["honey bee", "dance", "sun"],
    "seconds": ["bee", "city", "light"],
    "scores": [1.0, 0.2, 0.5],
}


def own(encoder: Encoder) -> dict[str, Tensor]:
    return dict(encoder.named_parameters())


@pytest.fixture
def encoder(tiny_encoder: Path) -> Encoder:
    return load_encoder(tiny_encoder)


def test_sets_of_three_are_split_in_the_middle(encoder: Encoder) -> None:
    row = {**TRIPLETS, "sets": [0, 0, 0]}
    questions = encoder.encode_queries(row["questions"])[:, 0]
    sides = [torch.cat(encoder.encode_passages(row[side])) for side in ("positives", "negatives")]
    expected = nn.TripletMarginLoss(margin=1.0, p=2)(questions, *sides)
    (triplets,) = task_sets(encoder, row)
    assert TaskLoss(encoder, 1.0)(own(encoder), triplets).item() == pytest.approx(expected.item(), rel=1e-5)
    row = {**PAIRS, "sets": [0, 0, 0]}
    firsts, seconds = (torch.cat(encoder.encode_passages(row[side])) for side in ("firsts", "seconds"))
    cosines = nn.functional.cosine_similarity(firsts, seconds)
    (pairs,) = task_sets(encoder, row)
    expected = ((cosines - torch.tensor(row["scores"])) ** 2).mean()
    assert TaskLoss(encoder, 1.0)(own(encoder), pairs).item() == pytest.approx(expected.item(), rel=1e-5)


def test_sets_come_in_the_order_of_their_numbers(encoder: Encoder) -> None:
    first, second = task_sets(encoder, {**TRIPLETS, "sets": [1, 0, 0]})
    assert torch.equal(first.questions.ids, encoder.tokenize_queries(["dance", "river bridge"]).ids)  # type: ignore[union-attr]
    assert torch.equal(second.questions.ids, encoder.tokenize_queries(["honey bee"]).ids)  # type: ignore[union-attr]


def test_sets_are_told_apart_and_triplets_keep_their_places(encoder: Encoder) -> None:
    support, query = task_sets(encoder, TRIPLETS)
    assert isinstance(support, TripletSet)
    assert isinstance(query, TripletSet)
    assert torch.equal(support.questions.ids, encoder.tokenize_queries(["honey bee", "dance"]).ids)
    candidates = ["bee hive flower sun", "angle", "city map", "light wave sound"]
    assert torch.equal(support.candidates.ids, encoder.tokenize_passages(candidates).ids)
    assert torch.equal(query.candidates.ids, encoder.tokenize_passages(["stone arch", "honey"]).ids)


def test_the_triplet_loss_is_torchs(encoder: Encoder) -> None:
    (support, _) = task_sets(encoder, TRIPLETS)
    questions = encoder.encode_queries(TRIPLETS["questions"][:2])[:, 0]
    positives, negatives = (
        torch.cat(encoder.encode_passages(TRIPLETS[side][:2])) for side in ("positives", "negatives")
    )
    expected = nn.TripletMarginLoss(margin=0.8, p=2)(questions, positives, negatives)
    assert TaskLoss(encoder, 0.8)(own(encoder), support).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_of_pairs_is_the_squared_error_of_cosines(encoder: Encoder) -> None:
    (support, query) = task_sets(encoder, PAIRS)
    assert isinstance(query, PairSet)
    firsts, seconds = (torch.cat(encoder.encode_passages(PAIRS[side][:2])) for side in ("firsts", "seconds"))
    cosines = nn.functional.cosine_similarity(firsts, seconds)
    expected = ((cosines - torch.tensor([1.0, 0.2])) ** 2).mean()
    assert TaskLoss(encoder, 1.0)(own(encoder), support).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_is_that_of_the_given_parameters(encoder: Encoder, tiny_encoder: Path) -> None:
    """Moved parameters give the loss of an encoder that has them, and leave the encoder alone."""
    (support, _) = task_sets(encoder, TRIPLETS)
    numbers = torch.Generator().manual_seed(0)
    moved = {name: value + 0.05 * torch.randn(value.shape, generator=numbers) for name, value in own(encoder).items()}
    other = load_encoder(tiny_encoder)
    other.load_state_dict(moved, strict=False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found = TaskLoss(encoder, 1.0)(moved, support).item()
    assert found == pytest.approx(TaskLoss(other, 1.0)(own(other), support).item(), rel=1e-6)
    assert found != pytest.approx(TaskLoss(encoder, 1.0)(own(encoder), support).item(), rel=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_late_interaction_has_a_loss_and_gradients(tiny_student: Path) -> None:
    """The similarity is MaxSim by the question's vectors, the distance that of unit vectors with this cosine."""
    encoder = load_encoder(tiny_student)
    (support, _) = task_sets(encoder, TRIPLETS)
    queries = encoder.encode_queries(TRIPLETS["questions"][:2])
    expected = 0.0
    for place, query in enumerate(queries):
        kept = query[query.norm(dim=-1) > 0]
        far = []
        for side in ("positives", "negatives"):
            (candidate,) = encoder.encode_passages([TRIPLETS[side][place]])
            alike = (kept @ candidate.T).amax(dim=1).mean()
            far.append((2 - 2 * alike).sqrt())
        expected += max(0.0, float(far[0] - far[1] + 1)) / 2
    loss = TaskLoss(encoder, 1.0)(own(encoder), support)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    gradients = torch.autograd.grad(loss, [p for p in encoder.parameters() if p.requires_grad])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_similarities_and_distances_by_hand() -> None:
    first = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    second = torch.tensor([[[4.0, 3.0]], [[0.0, 2.0]]])
    keep = torch.ones(2, 1, dtype=torch.bool)
    torch.testing.assert_close(similarities(first, second, keep, keep), torch.tensor([0.96, 0.0]))
    torch.testing.assert_close(
        distances(first, second, keep, keep), torch.tensor([0.08, 2.0]).sqrt(), rtol=1e-4, atol=1e-5
    )


def test_the_distance_of_equal_texts() -> None:
    """Single vectors: 1e-6 in each of four coordinates, as in torch's triplet loss. Several: 1e-6, where the root has a slope."""
    single = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.bool)
    assert distances(single, single.detach(), one, one).tolist() == pytest.approx([2e-6], rel=1e-6)
    several = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    two = torch.ones(1, 2, dtype=torch.bool)
    found = distances(several, several.detach(), two, two)
    assert found.tolist() == pytest.approx([1e-6], rel=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), several)
    assert torch.isfinite(gradient).all()


def test_positions_that_are_not_kept_take_no_part() -> None:
    """A question of two vectors, one of them padding: only the first counts, against the best of the kept candidates' vectors."""
    first = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    second = torch.tensor([[[0.6, 0.8], [1.0, 0.0]]])
    kept = torch.tensor([[True, False]])
    assert similarities(first, second, kept, kept).tolist() == pytest.approx([0.6])
    assert similarities(first, second, kept, torch.tensor([[True, True]])).tolist() == pytest.approx([1.0])


def test_the_triplet_loss_by_hand() -> None:
    """Distances .2 and .9: max(0, .2 - .9 + 1) = .3; 1 and .4: 1.6; 0 and 1.5: 0."""
    loss = triplet_loss(torch.tensor([0.2, 1.0, 0.0]), torch.tensor([0.9, 0.4, 1.5]), 1.0)
    assert loss.item() == pytest.approx((0.3 + 1.6 + 0.0) / 3)
