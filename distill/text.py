"""Texts: words in any script for BM25, and passages as models read them."""

import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

_WORD = regex.compile(r"[\p{L}\p{N}\p{M}_]+")
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+|[^\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+"
)
_IS_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_BLANK = regex.compile(r"[\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]*")
_ARABIC_VARIANTS = str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "\u200c": " ", "\u0640": None})


def words(text: str) -> list[str]:
    """Return the index terms of a text: runs of letters, digits and marks, case-folded after NFKC.

    Scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) give overlapping character bigrams, a lone character
    itself: the usual choice where no segmenter is at hand (Lucene's CJKBigramFilter). Arabic letter variants and the zero-width
    non-joiner of Persian are unified. There are no stop words and no stemming, so every language is treated alike.
    """
    normal = unicodedata.normalize("NFKC", text).casefold().translate(_ARABIC_VARIANTS)
    terms: list[str] = []
    for run in _WORD.findall(normal):
        for part in _UNSPACED.findall(run):
            terms.extend(_bigrams(part) if _IS_UNSPACED.match(part) else [part])
    return terms


def _bigrams(run: str) -> list[str]:
    characters = regex.findall(r"\X", run)
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
