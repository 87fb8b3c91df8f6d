from collections import Counter
from pathlib import Path

import pytest

from distill.mix.negatives import Choice, TooFewError, score_limit
from distill.mix.settings import MixSettings, NegativeSettings
from distill.mix.stage import mix
from distill.tables import PARTS, PASSAGES, QRELS, QUERIES, SCORES, TRANSLATIONS
from tests.workspaces import LocalWorkspace

IDS = ["p1", "p2", "p3", "p4", "p5", "p6", "p7"]
SCORES_BY_RANK = [5.0, 9.0, 8.0, 7.5, 4.0, 1.0, -2.0]
"""Of the candidates at ranks 1 to 7; p3 is the positive, p5 partly relevant."""
GRADES = {"q": {"p3": 3, "p5": 1, "elsewhere": 3}}


def chosen(n_way: int = 2, usable: list[int] | None = None, **options: object) -> tuple[int, list[str]]:
    settings = MixSettings(n_way=n_way, negatives=NegativeSettings.model_validate(options))
    first, places = Choice(settings, GRADES)("q", IDS, SCORES_BY_RANK, list(range(7)) if usable is None else usable)
    return first, [IDS[place] for place in places]


def test_the_positive_comes_first_and_other_judged_passages_are_no_negatives() -> None:
    assert chosen() == (1, ["p3", "p1", "p2", "p4", "p6", "p7"])
    assert chosen(include_positive=False) == (0, IDS)


@pytest.mark.parametrize(
    ("scores", "positive"),
    [(SCORES_BY_RANK, "p3"), ([float("nan")] * 7, "p3"), ([5.0, 9.0, 7.0, 7.5, 4.0, 1.0, -2.0], "p4")],
)
def test_the_positive_of_a_judged_document_is_its_best_scored_passage(scores: list[float], positive: str) -> None:
    """p3, p4 and p7 are passages of d1 (grade 3), p5 of d2 (grade 1): none of them is a negative."""
    documents = {"p3": "d1", "p4": "d1", "p7": "d1", "p5": "d2"}
    grades = {"q": {"p3": 3, "p4": 3, "p7": 3, "p5": 1}}
    settings = MixSettings(n_way=2, negatives=NegativeSettings())
    first, places = Choice(settings, grades, documents)("q", IDS, scores, list(range(7)))
    assert (first, [IDS[place] for place in places]) == (1, [positive, "p1", "p2", "p6"])


def test_two_judged_documents_have_a_positive_each() -> None:
    documents = {"p3": "d1", "p4": "d1", "p7": "d2", "p5": "d2"}
    choice = Choice(MixSettings(n_way=2, negatives=NegativeSettings()), {"q": dict.fromkeys(documents, 2)}, documents)
    first, places = choice("q", IDS, SCORES_BY_RANK, list(range(7)))
    assert (first, [IDS[place] for place in places]) == (2, ["p3", "p5", "p1", "p2", "p6"])


def test_ranks() -> None:
    assert chosen(first_rank=2) == (1, ["p3", "p2", "p4", "p6", "p7"])
    assert chosen(first_rank=2, last_rank=6) == (1, ["p3", "p2", "p4", "p6"])
    assert chosen(first_rank=4, include_positive=False) == (0, ["p3", "p4", "p5", "p6", "p7"])


def test_ranks_are_the_selectors_also_where_texts_are_missing() -> None:
    assert chosen(first_rank=2, last_rank=4, usable=[0, 2, 3, 5]) == (1, ["p3", "p4"])


def test_margins() -> None:
    """The positive scores 8: with a margin of 0 only p2 (9) goes, with 0.5 a negative of 7.5 just stays, with 0.6 it goes."""
    assert chosen(margin=0) == (1, ["p3", "p1", "p4", "p6", "p7"])
    assert chosen(margin=0.5) == (1, ["p3", "p1", "p4", "p6", "p7"])
    assert chosen(margin=0.6) == (1, ["p3", "p1", "p6", "p7"])
    assert chosen(relative_margin=0.0625) == (1, ["p3", "p1", "p4", "p6", "p7"])
    assert chosen(relative_margin=0.4) == (1, ["p3", "p6", "p7"])
    assert chosen(margin=0.6, relative_margin=0.05) == (1, ["p3", "p1", "p6", "p7"])


