"""Numbers in lists of different lengths: one flat array and the offset of each list. No loop over lists.

Shapes: P values of all lists together, Q lists; list q holds the values `offsets[q]` to `offsets[q + 1]`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Num


@dataclass(frozen=True)
class Ragged:
    """Lists of numbers in one flat array.

    Attributes:
        offsets: position of the first value of each list in the flat array; last, the number of values.
    """

    offsets: Int[np.ndarray, " Q1"]

    @cached_property
    def lengths(self) -> Int[np.ndarray, " Q"]:
        """Number of values in each list."""
        return np.diff(self.offsets)

    @cached_property
    def owners(self) -> Int[np.ndarray, " P"]:
        """List of each value."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def positions(self) -> Int[np.ndarray, " P"]:
        """Position of each value in its list, from 0."""
        return np.arange(int(self.offsets[-1])) - self.offsets[self.owners]

    def sums(self, values: Num[np.ndarray, " P"] | Bool[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """Return the sum of each list, in float64; 0 of an empty one."""
        # Without any value numpy would count instead of adding.
        return np.bincount(self.owners, weights=values, minlength=len(self.lengths)).astype(np.float64)

    def means(self, values: Num[np.ndarray, " P"] | Bool[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """Return the mean of each list, in float64; 0 of an empty one."""
        return self.sums(values) / np.maximum(self.lengths, 1)

    def largest(self, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """Return the largest value of each list; minus infinity of an empty one."""
        largest = np.full(len(self.lengths), -np.inf, values.dtype)
        full = self.lengths > 0
        if full.any():
            largest[full] = np.maximum.reduceat(values, self.offsets[:-1][full])
        return largest

    def smallest(self, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """Return the smallest value of each list; infinity of an empty one."""
        return -self.largest(-values)

    def best(self, values: Float[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
        """Return whether each value is the largest of its list; equal largest values all are."""
        return values == self.largest(values)[self.owners]

    def ranks(self, values: Float[np.ndarray, " P"]) -> tuple[Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Return the rank of each value in its list, largest first, from 1, and the number of values that share it.

        Equal values have the mean of the ranks that they take together, so a rank does not depend on the lists' order. Cost: one sort.
        """
        order = np.lexsort((-values, self.owners))
        ranked, owners = values[order], self.owners[order]
        first = np.ones(len(order), bool)
        first[1:] = (ranked[1:] != ranked[:-1]) | (owners[1:] != owners[:-1])
        groups = np.cumsum(first) - 1
        sizes = np.bincount(groups)
        # Equal values take consecutive positions; sorting keeps each list where it is.
        middles = np.bincount(groups, weights=self.positions) / np.maximum(sizes, 1)
        ranks, shared = np.empty(len(order)), np.empty(len(order), np.int64)
        ranks[order], shared[order] = middles[groups] + 1, sizes[groups]
        return ranks, shared

    def z_scores(self, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """Return each list shifted and scaled to mean 0 and (population) standard deviation 1; zeros where all its values are equal."""
        exact = values.astype(np.float64)
        shifted = exact - self.means(exact)[self.owners]
        deviations = np.sqrt(self.means(shifted**2))
        equal = self.largest(values) == self.smallest(values)
        # Rounding may leave equal values a deviation that is not quite 0.
        usable = ~equal & (deviations > 0)
        return np.where(usable[self.owners], shifted / np.where(usable, deviations, 1.0)[self.owners], 0.0)

    def correlations(
        self, left: Float[np.ndarray, " P"], right: Float[np.ndarray, " P"]
    ) -> tuple[Float[np.ndarray, " Q"], Bool[np.ndarray, " Q"]]:
        """Return Pearson's correlation of each list's values, and whether it is defined: not where either list is constant or empty."""
        one, other = self.z_scores(left), self.z_scores(right)
        defined = (self.sums(one**2) > 0) & (self.sums(other**2) > 0)
        return np.where(defined, self.means(one * other), 0.0), defined

    def take(self, kept: Bool[np.ndarray, " P"]) -> "Ragged":
        """Return the lists without the values that are not kept."""
        lengths = np.bincount(self.owners[kept], minlength=len(self.lengths))
        return Ragged(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
