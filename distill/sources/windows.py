"""Texts cut into windows of a number of words or tokens, which together cover the text.

A text is read as atoms, which no window cuts: words, characters of scripts without spaces, or tokens. What stands between two atoms goes
with the first of them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import regex

UNIT = 6
"""The weight of a word or token; characters of scripts without spaces weigh a part of it."""
EAST_ASIAN = UNIT // 2
"""The weight of a character of Chinese or Japanese, where most words have one or two."""
SOUTHEAST_ASIAN = UNIT // 3
"""The weight of a character, a base with its marks, of Thai, Lao, Khmer or Burmese, where words have three or more."""
LONGEST_WORD = 100
"""Characters after which a run without spaces counts as another word: a text without any space is cut too."""
FREE_MARKS = 10
"""Characters of punctuation or symbols in a row that count as a word; fewer, as ordinary punctuation has, count nothing."""

_EAST = r"\p{Han}\p{Hiragana}\p{Katakana}\u30FC\uFF70"
_SOUTHEAST = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERS = r"\p{L}\p{N}\p{M}_\u200C\u200D"
_ATOM = regex.compile(
    rf"(?P<word>[[{_LETTERS}]--[{_EAST}{_SOUTHEAST}]]{{1,{LONGEST_WORD}}})"
    rf"|(?P<east>[{_EAST}]\p{{M}}*)"
    rf"|(?P<southeast>[{_SOUTHEAST}]\p{{M}}*)"
    rf"|(?P<marks>[^\s{_LETTERS}]{{{FREE_MARKS}}})",
    regex.VERSION1,
)
_WEIGHTS = {"word": UNIT, "east": EAST_ASIAN, "southeast": SOUTHEAST_ASIAN, "marks": UNIT}


class Atom(NamedTuple):
    """A part of a text that no window cuts: the character at which it begins, and its weight, `UNIT` for a word or token."""

    start: int
    weight: int


def word_atoms(text: str) -> list[Atom]:
    """Return the words of a text in any script: runs of letters, digits and marks.

    In scripts written without spaces each character is an atom that weighs a part of a word, so that windows hold about as much text in
    every language.
    """
    return [Atom(match.start(), _WEIGHTS[str(match.lastgroup)]) for match in _ATOM.finditer(text)]


def token_atoms(offsets: Iterable[tuple[int, int]]) -> list[Atom]:
    """Return the tokens of a text as atoms, from the range of characters of each; tokens that share a character are one atom."""
    atoms: list[Atom] = []
    covered = 0
    for start, end in offsets:
        if atoms and (start < covered or start == atoms[-1].start):
            atoms[-1] = Atom(atoms[-1].start, atoms[-1].weight + UNIT)
        else:
            atoms.append(Atom(start, UNIT))
        covered = max(covered, end)
    return atoms


def windows(text: str, atoms: Sequence[Atom], length: int, stride: int) -> list[tuple[int, int]]:
    """Return where the windows of a text begin and end; one over the whole text where it is no longer than `length`.

    A window begins `stride` behind the one before it, or where that one ends if it ends earlier, and holds as many atoms as fit in
    `length`, at least one. The last one ends with the text, and none lies within another. Every character is in a window.

    Args:
        text: the text.
        atoms: its atoms.
        length: most words or tokens of a window.
        stride: words or tokens from the beginning of a window to that of the next, at most `length`.
    """
    ends = list(accumulate(atom.weight for atom in atoms))
    found: list[tuple[int, int]] = []
    first = 0
    while True:
        before = ends[first - 1] if first else 0
        begin = atoms[first].start if first else 0
        # The first atom that does not fit any more.
        stop = max(first + 1, bisect_right(ends, before + UNIT * length))
        if stop >= len(atoms):
            return [*found, (begin, len(text))]
        found.append((begin, atoms[stop].start))
        # An atom begins where the one before it ends.
        first = max(first + 1, min(stop, bisect_left(ends, before + UNIT * stride) + 1))
