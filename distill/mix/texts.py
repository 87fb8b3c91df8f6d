"""The texts that training examples are made of, by id and language."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill.tables import TableError
from distill.text import passage_texts


class Texts:
    """The text of every passage in every mixed language.

    Args:
        passages: the PASSAGES table.
        translations: the TRANSLATIONS table.
        languages: the mixed languages; if empty, each passage is read in the language that it has in `passages`.

    Cost: eight bytes a passage and language beside the tables themselves.
    """

    def __init__(self, passages: pa.Table, translations: pa.Table, languages: Sequence[str]) -> None:
        columns = ["passage_id", "lang", "title", "text"]
        self._mixed = bool(languages)
        self._langs = passages["lang"].combine_chunks()
        languages = languages or pc.unique(self._langs).to_pylist()
        self._texts = pa.concat_tables([passages.select(columns), translations.select(columns)]).combine_chunks()
        self._ids = passages["passage_id"].combine_chunks()
        positions = pc.index_in(self._texts["passage_id"], value_set=self._ids)
        self._rows = {}
        for language in languages:
            rows = np.full(len(self._ids), -1, dtype=np.int64)
            here = np.flatnonzero(pc.equal(self._texts["lang"], language).to_numpy())
            where = positions.take(pa.array(here))
            known = np.asarray(pc.is_valid(where))
            rows[np.asarray(where.drop_null()).astype(np.int64)] = here[known]
            self._rows[language] = rows

    def complete(self, passage_ids: Sequence[str]) -> list[bool]:
        """Return for each passage true if it has a text in every mixed language."""
        positions = np.asarray(self._positions(passage_ids))
        if not self._mixed:
            return [True] * len(positions)
        return np.logical_and.reduce([rows[positions] >= 0 for rows in self._rows.values()]).tolist()

    def own_languages(self, passage_ids: Sequence[str]) -> list[str]:
        """Return the language that each passage has in the PASSAGES table."""
        return self._langs.take(pa.array(self._positions(passage_ids))).to_pylist()

    def read(self, passage_ids: Sequence[str], languages: Sequence[str]) -> list[str]:
        """Return title and body of each passage in its language; raise TableError, which names the passage, where one is missing."""
        positions = self._positions(passage_ids)
        rows = [int(self._rows[language][position]) for position, language in zip(positions, languages, strict=True)]
        for row, passage_id, language in zip(rows, passage_ids, languages, strict=True):
            if row < 0:
                raise TableError(f"passage {passage_id!r} has no text in {language!r}")
        return passage_texts(self._texts.take(pa.array(rows)))

    def _positions(self, passage_ids: Sequence[str]) -> list[int]:
        positions = pc.index_in(pa.array(passage_ids, pa.string()), value_set=self._ids)
        if positions.null_count:
            lost = [i for i, position in zip(passage_ids, positions.to_pylist(), strict=True) if position is None]
            raise TableError(f"{len(lost)} scored passages do not exist in the source, among them {lost[:3]}")
        return positions.to_pylist()
