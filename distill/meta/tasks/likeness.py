"""Questions and candidates that are like a question: for similar query sets and hard negatives."""

from collections.abc import Sequence

import pyarrow as pa

from distill.meta.tasks.material import Item, Questions
from distill.meta.tasks.neighbours import Negatives, hardest, nearest
from distill.meta.tasks.transfers import LanguageSet
from distill.meta.tasks.vectors import read_vectors
from distill.tables import lookup


class Likeness:
    """Cosines of an encoder's vectors.

    Args:
        material: the questions that tasks are drawn from.
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
        """Return for each question the ids of the `count` most like it, of those that a set in these languages may hold, with itself."""
        usable = self._material.usable(languages)
        versions = self._material.versions[languages.query_lang]
        others = self._questions[[versions[xling_id] for xling_id in usable]]
        nearest_to = nearest(self._questions[list(rows)], others, count, [()] * len(rows))
        return {row: [usable[position] for position in near] for row, near in zip(rows, nearest_to, strict=True)}

    def negatives(self, triplets: Sequence[Item], which: Negatives) -> list[int]:
        """Return the row of each triplet's negative, a candidate in the positive's language that answers another question."""
        chosen = [0] * len(triplets)
        for lang in sorted({triplet.lang for triplet in triplets}):
            pool = self._material.pools[lang]
            position_of = {row: position for position, row in enumerate(pool)}
            here = [i for i, triplet in enumerate(triplets) if triplet.lang == lang]
            negatives = hardest(
                which,
                self._questions[[triplets[i].first for i in here]],
                self._answers[[triplets[i].second for i in here]],
                self._answers[pool],
                [[position_of[row] for row in self._material.no_negatives(triplets[i].id, lang)] for i in here],
            )
            for i, position in zip(here, negatives, strict=True):
                chosen[i] = pool[position]
        return chosen
