r"""Alignment of words with their translations: IBM Model 1 with a diagonal prior and a variational update.

The probability that target token j of J is made by source token i of I is proportional to :math:`\delta_{ij} \, t(f_j | e_i)`, where
:math:`\delta_{ij} = (1 - \pi) \, e^{-\lambda |(i + .5) / I - (j + .5) / J|} / Z_j`, and to :math:`\pi \, t(f_j | \varnothing)` for none.
EM estimates the table t (Brown et al., 1993). The prior over positions is that of fast_align (Dyer et al., 2013); t is the exponential of
the expected log-probability under a Dirichlet prior (Mermer and Saraclar, 2011), so that rare words do not collect everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

TENSION = 4.0
"""Strength of the diagonal prior."""
NULL = 0.08
"""Prior probability that a target token translates nothing (fast_align's)."""
DIRICHLET = 0.01
"""Concentration of the prior of a row of the table."""

Pair = tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]
"""Source and target tokens of a text."""


@dataclass(frozen=True)
class TranslationTable:
    """t(target | source) for the pairs of tokens that occur together; 0 for all others.

    Attributes:
        size: number of tokens; the source `size` stands for none.
        keys: source * size + target, ascending.
        values: t of each key.
    """

    size: int
    keys: Int[np.ndarray, " K"]
    values: Float[np.ndarray, " K"]

    def probability(self, source: Int[np.ndarray, "..."], target: Int[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """t(target | source), the two broadcast together."""
        wanted = source.astype(np.int64) * self.size + target
        position = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[position] == wanted, self.values[position], 0.0)

    def posterior(self, source: Int[np.ndarray, " I"], target: Int[np.ndarray, " J"]) -> Float[np.ndarray, "J I"]:
        """P(source position | target position) of a pair; a row sums to 1 less the probability of none."""
        joint = (1.0 - NULL) * position_prior(len(source), len(target))
        joint = joint * self.probability(source[None, :], target[:, None])
        none = NULL * self.probability(np.array([self.size]), target)
        total = joint.sum(1) + none
        return joint / np.where(total > 0, total, 1.0)[:, None]


def position_prior(sources: int, targets: int) -> Float[np.ndarray, "J I"]:
    """Return how near the diagonal each pair of positions is; rows sum to 1."""
    rows = (np.arange(targets) + 0.5)[:, None] / targets
    columns = (np.arange(sources) + 0.5)[None, :] / sources
    weight = np.exp(-TENSION * np.abs(rows - columns))
    return weight / weight.sum(1, keepdims=True)


def translation_table(pairs: Sequence[Pair], size: int, iterations: int) -> TranslationTable:
    """Estimate t from (source, target) token sequences by EM, from equal values on.

    Cost: memory and time an iteration are proportional to the sum of I * J.
    """
    keys, priors, owners, tokens = [], [], [], 0
    for source, target in pairs:
        count = len(target)
        with_none = np.append(source, size).astype(np.int64)
        prior = np.full((count, len(with_none)), NULL)
        prior[:, :-1] = (1.0 - NULL) * position_prior(len(source), count)
        keys.append((with_none[None, :] * size + target[:, None]).ravel())
        priors.append(prior.astype(np.float32).ravel())
        owners.append(np.repeat(np.arange(tokens, tokens + count), len(with_none)))
        tokens += count
    table, cell = np.unique(np.concatenate(keys), return_inverse=True)
    prior, owner = np.concatenate(priors), np.concatenate(owners)
    values = np.ones(len(table))
    for _ in range(iterations):
        joint = values[cell] * prior
        joint /= np.bincount(owner, joint, tokens)[owner]
        counts = np.bincount(cell, joint, len(table)) + DIRICHLET
        totals = np.bincount(table // size, counts, size + 1)[table // size]
        values = np.exp(_digamma(counts) - _digamma(totals))
    return TranslationTable(size, table, values)


def _digamma(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    return torch.digamma(torch.from_numpy(values)).numpy()
