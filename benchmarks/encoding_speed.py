"""Encoding a collection beside sentence-transformers' MultiVectorEncoder at its defaults: CPU-seconds for the same passages and checkpoint.

    python benchmarks/encoding_speed.py

MiniLM-L6's shape with random weights, 600 passages with lengths as those of MS MARCO (training_speed.py), cut at 180 tokens, two threads.
Both tokenise, encode and give one matrix for each passage; the smaller of two measurements counts. Vectors are compared.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sentence_transformers
import torch
from sentence_transformers import MultiVectorEncoder
from training_speed import make_data, peak

from distill.encoders.checkpoints import load_late_interaction
from distill.models.costs import EncoderShape

PASSAGES = 600


def measure(encode: Callable[[], list[torch.Tensor]]) -> tuple[float, list[torch.Tensor]]:
    best, vectors = float("inf"), []
    for _ in range(2):
        before = time.process_time()
        vectors = encode()
        best = min(best, time.process_time() - before)
    return best, vectors


def main() -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        make_data(Path(name), steps=PASSAGES // 48 + 1)
        steps = json.loads((Path(name) / "steps.json").read_text())
        texts = [text for step in steps for row in step["passages"] for text in row][:PASSAGES]
        ours = load_late_interaction(Path(name) / "student")
        theirs = MultiVectorEncoder(str(Path(name) / "student"), device="cpu")
    tokens = [len(row) for row in ours.passage_rows(texts)]
    work = sum(EncoderShape(6, 384, 1536).forward(n) for n in tokens)
    own, vectors = measure(lambda: ours.encode_passages(texts))
    other, found = measure(lambda: [torch.as_tensor(v) for v in theirs.encode_document(texts)])
    difference = max((a - b).abs().max().item() for a, b in zip(vectors, found, strict=True))
    limit = peak("float32")
    theirs_version = sentence_transformers.__version__
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, sentence-transformers {theirs_version}"
    )
    print("| | CPU-seconds | passages a CPU-second | share of the matrix-product peak |\n|---|---|---|---|")
    for system, seconds in (("Polyray", own), ("MultiVectorEncoder.encode", other)):
        print(f"| {system} | {seconds:.1f} | {PASSAGES / seconds:.0f} | {work / seconds / limit:.0%} |")
    print(f"{other / own:.2f} times; {sum(tokens):,} tokens; vectors differ by at most {difference:.1e}")


if __name__ == "__main__":
    main()
