from types import SimpleNamespace

from distill.numerics.batching import attention_of, fitting_tokens, padded, token_budget_batches


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


def test_rows_are_filled_up_at_their_end() -> None:
    assert padded([[1, 2, 3], [4], []], 9).tolist() == [[1, 2, 3], [4, 9, 9], [9, 9, 9]]
    assert attention_of([3, 1, 0]).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_on_cpus_batches_stay_in_the_cache() -> None:
    small, usual, wide = (SimpleNamespace(intermediate_size=n, hidden_size=n // 4) for n in (64, 1024, 4096))
    assert fitting_tokens(16_384, small, "cpu") == 12_288  # 3 MiB / (64 x 4 bytes)
    assert fitting_tokens(16_384, usual, "cpu") == 768
    assert fitting_tokens(16_384, wide, "cpu") == 512
    assert fitting_tokens(100, wide, "cpu") == 100
    assert fitting_tokens(16_384, wide, "cuda") == 16_384
    assert fitting_tokens(16_384, SimpleNamespace(d_ff=1024, d_model=256), "cpu") == 768
