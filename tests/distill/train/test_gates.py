import math

import pytest
import torch

from distill.train.gates import Gates, all_constant, mean_cosine, one_hot_share
from distill.train.loss_settings import CrossEntropyLoss, KlLoss
from distill.train.settings import GateSettings
from distill.train.trainer import TrainingError
from tests.distill.train.test_objective import single_vectors

SPREAD = torch.tensor([[10.0, 0.0, -3.0]] * 8)


def test_the_share_of_one_hot_examples() -> None:
    scores = torch.tensor([[20.0, 0.0, math.nan], [1.0, 0.0, 0.5], [0.0, 0.0, 30.0], [1.0, 1.0, 1.0]])
    assert one_hot_share(scores) == 0.5


def test_a_one_hot_teacher_cannot_train_a_kl_loss() -> None:
    gates = Gates(GateSettings(), KlLoss(teacher_scale=20))
    with pytest.raises(
        TrainingError, match=r"100% of the first 8 examples: its scores times 20 spread over 260 .*to about 0\.23"
    ):
        gates.check_teacher(SPREAD)
    gates.check_teacher(SPREAD * 0.01)
    Gates(GateSettings(), KlLoss(teacher_scale=0.2)).check_teacher(SPREAD)
    Gates(GateSettings(), CrossEntropyLoss()).check_teacher(SPREAD * 1000)
    Gates(GateSettings(one_hot_teacher=None), KlLoss(teacher_scale=20)).check_teacher(SPREAD)


def test_an_exploding_loss_stops() -> None:
    gates = Gates(GateSettings(), KlLoss())
    log = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 9.0}]
    gates.check_losses(20, log)
    with pytest.raises(TrainingError, match=r"step 30: the loss is 11, 11 times what it was at step 10 \(1\)"):
        gates.check_losses(30, [*log, {"step": 30, "loss": 11.0}])
    Gates(GateSettings(explosion=None), KlLoss()).check_losses(30, [*log, {"step": 30, "loss": 1e9}])


def test_the_mean_cosine_is_over_pairs_of_mean_vectors() -> None:
    passages = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [9.0, 9.0]], [[-1.0, 0.0], [0.0, 0.0]]])
    keep = torch.tensor([[True, True], [True, False], [True, True]])
    # directions (1, 1)/sqrt 2, (0, 1), (-1, 0): cosines .7071, -.7071, 0
    assert mean_cosine(passages, keep) == pytest.approx(0.0, abs=1e-6)
    assert mean_cosine(passages[:2], keep[:2]) == pytest.approx(math.sqrt(0.5), abs=1e-6)


def test_embeddings_that_are_all_the_same_stop() -> None:
    gates = Gates(GateSettings(constant_scores=False), KlLoss())
    vectors = single_vectors()
    gates.check_vectors(5, vectors)
    vectors.passages = vectors.passages[:1].expand(6, 1, 8)
    with pytest.raises(TrainingError, match=r"step 5: the embeddings have collapsed: .* is 1\.0000"):
        gates.check_vectors(5, vectors)


def test_constant_scores_stop() -> None:
    gates = Gates(GateSettings(collapse=None), KlLoss())
    vectors = single_vectors()
    gates.check_vectors(5, vectors)
    del vectors.scores
    vectors.passages = vectors.passages[:1].expand(6, 1, 8)
    with pytest.raises(TrainingError, match="step 5: the student gives all passages of every example the same score"):
        gates.check_vectors(5, vectors)
    assert not all_constant(torch.tensor([[1.0, 1.0], [1.0, 1.1]]))
    # Scores are equal to a millionth of their size.
    assert all_constant(torch.tensor([[1e4, 1e4 + 0.005]]))
    assert not all_constant(torch.tensor([[1e-4, 1e-4 + 1e-8]]))


def test_one_passage_alone_has_not_collapsed() -> None:
    vectors = single_vectors()
    vectors.passages, vectors.keep = vectors.passages[:1], vectors.keep[:1]
    Gates(GateSettings(constant_scores=False), KlLoss()).check_vectors(5, vectors)


def test_the_limit_of_one_hot_teachers_is_the_share_itself() -> None:
    teacher = torch.tensor([[50.0, 0.0], [0.0, 0.1]])
    with pytest.raises(TrainingError, match="the teacher puts all on one passage in 50%"):
        Gates(GateSettings(one_hot_teacher=0.5), KlLoss()).check_teacher(teacher)
    Gates(GateSettings(one_hot_teacher=0.51), KlLoss()).check_teacher(teacher)
