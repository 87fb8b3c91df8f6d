import numpy as np
import pytest
import torch

from distill.meta.tasks import neighbours
from distill.meta.tasks.neighbours import hardest, nearest


def directions(*degrees: float) -> torch.Tensor:
    """Vectors at angles, of several lengths: cosines do not depend on them."""
    angles = torch.deg2rad(torch.tensor(degrees))
    lengths = 1 + torch.arange(len(degrees)) / 3
    return lengths[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)


def test_neighbours_by_hand() -> None:
    found = nearest(directions(0, 90), directions(80, 10, -5, 180, 101), 3, [[], []])
    assert found == [[2, 1, 0], [0, 4, 1]]


def test_what_is_excluded_is_passed_over_and_fewer_are_found() -> None:
    candidates = directions(80, 10, -5)
    assert nearest(directions(0, 90), candidates, 2, [[2], [0, 1, 2]]) == [[1, 0], []]
    assert nearest(directions(0), candidates, 9, [[1]]) == [[2, 0]]


def test_equal_similarities_come_in_the_candidates_order() -> None:
    candidates = directions(20, -10, 10, 0, -10)
    assert nearest(directions(0), candidates, 5, [[]]) == [[3, 1, 2, 4, 0]]
    assert hardest("easy", directions(0), directions(0), directions(90, 170, 190), [[]]) == [1]


def test_negatives_by_hand() -> None:
    candidates = directions(5, 25, 40, 120, 30)
    question, positive = directions(0), directions(30)
    assert hardest("hard", question, positive, candidates, [[]]) == [0]
    assert hardest("hard", question, positive, candidates, [[0]]) == [1]
    # 30 degrees is as much like it as the positive, not less
    assert hardest("semi_hard", question, positive, candidates, [[]]) == [2]
    assert hardest("semi_hard", question, positive, candidates, [[2]]) == [3]
    assert hardest("easy", question, positive, candidates, [[]]) == [3]
    assert hardest("easy", question, positive, candidates, [[3]]) == [2]


def test_where_all_are_more_like_it_than_the_positive_semi_hard_is_the_least_like() -> None:
    questions, positives = directions(0, 0), directions(150, 60)
    assert hardest("semi_hard", questions, positives, directions(5, 100, 40), [[], []]) == [1, 1]
    assert hardest("semi_hard", questions, positives, directions(5, 50, 40), [[1], []]) == [2, 1]


def test_no_negative_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"1 questions have no negative: all 2 candidates answer question 1"):
        hardest("semi_hard", directions(0, 0), directions(3, 3), directions(5, 6), [[0], [0, 1]])


@pytest.mark.parametrize(("questions", "candidates"), [(3, 7), (256, 11), (1, 1), (5, 8192)])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, questions: int, candidates: int) -> None:
    random = np.random.default_rng(3)
    asked = random.standard_normal((17, 8)).astype(np.float32)
    # every vector twice: each similarity is a tie
    read = np.repeat(random.standard_normal((20, 8)).astype(np.float32), 2, axis=0)
    excluded = [[i, i + 3] for i in range(17)]
    cosines = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float64) @ (
        read.astype(np.float64) / np.linalg.norm(read.astype(np.float64), axis=1, keepdims=True)
    ).T
    expected = []
    for row, left_out in zip(cosines, excluded, strict=True):
        order = sorted(range(40), key=lambda i, row=row: (-round(float(row[i - i % 2]), 6), i))
        expected.append([i for i in order if i not in left_out][:6])
    monkeypatch.setattr(neighbours, "_QUESTIONS_AT_ONCE", questions)
    monkeypatch.setattr(neighbours, "_CANDIDATES_AT_ONCE", candidates)
    assert nearest(torch.from_numpy(asked), torch.from_numpy(read), 6, excluded) == expected


def test_a_vector_of_zeros_is_like_nothing() -> None:
    candidates = torch.cat([torch.zeros(1, 2), directions(10, 170)])
    assert nearest(directions(0), candidates, 3, [[]]) == [[1, 0, 2]]
