"""Folds of a cross-validation by article: questions are tested on articles that no task was made of."""

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
        number: the number of the fold, from 0.
        count: number of folds. If None, this is the only one, and the source's own split decides.
        seed: seed of the order in which articles are dealt.
    """

    number: int
    count: int | None
    seed: int

    def tested(self, table: pa.Table, articles: Iterable[str]) -> pa.Table:
        """Return the rows of QUESTIONS, ANSWERS or SENTENCE_PAIRS that are evaluated; `articles` are all of the source."""
        return table.filter(self._held_out(table, articles))

    def trained(self, table: pa.Table, articles: Iterable[str]) -> pa.Table:
        """Return the rows that tasks are made of: those of other folds; by the source's own split, those of `train`."""
        if self.count is None:
            return table.filter(pc.equal(table["split"], "train"))
        return table.filter(pc.invert(self._held_out(table, articles)))

    def _held_out(self, table: pa.Table, articles: Iterable[str]) -> pa.ChunkedArray:
        if self.count is None:
            return pc.equal(table["split"], "test")
        return pc.is_in(table["article"], value_set=pa.array(self.held_out(articles), STRING))

    def held_out(self, articles: Iterable[str]) -> list[str]:
        """Return the articles of this fold: all articles, in the order of hashes of their names, are dealt to the folds in turn."""
        if self.count is None:
            return []
        known = set(articles)
        if len(known) < self.count:
            raise TableError(f"{len(known)} articles are fewer than the {self.count} folds; lower tasks.folds")
        dealt = sorted(known, key=lambda name: hashlib.sha256(f"{self.seed}/{name}".encode()).digest())
        return sorted(dealt[self.number :: self.count])


def source_articles(questions: pa.Table, answers: pa.Table) -> list[str]:
    """Return all articles of a source, also those without a question: tasks and evaluation must deal the same ones."""
    articles = {*pc.unique(questions["article"]).to_pylist(), *pc.unique(answers["article"]).to_pylist()}
    return sorted(articles)
