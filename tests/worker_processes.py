"""Worker processes of a DDP group without Ray, forked from a server that has imported the large libraries once for all tests."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from torch.multiprocessing.spawn import start_processes

PRELOADED = ["torch.distributed", "torch._dynamo", "transformers.models.bert.modeling_bert", "distill.train.trainer"]
"""Modules that a worker finds imported; none of them starts a thread."""


def start_workers(worker: Callable[..., None], *arguments: Any, count: int = 2) -> None:
    """Run `worker(rank, *arguments)` in `count` processes and wait for them; raise an exception of any of them."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    start_processes(worker, arguments, nprocs=count, start_method="forkserver")