def test_margins_of_negative_scores_lower_the_limit_and_the_lowest_positive_counts() -> None:
    assert score_limit(NegativeSettings(relative_margin=0.25), [-8.0, -2.0]) == -10.0
    assert score_limit(NegativeSettings(margin=1), [3.0, 5.0]) == 2.0
    assert score_limit(NegativeSettings(), [3.0]) == float("inf")


def test_teacher_thresholds() -> None:
    assert chosen(max_score=7.5) == (1, ["p3", "p1", "p4", "p6", "p7"])
    assert chosen(min_score=1.0) == (1, ["p3", "p1", "p2", "p4", "p6"])
    assert chosen(min_score=1.5, max_score=7.0) == (1, ["p3", "p1"])


def test_dropped_negatives_are_counted_by_option() -> None:
    settings = MixSettings(n_way=2, negatives=NegativeSettings(first_rank=2, margin=0, min_score=0))
    choice = Choice(settings, GRADES)
    choice("q", IDS, SCORES_BY_RANK, range(7))
    assert choice.dropped == {"first_rank": 1, "margin": 1, "min_score": 1}


def test_queries_with_too_little_left_say_why() -> None:
    with pytest.raises(
        TooFewError, match=r"2 negatives left by mix.negatives of 7 candidates .* 3 are needed for n_way 4"
    ):
        chosen(n_way=4, last_rank=2)
    with pytest.raises(TooFewError, match=r"4 passages left by mix.negatives of 7 .* 6 are needed for n_way 6"):
        chosen(n_way=6, last_rank=2, include_positive=False)
    with pytest.raises(
        TooFewError, match=r"none of the 3 passages judged relevant is among the scored candidates; select.add_judged"
    ):
        chosen(usable=[0, 1])
    settings = MixSettings(n_way=2, negatives=NegativeSettings(margin=1, include_positive=False))
    with pytest.raises(TooFewError, match="no passage is judged relevant"):
        Choice(settings, {})("q", IDS, SCORES_BY_RANK, range(7))
    assert Choice(settings.model_copy(update={"negatives": NegativeSettings(include_positive=False)}), {})(
        "q", IDS, SCORES_BY_RANK, range(7)
    ) == (0, list(range(7)))


