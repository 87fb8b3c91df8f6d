"""Meta-tasks as text, to read before anything is trained on them."""

from collections.abc import Iterator, Mapping
from typing import Any

_SETS = ("support", "query", "second query")
_WIDTH = 110


def readable(row: Mapping[str, Any]) -> str:
    """Return a row of RETRIEVAL_TASKS or SIMILARITY_TASKS as text, a line for each text, cut to 110 characters.

    A candidate that answers its question has a `+`, the other one a `-`; a sentence pair has its score, from 0 to 1.
    """
    lines = [f"task {row['position']}  {row['transfer']}"]
    items = _triplet if "questions" in row else _pair
    last = None
    for position, number in enumerate(row["sets"]):
        if number != last:
            lines.append(f"  {_SETS[number]}")
        last = number
        lines += items(row, position)
    return "\n".join(lines)


def _triplet(row: Mapping[str, Any], position: int) -> Iterator[str]:
    lang = row["positive_langs"][position]
    yield _line("?", row["question_langs"][position], row["questions"][position])
    yield _line("  +", lang, row["positives"][position])
    yield _line("  -", lang, row["negatives"][position])


def _pair(row: Mapping[str, Any], position: int) -> Iterator[str]:
    yield _line(f"{row['scores'][position]:.2f}", row["first_langs"][position], row["firsts"][position])
    yield _line("    ", row["second_langs"][position], row["seconds"][position])


def _line(mark: str, lang: str, text: str) -> str:
    words = " ".join(text.split())
    return f"    {mark} {lang}  {words if len(words) <= _WIDTH else words[: _WIDTH - 1] + '…'}"
