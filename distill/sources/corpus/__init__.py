"""The bundled parallel corpus: 240 passages in seven languages, 720 English queries, and a fixed split.

README.md beside this file is its datasheet.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Literal

LANGUAGES = ("en", "de", "fr", "es", "zh", "fa", "ru")
"""The languages of every passage and of every question; the first is the one of the other queries."""

QUERY_TYPES = ("keyword", "question", "paraphrase")
"""The three queries of a passage. Only questions exist in all languages."""

SIBLINGS = 4
"""Passages in a cluster. They follow one another in the file."""

FILE = "corpus.jsonl"
"""Name of the file, as it appears in tables and messages."""

FULLY_RELEVANT, PARTLY_RELEVANT = 3, 1
"""Grades of the passage that a query was written for, and of siblings that answer it in part."""


def rows() -> list[dict[str, Any]]:
    """Return the passages in file order, as README.md describes them. Cost: 1.4 MB of JSON, some 20 ms."""
    text = files(__name__).joinpath(FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def split_of(index: int, query_type: str) -> Literal["train", "dev", "test"]:
    """Return the split of a query, from the position of its passage in the file (from 0) and its type.

    With cluster c and sibling s of the passage, the type number (c + s) mod 3 is held out and the two others are for
    training. The held-out query is for development where s = c mod 4, otherwise for the test. So each passage has two
    training queries, each cluster one development query, and the types are equally frequent in each split.
    """
    cluster, sibling = divmod(index, SIBLINGS)
    if query_type != QUERY_TYPES[(cluster + sibling) % len(QUERY_TYPES)]:
        return "train"
    return "dev" if sibling == cluster % SIBLINGS else "test"


def passages() -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every passage in every language: its line number in the file, and id, lang, title and text."""
    for line, row in enumerate(rows(), start=1):
        for lang in LANGUAGES:
            yield line, {"id": row["id"], "lang": lang, "title": row["title"][lang], "text": row["text"][lang]}


def queries() -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every query in every language that it exists in: its line number in the file, and id, lang, text and split."""
    for index, row in enumerate(rows()):
        for query_type in QUERY_TYPES:
            query = row["queries"][query_type]
            versions = query if isinstance(query, dict) else {LANGUAGES[0]: query}
            for lang, text in versions.items():
                record = {
                    "id": f"{row['id']}.{query_type}",
                    "lang": lang,
                    "text": text,
                    "split": split_of(index, query_type),
                }
                yield index + 1, record


def qrels() -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every judgement: its line number in the file, and query, passage and grade."""
    for line, row in enumerate(rows(), start=1):
        for query_type in QUERY_TYPES:
            query = f"{row['id']}.{query_type}"
            yield line, {"query": query, "passage": row["id"], "grade": FULLY_RELEVANT}
            for sibling in row["partially_relevant"][query_type]:
                yield line, {"query": query, "passage": sibling, "grade": PARTLY_RELEVANT}