def test_without_options_every_usable_candidate_may_be_drawn() -> None:
    assert Choice(MixSettings(n_way=3), GRADES)("q", IDS, SCORES_BY_RANK, [1, 2, 5]) == (0, [1, 2, 5])
    with pytest.raises(TooFewError, match="2 candidates with a text in every mixed language, n_way is 3"):
        Choice(MixSettings(n_way=3), GRADES)("q", IDS, SCORES_BY_RANK, [1, 2])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"first_rank": 5, "last_rank": 4}, "last_rank 4 is before first_rank 5"),
        ({"min_score": 2, "max_score": 1}, "min_score 2 is above max_score 1"),
    ],
)
def test_options_that_leave_nothing_are_refused(options: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        NegativeSettings.model_validate(options)


def test_a_group_takes_no_negatives() -> None:
    with pytest.raises(ValueError, match="group 2 with negatives"):
        MixSettings(group=2, negatives=NegativeSettings())


# --- through the stage -----------------------------------------------------------------------------------------------


def inputs() -> dict:
    """q: as above; twin: two positives of one grade; unjudged: none."""
    queries = ["q", "twin", "unjudged"]
    judged = {**GRADES, "twin": {"p1": 1, "p7": 1}}
    return {
        "sources": {
            "passages": PASSAGES.from_rows(
                {"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": i} for i in [*IDS, "elsewhere"]
            ),
            "queries": QUERIES.from_rows({"query_id": q, "lang": "en", "text": q, "split": "train"} for q in queries),
            "parts": PARTS.empty(),
            "qrels": QRELS.from_rows(
                {"query_id": q, "passage_id": p, "relevance": grade}
                for q, by in judged.items()
                for p, grade in by.items()
            ),
        },
        "translate": {
            "translations": TRANSLATIONS.from_rows(
                {
                    "passage_id": i,
                    "source_lang": "en",
                    "lang": "de",
                    "title": "",
                    "text": f"{i} de",
                    "translator": "x",
                    "flags": [],
                }
                for i in IDS
            )
        },
        "calibrate": {
            "scores": SCORES.from_rows(
                {"query_id": q, "passage_ids": IDS, "scores": SCORES_BY_RANK, "teacher": "t"} for q in queries
            )
        },
    }


def test_every_example_holds_a_positive_and_chosen_negatives(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "mix", inputs())
    settings = MixSettings(n_way=3, epochs=60, negatives=NegativeSettings(first_rank=2))
    mix(workspace, settings, "en", ("de",), 7, "calibrate")
    drawn: dict[str, Counter[str]] = {"q": Counter(), "twin": Counter()}
    first: dict[str, Counter[str]] = {"q": Counter(), "twin": Counter()}
    for row in workspace.output("examples").to_pylist():
        first[row["query_id"]][row["passage_ids"][0]] += 1
        drawn[row["query_id"]].update(row["passage_ids"][1:])
        assert row["scores"] == [SCORES_BY_RANK[IDS.index(i)] for i in row["passage_ids"]]
        assert row["passages"] == [f"{i} de" for i in row["passage_ids"]]
    assert first["q"] == {"p3": 60}
    assert set(drawn["q"]) == {"p2", "p4", "p6", "p7"}
    # 60 draws of 1/2: standard deviation 3.9
    assert set(first["twin"]) == {"p1", "p7"}
    assert abs(first["twin"]["p1"] - 30) < 20
    assert set(drawn["twin"]) == {"p2", "p3", "p4", "p5", "p6"}
    [rejected] = workspace.output("rejected").to_pylist()
    assert rejected["id"] == "unjudged"
    assert rejected["reason"] == "mix.negatives needs a positive, but no passage is judged relevant to the query"
    assert workspace.facts["negatives_dropped"] == {"first_rank": 1}


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_queries_with_fewer_pairs_than_epochs_are_refused() -> None:
    """One positive and five negatives are five pairs; of the three best negatives, three."""

    def choose(**options: object) -> tuple[int, list[int]]:
        settings = MixSettings.model_validate(
            {"n_way": 2, "sampling": "pairs", "negatives": NegativeSettings(), **options}
        )
        return Choice(settings, GRADES)("q", IDS, SCORES_BY_RANK, range(7))

    assert choose(epochs=5) == (1, [2, 0, 1, 3, 5, 6])
    with pytest.raises(TooFewError, match="5 pairs of 1 positives and 5 negatives, each of 6 epochs needs one"):
        choose(epochs=6)
    assert choose(epochs=3, draw_from=3)[0] == 1
    with pytest.raises(TooFewError, match="3 pairs of 1 positives and 5 negatives, each of 4 epochs needs one"):
        choose(epochs=4, draw_from=3)


def test_known_positives_need_no_judgements() -> None:
    choice = Choice(MixSettings(n_way=3), {})
    assert choice("q", IDS, SCORES_BY_RANK, [0, 2, 3, 4], 1) == (1, [0, 2, 3, 4])
    assert choice("q", IDS, SCORES_BY_RANK, [0, 1, 2, 3], 1) == (1, [0, 1, 2, 3])
    assert choice("q", IDS, SCORES_BY_RANK, [0, 1, 2, 3], 2) == (2, [0, 1, 2, 3])
    with pytest.raises(TooFewError, match="no positive with a text in every mixed language"):
        choice("q", IDS, SCORES_BY_RANK, [2, 3, 4], 1)
    with pytest.raises(TooFewError, match="3 candidates with a text in every mixed language, n_way is 3"):
        choice("q", IDS, SCORES_BY_RANK, [0, 1, 2], 2)
