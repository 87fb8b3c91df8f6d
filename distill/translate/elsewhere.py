"""Passages without a text in the source language: their versions, and the one of them that is translated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from distill.tables import STRING, TRANSLATIONS
from distill.translate.worker import FROM


@dataclass(frozen=True)
class Elsewhere:
    """Passages that exist in other languages only.

    Attributes:
        versions: TRANSLATIONS, every version of them; each is an original, so its `source_lang` is its own language.
        rows: for each passage the row, in the source's table `parallel`, of the version that is translated.
        parallel: how many rows that table has.
        originals: the versions of `rows`, in their order.
    """

    versions: pa.Table
    rows: Int[np.ndarray, " N"]
    parallel: int
    originals: pa.Table

    @property
    def ids(self) -> pa.Array:
        """The passages' ids, one a passage."""
        return self.originals["passage_id"].combine_chunks()

    def count(self) -> dict[str, int]:
        """Return how many passages there are, by the language of the version that is translated."""
        counts = {entry["values"]: entry["counts"] for entry in self.originals["lang"].value_counts().to_pylist()}
        return dict(sorted(counts.items()))

    def wanted(self, existing: pa.Table, targets: Sequence[str]) -> dict[str, np.ndarray]:
        """Return columns of `Pairs` over the rows of `parallel`: passages of each language without a text in a target language."""
        columns = {}
        langs = np.asarray(self.originals["lang"].to_pylist(), dtype=object)
        for target in targets:
            have = existing["passage_id"].filter(pc.equal(existing["lang"], target)).combine_chunks()
            lacking = ~np.asarray(pc.is_in(self.ids, value_set=have))
            for origin in sorted(set(langs.tolist())):
                here = self.rows[lacking & (langs == origin)]
                if len(here):
                    columns[f"{target}{FROM}{origin}"] = np.isin(np.arange(self.parallel), here)
        return columns


def find_elsewhere(parallel: pa.Table, ids: pa.ChunkedArray, languages: Sequence[str]) -> Elsewhere:
    """Return the passages of `parallel` (TRANSLATIONS) that are none of `ids`, those with a text in the source language.

    The version that is translated is that of the first of `languages` in which there is one; a language that is none of them comes after.
    Cost: one sort of these passages' versions.
    """
    kept = np.flatnonzero(~np.asarray(pc.is_in(parallel["passage_id"], value_set=ids.combine_chunks())))
    versions = parallel.take(pa.array(kept))
    names = pa.array(list(dict.fromkeys([*languages, *sorted(pc.unique(versions["lang"]).to_pylist())])), STRING)
    order = pa.table(
        {"id": versions["passage_id"], "rank": pc.index_in(versions["lang"], value_set=names), "row": pa.array(kept)}
    ).sort_by([("id", "ascending"), ("rank", "ascending")])
    sorted_ids = order["id"].to_pylist()
    first = [i for i, name in enumerate(sorted_ids) if i == 0 or sorted_ids[i - 1] != name]
    rows = np.sort(np.asarray(order["row"].to_numpy(), np.int64)[first])
    own = versions.set_column(1, TRANSLATIONS.schema.field("source_lang"), versions["lang"])
    return Elsewhere(own, rows, len(parallel), parallel.take(pa.array(rows)))
