"""Windows of texts: worked by hand, and properties on random texts of many scripts."""

from itertools import pairwise
from random import Random

import pytest

from distill.sources.windows import UNIT, token_atoms, windows, word_atoms


def cut(text: str, length: int, stride: int | None = None) -> list[str]:
    return [text[begin:end] for begin, end in windows(text, word_atoms(text), length, stride or length)]


@pytest.mark.parametrize(
    ("length", "stride", "expected"),
    [
        (7, None, ["one two, three four. five six seven"]),
        (3, None, ["one two, three ", "four. five six ", "seven"]),
        (4, 2, ["one two, three four. ", "three four. five six ", "five six seven"]),
        (5, 3, ["one two, three four. five ", "four. five six seven"]),
        (5, 1, ["one two, three four. five ", "two, three four. five six ", "three four. five six seven"]),
    ],
)
def test_words(length: int, stride: int | None, expected: list[str]) -> None:
    assert cut("one two, three four. five six seven", length, stride) == expected


def test_what_stands_before_the_first_word_and_behind_the_last_stays() -> None:
    assert cut("“One two” (three).", 2) == ["“One two” (", "three)."]


@pytest.mark.parametrize("text", ["", " ", "...", "?!"])
def test_a_text_without_words_is_one_window(text: str) -> None:
    assert windows(text, word_atoms(text), 1, 1) == [(0, len(text))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("蜜蜂跳舞", 2),
        ("データベース", 3),  # U+30FC is a letter of the script, as in Lucene
        ("die Biene, the bee", 4),
        ("bee蜜蜂", 2),
        ("foo-bar's", 3),
        ("नमस्ते दुनिया", 2),
        ("Gesamt\u00adkonzept", 2),
    ],
)
def test_the_weight_of_words_in_any_script(text: str, words: float) -> None:
    assert sum(atom.weight for atom in word_atoms(text)) == words * UNIT


def test_marks_belong_to_their_base() -> None:
    # Consonants with a vowel above or below and a tone mark; the leading vowel is a character of its own.
    assert [atom.start for atom in word_atoms("ผึ้ง")] == [0, 3]
    assert [atom.start for atom in word_atoms("か\u3099き")] == [0, 2]


def test_a_text_without_spaces_is_cut_too() -> None:
    assert [len(part) for part in cut("x" * 250, 1)] == [100, 100, 50]
    assert [len(part) for part in cut("=" * 25, 1)] == [10, 15]


def test_windows_cover_the_text_in_order_and_hold_no_more_than_their_length() -> None:
    random = Random(7)
    pieces = [
        "bee",
        "Straße",
        " ",
        "\n",
        ", ",
        "蜜",
        "蜂",
        "ー",
        "ผึ้ง",
        "к\u0438\u0306",
        "...",
        "🐝",
        "1672",
        "=" * 12,
        "y" * 130,
    ]
    for _ in range(3000):
        text = "".join(random.choices(pieces, k=random.randint(0, 40)))
        length = random.randint(1, 12)
        stride = random.randint(1, length)
        atoms = word_atoms(text)
        found = windows(text, atoms, length, stride)
        assert found[0][0] == 0
        assert found[-1][1] == len(text)
        starts = {0, *(atom.start for atom in atoms)}
        for (begin, end), (following, its_end) in pairwise(found):
            assert begin < following <= end < its_end or (following == end < its_end)
            assert following in starts
        for begin, end in found:
            weight = sum(atom.weight for atom in atoms if begin <= atom.start < end)
            assert weight <= UNIT * length
        if stride == length:
            assert all(end == following for (_, end), (following, _) in pairwise(found))


def test_tokens_that_share_a_character_are_one_atom() -> None:
    # A byte-level tokenizer makes several tokens of one character, and some tokenizers make tokens that cover nothing.
    atoms = token_atoms([(0, 2), (2, 3), (2, 3), (3, 3), (3, 5), (6, 8)])
    assert atoms == [(0, UNIT), (2, 2 * UNIT), (3, 2 * UNIT), (6, UNIT)]
    assert windows("ab€de fg", atoms, 2, 2) == [(0, 2), (2, 3), (3, 6), (6, 8)]
