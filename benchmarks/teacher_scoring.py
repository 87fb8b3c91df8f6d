"""Pairs per CPU-second of teachers on transformers: ours, padding to a fixed length, padding in arrival order, sentence-transformers.

    pip install sentence-transformers
    python benchmarks/teacher_scoring.py [--pairs 1024] [--threads 2]

monoT5-style scoring by a T5 of 4 + 4 layers, d = 256, and a MiniLM-sized cross-encoder, 6 layers, d = 384, with random weights and the
vocabularies' usual sizes. Lengths are lognormal, 91 tokens a prompt in the mean. Every variant scores the same pairs, and the scores must
agree. Padding to 512 scores an eighth of the pairs: each costs the same. CPU-seconds of the process, tokenising included.
"""

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, T5Config, T5ForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))

from distill.score.settings import CrossEncoderTeacher, MonoT5Teacher
from distill.score.teachers import load_teacher
from tests.tiny_teachers import T5_ANSWERS, t5_pieces, word_pieces

Pairs = list[tuple[int, int]]
WORDS = [
    "the",
    "dance",
    "bees",
    "is",
    "of",
    "in",
    "to",
    "are",
    "der",
    "stone",
    "cross",
    "sun",
    "arches",
    "this",
    "what",
    "city",
]
PER_QUERY = 16


def texts(count: int, mean_words: float) -> tuple[list[str], list[str], Pairs]:
    rng = np.random.default_rng(0)

    def text(words: float) -> str:
        return " ".join(rng.choice(WORDS, max(3, int(words))))

    queries = [text(int(rng.integers(4, 9))) for _ in range(count // PER_QUERY)]
    passages = [text(rng.lognormal(np.log(mean_words) - 0.08, 0.4)) for _ in range(count)]
    pairs = [(place // PER_QUERY, place) for place in range(count)]
    return queries, passages, pairs


def measure(work: Callable[[], np.ndarray], pairs: int) -> tuple[np.ndarray, float]:
    start = time.process_time()
    scores = work()
    return scores, pairs / (time.process_time() - start)


def padded_tokens(lengths: list[int], size: int) -> int:
    return sum(max(part) * len(part) for part in (lengths[i : i + size] for i in range(0, len(lengths), size)))


def full_head(model: Any, tokenizer: Any, prompts: list[str], fixed: bool) -> np.ndarray:
    """Score as toolkits do: batches of 32 in arrival order, the whole vocabulary's logits, two of which are used."""
    answers = tokenizer.convert_tokens_to_ids(list(T5_ANSWERS))
    found = []
    for start in range(0, len(prompts), 32):
        part = prompts[start : start + 32]
        padding: Any = {"padding": "max_length", "max_length": 512} if fixed else {"padding": True}
        inputs = tokenizer(part, return_tensors="pt", truncation=True, **({"max_length": 512} | padding))
        first = torch.zeros(len(part), 1, dtype=torch.long)
        with torch.inference_mode():
            logits = model(**inputs, decoder_input_ids=first).logits[:, 0, answers]
        found.append((logits[:, 1] - logits[:, 0]).numpy())
    return np.concatenate(found)


def monot5(folder: Path, count: int) -> None:
    t5_pieces(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32_128, d_model=256, d_kv=64, d_ff=1024, num_layers=4, num_heads=4,
    )  # fmt: skip
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    teacher: Any = load_teacher(MonoT5Teacher(model=str(folder), answers=T5_ANSWERS), "float32", 16_384, "cpu")
    queries, passages, pairs = texts(count, 38)
    prompts = [f"Query: {queries[q]} Document: {passages[p]} Relevant:" for q, p in pairs]
    lengths = [len(pair.ids) for pair in teacher.composer.compose(queries, passages, pairs)]
    describe("monoT5-style, T5 4+4 layers, d = 256", lengths)
    few = count // 8
    full_head(model, tokenizer, prompts[:32], fixed=False)
    teacher.score(queries, passages, pairs[:32])
    ours, rate = measure(lambda: teacher.score(queries, passages, pairs).scores, count)
    arrival, arrival_rate = measure(lambda: full_head(model, tokenizer, prompts, fixed=False), count)
    fixed, fixed_rate = measure(lambda: full_head(model, tokenizer, prompts[:few], fixed=True), few)
    again, again_rate = measure(lambda: teacher.score(queries, passages, pairs).scores, count)
    assert np.abs(ours - arrival).max() < 1e-4
    assert np.abs(ours[:few] - fixed).max() < 1e-4
    assert (ours == again).all()
    rate = (rate + again_rate) / 2
    row("padded to 512, batches of 32, full head", 512 * count, fixed_rate, rate)
    row("padded to the longest in arrival order, full head", padded_tokens(lengths, 32), arrival_rate, rate)
    row("ours", None, rate, rate)


def cross_encoder(folder: Path, count: int) -> None:
    from sentence_transformers import CrossEncoder, __version__

    word_pieces(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)
    teacher: Any = load_teacher(CrossEncoderTeacher(model=str(folder)), "float32", 16_384, "cpu")
    theirs = CrossEncoder(str(folder), activation_fn=torch.nn.Identity(), device="cpu")
    queries, passages, pairs = texts(count, 62)
    as_texts = [(queries[q], passages[p]) for q, p in pairs]
    lengths = [len(pair.ids) for pair in teacher.composer.compose(queries, passages, pairs)]
    describe("Cross-encoder, BERT 6 layers, d = 384", lengths)
    theirs.predict(as_texts[:32], show_progress_bar=False)
    teacher.score(queries, passages, pairs[:32])
    ours, first = measure(lambda: teacher.score(queries, passages, pairs).scores, count)
    other, other_first = measure(lambda: theirs.predict(as_texts, show_progress_bar=False), count)
    _, second = measure(lambda: teacher.score(queries, passages, pairs).scores, count)
    _, other_second = measure(lambda: theirs.predict(as_texts, show_progress_bar=False), count)
    assert np.abs(ours - other).max() < 1e-4
    rate = (first + second) / 2
    name = f"sentence-transformers {__version__} CrossEncoder.predict"
    row(name, padded_tokens(sorted(lengths, reverse=True), 32), (other_first + other_second) / 2, rate)
    row("ours", None, rate, rate)


def describe(what: str, lengths: list[int]) -> None:
    middle, high = np.percentile(lengths, [50, 95])
    print(f"\n{what}: {len(lengths)} pairs of {np.mean(lengths):.0f} tokens in the mean, median {middle:.0f},", end=" ")
    print(f"95 % under {high:.0f}, longest {max(lengths)}; {sum(lengths):,} tokens\n")
    print("| variant | padded tokens | pairs per CPU-second | ours is faster by |\n|---|---|---|---|")


def row(variant: str, tokens: int | None, rate: float, ours: float) -> None:
    print(f"| {variant} | {'' if tokens is None else f'{tokens:,}'} | {rate:.1f} | {ours / rate:.2f} x |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)
    print(
        f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    with tempfile.TemporaryDirectory() as parent:
        for work in (monot5, cross_encoder):
            folder = Path(parent) / work.__name__
            folder.mkdir()
            work(folder, arguments.pairs)


if __name__ == "__main__":
    main()
