"""The methods beside each other on XQuAD: what differs is the examples or the loss; start, steps and everything else are equal.

    python benchmarks/xquad_methods.py DIR --out results.jsonl --seeds 5

DIR holds XQuAD as multilingual retrieval: passages.jsonl.gz and queries.jsonl.gz (doc_id or query_id, lang, text, split_article) and
qrels/all.qrels. English questions; 240 passages in each of de, es, ru, zh, ar. Training questions are about other articles than the
test's 318. Candidates are the BM25 top 50 in English; the teacher is the English encoder of the `embedded` extra, cosines times 20. The
student starts from the one that ships with the project. Each training is written to the results file when it is done, seed by seed, and
is not done again; with all results there, only the tables are printed.
"""

import argparse
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from scipy import stats

from distill.encoders.checkpoints import load_late_interaction
from distill.encoders.encoder import Encoder
from distill.encoders.late_interaction import LateInteractionEncoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.measures.significance import paired_t_test
from distill.models.locate import BUNDLED_STUDENT, BUNDLED_TEACHER, locate
from distill.numerics.maxsim import maxsim_all
from distill.score.settings import BiEncoderTeacher
from distill.score.teachers.encoders import BiEncoder
from distill.select.bm25 import Bm25
from distill.tables import EXAMPLES
from distill.train.batches import make_batch
from distill.train.loss_settings import CrossEntropyLoss, KlLoss, LossSettings, RelevanceMarginLoss
from distill.train.objective import Objective
from distill.train.settings import TrainSettings
from distill.train.stream import examples_of
from distill.train.trainer import Trainer

LANGUAGES = ("de", "es", "ru", "zh", "ar")
ROWS, N_WAY, TOKENS_PER_CHUNK = 10, 4, 2048
PASSAGE_TOKENS = 128


@dataclass(frozen=True)
class System:
    """A method: how examples are made, what is minimised, and which student learns."""

    draw: str
    loss: LossSettings = field(default_factory=lambda: KlLoss(teacher_scale=20, student_scale=2))
    single_vector: bool = False
    translated_scores: bool = False
    share: float = 1.0


COSINE_KL = KlLoss(teacher_scale=20, student_scale=20)
SYSTEMS = {
    "mix_passages": System("mix_passages"),
    "mix_entries": System("mix_entries"),
    "round_robin": System("round_robin"),
    "translate_train": System("translate_train", CrossEntropyLoss(scale=2)),
    "english_distillation": System("english"),
    "translated_scores": System("mix_entries", translated_scores=True),
    "single_vector_kl": System("mix_passages", COSINE_KL, single_vector=True),
    "arm_distributed": System("pairs", RelevanceMarginLoss(), single_vector=True),
    "arm_eighth": System("pairs", RelevanceMarginLoss(), single_vector=True, share=1 / 8),
    "single_vector_kl_eighth": System("mix_passages", COSINE_KL, single_vector=True, share=1 / 8),
}


@dataclass(frozen=True)
class Data:
    """Questions, passages by language, judgements, candidates and teacher scores (one matrix for each language of the passages)."""

    train: list[tuple[str, str]]
    test: list[tuple[str, str]]
    passages: Mapping[str, Mapping[str, str]]
    relevant: Mapping[str, str]
    candidates: Mapping[str, list[str]]
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]


def read(folder: Path) -> Data:
    rows = lines(folder / "passages.jsonl.gz")
    passages = {
        lang: {row["doc_id"]: f"{row['title']} {row['text']}" for row in rows if row["lang"] == lang}
        for lang in ("en", *LANGUAGES)
    }
    queries = lines(folder / "queries.jsonl.gz")
    english = {(row["query_id"], row["text"], row["split_article"]) for row in queries if row["lang"] == "en"}
    split = {name: sorted((i, text) for i, text, where in english if where == name) for name in ("train", "test")}
    qrels = [line.split() for line in (folder / "qrels/all.qrels").read_text().splitlines()]
    ids = sorted(passages["en"])
    bm25 = Bm25(ids, [passages["en"][i] for i in ids])
    candidates = {}
    for query_id, text in split["train"]:
        found = [i for i, _ in bm25.search(text, 50)]
        candidates[query_id] = found + [i for i in ids if i not in found][: 50 - len(found)]
    relevant = {query: passage for query, _, passage, grade in qrels if int(grade) > 0}
    return Data(
        split["train"], split["test"], passages, relevant, candidates, score(split["train"], passages, candidates)
    )


