"""Flags of translations: faults of machine translation that can be seen without knowing the languages."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import regex
from jaxtyping import Int

from cluster.errors import how_to_install
from distill.text import is_blank, words
from distill.translate.engines.interface import TranslatorError
from distill.translate.languages import base, usual_ratio
from distill.translate.sentences import has_letters
from distill.translate.settings import FlagSettings

EMPTY, COPIED, LENGTH_RATIO, REPEATED, WRONG_LANGUAGE, TRUNCATED = FLAGS = (
    "empty",
    "copied",
    "length_ratio",
    "repeated",
    "wrong_language",
    "truncated",
)
"""The flags in the order in which a passage has them."""

_LONGEST_PERIOD = 16
_LOOP_WORDS = 8
_LOOP_LETTERS = 24
_RUN = 4
_NOT_LETTERS = regex.compile(r"[^\p{L}\p{M}]+")
_ALIKE = (
    frozenset({"id", "ms"}),
    frozenset({"no", "nb", "nn", "da"}),
    frozenset({"bs", "hr", "sr", "sh"}),
    frozenset({"hi", "mr", "ne"}),
)
"""Languages that a few lines do not tell apart: on TICO-19, py3langid takes 16 % of the Malay segments for Indonesian."""


class Flagger:
    """A detector of doubtful translations, from pairs of source and translation.

    Args:
        settings: the limits.
        source_lang: the sources' language.
        languages: the languages of the translations. The language of a translation is sought among all of these.

    Cost: about two milliseconds for a passage of a hundred words.
    """

    def __init__(self, settings: FlagSettings, source_lang: str, languages: Sequence[str]) -> None:
        self._settings = settings
        self._source_lang = source_lang
        self._identifier = _identifier(tuple(sorted({base(lang) for lang in (source_lang, *languages)})))

    def flags(self, source: str, translation: str, lang: str, *, truncated: bool) -> list[str]:
        """Return the flags of a translation into `lang`; `truncated` is what the engine says."""
        blank = is_blank(translation)
        doubts = {
            EMPTY: blank and not is_blank(source),
            COPIED: not blank and self._copied(source, translation),
            LENGTH_RATIO: not blank and self._unusual_length(source, translation, lang),
            REPEATED: not blank and self._repeated(source, translation),
            WRONG_LANGUAGE: not blank and self._wrong_language(translation, lang),
            TRUNCATED: truncated,
        }
        return [flag for flag in FLAGS if doubts[flag]]

    def _copied(self, source: str, translation: str) -> bool:
        """Return true for texts that are equal but for case and space. A text without letters is the same in every language."""
        return has_letters(source) and source.casefold().split() == translation.casefold().split()

    def _unusual_length(self, source: str, translation: str, lang: str) -> bool:
        if len(source) < self._settings.min_characters:
            return False
        low, high = usual_ratio(self._source_lang, lang, self._settings.length_factor, self._settings.length_ratios)
        return not low <= len(translation) / len(source) <= high

    def _repeated(self, source: str, translation: str) -> bool:
        units = words(translation)
        if looped(translation, units, self._settings.max_repeats):
            return not looped(source, words(source), self._settings.max_repeats)
        share = repeated_share(units)
        limit = self._settings.max_repeated_share
        return share > limit and share > limit + repeated_share(words(source))

    def _wrong_language(self, translation: str, lang: str) -> bool:
        wanted = base(lang)
        if len(_NOT_LETTERS.sub("", translation)) < self._settings.min_characters or not self.identifies(lang):
            return False
        recognised = self._identifier.classify(translation)[0]
        return recognised != wanted and not any({recognised, wanted} <= group for group in _ALIKE)

    def identifies(self, lang: str) -> bool:
        """Return true if the identifier knows a language; texts of one that it does not know are never flagged `wrong_language`."""
        return base(lang) in self._identifier.labels


def looped(text: str, units: Sequence[str], repeats: int) -> bool:
    """Return true if some words, or letters, of a text come `repeats` times in a row and fill at least 8 words, or 24 letters."""
    numbers: dict[str, int] = {}
    by_word = np.array([numbers.setdefault(unit, len(numbers)) for unit in units], dtype=np.int64)
    letters = np.frombuffer(_NOT_LETTERS.sub("", text).encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    return _loops(by_word, repeats, _LOOP_WORDS) or _loops(letters, repeats, _LOOP_LETTERS)


def _loops(units: Int[np.ndarray, " N"], repeats: int, least: int) -> bool:
    """Return true if `units` has a run of period p <= 16 that is at least `repeats` * p and `least` long."""
    for period in range(1, min(_LONGEST_PERIOD, len(units) // repeats) + 1):
        needed = max(repeats * period, least) - period
        breaks = np.flatnonzero(units[period:] != units[:-period])
        stretches = np.diff(np.concatenate([[-1], breaks, [len(units) - period]])) - 1
        if stretches.max() >= needed:
            return True
    return False


def repeated_share(units: Sequence[str]) -> float:
    """Return the share of the runs of four words that occurred before in the text; 0 for fewer than twelve words."""
    runs = [tuple(units[i : i + _RUN]) for i in range(len(units) - _RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(units) >= 3 * _RUN else 0.0


@functools.cache
def _identifier(languages: tuple[str, ...]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise TranslatorError(
            f"flagging translations in the wrong language needs py3langid 0.4 or later: {how_to_install('mt')}"
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages([lang for lang in languages if lang in identifier.labels])
    return identifier
