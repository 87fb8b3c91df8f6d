"""The cost of exact search: CPU-milliseconds a query by type and batch size, and the error of bfloat16. Under two minutes.

    python benchmarks/exact_search.py

10,000 documents of 20 to 140 vectors of dimension 128 (0.8 M vectors), 32 vectors a query, one thread. The vectors are random around a
direction for each document, and a query lies near eight vectors of one document, so that scores spread as those of a trained model do.
"""

import os
import platform
import time
from pathlib import Path

import pyarrow as pa
import torch

from distill.index.exact import ExactIndex, native_dtype
from distill.tables import DOCUMENTS

DOCUMENTS_COUNT, DIM, QUERY_LENGTH, QUERIES = 10_000, 128, 32, 64


def collection(generator: torch.Generator) -> tuple[list[torch.Tensor], pa.Table]:
    lengths = torch.randint(20, 141, (DOCUMENTS_COUNT,), generator=generator)
    topics = torch.randn(DOCUMENTS_COUNT, DIM, generator=generator).repeat_interleave(lengths, 0)
    vectors = torch.nn.functional.normalize(torch.randn(len(topics), DIM, generator=generator) + topics, dim=1).half()
    rows = [
        {
            "position": i,
            "passage_id": str(i),
            "doc_id": str(i),
            "lang": "en",
            "title": "",
            "text": "",
            "tokens": n,
            "truncated": False,
        }
        for i, n in enumerate(lengths.tolist())
    ]
    return list(vectors.split(lengths.tolist())), DOCUMENTS.from_rows(rows)


def queries_for(vectors: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    sources = torch.randint(len(vectors), (QUERIES,), generator=generator).tolist()
    centres = torch.stack([vectors[source][:8].float().repeat(QUERY_LENGTH // 8, 1) for source in sources])
    return torch.nn.functional.normalize(centres + 0.15 * torch.randn(centres.shape, generator=generator), dim=2)


def milliseconds(index: ExactIndex, queries: torch.Tensor, batch: int, repeats: int = 3) -> float:
    """Return the best of some runs, in CPU time a query: other programs on the machine only ever add to it."""
    batches = queries[: max(batch, 8)].split(batch)
    index.search(batches[0], 10)
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for part in batches:
            index.search(part, 10)
        best = min(best, time.process_time() - start)
    return 1000 * best / (batch * len(batches))


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    vectors, documents = collection(generator)
    queries = queries_for(vectors, generator)
    print(f"{cpu_model()}, {os.cpu_count()} cores, torch {torch.__version__}; native: {native_dtype()}")
    scores, found = {}, {}
    print("| dtype | memory | batch 1 | 2 | 4 | 8 | 32 |\n|---|---|---|---|---|---|---|")
    for dtype in (torch.bfloat16, torch.float32):
        index = ExactIndex.from_vectors(vectors, documents, dtype)
        cells = [f"{milliseconds(index, queries, batch):.0f}" for batch in (1, 2, 4, 8, 32)]
        print(f"| {str(dtype).removeprefix('torch.')} | {index.nbytes / 1e6:.0f} MB | {' | '.join(cells)} |")
        scores[dtype] = index.scores(queries)
        found[dtype] = [[hit.position for hit in hits] for hits in index.search(queries, 20)]
    error = (scores[torch.bfloat16] - scores[torch.float32]).abs()
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(found[torch.bfloat16], found[torch.float32], strict=True)]
    first = sum(a[0] == b[0] for a, b in zip(found[torch.bfloat16], found[torch.float32], strict=True))
    print(
        f"bfloat16 against float32: mean error {error.mean():.5f}, largest {error.max():.5f},"
        f" standard deviation of scores {scores[torch.float32].std():.3f};"
        f" recall@20 {sum(shared) / len(shared):.4f}, same first document {first} of {QUERIES}"
    )


if __name__ == "__main__":
    main()
