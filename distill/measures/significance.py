"""Statistics to compare systems: paired tests, corrections and intervals."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from distill.measures.metrics import MetricsError

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PairedTest:
    """The mean difference of two systems over the same queries.

    Attributes:
        difference: mean of a - b.
        low: lower end of its confidence interval (Student's t).
        high: upper end.
        p: two-sided p-value of the paired t-test.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_t_test(a: Float64[np.ndarray, " Q"], b: Float64[np.ndarray, " _"], confidence: float = 0.95) -> PairedTest:
    """Test a - b, query by query, two-sided (`scipy.stats.ttest_rel`).

    t = mean(d) / (sd(d) / sqrt(Q)) with Q - 1 degrees of freedom and the sample standard deviation. Where every query differs by the same
    amount t has no value: p is then 1 for a difference of 0 and 0 for any other. The t-test is the one to use for retrieval measures
    (Smucker, Allan and Carterette, CIKM 2007; Urbano, Lima and Hanjalic, SIGIR 2019).

    Raises:
        MetricsError: the lengths differ, or there are fewer than two queries.
    """
    if len(a) != len(b):
        raise MetricsError(f"a paired test compares the same queries, got {len(a)} and {len(b)} values")
    if len(a) < 2:
        raise MetricsError(f"a paired test needs two queries or more, got {len(a)}")
    difference = a - b
    mean = float(difference.mean())
    if difference.std(ddof=1) == 0:
        return PairedTest(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    from scipy import stats

    with warnings.catch_warnings():
        # Of differences that are equal to rounding; p is then 0, as for equal ones.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(confidence)
    return PairedTest(mean, float(low), float(high), float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of comparisons, in the given order (Holm, Scand. J. Statist. 6, 1979).

    The smallest is multiplied by the number of comparisons m, the next by m - 1 and so on, and none falls below the one
    before. The chance of even one false finding stays below the level, as with Bonferroni's, and no p-value is larger
    than with his.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for before, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        largest = max(largest, min(1.0, p_values[number] * (len(p_values) - before)))
        corrected[number] = largest
    return corrected


def bootstrap_interval(
    values: Float64[np.ndarray, " Q"], confidence: float = 0.95, resamples: int = 2000, seed: int = 153
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over queries; it never leaves their range, as a t interval may.

    Queries are drawn with replacement `resamples` times (`scipy.stats.bootstrap`); equal arguments give equal intervals. Cost: resamples x
    Q draws, in blocks of at most four million.

    Raises:
        MetricsError: there is no value.
    """
    if not len(values):
        raise MetricsError("an interval needs one query or more, got 0")
    if len(values) == 1:
        return float(values[0]), float(values[0])
    from scipy import stats

    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _DRAWS_AT_ONCE // len(values)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
