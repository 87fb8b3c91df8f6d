"""Exact retrieval over a pool of candidates in all languages, and its average precision: plain functions on tensors and arrays.

Shapes: Q questions of up to T vectors, N candidates of a block of up to L vectors, D the size of a vector, K candidates that are ranked.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.numerics.best import Best
from distill.numerics.blocks import block_maxsim

_SIMILARITIES = 2**25
"""Similarities in memory at once: 128 MiB."""


def best_places(
    questions: Float[Tensor, "Q T D"],
    blocks: Iterable[tuple[Int[Tensor, " N"], Float[Tensor, "L N D"]]],
    k: int,
) -> list[Int[np.ndarray, " K"]]:
    """The places of each question's k best candidates, best first; candidates of equal scores in the order of their places.

    The score is late interaction, which for one vector each is their inner product. Every question meets every candidate. Cost: Q*T*L*D
    multiply-adds for each candidate; memory: a block, 128 MiB of similarities and the K best of each question.

    Args:
        questions: their vectors; those that only fill up are zeros, which add 0 to a score.
        blocks: candidates after their places, as `distill.numerics.blocks.passage_blocks` gives them.
        k: candidates that are ranked.
    """
    best = Best(len(questions), k)
    for places, candidates in blocks:
        length, count, _ = candidates.shape
        rows = max(1, _SIMILARITIES // (questions.shape[1] * length * count))
        for start in range(0, len(questions), rows):
            best.add(start, block_maxsim(questions[start : start + rows], candidates.to(questions.device)), places)
    return best.positions()


def filled(vectors: Sequence[Float[Tensor, "_ D"]]) -> Float[Tensor, "Q T D"]:
    """The vectors of texts as one tensor; shorter ones are filled up with zeros."""
    return torch.nn.utils.rnn.pad_sequence(list(vectors), batch_first=True)


def average_precision(ranked: Int[np.ndarray, " K"], relevant: Int[np.ndarray, " R"], k: int) -> float:
    r"""AP@k: :math:`\frac{1}{\min(R, k)} \sum_{r \le k} rel(r) \cdot P@r`, the measure of LAReQA (arXiv 2004.05484).

    The divisor lets a ranking of k candidates that all are relevant reach 1, where trec_eval would divide by R.

    Args:
        ranked: places of candidates, best first.
        relevant: places of the R relevant ones, at least one, each once.
        k: the depth; what is ranked below does not count.
    """
    hits = np.isin(ranked[:k], relevant)
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precisions[hits].sum() / min(len(relevant), k))
