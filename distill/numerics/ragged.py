"""Numbers in lists of different lengths: one flat array, and where each list begins. No loop over lists.

Shapes: P values of all lists together, Q lists; list q holds the values `offsets[q]` to `offsets[q + 1]`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Num


@dataclass(frozen=True)
class Ragged:
    """Where lists begin and end.

    Attributes:
        offsets: places of the first value of each list, and the number of values at the end.
    """

    offsets: Int[np.ndarray, " Q1"]

    @cached_property
    def lengths(self) -> Int[np.ndarray, " Q"]:
        """Values in each list."""
        return np.diff(self.offsets)

    @cached_property
    def owners(self) -> Int[np.ndarray, " P"]:
        """The list of each value."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def places(self) -> Int[np.ndarray, " P"]:
        """The place of each value in its list, from 0."""
        return np.arange(int(self.offsets[-1])) - self.offsets[self.owners]

    def sums(self, values: Num[np.ndarray, " P"] | Bool[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """The sum of each list, in float64; 0 of an empty one."""
        # Without any value numpy counts instead of adding.
        return np.bincount(self.owners, weights=values, minlength=len(self.lengths)).astype(np.float64)

    def means(self, values: Num[np.ndarray, " P"] | Bool[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """The mean of each list, in float64; 0 of an empty one."""
        return self.sums(values) / np.maximum(self.lengths, 1)

    def largest(self, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """The largest value of each list; minus infinity of an empty one."""
        found = np.full(len(self.lengths), -np.inf, values.dtype)
        full = self.lengths > 0
        if full.any():
            found[full] = np.maximum.reduceat(values, self.offsets[:-1][full])
        return found

    def smallest(self, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
        """The smallest value of each list; infinity of an empty one."""
        return -self.largest(-values)

    def best(self, values: Float[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
        """Whether each value is the largest of its list; several are where they are equal."""
        return values == self.largest(values)[self.owners]

    def ranks(self, values: Float[np.ndarray, " P"]) -> tuple[Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """The rank of each value in its list, largest first, from 1, and how many values share it.

        Equal values have the mean of the ranks that they take together, so a rank does not depend on the lists' order. Cost: one sort.
        """
        order = np.lexsort((-values, self.owners))
        ranked, owners = values[order], self.owners[order]
        first = np.ones(len(order), bool)
        first[1:] = (ranked[1:] != ranked[:-1]) | (owners[1:] != owners[:-1])
        groups = np.cumsum(first) - 1
        sizes = np.bincount(groups)
        # The places that equal values take are consecutive; lists keep theirs when they are sorted.
        middles = np.bincount(groups, weights=self.places) / np.maximum(sizes, 1)
        ranks, shared = np.empty(len(order)), np.empty(len(order), np.int64)
        ranks[order], shared[order] = middles[groups] + 1, sizes[groups]
        return ranks, shared

    def z_scores(self, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """Each list shifted and scaled to mean 0 and (population) standard deviation 1; zeros where all its values are equal."""
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
        """Pearson's correlation of each list's values, and whether it is defined: not where either list is constant or empty."""
        one, other = self.z_scores(left), self.z_scores(right)
        defined = (self.sums(one**2) > 0) & (self.sums(other**2) > 0)
        return np.where(defined, self.means(one * other), 0.0), defined

    def take(self, kept: Bool[np.ndarray, " P"]) -> "Ragged":
        """The lists without the values that are not kept."""
        lengths = np.bincount(self.owners[kept], minlength=len(self.lengths))
        return Ragged(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
