import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from distill.numerics import blocks as module
from distill.numerics.blocks import (
    best_by_maxsim,
    block_maxsim,
    blocks_of,
    filled,
    like_lengths,
    maxsim_of_each,
    stacked,
)
from distill.numerics.maxsim import maxsim_all


def passages(lengths: list[int], dim: int = 4, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(length, dim, generator=generator), dim=1) for length in lengths]


def one_by_one(queries: torch.Tensor, vectors: list[torch.Tensor]) -> torch.Tensor:
    rows = [[(query.double() @ one.double().T).amax(1).sum() for one in vectors] for query in queries]
    return torch.tensor(rows, dtype=torch.float64)


def test_block_scores_by_hand() -> None:
    """Query vectors (1, 0) and (0, 2); passages {(3, 0), (1, 1)} and {(-1, 2)}, the second filled up with itself."""
    queries = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    block = torch.tensor([[[3.0, 0.0], [-1.0, 2.0]], [[1.0, 1.0], [-1.0, 2.0]]])
    assert block_maxsim(queries, block).tolist() == [[3 + 2, -1 + 4]]
    assert torch.equal(stacked([block[:, 0], block[:1, 1]]), block)


def test_filling_up_never_wins() -> None:
    """All products are negative: zeros would win with 0. A query's own zeros add nothing."""
    block = stacked([-torch.ones(3, 2), -torch.ones(1, 2)])
    queries = filled([torch.ones(2, 2), torch.ones(1, 2)])
    assert block_maxsim(queries, block).tolist() == [[-4.0, -4.0], [-2.0, -2.0]]


@pytest.mark.parametrize(
    ("dtype", "result", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-12),
        (torch.float32, torch.float32, 1e-5),
        (torch.bfloat16, torch.float32, 0.05),
    ],
)
def test_vectors_are_multiplied_in_the_blocks_type(dtype: torch.dtype, result: torch.dtype, tolerance: float) -> None:
    vectors, queries = passages([9] * 7), normalize(torch.randn(5, 6, 4).double(), dim=2)
    scores = block_maxsim(queries, stacked(vectors).to(dtype))
    assert scores.dtype == result
    torch.testing.assert_close(scores.double(), one_by_one(queries, vectors), atol=tolerance, rtol=0)


def test_no_gradient_is_kept() -> None:
    assert not block_maxsim(torch.ones(1, 1, 2, requires_grad=True), torch.ones(1, 1, 2)).requires_grad


@pytest.mark.parametrize("similarities", [1, 300, 2**26])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_passages_of_any_lengths(dtype: torch.dtype, similarities: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIMILARITIES", similarities)
    monkeypatch.setattr(module, "_CACHED_VECTORS", 20)
    vectors, queries = passages([5, 1, 9, 3, 3, 8, 1, 30, 2]), torch.randn(4, 3, 4).to(dtype)
    scores = maxsim_of_each(queries, vectors)
    assert scores.dtype == dtype
    torch.testing.assert_close(scores.double(), one_by_one(queries, vectors), atol=1e-5, rtol=0)


def test_a_passage_without_vectors_scores_minus_infinity() -> None:
    query = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    vectors = [torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.empty(0, 2), torch.tensor([[0.0, -1.0]])]
    assert maxsim_of_each(query, vectors).tolist() == [[pytest.approx(1.8), -torch.inf, pytest.approx(-1.0)]]
    assert maxsim_of_each(query, []).shape == (1, 0)


def test_the_two_forms_agree() -> None:
    vectors, queries = passages([7] * 6), torch.randn(3, 5, 4)
    keep = torch.ones(6, 7, dtype=torch.bool)
    expected = maxsim_all(queries, torch.stack(vectors), keep)
    torch.testing.assert_close(maxsim_of_each(queries, vectors), expected)


def test_the_best_over_blocks_of_any_size_are_those_of_one_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, candidates = torch.randn(7, 1, 4), torch.randn(30, 4)
    expected = torch.argsort(queries[:, 0] @ candidates.T, dim=1, descending=True)[:, :5].tolist()
    for size, similarities in ((30, 2**25), (4, 2**25), (7, 20)):
        monkeypatch.setattr(module, "_SIMILARITIES", similarities)
        cut = ((torch.arange(30)[i : i + size], candidates[None, i : i + size]) for i in range(0, 30, size))
        assert [row.tolist() for row in best_by_maxsim(queries, cut, 5)] == expected


def test_ties_keep_the_order_of_their_positions() -> None:
    """Two query vectors against passages of two vectors: passage 1 has both best ones; 0 and 2 tie."""
    queries = filled([torch.eye(2)])
    block = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]], [[0, 1], [0, 1]]]).transpose(0, 1)
    for k, expected in ((3, [1, 0, 2]), (2, [1, 0])):
        [whole] = best_by_maxsim(queries, [(torch.tensor([0, 1, 2]), block)], k)
        [apart] = best_by_maxsim(queries, [(torch.tensor([i]), block[:, [i]]) for i in (2, 1, 0)], k)
        assert whole.tolist() == apart.tolist() == expected


def test_queries_filled_up() -> None:
    both = filled([torch.ones(1, 3), torch.ones(2, 3)])
    assert both.shape == (2, 2, 3)
    assert both[0, 1].tolist() == [0, 0, 0]
    assert filled([torch.empty(0, 3)]).tolist() == [[[0, 0, 0]]]


def test_blocks_are_cut_by_length_and_a_passage_without_vectors_scores_0() -> None:
    lengths = np.array([2, 0, 1, 4])
    vectors = np.arange(1.0, 8.0, dtype=np.float16)[
        :, None
    ]  # passage 0 has 1 and 2, passage 2 has 3, passage 3 has 4 to 7
    found = [(positions.tolist(), block[:, :, 0].tolist()) for positions, block in blocks_of(vectors, lengths, 100)]
    assert found == [([1, 2], [[0, 3]]), ([0], [[1], [2]]), ([3], [[4], [5], [6], [7]])]
    # A shorter passage repeats its first vector.
    [(positions, block)] = blocks_of(vectors[:5], np.array([3, 2]), 100)
    assert positions.tolist() == [1, 0]
    assert block[:, :, 0].tolist() == [[4, 1], [5, 2], [4, 3]]


def test_runs_of_like_lengths() -> None:
    lengths = np.array([4, 1, 6, 5, 9])
    order = np.argsort(lengths)
    assert [run.tolist() for run in like_lengths(order, lengths, 100)] == [[1], [0, 3, 2], [4]]
    assert [run.tolist() for run in like_lengths(order, lengths, 11)] == [[1], [0, 3], [2], [4]]
