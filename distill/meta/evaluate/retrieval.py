"""Average precision of rankings over a pool of candidates in all languages: plain functions on arrays.

Shapes: R relevant candidates, K candidates that are ranked.
"""

import numpy as np
from jaxtyping import Int


def average_precision(ranked: Int[np.ndarray, " K"], relevant: Int[np.ndarray, " R"], k: int) -> float:
    r"""Return AP@k: :math:`\frac{1}{\min(R, k)} \sum_{r \le k} rel(r) \cdot P@r`, the measure of LAReQA (arXiv 2004.05484).

    The divisor lets a ranking of k candidates that all are relevant reach 1, where trec_eval would divide by R.

    Args:
        ranked: positions of candidates, best first.
        relevant: positions of the R relevant ones, at least one, each once.
        k: the depth; candidates ranked below it do not count.
    """
    hits = np.isin(ranked[:k], relevant)
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precisions[hits].sum() / min(len(relevant), k))
