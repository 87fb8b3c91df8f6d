import numpy as np
import pytest
from scipy import stats

from distill.measures import correlations as resampling
from distill.measures.correlations import Sample, averages, draw, pearson, ranks, spearman
from distill.measures.significance import bootstrap_interval

RANDOM = np.random.default_rng(3)


def sample(count: int = 40, ties: bool = True) -> Sample:
    """Two language pairs whose scores, of a few grades, go with the similarities; the second lacks a pair."""
    rows = []
    for number in range(count):
        score = float(RANDOM.integers(0, 6)) if ties else float(RANDOM.random())
        rows.append((f"p{number:02d}", "de-de", score + RANDOM.normal(), score))
        if number:
            rows.append((f"p{number:02d}", "en-de", -score + 3 * RANDOM.normal(), score))
    return Sample.of(rows)


def test_a_sample_keeps_what_is_missing_apart() -> None:
    found = Sample.of([("b", "en", 0.5, None), ("a", "en", 0.25, None), ("a", "de", 1.0, None)])
    assert (found.ids, found.columns, found.scores) == (("a", "b"), ("de", "en"), None)
    np.testing.assert_array_equal(found.values, [[1, 0.25], [np.nan, 0.5]])
    np.testing.assert_array_equal(
        averages(found, np.array([[1.0, 1], [0, 2], [3, 1]])), [[1, 0.375], [np.nan, 0.5], [1, 0.3125]]
    )


@pytest.mark.parametrize("ties", [True, False])
def test_correlations_are_scipys(ties: bool) -> None:
    """Of all pairs once, and of a bootstrap sample: weights are the same as rows that occur several times."""
    found = sample(ties=ties)
    assert found.scores is not None
    for statistic, reference in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        weights = np.stack([np.ones(40), *RANDOM.multinomial(40, np.full(40, 1 / 40), 3).astype(float)])
        values = statistic(found, weights)
        for row, weight in zip(values, weights, strict=True):
            for column in range(2):
                drawn = np.repeat(np.arange(40), weight.astype(int))
                drawn = drawn[found.present[drawn, column]]
                expected = reference(found.values[drawn, column], found.scores[drawn, column])[0]
                assert row[column] == pytest.approx(expected, abs=1e-10)


def test_ranks_by_hand() -> None:
    """3 and 3 share ranks 2 and 3; drawn twice, the 1 takes ranks 1 and 2."""
    np.testing.assert_array_equal(
        ranks(np.array([3.0, 1, 3, 9]), np.array([[1.0, 1, 1, 1], [1, 2, 0, 1]])), [[2.5, 1, 2.5, 4], [3, 1.5, 3, 4]]
    )


def test_constants_have_no_correlation() -> None:
    found = Sample.of(
        [(f"p{i}", pair, 0.7 if pair == "a-a" else float(i), float(i)) for i in range(5) for pair in ("a-a", "b-b")]
    )
    assert found.constant_columns() == ["a-a"]
    assert pearson(found, np.ones((1, 5)))[0].tolist() == [0, pytest.approx(1)]
    assert spearman(found, np.ones((1, 5)))[0].tolist() == [0, pytest.approx(1)]


def test_draws_are_a_bootstrap_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RANDOM.random(200)
    found = Sample.of([(f"q{i:03d}", "en", value, None) for i, value in enumerate(values)])
    means = draw(found, averages, 0)[:, 0]
    assert len(means) == 1000
    low, high = bootstrap_interval(values)
    np.testing.assert_allclose(np.quantile(means, [0.025, 0.975]), [low, high], atol=0.004)
    np.testing.assert_array_equal(means, draw(found, averages, 0)[:, 0])
    assert not np.array_equal(means, draw(found, averages, 1)[:, 0])
    monkeypatch.setattr(resampling, "_BLOCK", 30_000)
    np.testing.assert_allclose(draw(found, averages, 0)[:, 0], means)
