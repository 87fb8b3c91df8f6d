"""The draws of training examples: which passages of a query's candidates, in which languages. Pure functions of ids and a seed.

No draw depends on the number of workers or on what was drawn before.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from distill.mix.settings import MixSettings
from distill.tables import TableError

UNSCORED = math.nan
"""The score of a pair that no teacher has scored."""


class Turn(NamedTuple):
    """Where in training a query's turn is.

    Attributes:
        epoch: the epoch, from 0.
        position: the query's position in the epoch's order, from 0.
        length: queries in an epoch.
        taken: passages that earlier queries of its group have drawn.
    """

    epoch: int = 0
    position: int = 0
    length: int = 1
    taken: Collection[str] = ()

    def progress(self, epochs: int, shared: int = 1) -> float:
        """Return the share of all turns that came before, from 0 to below 1. Turns that share their draws share the first one's."""
        first = self.position - self.position % shared
        return (self.epoch * self.length + first) / (epochs * self.length)


def training_order(query_ids: Sequence[str], seed: int, epoch: int, group: int = 1) -> list[str]:
    """Return the queries of one epoch in training order: sorted by a hash of seed, epoch and id.

    Where they do not fill the last group, the first ones come again at the end.
    """
    order = sorted(query_ids, key=lambda query_id: hashlib.sha256(f"{seed}/{epoch}/{query_id}".encode()).digest())
    missing = -len(order) % group
    return order + [order[i % len(order)] for i in range(missing)]


def draw_passages(count: int, n_way: int, random: Random) -> list[int]:
    """Draw n of `count` candidates without replacement, uniformly, as for the released models (6 of 50)."""
    return random.sample(range(count), n_way)


def draw_towards_first(count: int, n_way: int, beta: float, random: Random) -> list[int]:
    r"""Draw n of `count` candidates without replacement, the first ones more often: PLAID-X's curriculum.

    Candidate i of m has weight :math:`\mathrm{Beta}(1, \beta)` at i / m, which is proportional to :math:`(1 - i / m)^{\beta - 1}`. One
    after the other is drawn in proportion to the weights of those left; the n smallest of :math:`e_i / w_i`, with independent
    exponential :math:`e_i`, are such a draw (Efraimidis and Spirakis 2006). In logarithms, as a large beta leaves the last weights no
    float. Cost: one logarithm a candidate.
    """
    keys = []
    for index in range(count):
        arrival = random.expovariate(1.0) or 5e-324
        keys.append(math.log(arrival) - (beta - 1) * math.log1p(-index / count))
    return sorted(range(count), key=keys.__getitem__)[:n_way]


