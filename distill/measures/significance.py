"""Statistics to compare systems: paired tests, corrections and intervals."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from distill.measures.metrics import MetricsError
from distill.settings.base import Correction, Sides

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PairedTest:
    """The mean difference of two systems over the same queries.

    Attributes:
        difference: mean of a - b.
        low: lower end of its two-sided confidence interval (Student's t).
        high: upper end.
        p: p-value of the paired t-test, two-sided or one-sided as asked.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_t_test(
    a: Float64[np.ndarray, " Q"],
    b: Float64[np.ndarray, " _"],
    confidence: float = 0.95,
    sides: Sides = "two_sided",
) -> PairedTest:
    """Test a - b, query by query (`scipy.stats.ttest_rel`).

    t = mean(d) / (sd(d) / sqrt(Q)) with Q - 1 degrees of freedom and the sample standard deviation. Where every query differs by the same
    amount t has no value: two-sided, p is then 1 for a difference of 0 and 0 for any other; one-sided, 0 for a larger a and 1 otherwise.
    The t-test is the one to use for retrieval measures (Smucker, Allan and Carterette, CIKM 2007; Urbano, Lima and Hanjalic, SIGIR 2019).

    Args:
        a: values of the first system.
        b: values of the second, of the same queries.
        confidence: level of the interval, which is two-sided in any case.
        sides: `two_sided` for the chance of such a difference between equal systems in either direction, `one_sided` for that in favour of
            a (as in arXiv 2405.00977): half of it where a is better.

    Raises:
        MetricsError: the lengths differ, or there are fewer than two queries.
    """
    if len(a) != len(b):
        raise MetricsError(f"a paired test compares the same queries, got {len(a)} and {len(b)} values")
    if len(a) < 2:
        raise MetricsError(f"a paired test needs two queries or more, got {len(a)}")
    difference = a - b
    mean = float(difference.mean())
    one_sided = sides == "one_sided"
    if difference.std(ddof=1) == 0:
        certain = mean > 0 if one_sided else mean != 0
        return PairedTest(mean, mean, mean, 0.0 if certain else 1.0)
    from scipy import stats

    with warnings.catch_warnings():
        # Of differences that are equal to rounding; p is then 0, as for equal ones.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = stats.ttest_rel(a, b)
        p = stats.ttest_rel(a, b, alternative="greater").pvalue if one_sided else test.pvalue
    low, high = test.confidence_interval(confidence)
    return PairedTest(mean, float(low), float(high), float(p))


def corrected(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Return p-values corrected for their number by a method, in the given order."""
    return {"holm": holm, "bonferroni": bonferroni}[correction](p_values)


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """Return p-values times their number, at most 1, in the given order (Bonferroni)."""
    return [min(1.0, p * len(p_values)) for p in p_values]


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
