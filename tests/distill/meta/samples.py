"""Small sources of questions and of sentence pairs, and a tiny encoder of single vectors."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoModel

from distill.encoders.checkpoints import save_encoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.models.loading import load_tokenizer
from distill.tables import ANSWERED, ANSWERS, QUESTIONS, SENTENCE_PAIRS

WORDS = ["bee", "honey", "river", "bridge", "stone", "city", "map", "light", "wave", "sound", "sun", "flower"]
LANGUAGES = ("de", "en")
ARTICLES = 6


def save_single_vector(tiny_bert: Path, folder: Path) -> None:
    """A checkpoint of one vector for a text on a tiny BERT."""
    backbone = AutoModel.from_pretrained(tiny_bert, dtype=torch.float32)
    settings = SingleVectorSettings(query_tokens=16, passage_tokens=16)
    save_encoder(SingleVectorEncoder(backbone, load_tokenizer(str(tiny_bert)), settings), folder)


def text(number: int, lang: str) -> str:
    """Three words that differ by number and language."""
    return " ".join(WORDS[(number * step + len(lang) + (lang == "de")) % len(WORDS)] for step in (1, 3, 5))


def questions() -> dict[str, pa.Table]:
    """Two questions on each of six articles in two languages; each is answered by one candidate in each language, of three."""
    asked, given, answered = [], [], []
    for article in range(ARTICLES):
        common = {"article": f"a{article}", "split": ("train", "dev", "test")[article % 3]}
        for lang in LANGUAGES:
            for number in range(3):
                row = {"answer_id": f"{lang}-{article}-{number}", "lang": lang, "text": text(article + number, lang)}
                given.append({**row, **common})
            for number in range(2):
                xling_id = f"x{article}-{number}"
                row = {"question_id": f"{xling_id}-{lang}", "xling_id": xling_id, "lang": lang}
                asked.append({**row, "text": text(2 * article + number, lang), **common})
                answered.append({"xling_id": xling_id, "answer_id": f"{lang}-{article}-{number}"})
    return {
        "questions": QUESTIONS.from_rows(asked).sort_by([("xling_id", "ascending"), ("lang", "ascending")]),
        "answers": ANSWERS.from_rows(given).sort_by("answer_id"),
        "answered": ANSWERED.from_rows(answered).sort_by([("xling_id", "ascending"), ("answer_id", "ascending")]),
    }


def sentence_pairs(langs: tuple[str, ...] = LANGUAGES) -> dict[str, pa.Table]:
    """Nine pairs, three of each split."""
    rows = [
        {
            "pair_id": f"{split}/{number}",
            "lang": lang,
            "first": text(number, lang),
            "second": text(number + 1, lang),
            "score": number / 4,
            "split": split,
        }
        for split in ("dev", "test", "train")
        for number in range(3)
        for lang in langs
    ]
    return {"sentence_pairs": SENTENCE_PAIRS.from_rows(rows)}


def write_lines(path: Path, rows: list[Any]) -> str:
    """A JSONL file; strings are written as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


TASK_WORDS = [
    "honey",
    "bee",
    "dance",
    "hive",
    "flower",
    "sun",
    "angle",
    "river",
    "bridge",
    "stone",
    "arch",
    "city",
    "map",
]


def task_row(position: int, sets: int) -> dict[str, Any]:
    """A row of RETRIEVAL_TASKS with two questions in each of its sets."""
    numbers = [number // 2 for number in range(2 * sets)]

    def words(step: int) -> list[str]:
        return [
            f"{TASK_WORDS[(position + number * step) % 13]} {TASK_WORDS[(position * step + number) % 13]}"
            for number in numbers
        ]

    def named(name: str) -> list[str]:
        return [f"{name}{position}-{number}" for number in range(2 * sets)]

    return {
        "position": position,
        "transfer": "de_de-de_fr",
        "sets": numbers,
        "question_ids": named("q"),
        "question_langs": ["de"] * len(numbers),
        "questions": words(2),
        "positive_ids": named("p"),
        "positive_langs": ["de"] * len(numbers),
        "positives": words(3),
        "negative_ids": named("n"),
        "negatives": words(5),
    }
