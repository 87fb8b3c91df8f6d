import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr, zscore

from distill.numerics.ragged import Ragged

LISTS = Ragged(np.array([0, 3, 3, 4, 8]))
"""Lists of 3, 0, 1 and 4 values."""
VALUES = np.array([2.0, 5.0, 2.0, 7.0, 1.0, -1.0, 1.0, 4.0])


def test_where_values_belong() -> None:
    assert LISTS.lengths.tolist() == [3, 0, 1, 4]
    assert LISTS.owners.tolist() == [0, 0, 0, 2, 3, 3, 3, 3]
    assert LISTS.positions.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]


def test_each_lists_numbers() -> None:
    assert LISTS.sums(VALUES).tolist() == [9, 0, 7, 5]
    assert LISTS.means(VALUES).tolist() == [3, 0, 7, 1.25]
    assert LISTS.largest(VALUES).tolist() == [5, -np.inf, 7, 4]
    assert LISTS.smallest(VALUES).tolist() == [2, np.inf, 7, -1]
    assert LISTS.best(np.array([2.0, 2, 1, 7, 4, 3, 4, 4])).tolist() == [
        True,
        True,
        False,
        True,
        True,
        False,
        True,
        True,
    ]


def test_ranks_share_the_mean_of_tied_places() -> None:
    ranks, shared = LISTS.ranks(VALUES)
    assert ranks.tolist() == [2.5, 1, 2.5, 1, 2.5, 4, 2.5, 1]
    assert shared.tolist() == [2, 1, 2, 1, 2, 1, 2, 1]


def test_ranks_equal_scipys() -> None:
    values = np.random.default_rng(0).integers(0, 5, 400).astype(np.float32)
    lists = Ragged(np.array([0, 7, 7, 150, 400]))
    expected = [rankdata(-values[a:b]) for a, b in zip(lists.offsets, lists.offsets[1:], strict=False)]
    assert np.array_equal(lists.ranks(values)[0], np.concatenate(expected))


def test_z_scores_by_hand() -> None:
    """1, 2, 3: mean 2, population deviation sqrt(2/3). A constant list and a lone value are zeros, also where the mean is rounded."""
    lists = Ragged(np.array([0, 3, 6, 7]))
    found = lists.z_scores(np.array([1, 2, 3, 0.1, 0.1, 0.1, 5], np.float32))
    assert found == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5), 0, 0, 0, 0], abs=1e-7)
    assert found[3:].tolist() == [0, 0, 0, 0]


def test_z_scores_equal_scipys() -> None:
    values = np.random.default_rng(1).normal(3, 2, 50)
    expected = [*np.asarray(zscore(values[:20])), *np.asarray(zscore(values[20:]))]
    assert np.allclose(Ragged(np.array([0, 20, 50])).z_scores(values), expected)


def test_correlations_of_ranks_are_spearmans() -> None:
    random = np.random.default_rng(2)
    left, right = random.integers(0, 9, 60).astype(float), random.integers(0, 9, 60).astype(float)
    left[40:50] = 3.0
    lists = Ragged(np.array([0, 40, 50, 60]))
    found, defined = lists.correlations(lists.ranks(left)[0], lists.ranks(right)[0])
    assert defined.tolist() == [True, False, True]
    assert found[0] == pytest.approx(spearmanr(left[:40], right[:40])[0])
    assert found[2] == pytest.approx(spearmanr(left[50:], right[50:])[0])


def test_lists_without_some_values() -> None:
    kept = np.array([True, False, True, False, True, True, False, True])
    assert LISTS.take(kept).offsets.tolist() == [0, 2, 2, 2, 5]
