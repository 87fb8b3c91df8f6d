"""Draws: what they hold, how often, and that nothing but ids and seed decides them."""

import math
from collections import Counter
from random import Random

import pytest

from distill.mix.draws import (
    Turn,
    draw_examples,
    draw_languages,
    draw_pair,
    draw_passages,
    draw_towards_first,
    share_passages,
)
from distill.mix.settings import MixSettings, NegativeSettings
from distill.tables import TableError

LANGUAGES = ("de", "fr", "zh")
IDS = [f"p{i}" for i in range(10)]


def test_languages_of_each_strategy() -> None:
    [mixed] = draw_languages("mix_passages", 60, LANGUAGES, Random(0))
    assert set(mixed) == set(LANGUAGES)
    [entry] = draw_languages("mix_entries", 6, LANGUAGES, Random(0))
    assert len(set(entry)) == 1
    assert draw_languages("round_robin", 2, LANGUAGES, Random(0)) == [["de", "de"], ["fr", "fr"], ["zh", "zh"]]
    assert draw_languages("single", 2, ("fa",), Random(0)) == [["fa", "fa"]]


def test_languages_are_drawn_evenly_and_independently() -> None:
    random = Random(3)
    counts = Counter(lang for _ in range(2000) for lang in draw_languages("mix_passages", 6, LANGUAGES, random)[0])
    # 12,000 draws of probability 1/3: standard deviation 52
    assert all(abs(count - 4000) < 260 for count in counts.values())


def test_passages_are_drawn_from_all_candidates_without_repeats() -> None:
    counts: Counter[int] = Counter()
    for seed in range(3000):
        drawn = draw_passages(50, 6, Random(seed))
        assert len(set(drawn)) == 6
        counts.update(drawn)
    # 18,000 draws over 50: 360 each, standard deviation 18.8; "first n" would leave most at 0
    assert min(counts[i] for i in range(50)) > 260
    assert max(counts.values()) < 460


def test_an_example_is_a_function_of_seed_epoch_and_query() -> None:
    def draw(query: str, seed: int, epoch: int) -> list[dict]:
        return draw_examples(query, IDS, [0.0] * 10, MixSettings(), LANGUAGES, seed, Turn(epoch))

    assert draw("q", 1, 0) == draw("q", 1, 0)
    others = [draw("q", 1, 0), draw("q", 1, 1), draw("q", 2, 0), draw("r", 1, 0)]
    assert len({str(example) for example in others}) == 4


# --- how passages are chosen -----------------------------------------------------------------------------------------


START = Turn()


def places(settings: MixSettings, turn: Turn = START, positives: int = 0, query_id: str = "q") -> list[int]:
    [example] = draw_examples(query_id, IDS, [0.0] * 10, settings, ("de",), 7, turn, positives)
    return [IDS.index(passage_id) for passage_id in example["passage_ids"]]


def test_first_takes_the_stored_order() -> None:
    settings = MixSettings(n_way=4, sampling="first")
    assert places(settings) == [0, 1, 2, 3]
    assert places(settings, Turn(3, 5, 9)) == [0, 1, 2, 3]
    assert places(settings, positives=2) == [0, 2, 3, 4]


