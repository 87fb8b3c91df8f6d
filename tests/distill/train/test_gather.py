"""Two processes over gloo: gathered passages, and gradients that make two workers' loss that of one."""

from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional

from distill.numerics.maxsim import maxsim_all
from distill.train.gather import all_sum, gather_passages
from distill.train.losses import info_nce
from tests.worker_processes import start_workers

COUNTS, LENGTHS = (3, 2), (4, 5)


def whole() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries of both workers, and passages of both as one table, filled up to the longer."""
    torch.manual_seed(0)
    queries = torch.randn(4, 2, 6)
    passages = [torch.randn(count, length, 6) for count, length in zip(COUNTS, LENGTHS, strict=True)]
    wide = torch.cat([functional.pad(part, (0, 0, 0, 5 - part.shape[1])) for part in passages])
    keep = torch.cat([torch.arange(5)[None].expand(n, 5) < length for n, length in zip(COUNTS, LENGTHS, strict=True)])
    return queries, wide, keep


def worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    queries, passages, keep = whole()
    rows = slice(0, 3) if rank == 0 else slice(3, 5)
    own_queries = queries[2 * rank : 2 * rank + 2].requires_grad_()
    own = passages[rows, : LENGTHS[rank]].clone().requires_grad_()
    found = gather_passages(own, keep[rows, : LENGTHS[rank]], torch.arange(5)[rows, None])
    scores = maxsim_all(own_queries, found.vectors, found.keep)
    positives = torch.tensor([0, 1]) + found.first
    loss = info_nce(scores, positives, torch.ones_like(scores, dtype=torch.bool))
    loss.backward()
    result = {
        "loss": loss.detach(), "keys": found.keys, "first": found.first, "vectors": found.vectors.detach(),
        "keep": found.keep, "queries": own_queries.grad, "passages": own.grad,
        "sums": all_sum([1.0 + rank, 2.5], torch.device("cpu")),
    }  # fmt: skip
    torch.save(result, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_workers_have_the_negatives_and_gradients_of_one(tmp_path: Path) -> None:
    start_workers(worker, str(tmp_path))
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    queries, passages, keep = whole()
    queries.requires_grad_()
    passages.requires_grad_()
    scores = maxsim_all(queries, passages, keep)
    loss = info_nce(scores, torch.tensor([0, 1, 3, 4]), torch.ones_like(scores, dtype=torch.bool))
    loss.backward()
    assert torch.allclose((results[0]["loss"] + results[1]["loss"]) / 2, loss.detach(), atol=1e-6)
    for rank, result in enumerate(results):
        assert result["keys"].tolist() == [[0], [1], [2], [3], [4]]
        assert result["first"] == (0, 3)[rank]
        assert result["sums"] == [3.0, 5.0]
        assert torch.equal(result["vectors"], passages.detach() * keep.unsqueeze(-1))
        assert torch.equal(result["keep"], keep)
        # DDP takes the mean over two workers: each worker's gradient is twice its share of the whole's.
        rows = slice(0, 3) if rank == 0 else slice(3, 5)
        own = passages.grad[rows, : LENGTHS[rank]]  # pyright: ignore[reportOptionalSubscript]
        assert torch.allclose(result["passages"] / 2, own, atol=1e-6)
        assert torch.allclose(result["queries"] / 2, queries.grad[2 * rank : 2 * rank + 2], atol=1e-6)  # pyright: ignore[reportOptionalSubscript]


def test_alone_a_worker_has_its_own_passages() -> None:
    _, passages, keep = whole()
    found = gather_passages(passages, keep, torch.arange(5)[:, None])
    assert found.vectors is passages
    assert found.first == 0


def test_without_a_worker_group_sums_are_the_numbers() -> None:
    assert all_sum([1.5, 2.0], torch.device("cpu")) == [1.5, 2.0]
