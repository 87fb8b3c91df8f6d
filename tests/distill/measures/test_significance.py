"""Tests and intervals against numbers worked by hand and against their formulas."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from distill.measures.metrics import MetricsError
from distill.measures.significance import bonferroni, bootstrap_interval, corrected, holm, paired_t_test


def test_paired_t_test_by_hand() -> None:
    """Differences 1 to 5: mean 3, sd sqrt(2.5), standard error sqrt(0.5), t = 3 sqrt(2), 4 degrees of freedom.

    Student's t with 4 degrees of freedom has the closed form F(t) = 1/2 + 3/8 u (1 - t^2 / (12 s)) with s = 1 + t^2 / 4
    and u = t / sqrt(s); tables give its 97.5 % point as 2.776445.
    """
    test = paired_t_test(np.array([1.0, 3.0, 5.0, 7.0, 9.0]), np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert test.difference == 3.0
    assert test.low == pytest.approx(3 - 2.776445 * sqrt(0.5), abs=1e-6)
    assert test.high == pytest.approx(3 + 2.776445 * sqrt(0.5), abs=1e-6)
    t, s = 3 * sqrt(2), 1 + 18 / 4
    assert test.p == pytest.approx(2 * (0.5 - 3 / 8 * t / sqrt(s) * (1 - 18 / (12 * s))))
    assert test.p == pytest.approx(0.013236, abs=1e-6)


@pytest.mark.parametrize("queries", [2, 7, 300])
def test_paired_t_test_is_the_formula(queries: int) -> None:
    """The mean difference, give or take t(Q - 1) standard errors, and twice the tail beyond mean / error."""
    random = np.random.default_rng(queries)
    a, b = random.random(queries), random.random(queries)
    difference = a - b
    mean, error = difference.mean(), difference.std(ddof=1) / sqrt(queries)
    reach = stats.t.ppf(0.95, queries - 1) * error
    test = paired_t_test(a, b, confidence=0.9)
    expected = (mean, mean - reach, mean + reach, 2 * stats.t.sf(abs(mean) / error, queries - 1))
    assert (test.difference, test.low, test.high, test.p) == pytest.approx(expected, rel=1e-12)


def test_differences_that_are_equal_to_rounding_are_certain() -> None:
    a = np.array([0.1, 0.2, 0.3])
    test = paired_t_test(a + 0.1, a)
    assert (test.low, test.high) == pytest.approx((0.1, 0.1))
    assert test.p < 1e-20


def test_paired_t_test_is_symmetric() -> None:
    a, b = np.array([0.2, 0.9, 0.4]), np.array([0.1, 0.3, 0.6])
    one, other = paired_t_test(a, b), paired_t_test(b, a)
    assert (one.difference, one.low, one.high, one.p) == pytest.approx(
        (-other.difference, -other.high, -other.low, other.p)
    )


def test_level_of_confidence_widens_the_interval() -> None:
    # The 99.5 % point of t with 4 degrees of freedom is 4.604095.
    test = paired_t_test(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.zeros(5), confidence=0.99)
    assert test.high == pytest.approx(3 + 4.604095 * sqrt(0.5), abs=1e-6)


def test_equal_systems_do_not_differ() -> None:
    same = np.array([0.1, 0.5, 0.9])
    test = paired_t_test(same, same)
    assert (test.difference, test.low, test.high, test.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_constant_difference_is_certain() -> None:
    test = paired_t_test(np.array([1.5, 2.5, 3.5]), np.array([1.0, 2.0, 3.0]))
    assert (test.difference, test.low, test.high, test.p) == (0.5, 0.5, 0.5, 0.0)


def test_paired_t_test_needs_pairs() -> None:
    with pytest.raises(MetricsError, match="compares the same queries, got 2 and 3 values"):
        paired_t_test(np.zeros(2), np.zeros(3))
    with pytest.raises(MetricsError, match="needs two queries or more, got 1"):
        paired_t_test(np.zeros(1), np.ones(1))


def test_a_one_sided_test_asks_whether_the_first_is_better() -> None:
    """Half of the two-sided p where it is (.013236, worked above), and what is left of 1 where it is worse; the interval is the same."""
    a, b = np.array([1.0, 3.0, 5.0, 7.0, 9.0]), np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    two, better, worse = (
        paired_t_test(a, b),
        paired_t_test(a, b, sides="one_sided"),
        paired_t_test(b, a, sides="one_sided"),
    )
    assert better.p == pytest.approx(0.013236 / 2, abs=1e-6)
    assert worse.p == pytest.approx(1 - 0.013236 / 2, abs=1e-6)
    assert (better.difference, better.low, better.high) == (two.difference, two.low, two.high)


def test_one_sided_test_of_a_constant_difference() -> None:
    a, b = np.array([1.5, 2.5, 3.5]), np.array([1.0, 2.0, 3.0])
    assert [paired_t_test(*pair, sides="one_sided").p for pair in ((a, b), (b, a), (a, a))] == [0.0, 1.0, 1.0]


def test_corrections_by_name() -> None:
    assert bonferroni([0.04, 0.01, 0.3, 0.02]) == pytest.approx([0.16, 0.04, 1.0, 0.08])
    assert bonferroni([]) == []
    assert corrected([0.04, 0.01], "bonferroni") == pytest.approx([0.08, 0.02])
    assert corrected([0.04, 0.01], "holm") == pytest.approx([0.04, 0.02])


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, and none below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_bootstrap_interval_of_zeros_and_ones() -> None:
    """The mean of n draws from half ones is binomial: with n = 100 its 2.5 % and 97.5 % points are 0.40 and 0.60."""
    values = np.array([0.0, 1.0] * 50)
    low, high = bootstrap_interval(values, resamples=20_000)
    assert low == pytest.approx(0.40, abs=0.011)
    assert high == pytest.approx(0.60, abs=0.011)
    narrow = bootstrap_interval(values, confidence=0.5, resamples=20_000)
    assert narrow == pytest.approx((0.47, 0.53), abs=0.011)


def test_bootstrap_interval_is_deterministic_and_stays_within_the_values() -> None:
    values = np.array([1.0] * 9 + [0.0])
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values)[1] == 1.0
    assert bootstrap_interval(np.array([0.25])) == (0.25, 0.25)


@pytest.mark.parametrize("queries", [2, 10, 500, 3000])
def test_bootstrap_interval_is_the_formula(queries: int) -> None:
    """Quantiles of the means of 2000 draws of Q of the Q values, drawn block by block from one random state."""
    values = np.random.default_rng(queries).random(queries)
    random, block = np.random.default_rng(153), 4_000_000 // queries
    means = np.concatenate(
        [
            values[random.integers(queries, size=(min(block, 2000 - done), queries))].mean(axis=1)
            for done in range(0, 2000, block)
        ]
    )
    assert bootstrap_interval(values) == pytest.approx(np.quantile(means, [0.025, 0.975]), rel=1e-12)


def test_bootstrap_interval_needs_a_value() -> None:
    with pytest.raises(MetricsError, match="one query or more, got 0"):
        bootstrap_interval(np.zeros(0))
