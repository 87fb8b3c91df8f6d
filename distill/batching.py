"""Batches cut by a token budget, so that padding costs little and no batch is larger than the memory it was sized for."""

from collections.abc import Sequence


def token_budget_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Group the indices of `lengths` into batches whose padded size (longest x count) stays within `tokens_per_batch`.

    Longest first, so that a batch that does not fit in memory shows at once; equal lengths keep their order, so the result depends on
    nothing but the arguments. An item longer than the budget is a batch of its own. Cost: one sort.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    longest = 0
    for i in order:
        if batches and longest * (len(batches[-1]) + 1) <= tokens_per_batch:
            batches[-1].append(i)
        else:
            batches.append([i])
            longest = max(lengths[i], 1)
    return batches
