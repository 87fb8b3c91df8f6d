"""The part of `student_parity.py` that runs where PyLate is installed.

    python student_parity_pylate.py JOB.json

Loads a checkpoint as PyLate does, perhaps saves it, and writes token ids, vectors and scores of all pairs.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from pylate import models  # pyright: ignore[reportMissingImports]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = models.ColBERT(job["checkpoint"], device="cpu", **job["settings"])
    if job["save"]:
        model.save(job["save"])
    queries = np.stack(model.encode(job["queries"], is_query=True, show_progress_bar=False))
    passages = model.encode(job["passages"], is_query=False, show_progress_bar=False)
    scores = np.stack([[(query @ passage.T).max(1).sum() for passage in passages] for query in queries])
    # As PyLate pads to the longest, the ids of the queries are what `tokenize` gives.
    ids = model.tokenize(job["queries"], is_query=True)["input_ids"].numpy()
    lengths = np.array([len(passage) for passage in passages])
    np.savez(
        job["out"], query_ids=ids, queries=queries, scores=scores, lengths=lengths, passages=np.concatenate(passages)
    )


main()
