import re
from random import Random

import numpy as np
import pytest
import torch

from distill.numerics import best as module
from distill.numerics.best import Best, top_k


def by_sorting(scores: torch.Tensor, k: int, positions: torch.Tensor) -> tuple[list, list]:
    """The k best of each row by a full sort of all its scores."""
    order = [np.lexsort((row, -values))[:k] for values, row in zip(scores.numpy(), positions.numpy(), strict=True)]
    chosen = list(zip(scores.tolist(), positions.tolist(), order, strict=True))
    return [[values[i] for i in one] for values, _, one in chosen], [[row[i] for i in one] for _, row, one in chosen]


def test_ties_across_the_cut_go_to_the_first_positions() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 2.0]])
    values, positions = top_k(scores, 3)
    assert (values.tolist(), positions.tolist()) == ([[3.0, 2.0, 2.0]], [[1, 2, 3]])
    # One that is above the tie has the highest position, and still comes first.
    values, positions = top_k(scores, 3, torch.tensor([5, 9, 8, 2, 7, 3]))
    assert (values.tolist(), positions.tolist()) == ([[3.0, 2.0, 2.0]], [[9, 2, 3]])


def test_each_row_has_its_own_positions() -> None:
    scores = torch.zeros(2, 4)
    _, positions = top_k(scores, 2, torch.tensor([[3, 1, 2, 0], [4, 7, 6, 5]]))
    assert positions.tolist() == [[0, 1], [4, 5]]


def test_minus_infinity_is_the_lowest_score() -> None:
    values, positions = top_k(torch.tensor([[-torch.inf, -1.0, -torch.inf, torch.inf]]), 3)
    assert (values.tolist(), positions.tolist()) == ([[torch.inf, -1.0, -torch.inf]], [[3, 1, 0]])


@pytest.mark.parametrize(("shape", "k", "expected"), [((0, 3), 2, (0, 0)), ((2, 0), 2, (2, 0)), ((2, 3), 0, (2, 0))])
def test_nothing_to_rank(shape: tuple[int, int], k: int, expected: tuple[int, int]) -> None:
    values, positions = top_k(torch.zeros(shape), k)
    assert (values.shape, positions.shape) == (expected, expected)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_score_that_is_nan_is_an_error(k: int) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, torch.nan, torch.inf]])
    message = "the score of position 6 is NaN, in row 1 of 2"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        top_k(scores, k, torch.tensor([7, 6, 5]))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Best(9, k).add(4, scores, torch.tensor([7, 6, 5]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("seed", range(20))
def test_equal_to_a_full_sort_of_scores_with_many_ties(
    seed: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ELEMENTS", 1 + 100 * (seed % 3))
    random = Random(seed)
    queries, count = random.randint(1, 6), random.randint(1, 60)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 1 + seed % 4, (queries, count), generator=generator).to(dtype)
    positions = torch.stack([torch.randperm(1000, generator=generator)[:count] for _ in range(queries)])
    for k in {1, 2, random.randint(1, count), count - 1, count, count + 3}:
        values, found = top_k(scores, k, positions)
        assert (values.tolist(), found.tolist()) == by_sorting(scores.double(), k, positions)
        assert values.dtype == dtype


@pytest.mark.parametrize("seed", range(30))
def test_blocks_their_order_and_the_parts_of_the_queries_change_nothing(seed: int) -> None:
    random = Random(seed)
    queries, count, k = random.randint(1, 6), random.randint(1, 60), random.randint(1, 20)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 1 + seed % 5, (queries, count), generator=generator).float()
    order = torch.randperm(count, generator=generator)
    best = Best(queries, k)
    for columns in order.split(random.randint(1, count)):
        size = random.randint(1, queries)
        for start in range(0, queries, size):
            best.add(start, scores[start : start + size][:, columns], columns)
    _, expected = by_sorting(scores.double(), k, torch.arange(count).expand(queries, count))
    assert [row.tolist() for row in best.positions()] == expected


def test_ties_across_blocks_go_to_the_first_positions() -> None:
    for blocks in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]], [[5], [1, 4], [0, 3, 2]]):
        best = Best(1, 2)
        for positions in blocks:
            best.add(0, torch.full((1, len(positions)), 2.0), torch.tensor(positions))
        assert [row.tolist() for row in best.positions()] == [[0, 1]]


def test_the_best_over_blocks_are_the_best_of_all() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 100)
    best = Best(5, 7)
    for first in (0, 3, 40, 99):  # blocks of 3, 37, 59 and 1
        stop = {0: 3, 3: 40, 40: 99, 99: 100}[first]
        for start in (0, 2):  # queries in two parts
            part = slice(start, 2 if start == 0 else 5)
            best.add(start, scores[part, first:stop], torch.arange(first, stop))
    expected = np.argsort(-scores.numpy(), axis=1)[:, :7]
    assert [row.tolist() for row in best.positions()] == expected.tolist()


def test_equal_scores_rank_by_position_and_few_passages_give_short_lists() -> None:
    best = Best(2, 4)
    best.add(0, torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([7, 3]))
    best.add(0, torch.tensor([[2.0], [4.0]]), torch.tensor([1]))
    assert [row.tolist() for row in best.positions()] == [[1, 3, 7], [3, 7, 1]]


def test_passages_of_minus_infinity_are_left_out() -> None:
    best = Best(2, 3)
    best.add(0, torch.tensor([[-torch.inf, 1.0, -torch.inf]]), torch.tensor([0, 1, 2]))
    assert [row.tolist() for row in best.positions()] == [[1], []]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_a_cpu_gives() -> None:
    scores = torch.randint(0, 3, (50, 5000)).float()
    for k in (1, 10, 999):
        expected, found = top_k(scores, k), top_k(scores.cuda(), k)
        assert torch.equal(found[0].cpu(), expected[0])
        assert torch.equal(found[1].cpu(), expected[1])