def test_progress_goes_over_all_epochs_and_a_block_has_its_first_turns() -> None:
    assert [Turn(0, 0, 4).progress(2), Turn(0, 3, 4).progress(2), Turn(1, 2, 4).progress(2)] == [0.0, 0.375, 0.75]
    assert [Turn(0, place, 4).progress(1, shared=2) for place in range(4)] == [0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("beta", [1.0, 3.0, 10.0])
def test_the_first_of_the_curriculum_is_drawn_by_the_beta_density(beta: float) -> None:
    """The first drawn of 5 has the weights Beta(1, beta) at 0, .2, .4, .6, .8, normalised."""
    from scipy.stats import beta as distribution

    weights = distribution.pdf([0, 0.2, 0.4, 0.6, 0.8], 1, beta)
    draws, random = 20_000, Random(5)
    counts = Counter(draw_towards_first(5, 1, beta, random)[0] for _ in range(draws))
    for place, share in enumerate(weights / weights.sum()):
        assert abs(counts[place] - draws * share) < 4.5 * math.sqrt(draws * share * (1 - share)) + 1


def test_the_second_of_the_curriculum_is_drawn_from_those_left() -> None:
    """Beta(1, 2) at 0, 1/3, 2/3 is in proportion 3 : 2 : 1, so (0, 1) comes first with 1/2 * 2/3 and (2, 1) with 1/6 * 2/5."""
    random = Random(1)
    counts = Counter(tuple(draw_towards_first(3, 2, 2.0, random)) for _ in range(30_000))
    expected = {(0, 1): 1 / 3, (0, 2): 1 / 6, (1, 0): 1 / 4, (1, 2): 1 / 12, (2, 0): 1 / 10, (2, 1): 1 / 15}
    assert set(counts) == set(expected)
    for pair, share in expected.items():
        assert abs(counts[pair] - 30_000 * share) < 4.5 * math.sqrt(30_000 * share * (1 - share))


def test_a_steep_curriculum_ends_at_the_first_candidates() -> None:
    settings = MixSettings(n_way=3, sampling="beta", max_beta=1e9)
    assert sorted(places(settings, Turn(0, 99, 100))) == [0, 1, 2]
    early = {tuple(sorted(places(settings, Turn(0, 0, 100), query_id=f"q{i}"))) for i in range(50)}
    assert len(early) > 30


def test_the_curriculum_draws_negatives_after_a_positive() -> None:
    settings = MixSettings(n_way=3, sampling="beta", max_beta=1e9, negatives=NegativeSettings())
    drawn = places(settings, Turn(0, 99, 100), positives=4)
    assert drawn[0] < 4
    assert sorted(drawn[1:]) == [4, 5]


def test_pairs_are_all_different_and_in_the_end_all_there_are() -> None:
    settings = MixSettings(n_way=2, sampling="pairs", epochs=24, negatives=NegativeSettings())
    pairs = [tuple(places(settings, Turn(epoch, epoch % 3, 3), positives=4)) for epoch in range(24)]
    assert sorted(pairs) == [(positive, negative) for positive in range(4) for negative in range(4, 10)]
    other = [tuple(places(settings, Turn(epoch), positives=4, query_id="r")) for epoch in range(24)]
    assert sorted(other) == sorted(pairs)
    assert other != pairs


def test_fewer_epochs_are_a_uniform_choice_of_pairs() -> None:
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(4000):
        counts.update(tuple(draw_pair(2, 3, 2, epoch, Random(seed))) for epoch in range(2))
    # 8,000 draws over 6 pairs: 1,333 each, standard deviation 33 without repetition less
    assert set(counts) == {(p, n) for p in (0, 1) for n in (2, 3, 4)}
    assert max(abs(count - 8000 / 6) for count in counts.values()) < 150


def test_pairs_take_the_best_negatives_if_asked() -> None:
    settings = MixSettings(n_way=2, sampling="pairs", epochs=6, draw_from=3, negatives=NegativeSettings())
    pairs = {tuple(places(settings, Turn(epoch), positives=2)) for epoch in range(6)}
    assert pairs == {(positive, negative) for positive in (0, 1) for negative in (2, 3, 4)}


# --- draws that are shared -------------------------------------------------------------------------------------------


def test_consecutive_queries_share_places_and_languages() -> None:
    settings = MixSettings(n_way=4, shared_draws=3)
    drawn = []
    for place in range(9):
        ids = [f"q{place}-{i}" for i in range(10)]
        [example] = draw_examples(f"q{place}", ids, [0.0] * 10, settings, LANGUAGES, 7, Turn(0, place, 9))
        drawn.append(([ids.index(i) for i in example["passage_ids"]], example["langs"]))
    blocks = [drawn[start : start + 3] for start in (0, 3, 6)]
    assert all(block[0] == block[1] == block[2] for block in blocks)
    assert len({str(block[0]) for block in blocks}) == 3
    plain = MixSettings(n_way=4)
    apart = [
        draw_examples(f"q{place}", IDS, [0.0] * 10, plain, LANGUAGES, 7, Turn(0, place, 9))[0] for place in range(9)
    ]
    assert len({str(example) for example in apart}) == 9


def test_lists_of_other_lengths_share_the_languages_still() -> None:
    settings = MixSettings(n_way=4, shared_draws=2)
    langs = [
        draw_examples(f"q{place}", IDS[:count], [0.0] * 10, settings, LANGUAGES, 7, Turn(0, place, 2))[0]["langs"]
        for place, count in ((0, 10), (1, 7))
    ]
    assert langs[0] == langs[1]


# --- groups ----------------------------------------------------------------------------------------------------------


def test_pairs_without_a_score_are_masked_if_asked() -> None:
    examples = [{"passage_ids": ["a"], "langs": ["de"]}, {"passage_ids": ["b"], "langs": ["fr"]}]
    scores = [{"a": 1.0, "b": 2.0}, {"b": 4.0}]
    with pytest.raises(TableError, match=r"query 'r' has none for passage 'a'; .* set mix.missing to 'mask'"):
        share_passages(examples, scores, ["q", "r"])
    first, second = share_passages(examples, scores, ["q", "r"], "mask")
    assert first == {"passage_ids": ["a", "b"], "langs": ["de", "fr"], "scores": [1.0, 2.0]}
    assert math.isnan(second["scores"][0])
    assert second["scores"][1] == 4.0


def test_a_querys_own_passage_is_unscored_in_a_group() -> None:
    """q draws x; r draws q's own passage, which has q's id. No score of that pair is needed, and one that is there is not used."""
    examples = [{"passage_ids": ["x"], "langs": ["de"]}, {"passage_ids": ["q"], "langs": ["fr"]}]
    scores = [{"x": 1.0}, {"x": 2.0, "q": 3.0}]
    first, second = share_passages(examples, scores, ["q", "r"], without_own=True)
    assert first["passage_ids"] == second["passage_ids"] == ["x", "q"]
    assert first["scores"][0] == 1.0
    assert math.isnan(first["scores"][1])
    assert second["scores"] == [2.0, 3.0]
    scored, _ = share_passages(examples, [{"x": 1.0, "q": 9.0}, scores[1]], ["q", "r"], without_own=True)
    assert math.isnan(scored["scores"][1])
    with pytest.raises(TableError, match="query 'q' has none for passage 'q'"):
        share_passages(examples, scores, ["q", "r"])


def test_what_is_taken_is_not_drawn_but_for_positives() -> None:
    ids = [f"p{i}" for i in range(8)]

    def drawn(settings: MixSettings, taken: set[str], positives: int = 0, query_id: str = "q") -> list[str]:
        turn = Turn(0, 0, 1, taken)
        return draw_examples(query_id, ids, [0.0] * 8, settings, ["de"], 3, turn, positives)[0]["passage_ids"]

    first = MixSettings(n_way=3, sampling="first")
    assert drawn(first, {"p0", "p2"}) == ["p1", "p3", "p4"]
    assert drawn(first, {f"p{i}" for i in range(6)}) == ["p6", "p7", "p0"]
    assert drawn(first, {"p0", "p2"}, positives=1) == ["p0", "p1", "p3"]
    head = MixSettings(n_way=2, draw_from=2)
    assert {i for q in range(50) for i in drawn(head, {"p0", "p3"}, query_id=f"q{q}")} == {"p1", "p2"}
    beta = MixSettings(n_way=2, sampling="beta", max_beta=2)
    assert {i for q in range(50) for i in drawn(beta, {"p0", "p1"}, query_id=f"q{q}")} == set(ids[2:])
    pairs = MixSettings(n_way=2, sampling="pairs", epochs=1)
    assert drawn(pairs, set(ids), positives=2) == drawn(pairs, set(), positives=2)


def test_a_passage_that_is_there_twice_counts_once() -> None:
    examples = [{"passage_ids": ["a", "b"], "langs": ["de", "de"]}, {"passage_ids": ["b", "c"], "langs": ["fr", "fr"]}]
    scores = [{"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 4.0, "b": 5.0, "c": 6.0}]
    for row, known in zip(share_passages(examples, scores, ["q", "r"]), scores, strict=True):
        assert row["passage_ids"] == ["a", "b", "b", "c"]
        assert row["langs"] == ["de", "de", "fr", "fr"]
        assert [row["scores"][0], row["scores"][1], row["scores"][3]] == list(known.values())
        assert math.isnan(row["scores"][2])


def test_where_others_just_suffice_nothing_taken_is_drawn() -> None:
    ids = [f"p{i}" for i in range(8)]
    turn = Turn(0, 0, 1, {f"p{i}" for i in range(1, 6)})
    for positives, settings in ((1, MixSettings(n_way=3)), (0, MixSettings(n_way=3, sampling="random"))):
        found = [draw_examples(f"q{q}", ids, [0.0] * 8, settings, ["de"], 3, turn, positives)[0] for q in range(40)]
        assert {frozenset(row["passage_ids"]) for row in found} == {frozenset({"p0", "p6", "p7"})}


@pytest.mark.parametrize(("position", "beta"), [(0, 1.0), (50, 5.0), (75, 7.0)])
def test_the_curriculum_grows_from_uniform_draws(position: int, beta: float) -> None:
    """With max_beta 9, beta is 1 at the first turn and half way to 9 in the middle."""
    settings = MixSettings(n_way=4, sampling="beta", max_beta=9)
    for query in ("q", "r", "s"):
        expected = draw_towards_first(10, 4, beta, Random(f"7/0/{query}"))
        ids = [str(i) for i in range(10)]
        [found] = draw_examples(query, ids, [0.0] * 10, settings, ["de"], 7, Turn(0, position, 100))
        assert found["passage_ids"] == [str(i) for i in expected]
