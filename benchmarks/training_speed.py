"""Training steps of n-way distillation beside PyLate and PLAID-X: CPU-seconds a step, the same backbone, texts and optimiser.

    python benchmarks/training_speed.py --pylate PYTHON --plaidx PYTHON

PyLate and PLAID-X need other versions of transformers than this project, so each is named by the interpreter of an environment of its
own (`pip install pylate`; `pip install plaid_x==0.3.3 'transformers<5'`); what is not named is left out. Each runs by itself in a process
of its own, two threads, one after the other, twice; the table shows the smaller number. Tokenising is counted for all.

The backbone is MiniLM-L6's shape (six layers of width 384) with random weights. Passages have lengths as those of MS MARCO (log-normal,
median 68 tokens), cut at 180; 8 queries and 6 passages of each make a step. PyLate has its defaults: it fills every passage up to 180
tokens. PLAID-X fills up to the longest of the batch.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

QUERIES, N_WAY, STEPS, WARM_UP = 8, 6, 4, 1
QUERY_TOKENS, PASSAGE_TOKENS = 32, 180
HERE = Path(__file__).parent


def make_data(folder: Path, steps: int = STEPS + WARM_UP) -> None:
    """Write a backbone with its tokenizer, and steps of queries, passages and scores."""
    import torch
    from transformers import BertConfig, BertModel

    from distill.encoders.checkpoints import save_encoder
    from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
    from distill.encoders.start import train_tokenizer
    from distill.sources.corpus import passages as corpus_passages

    texts = [row["text"] for _, row in corpus_passages()]
    tokenizer = train_tokenizer(texts, 16_000)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        pad_token_id=0,
    )
    settings = EncoderSettings(128, QUERY_TOKENS, PASSAGE_TOKENS, mask_punctuation=False)
    encoder = LateInteractionEncoder.assemble(BertModel(config, add_pooling_layer=False), tokenizer, settings)
    save_encoder(encoder, folder / "student", {"model_name": str(folder / "student")})
    encoder.backbone.save_pretrained(folder / "backbone")
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    save_encoder(encoder, folder / "student-without-dropout")
    for file in (folder / "student").glob("*token*"):  # in a form that older versions of transformers read
        (folder / "backbone" / file.name).write_bytes(file.read_bytes())
    random = np.random.default_rng(0)
    words = [str(word) for word in " ".join(texts).split()]

    def text(tokens: float) -> str:
        start = int(random.integers(len(words) - 400))
        candidate = words[start : start + 400]
        ids = tokenizer(candidate, add_special_tokens=False)["input_ids"]
        return " ".join(candidate[: int(np.searchsorted(np.cumsum([len(i) for i in ids]), tokens)) + 1])

    lengths = np.exp(random.normal(np.log(68), 0.45, (steps, QUERIES, N_WAY))).clip(12, 220)
    drawn = [
        {
            "queries": [text(int(random.integers(4, 14))) for _ in range(QUERIES)],
            "passages": [[text(tokens) for tokens in row] for row in step],
            "scores": random.normal(0, 2, (QUERIES, N_WAY)).tolist(),
        }
        for step in lengths
    ]
    (folder / "steps.json").write_text(json.dumps(drawn))


def run_steps(step: Callable[[dict[str, list]], float], steps: list[dict[str, list]]) -> dict[str, float]:
    """Return the median of CPU-seconds and seconds a step, and the loss of the last."""
    cpu, wall, loss = [], [], 0.0
    for number, data in enumerate(steps):
        before, clock = time.process_time(), time.perf_counter()
        loss = step(data)
        if number >= WARM_UP:
            cpu.append(time.process_time() - before)
            wall.append(time.perf_counter() - clock)
    return {"cpu": statistics.median(cpu), "wall": statistics.median(wall), "loss": loss}


def polyray_worker(folder: Path, dtype: Literal["float32", "bfloat16"], *, dropout: bool) -> None:
    import torch

    torch.set_num_threads(2)
    from distill.encoders.checkpoints import load_encoder
    from distill.numerics.batching import fitting_tokens
    from distill.train.batches import Example, make_batch
    from distill.train.objective import Objective
    from distill.train.settings import TrainSettings
    from distill.train.trainer import Trainer

    encoder = load_encoder(folder / "student" if dropout else folder / "student-without-dropout")
    settings = TrainSettings(learning_rate=1e-5, batch_size=QUERIES, steps=100, dtype=dtype)
    trainer = Trainer(encoder, encoder, settings, Objective(settings.loss), 0)
    budget = fitting_tokens(settings.tokens_per_batch, encoder.backbone.config, "cpu")
    tokens = []

    def step(data: dict[str, list]) -> float:
        rows = zip(data["queries"], data["passages"], data["scores"], strict=True)
        examples = [
            Example(str(i), query, [f"{i}-{j}" for j in range(N_WAY)], passages, scores, i)
            for i, (query, passages, scores) in enumerate(rows)
        ]
        done = trainer.train_step([make_batch(encoder, examples, budget)])
        tokens.append(done.tokens)
        return done.loss

    result = run_steps(step, json.loads((folder / "steps.json").read_text()))
    print(json.dumps(result | {"tokens": statistics.median(tokens[WARM_UP:]), "peak": peak(dtype), "memory": memory()}))


def memory() -> float:
    """Return the process's largest resident set in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak(dtype: str) -> float:
    """Operations per CPU-second of a large matrix product: what the machine gives at best."""
    import torch

    kind = getattr(torch, dtype)
    a, b = torch.randn(2048, 2048).to(kind), torch.randn(2048, 2048).to(kind)
    best = 0.0
    for _ in range(4):
        start = time.process_time()
        _ = a @ b
        best = max(best, 2 * 2048**3 / (time.process_time() - start))
    return best