def draw_pair(positives: int, negatives: int, epochs: int, epoch: int, random: Random) -> list[int]:
    """Draw the epoch's pair of a positive and a negative; return their positions in a list that begins with the positives.

    Over the epochs the pairs of a query are different: those at the start of a random permutation of all, which `random` decides and which
    must be the same in every epoch (adaptive relevance margins, arXiv 2407.21515, train on 128 pairs of each query).
    """
    pair = random.sample(range(positives * negatives), epochs)[epoch]
    return [pair // negatives, positives + pair % negatives]


def draw_positions(
    settings: MixSettings, count: int, positives: int, seed: int, turn: Turn, query_id: str, random: Random
) -> list[int]:
    """Draw one example's n passages; return their positions among `count` candidates, of which the first `positives` are positives.

    Where there are positives, one of them comes first and the others of the n are not among them.
    """
    others = min(count - positives, settings.draw_from or count)
    if settings.sampling == "pairs":
        pairs = Random(f"{seed}/pairs/{query_id}")  # noqa: S311 - a seeded draw, not a secret
        return draw_pair(positives, others, settings.epochs, turn.epoch, pairs)
    if settings.sampling == "first":
        first = [0] if positives else []
        return [*first, *range(positives, positives + settings.n_way - len(first))]
    first = [random.randrange(positives)] if positives else []
    wanted = settings.n_way - len(first)
    if settings.sampling == "beta":
        beta = 1 + turn.progress(settings.epochs, settings.shared_draws) * (settings.max_beta - 1)
        drawn = draw_towards_first(others, wanted, beta, random)
    else:
        drawn = draw_passages(others, wanted, random)
    return first + [positives + position for position in drawn]


def draw_languages(strategy: str, n_way: int, languages: Sequence[str], random: Random) -> list[list[str]]:
    """Draw the languages of the examples made from one draw of passages; return one list of n for each example.

    - mix_passages: one example, each passage in a language of its own draw;
    - mix_entries: one example, all passages in one drawn language;
    - round_robin: one example for each language;
    - single: one example in the only language (Translate-Distill).
    """
    match strategy:
        case "mix_passages":
            return [[random.choice(languages) for _ in range(n_way)]]
        case "mix_entries":
            return [[random.choice(languages)] * n_way]
        case "round_robin":
            return [[language] * n_way for language in languages]
        case "single":
            return [[languages[0]] * n_way]
        case _:
            raise ValueError(f"no mixing strategy is called {strategy!r}")


def draw_examples(
    query_id: str,
    passage_ids: Sequence[str],
    scores: Sequence[float],
    settings: MixSettings,
    languages: Sequence[str],
    seed: int,
    turn: Turn,
    positives: int = 0,
) -> list[dict[str, Any]]:
    """Draw the examples of one query at its turn: passage ids, languages and scores. A pure function of its arguments.

    Where the first `positives` passages are positives, one of them comes first and the others of the n are not among them. Without
    `languages` nothing is drawn and those of the examples are empty. Passages that are taken at its turn are not drawn, but for positives,
    and as far as there are others.
    """
    for_passages, for_languages = _random_states(settings, seed, turn, query_id)
    left = _left(settings, passage_ids, positives, turn.taken)
    drawn_positions = draw_positions(settings, len(left), positives, seed, turn, query_id, for_passages)
    positions = [left[position] for position in drawn_positions]
    drawn = (
        draw_languages(settings.strategy, settings.n_way, languages, for_languages)
        if languages
        else [[""] * settings.n_way]
    )
    return [
        {"passage_ids": [passage_ids[i] for i in positions], "langs": langs, "scores": [scores[i] for i in positions]}
        for langs in drawn
    ]


def _left(settings: MixSettings, passage_ids: Sequence[str], positives: int, taken: Collection[str]) -> list[int]:
    """Return the positions that may be drawn: the positives, and the others that are not taken; of the taken, those that are needed."""
    if settings.sampling == "pairs":  # goes through the pairs of all candidates, whoever else has drawn them
        return list(range(len(passage_ids)))
    others = range(positives, len(passage_ids))
    free = [position for position in others if passage_ids[position] not in taken]
    lacking = max(0, settings.n_way - min(positives, 1) - len(free))
    return [*range(positives), *free, *[position for position in others if passage_ids[position] in taken][:lacking]]


def _random_states(settings: MixSettings, seed: int, turn: Turn, query_id: str) -> tuple[Random, Random]:
    """Return the random states of a query's passages and languages: its own one, or those of the queries that share its draws.

    Where draws are shared they are two: lists of unequal length use up unequal amounts of the first, and languages are to be equal
    nevertheless.
    """
    if settings.shared_draws == 1:
        random = Random(f"{seed}/{turn.epoch}/{query_id}")  # noqa: S311 - a seeded draw, not a secret
        return random, random
    block = f"{seed}/{turn.epoch}/block {turn.position // settings.shared_draws}"
    return Random(f"{block}/passages"), Random(f"{block}/languages")  # noqa: S311


def share_passages(
    examples: Sequence[Mapping[str, Any]],
    scores: Sequence[Mapping[str, float]],
    query_ids: Sequence[str],
    missing: str = "error",
    *,
    without_own: bool = False,
) -> list[dict[str, Any]]:
    """Give each example of a group the passages of all of them, with its own query's scores: in-batch distillation.

    `scores` maps, for each query, every passage to the teacher's score; a missing one is a `TableError` that names the pair, or with
    `missing: mask` the score `UNSCORED`. A passage that is there twice, perhaps in two languages, counts once: in its other places it has
    the score `UNSCORED`, for every query. With `without_own` the passage with a query's own id is unscored for it.
    """
    passage_ids = [passage_id for example in examples for passage_id in example["passage_ids"]]
    langs = [lang for example in examples for lang in example["langs"]]
    if missing == "error":
        _check_scored(scores, query_ids, passage_ids, without_own=without_own)
    first = [passage_id not in passage_ids[:place] for place, passage_id in enumerate(passage_ids)]
    drawn = []
    for known, query_id in zip(scores, query_ids, strict=True):
        left_out = query_id if without_own else None
        pairs = zip(passage_ids, first, strict=True)
        values = [known.get(i, UNSCORED) if once and i != left_out else UNSCORED for i, once in pairs]
        drawn.append({"passage_ids": passage_ids, "langs": langs, "scores": values})
    return drawn


def _check_scored(
    scores: Sequence[Mapping[str, float]], query_ids: Sequence[str], passage_ids: Sequence[str], *, without_own: bool
) -> None:
    for known, query_id in zip(scores, query_ids, strict=True):
        left_out = query_id if without_own else None
        lost = [passage_id for passage_id in passage_ids if passage_id not in known and passage_id != left_out]
        if lost:
            raise TableError(
                f"mix.group needs teacher scores of every pair in a group, but query {query_id!r} has none for passage {lost[0]!r}; "
                "raise select.by.top_k to the size of the collection, set mix.missing to 'mask', or mix.group to 1"
            )
