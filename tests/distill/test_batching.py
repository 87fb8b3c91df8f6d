from distill.batching import token_budget_batches


def test_longest_first_within_the_budget() -> None:
    assert token_budget_batches([3, 10, 4, 9, 2], 20) == [[1, 3], [2, 0, 4]]


def test_an_item_beyond_the_budget_is_alone() -> None:
    assert token_budget_batches([5, 100, 5], 10) == [[1], [0, 2]]


def test_every_item_once_and_no_batch_too_large() -> None:
    lengths = [(i * 37) % 91 + 1 for i in range(500)]
    batches = token_budget_batches(lengths, 512)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert max(max(lengths[i] for i in batch) * len(batch) for batch in batches) <= 512


def test_nothing() -> None:
    assert token_budget_batches([], 10) == []