def lines(file: Path) -> list[dict]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def score(
    queries: Sequence[tuple[str, str]], passages: Mapping[str, Mapping[str, str]], candidates: Mapping[str, list[str]]
) -> dict[str, dict[str, dict[str, float]]]:
    teacher = BiEncoder(BiEncoderTeacher(model=BUNDLED_TEACHER), "float32", 16_384, "cpu")
    texts = [text for _, text in queries]
    found = {}
    for lang in ("en", *LANGUAGES):
        ids = list(passages[lang])
        place = {passage_id: i for i, passage_id in enumerate(ids)}
        pairs = [(q, place[p]) for q, (query_id, _) in enumerate(queries) for p in candidates[query_id]]
        scored = iter(teacher.score(texts, [passages[lang][i] for i in ids], pairs).scores.tolist())
        found[lang] = {query_id: {p: next(scored) for p in candidates[query_id]} for query_id, _ in queries}
    return found


def examples(system: System, data: Data, seed: int, steps: int) -> list[list[dict]]:
    """Return the rows of each step. Round robin has as many rows as the others, of fewer questions."""
    queries = list(data.train)
    if system.share < 1:
        Random(0).shuffle(queries)
        queries = queries[: round(len(queries) * system.share)]
    random = Random(seed)
    drawn: list[dict] = []
    while len(drawn) < steps * ROWS:
        random.shuffle(queries)
        for query in queries:
            drawn += draw(system, data, query, random)
    return [
        [row | {"position": i} for i, row in enumerate(drawn[step * ROWS : (step + 1) * ROWS])] for step in range(steps)
    ]


def draw(system: System, data: Data, query: tuple[str, str], random: Random) -> list[dict]:
    query_id, text = query
    positive = data.relevant[query_id]
    others = [i for i in data.candidates[query_id] if i != positive]
    match system.draw:
        case "translate_train":
            ids = [positive, *random.sample(others, N_WAY - 1)]
        case "pairs":
            ids = [positive, random.choice(others)]
        case _:
            ids = random.sample(data.candidates[query_id], N_WAY)
    match system.draw:
        case "english":
            languages = [["en"] * len(ids)]
        case "mix_entries":
            languages = [[random.choice(LANGUAGES)] * len(ids)]
        case "round_robin":
            languages = [[lang] * len(ids) for lang in LANGUAGES]
        case _:
            languages = [[random.choice(LANGUAGES) for _ in ids]]
    return [
        {
            "query_id": query_id, "query": text, "query_lang": "en", "passage_ids": ids, "langs": langs,
            "passages": [data.passages[lang][i] for i, lang in zip(ids, langs, strict=True)],
            "scores": [
                data.scores[lang if system.translated_scores else "en"][query_id].get(i)
                for i, lang in zip(ids, langs, strict=True)
            ],
        }
        for langs in languages
    ]  # fmt: skip


def start(system: System) -> Encoder:
    found = load_late_interaction(locate(BUNDLED_STUDENT))
    if not system.single_vector:
        shorter = replace(found.settings, passage_tokens=PASSAGE_TOKENS)
        return LateInteractionEncoder(found.backbone, found.projection, found.tokenizer, shorter)
    settings = SingleVectorSettings(query_tokens=32, passage_tokens=PASSAGE_TOKENS)
    return SingleVectorEncoder(found.backbone, found.tokenizer, settings)


def train(system: System, data: Data, seed: int, steps: int) -> Encoder:
    torch.manual_seed(seed)
    encoder = start(system)
    rate = 5e-4 if not system.single_vector else 2e-4
    settings = TrainSettings(
        loss=system.loss,
        learning_rate=rate,
        schedule="linear",
        warmup_steps=5,
        batch_size=ROWS,
        steps=steps,  # pyright: ignore
    )
    trainer = Trainer(encoder, encoder, settings, Objective(settings.loss), seed)
    for rows in examples(system, data, seed, steps):
        trainer.train_step([make_batch(encoder, examples_of(EXAMPLES.from_rows(rows)), TOKENS_PER_CHUNK)])
    return encoder


