"""The part of `student_parity.py` that runs where PLAID-X 0.3.3 is installed (transformers 4.57).

    python student_parity_plaidx.py JOB.json

Loads a checkpoint as PLAID-X does, perhaps saves it, and writes token ids, vectors and scores of all pairs.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

_dataclass = dataclasses.dataclass


def hashable(cls: Any = None, /, **options: Any) -> Any:
    """Make a dataclass, PLAID-X's default values without `__eq__`: since Python 3.11 they must be hashable."""
    if cls is None:
        return lambda found: hashable(found, **options)
    return _dataclass(cls, **options | ({"eq": False} if cls.__name__ == "DefaultVal" else {}))


dataclasses.dataclass = hashable
from colbert.infra import ColBERTConfig  # noqa: E402 # pyright: ignore[reportMissingImports]
from colbert.modeling.colbert import ColBERT  # noqa: E402 # pyright: ignore[reportMissingImports]
from colbert.modeling.tokenization import DocTokenizer, QueryTokenizer  # noqa: E402 # pyright: ignore[reportMissingImports]

# An extension in C++ that scores ragged passages, which is compiled on first use; nothing here calls it.
ColBERT.loaded_extensions = True


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = ColBERTConfig(model_name=job["checkpoint"], checkpoint=job["checkpoint"], **job["settings"])
    if not (Path(job["checkpoint"]) / "artifact.metadata").is_file():
        # A plain model, whose metadata PLAID-X would look for on the hub.
        ColBERTConfig.load_from_checkpoint = classmethod(lambda _cls, _path: None)
    model = ColBERT(job["checkpoint"], colbert_config=config)
    if job["save"]:
        model.save(job["save"])
    with torch.inference_mode():
        ids, attention = QueryTokenizer(model.colbert_config).tensorize(job["queries"])
        queries = model.query(ids, attention)
        passage_ids, passage_attention = DocTokenizer(model.colbert_config).tensorize(job["passages"])
        passages, keep = model.doc(passage_ids, passage_attention, keep_dims="return_mask")
        rows = [model.score(query[None], passages, keep).numpy() for query in queries]
    np.savez(
        job["out"], query_ids=ids.numpy(), queries=queries.numpy(), scores=np.stack(rows),
        lengths=keep.sum((1, 2)).numpy(), passages=passages[keep.squeeze(-1)].numpy(),
    )  # fmt: skip


main()
