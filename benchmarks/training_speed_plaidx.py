"""Steps of PLAID-X's training with KL distillation; run by training_speed.py in an environment with plaid_x 0.3.3.

Its trainer is for CUDA only, so the loop here is its loop on the CPU: its model, its tokenisation, its loss.
"""

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

_dataclass = dataclasses.dataclass


def hashable(cls: type | None = None, **options: Any) -> Any:
    """Its default values are compared by identity: Python 3.11 refuses unhashable ones."""
    if cls is None:
        return partial(hashable, **options)
    return _dataclass(cls, **options | ({"eq": False} if cls.__name__ == "DefaultVal" else {}))


dataclasses.dataclass = hashable

from colbert.infra import ColBERTConfig  # noqa: E402 # pyright: ignore[reportMissingImports]
from colbert.modeling.colbert import ColBERT  # noqa: E402 # pyright: ignore[reportMissingImports]
from colbert.modeling.tokenization import DocTokenizer, QueryTokenizer  # noqa: E402 # pyright: ignore[reportMissingImports]
from training_speed import N_WAY, PASSAGE_TOKENS, QUERY_TOKENS, memory, run_steps  # noqa: E402


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(2)
    ColBERT.loaded_extensions = True  # the search kernel, which needs a compiler
    config = ColBERTConfig(
        query_maxlen=QUERY_TOKENS, doc_maxlen=PASSAGE_TOKENS, nway=N_WAY, checkpoint=str(folder / "student"),
        model_name=str(folder / "student"), mask_punctuation=False, query_token_id="[unused0]", doc_token_id="[unused1]",
    )  # fmt: skip
    model = ColBERT(str(folder / "student"), config)
    model.train()
    queries, passages = QueryTokenizer(config), DocTokenizer(config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, eps=1e-8)
    loss = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)

    def step(data: dict[str, list]) -> float:
        scores = model(
            queries.tensorize(data["queries"]), passages.tensorize([text for row in data["passages"] for text in row])
        ).view(-1, N_WAY)
        targets = torch.log_softmax(torch.tensor(data["scores"]), dim=-1)
        value = loss(torch.log_softmax(scores, dim=-1), targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    result = run_steps(step, json.loads((folder / "steps.json").read_text()))
    print(json.dumps(result | {"memory": memory()}))


if __name__ == "__main__":
    main()
