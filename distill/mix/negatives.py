"""Hard-negative options: the candidates of a query that its training examples may hold.

The options are those of sentence-transformers' `mine_hard_negatives` (ranges of ranks, absolute and relative margins to the positive,
score limits), applied to a teacher's scores.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from distill.mix.settings import MixSettings, NegativeSettings
from distill.sources.documents import best_of_documents


class TooFewError(ValueError):
    """A query's candidates do not fill an example. The message says what is left of them and why."""


class Choice:
    """The choice of the candidates that may be drawn.

    Args:
        settings: the options and the size of an example.
        grades: query -> passages that are judged relevant -> grade; read only with `settings.negatives`.
        documents: passage -> its document, where documents are judged: the positive is the best-scored candidate of a document, the first
            where there are no scores, and its other passages are neither positives nor negatives.

    Attributes:
        dropped: candidates that each option dropped, over all queries; those that several would drop count for the first.
    """

    def __init__(
        self,
        settings: MixSettings,
        grades: Mapping[str, Mapping[str, int]],
        documents: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._n_way = settings.n_way
        self._negatives = settings.negatives
        self._grades = grades
        self._documents = documents
        self.dropped: Counter[str] = Counter()

    def __call__(
        self,
        query_id: str,
        passage_ids: Sequence[str],
        scores: Sequence[float],
        usable: Sequence[int],
        known_positives: int = 0,
    ) -> tuple[int, list[int]]:
        """Return the number of positives, and the positions of the candidates that may be drawn, positives first, otherwise by rank.

        Args:
            query_id: the query.
            passage_ids: its candidates in the selector's order; the first has rank 1.
            scores: their scores.
            usable: the positions of the candidates that have all texts.
            known_positives: how many of the first candidates are positives, where that is known without judgements.

        Without options there are only the known positives and everything usable may be drawn. Too few candidates are a `TooFewError`.
        """
        if self._negatives is None:
            return self._all(list(usable), known_positives)
        judged = {
            position: grade
            for position in usable
            if (grade := self._grades.get(query_id, {}).get(passage_ids[position]))
        }
        best = max(judged.values(), default=0)
        positives = [position for position, grade in judged.items() if grade == best]
        if self._documents:
            own = [self._documents.get(passage_ids[position], passage_ids[position]) for position in positives]
            positives = [positives[i] for i in best_of_documents(own, [scores[position] for position in positives])]
        if not positives and needs_positive(self._negatives):
            raise TooFewError(self._without_positive(query_id))
        limit = score_limit(self._negatives, [scores[position] for position in positives])
        negatives = []
        for position in usable:
            if position in judged:
                continue
            reason = drop_reason(self._negatives, position + 1, scores[position], limit)
            if reason:
                self.dropped[reason] += 1
            else:
                negatives.append(position)
        return self._fill(positives, judged, negatives, len(usable))

    def _all(self, usable: list[int], known_positives: int) -> tuple[int, list[int]]:
        positives = sum(position < known_positives for position in usable)
        if len(usable) - max(positives - 1, 0) < self._n_way:
            raise TooFewError(f"{len(usable)} candidates with a text in every mixed language, n_way is {self._n_way}")
        if known_positives and not positives:
            raise TooFewError("no positive with a text in every mixed language")
        self._check_pairs(positives, len(usable) - positives)
        return positives, usable

    def _check_pairs(self, positives: int, negatives: int) -> None:
        """Check that the query has a pair of its own for every epoch; raise TooFewError otherwise."""
        if self._settings.sampling != "pairs":
            return
        pairs, epochs = positives * min(negatives, self._settings.draw_from or negatives), self._settings.epochs
        if pairs < epochs:
            raise TooFewError(
                f"{pairs} pairs of {positives} positives and {negatives} negatives, each of {epochs} epochs needs one"
            )

    def _fill(
        self, positives: list[int], judged: Mapping[int, int], negatives: list[int], usable: int
    ) -> tuple[int, list[int]]:
        included = self._negatives is not None and self._negatives.include_positive
        chosen = [*positives, *negatives] if included else sorted([*judged, *negatives])
        wanted = self._n_way - 1 if included else self._n_way
        left = len(negatives) if included else len(chosen)
        if left < wanted:
            what = "negatives" if included else "passages"
            raise TooFewError(
                f"{left} {what} left by mix.negatives of {usable} candidates with a text in every mixed language, "
                f"{wanted} are needed for n_way {self._n_way}"
            )
        if included:
            self._check_pairs(len(positives), len(negatives))
        return len(positives) if included else 0, chosen

    def _without_positive(self, query_id: str) -> str:
        known = self._grades.get(query_id)
        if not known:
            return "mix.negatives needs a positive, but no passage is judged relevant to the query"
        return (
            f"mix.negatives needs a positive, but none of the {len(known)} passages judged relevant is among the scored candidates; "
            "select.add_judged adds them"
        )


def needs_positive(settings: NegativeSettings) -> bool:
    """Return true if a query without a positive cannot be used."""
    return settings.include_positive or settings.margin is not None or settings.relative_margin is not None


def score_limit(settings: NegativeSettings, positives: Sequence[float]) -> float:
    """Return the highest score of negatives, `p - margin` or `p - relative_margin * |p|`, where p is the lowest positive's score."""
    limit = float("inf")
    if positives:
        lowest = min(positives)
        if settings.margin is not None:
            limit = lowest - settings.margin
        if settings.relative_margin is not None:
            limit = min(limit, lowest - settings.relative_margin * abs(lowest))
    return limit


def drop_reason(settings: NegativeSettings, rank: int, score: float, limit: float) -> str:
    """Return the option that drops a negative, empty where none does."""
    if rank < settings.first_rank:
        return "first_rank"
    if settings.last_rank is not None and rank > settings.last_rank:
        return "last_rank"
    if score > limit:
        return "margin"
    if settings.max_score is not None and score > settings.max_score:
        return "max_score"
    return "min_score" if settings.min_score is not None and score < settings.min_score else ""
