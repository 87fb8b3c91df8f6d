"""Texts: words in any script for BM25, and passages as models read them."""

import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

_WORD = regex.compile(r"[\p{L}\p{N}\p{M}_]+")
_BLANK = regex.compile(r"[\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]*")
_UNSPACED = r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Line_Break=Complex_Context}]"
_PARTS = regex.compile(rf"(?P<unspaced>(?:{_UNSPACED}\p{{M}}*)+)|(?:(?!{_UNSPACED}).)+")
_CLUSTER = regex.compile(r"\X")
# A zero-width space separates words; Default_Ignorable_Code_Point holds it beside what is inside a word.
_IGNORED = regex.compile(r"(?!\u200b)\p{Default_Ignorable_Code_Point}")
_PERSIAN_JOINT = regex.compile(r"(?<=\p{Arabic}\p{M}*)\u200c(?=\p{Arabic})")
_POINTS = r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670]"
_OPTIONAL = regex.compile(rf"(?<=i)\u0307|{_POINTS}")
_ARABIC_VARIANTS = {"ي": "ی", "ى": "ی", "ك": "ک"}
_DIGITS = {
    character: str(unicodedata.decimal(character))
    for character in map(chr, range(0x80, 0x20000))
    if unicodedata.category(character) == "Nd"
}
_UNIFIED = str.maketrans(_ARABIC_VARIANTS | _DIGITS)


def words(text: str) -> list[str]:
    """Return the index terms of a text: runs of letters, digits and marks, case-folded after NFKC.

    Scripts written without spaces give overlapping bigrams of their characters with their marks, a lone character itself: the usual choice
    where no segmenter is at hand (Lucene's CJKBigramFilter). These are Han, Hiragana and Katakana with the signs that they share (the
    prolonged sound mark, iteration marks), and the scripts that Unicode breaks by dictionaries (Thai, Lao, Khmer, Myanmar, Tai Tham ...).

    Spellings of one word meet: characters that show nothing (soft hyphens, variation selectors, joiners, marks of direction) are left out,
    so are Arabic and Hebrew points and the dot that case-folding leaves of a Turkish İ; decimal digits of all scripts are those of ASCII;
    Arabic letter variants and the zero-width non-joiner of Persian are unified. There are no stop words, no stemming and no removal of
    accents, so every language is treated alike. Unlike Unicode's word boundaries (UAX 29), apostrophes and points inside words split
    them.
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    normal = _PERSIAN_JOINT.sub(" ", unicodedata.normalize("NFKC", text))
    normal = unicodedata.normalize("NFKC", _IGNORED.sub("", normal).casefold())
    normal = _OPTIONAL.sub("", normal).translate(_UNIFIED)
    terms: list[str] = []
    for run in _WORD.findall(normal):
        if run.isascii():
            terms.append(run)
            continue
        for part in _PARTS.finditer(run):
            terms.extend(_bigrams(part[0]) if part["unspaced"] else [part[0]])
    return terms


def _bigrams(run: str) -> list[str]:
    characters = _CLUSTER.findall(run)
    if len(characters) == 1:
        return characters
    return [a + b for a, b in pairwise(characters)]


def is_blank(text: str) -> bool:
    """Return true for a text of which nothing can be seen: white space, control and format characters (U+200B, U+FEFF) and their like."""
    return _BLANK.fullmatch(text) is not None


def passage_text(title: str, text: str) -> str:
    """Return the text of a passage as encoders and teachers read it: its title and its body."""
    return f"{title} {text}" if title else text


def passage_texts(passages: pa.Table) -> list[str]:
    """Return the `passage_text` of every row of a table with the columns title and text."""
    rows = zip(passages["title"].to_pylist(), passages["text"].to_pylist(), strict=True)
    return [passage_text(title, text) for title, text in rows]


def with_text(translations: pa.Table) -> pa.Table:
    """Return the rows of a TRANSLATIONS table without those flagged `empty`, which only keep ids aligned."""
    flags = translations["flags"].combine_chunks()
    empty = pc.list_parent_indices(flags).filter(pc.equal(pc.list_flatten(flags), "empty"))
    if not len(empty):
        return translations
    kept = np.ones(len(translations), dtype=bool)
    kept[empty.to_numpy()] = False
    return translations.filter(pa.array(kept))
