"""Folds of a cross-validation by article: what is tested is about articles that no task was made of."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from distill.tables import STRING, TableError


@dataclass(frozen=True)
class Fold:
    """One fold.

    Attributes:
        number: which, from 0.
        count: how many there are; none: the source's own split, and this is the only one.
        seed: deals the articles.
    """

    number: int
    count: int | None
    seed: int

    def tested(self, table: pa.Table, articles: Iterable[str]) -> pa.Table:
        """The rows of QUESTIONS, ANSWERS or SENTENCE_PAIRS that are evaluated; `articles` are all of the source."""
        return table.filter(self._held_out(table, articles))

    def trained(self, table: pa.Table, articles: Iterable[str]) -> pa.Table:
        """The rows that tasks are made of: those of other folds; by the source's own split, those of `train`."""
        if self.count is None:
            return table.filter(pc.equal(table["split"], "train"))
        return table.filter(pc.invert(self._held_out(table, articles)))

    def _held_out(self, table: pa.Table, articles: Iterable[str]) -> pa.ChunkedArray:
        if self.count is None:
            return pc.equal(table["split"], "test")
        return pc.is_in(table["article"], value_set=pa.array(self.held_out(articles), STRING))

    def held_out(self, articles: Iterable[str]) -> list[str]:
        """The articles of this fold: all are dealt round the folds in the order of hashes of their names."""
        if self.count is None:
            return []
        known = set(articles)
        if len(known) < self.count:
            raise TableError(f"{len(known)} articles are fewer than the {self.count} folds; lower tasks.folds")
        dealt = sorted(known, key=lambda name: hashlib.sha256(f"{self.seed}/{name}".encode()).digest())
        return sorted(dealt[self.number :: self.count])


def source_articles(questions: pa.Table, answers: pa.Table) -> list[str]:
    """All articles of a source, also those that nothing is asked about: what tasks and evaluation must both deal from."""
    found = {*pc.unique(questions["article"]).to_pylist(), *pc.unique(answers["article"]).to_pylist()}
    return sorted(found)