@torch.inference_mode()
def evaluate(encoder: Encoder, data: Data) -> dict[str, list[float]]:
    """nDCG@20 of every test question in every language: one passage is relevant."""
    encoder.eval()
    queries = encoder.encode_queries([text for _, text in data.test])
    found = {}
    for lang in LANGUAGES:
        ids = sorted(data.passages[lang])
        vectors = encoder.encode_passages([data.passages[lang][i] for i in ids], TOKENS_PER_CHUNK)
        block = torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True)
        keep = torch.arange(block.shape[1])[None] < torch.tensor([len(v) for v in vectors])[:, None]
        scores = maxsim_all(queries, block, keep)
        own = torch.tensor([ids.index(data.relevant[query_id]) for query_id, _ in data.test])
        ranks = 1 + (scores > scores.gather(1, own[:, None])).sum(1)
        found[lang] = torch.where(ranks <= 20, 1 / torch.log2(ranks + 1.0), torch.zeros(())).tolist()
    return found


def mean_by_query(results: Sequence[dict]) -> np.ndarray:
    """Return the mean over languages and seeds, question by question."""
    return np.mean([[result["values"][lang] for lang in LANGUAGES] for result in results], axis=(0, 1))


def tables(results: Mapping[str, Sequence[dict]]) -> None:
    print("| system | nDCG@20 | " + " | ".join(LANGUAGES) + " | by seed |\n|---|---|" + "---|" * (len(LANGUAGES) + 1))
    for name, rows in results.items():
        by_seed = [np.mean([row["values"][lang] for lang in LANGUAGES]) for row in rows]
        cells = [f"{np.mean([row['values'][lang] for row in rows]):.3f}" for lang in LANGUAGES]
        print(
            f"| {name} | {np.mean(by_seed):.3f} | "
            + " | ".join(cells)
            + f" | {' '.join(f'{v:.3f}' for v in by_seed)} |"
        )
    print(
        "\n| a | b | a - b | 95 % interval | p (t-test) | p, Bonferroni | p (TOST at 0.05) |\n|---|---|---|---|---|---|---|"
    )
    pairs = [
        ("mix_passages", "mix_entries"), ("mix_passages", "round_robin"), ("mix_entries", "round_robin"),
        ("mix_passages", "translate_train"), ("mix_passages", "english_distillation"), ("mix_entries", "translated_scores"),
        ("arm_distributed", "single_vector_kl"), ("arm_eighth", "single_vector_kl"), ("arm_eighth", "arm_distributed"),
        ("single_vector_kl_eighth", "single_vector_kl"),
    ]  # fmt: skip
    pairs = [(a, b) for a, b in pairs if results.get(a) and results.get(b)]
    for a, b in pairs:
        seeds = {row["seed"] for row in results[a]} & {row["seed"] for row in results[b]}
        x, y = (mean_by_query([row for row in results[name] if row["seed"] in seeds]) for name in (a, b))
        test = paired_t_test(x, y)
        print(
            f"| {a} | {b} | {test.difference:+.3f} | {test.low:+.3f} to {test.high:+.3f} | {test.p:.2g} | "
            f"{min(1.0, test.p * len(pairs)):.2g} | {tost(x - y):.2g} |"
        )


def tost(difference: np.ndarray, margin: float = 0.05) -> float:
    """Return the p-value of two one-sided t-tests that the mean difference lies within the margin (Schuirmann 1987)."""
    low: Any = stats.ttest_1samp(difference, -margin, alternative="greater")
    high: Any = stats.ttest_1samp(difference, margin, alternative="less")
    return float(max(low.pvalue, high.pvalue))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    wanted = [(seed, name) for seed in range(options.seeds) for name in SYSTEMS]
    missing = [pair for pair in wanted if pair not in {(row["seed"], row["system"]) for row in done}]
    if missing:
        data = read(options.data)
        for seed, name in missing:
            encoder = train(SYSTEMS[name], data, seed, options.steps)
            row = {"seed": seed, "system": name, "values": evaluate(encoder, data)}
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            done.append(row)
            print(seed, name, f"{np.mean([np.mean(v) for v in row['values'].values()]):.3f}", flush=True)
    tables({name: [row for row in done if row["system"] == name] for name in SYSTEMS})


if __name__ == "__main__":
    main()