def operations(tokens: float) -> float:
    """Forward and backward of a step on its unpadded tokens."""
    from distill.models.costs import EncoderShape

    texts = QUERIES * (N_WAY + 1)
    return texts * EncoderShape(6, 384, 1536).train(tokens / texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pylate", help="interpreter of an environment with pylate")
    parser.add_argument("--plaidx", help="interpreter of an environment with plaid_x 0.3.3")
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32"], help="float32, bfloat16: slow where the processor lacks it"
    )
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "DTYPE", "DROPOUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        polyray_worker(Path(options.worker[0]), options.worker[1], dropout=options.worker[2] == "dropout")
        return
    own = [sys.executable, __file__, "--worker"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        commands = {}
        for dtype in options.dtypes:
            commands["Polyray", dtype] = [*own, name, dtype, "dropout"]
            commands["Polyray, dropout 0", dtype] = [*own, name, dtype, "none"]
            if options.pylate:
                commands["PyLate", dtype] = [options.pylate, str(HERE / "training_speed_pylate.py"), name, dtype]
        if options.plaidx:
            commands["PLAID-X", "float32"] = [options.plaidx, str(HERE / "training_speed_plaidx.py"), name]
        results = measure(commands)
    report(results)


def measure(commands: dict[tuple[str, str], list[str]]) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    environment = os.environ | {
        "OMP_NUM_THREADS": "2",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(HERE.parent),
    }
    for _ in range(2):
        for key, command in commands.items():
            environment["PYTHONPATH"] = str(HERE.parent) if key[0].startswith("Polyray") else str(HERE)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{key}: {done.stderr[-2000:]}")
            result = json.loads(done.stdout.strip().splitlines()[-1])
            if key not in found or result["cpu"] < found[key]["cpu"]:
                found[key] = result
    return found


def report(results: dict[tuple[str, str], dict[str, float]]) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores; {QUERIES} queries x {N_WAY} passages, 2 threads")
    print(
        "| | precision | CPU-s a step | s a step | times Polyray's | times Polyray's without dropout | memory |\n"
        + "|---" * 7
        + "|"
    )
    for (system, dtype), row in results.items():
        ratios = [row["cpu"] / results[name, dtype]["cpu"] for name in ("Polyray", "Polyray, dropout 0")]
        cells = [system, dtype, f"{row['cpu']:.2f}", f"{row['wall']:.2f}", *(f"{ratio:.2f}" for ratio in ratios)]
        print("| " + " | ".join([*cells, f"{row['memory']:.0f} MB"]) + " |")
    for (system, dtype), row in results.items():
        if "peak" in row:
            share = operations(row["tokens"]) / row["cpu"] / row["peak"]
            peak_gflops = row["peak"] / 1e9
            print(
                f"{system}, {dtype}: {row['tokens']:.0f} tokens a step, {share:.0%} of {peak_gflops:.0f} Gflop/s a CPU-second"
            )


if __name__ == "__main__":
    main()
