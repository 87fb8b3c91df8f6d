"""Meta-tasks as text, to be looked at before anything is trained on them."""

from collections.abc import Iterator, Mapping
from typing import Any

_SETS = ("support", "query", "second query")
_WIDTH = 110


def readable(row: Mapping[str, Any]) -> str:
    """A row of RETRIEVAL_TASKS or SIMILARITY_TASKS, each text on a line of its own and cut where it is long.

    A candidate that answers its question has a `+`, the other one a `-`; a sentence pair has its score, from 0 to 1.
    """
    lines = [f"task {row['position']}  {row['transfer']}"]
    items = _triplet if "questions" in row else _pair
    last = None
    for place, number in enumerate(row["sets"]):
        if number != last:
            lines.append(f"  {_SETS[number]}")
        last = number
        lines += items(row, place)
    return "\n".join(lines)


def _triplet(row: Mapping[str, Any], place: int) -> Iterator[str]:
    lang = row["positive_langs"][place]
    yield _line("?", row["question_langs"][place], row["questions"][place])
    yield _line("  +", lang, row["positives"][place])
    yield _line("  -", lang, row["negatives"][place])


def _pair(row: Mapping[str, Any], place: int) -> Iterator[str]:
    yield _line(f"{row['scores'][place]:.2f}", row["first_langs"][place], row["firsts"][place])
    yield _line("    ", row["second_langs"][place], row["seconds"][place])


def _line(mark: str, lang: str, text: str) -> str:
    words = " ".join(text.split())
    return f"    {mark} {lang}  {words if len(words) <= _WIDTH else words[: _WIDTH - 1] + '…'}"
