"""Steps of PyLate's distillation loss at its defaults; run by training_speed.py in an environment with pylate."""

import json
import sys
from pathlib import Path

import torch
from pylate import losses, models, utils  # pyright: ignore[reportMissingImports]
from training_speed import N_WAY, PASSAGE_TOKENS, QUERY_TOKENS, memory, run_steps


def main() -> None:
    folder, dtype = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(2)
    model = models.ColBERT(
        str(folder / "backbone"), device="cpu", query_length=QUERY_TOKENS, document_length=PASSAGE_TOKENS
    )
    model.train()
    loss = losses.Distillation(model)
    collate = utils.ColBERTCollator(model.tokenize)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step(data: dict[str, list]) -> float:
        rows = [
            {"query": query, "document": passages, "scores": scores}
            for query, passages, scores in zip(data["queries"], data["passages"], data["scores"], strict=True)
        ]
        features = collate(rows)
        parts = [
            {name.removeprefix(f"{kind}_"): value for name, value in features.items() if name.startswith(f"{kind}_")}
            for kind in ("query", "document")
        ]
        assert parts[1]["input_ids"].shape[0] == len(rows) * N_WAY
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            value = loss(parts, torch.tensor(data["scores"]))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return value.item()

    result = run_steps(step, json.loads((folder / "steps.json").read_text()))
    print(json.dumps(result | {"memory": memory()}))


if __name__ == "__main__":
    main()
