import numpy as np
import torch

from distill.numerics.best import Best


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
    assert [row.tolist() for row in best.places()] == expected.tolist()


def test_equal_scores_rank_by_place_and_few_passages_give_short_lists() -> None:
    best = Best(2, 4)
    best.add(0, torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([7, 3]))
    best.add(0, torch.tensor([[2.0], [4.0]]), torch.tensor([1]))
    assert [row.tolist() for row in best.places()] == [[1, 3, 7], [3, 7, 1]]
