import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import AP

from distill.meta.evaluate.retrieval import average_precision, best_places, filled


def test_average_precision_by_hand() -> None:
    """Relevant at ranks 1 and 3 of four relevant: (1/1 + 2/3) / 4."""
    ranked, relevant = np.array([7, 1, 5, 2]), np.array([5, 7, 8, 9])
    assert average_precision(ranked, relevant, 20) == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision(ranked, np.array([4]), 20) == 0
    assert average_precision(np.array([], dtype=np.int64), relevant, 20) == 0


def test_the_divisor_is_the_number_of_answers_that_fit() -> None:
    """A perfect ranking of two out of three relevant is 1, where trec_eval says 2/3; what is below the depth does not count."""
    ranked = np.array([0, 1, 2])
    assert average_precision(ranked, np.array([0, 1, 2]), 2) == 1
    assert average_precision(np.array([5, 6, 0]), np.array([0]), 2) == 0


def test_average_precision_is_trec_evals_where_its_divisor_is_the_same() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        ranked, relevant = random.permutation(40)[:20], random.choice(40, random.integers(1, 20), replace=False)
        run = {"q": {str(place): 20.0 - rank for rank, place in enumerate(ranked)}}
        expected = ir_measures.calc_aggregate([AP @ 20], {"q": {str(place): 1 for place in relevant}}, run)[AP @ 20]
        assert average_precision(ranked, relevant, 20) == pytest.approx(expected)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of single vectors, over blocks of several sizes and few similarities at a time, are those of one matrix product."""
    questions, candidates = torch.randn(7, 1, 4), torch.randn(30, 4)
    expected = torch.argsort(questions[:, 0] @ candidates.T, dim=1, descending=True)[:, :5].tolist()
    for size, similarities in ((30, 2**25), (4, 2**25), (7, 20)):
        monkeypatch.setattr("distill.meta.evaluate.retrieval._SIMILARITIES", similarities)
        blocks = ((torch.arange(30)[i : i + size], candidates[None, i : i + size]) for i in range(0, 30, size))
        assert [row.tolist() for row in best_places(questions, blocks, 5)] == expected


def test_late_interaction_and_ties() -> None:
    """Two question vectors against candidates of two vectors: candidate 1 has both best ones; 0 and 2 tie and keep their order."""
    questions = filled([torch.eye(2)])
    candidates = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]], [[0, 1], [0, 1]]]).transpose(0, 1)
    [found] = best_places(questions, [(torch.tensor([0, 1, 2]), candidates)], 3)
    assert found.tolist() == [1, 0, 2]


def test_filling_adds_nothing() -> None:
    short, long = torch.ones(1, 3), torch.ones(2, 3)
    both = filled([short, long])
    assert both.shape == (2, 2, 3)
    assert both[0, 1].tolist() == [0, 0, 0]
