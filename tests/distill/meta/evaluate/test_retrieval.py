import ir_measures
import numpy as np
import pytest
from ir_measures import AP

from distill.meta.evaluate.retrieval import average_precision


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
