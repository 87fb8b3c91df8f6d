"""Which questions are like a question, and which candidates: for similar query sets and hard negatives."""

from collections.abc import Sequence

import pyarrow as pa

from distill.meta.tasks.material import Item, Questions
from distill.meta.tasks.neighbours import Negatives, hardest, nearest
from distill.meta.tasks.transfers import LanguageSet
from distill.meta.tasks.vectors import read_vectors
from distill.tables import lookup


class Likeness:
    """The cosines of an encoder's vectors.

    Args:
        material: what tasks are drawn from.
        questions: its questions.
        answers: its candidates.
        question_vectors: QUESTION_VECTORS of these or more, one vector each.
        answer_vectors: ANSWER_VECTORS likewise.

    Raises:
        TableError: a text has no vector, or several.

    Memory: a copy of the vectors.
    """

    def __init__(
        self,
        material: Questions,
        questions: pa.Table,
        answers: pa.Table,
        question_vectors: pa.Table,
        answer_vectors: pa.Table,
    ) -> None:
        self._material = material
        ids = questions["question_id"].combine_chunks()
        _, self._questions = read_vectors(lookup(question_vectors, "question_id", ids, "question_vectors"))
        ids = answers["answer_id"].combine_chunks()
        _, self._answers = read_vectors(lookup(answer_vectors, "answer_id", ids, "answer_vectors"))

    def near(self, rows: Sequence[int], languages: LanguageSet, count: int) -> dict[int, list[str]]:
        """For each question the ids of the `count` most like it, of those that a set of these languages may hold, itself included."""
        usable = self._material.usable(languages)
        versions = self._material.versions[languages.query_lang]
        others = self._questions[[versions[xling_id] for xling_id in usable]]
        found = nearest(self._questions[list(rows)], others, count, [()] * len(rows))
        return {row: [usable[place] for place in near] for row, near in zip(rows, found, strict=True)}

    def negatives(self, triplets: Sequence[Item], which: Negatives) -> list[int]:
        """The row of each triplet's negative, a candidate in the positive's language that answers another question."""
        chosen = [0] * len(triplets)
        for lang in sorted({triplet.lang for triplet in triplets}):
            pool = self._material.pools[lang]
            places = {row: place for place, row in enumerate(pool)}
            here = [i for i, triplet in enumerate(triplets) if triplet.lang == lang]
            found = hardest(
                which,
                self._questions[[triplets[i].first for i in here]],
                self._answers[[triplets[i].second for i in here]],
                self._answers[pool],
                [[places[row] for row in self._material.answers(triplets[i].id, lang)] for i in here],
            )
            for i, place in zip(here, found, strict=True):
                chosen[i] = pool[place]
        return chosen
