"""Passages to sentences and back. Models of translation read sentences: of whole paragraphs they leave out the end."""

import functools
import importlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import regex

from cluster.errors import how_to_install
from distill.translate.engines.interface import TranslatorError
from distill.translate.languages import UNSPACED, base

_LETTER = regex.compile(r"\p{L}")
_SPACE = regex.compile(r"\s+")
_SENTENCE_END = regex.compile(r"""[.!?؟।۔]["”’)\]]*\s+|[。！？]["”’』」）]*\s*|\n+""")
_CLAUSE_END = regex.compile(r".*(?:[;:,،؛，；、：]\s*|\s+)", regex.DOTALL)


@dataclass(frozen=True)
class Passage:
    """A text cut into sentences.

    Attributes:
        sentences: the sentences, without space around them.
        separators: what stands before the first, between them and after the last: one more than sentences.

    Separators and sentences in turn are the text, character by character.
    """

    sentences: tuple[str, ...]
    separators: tuple[str, ...]

    @property
    def text(self) -> str:
        """The text that was cut."""
        return join(self.sentences, self.separators)


def split(text: str, lang: str, max_characters: int = 600) -> Passage:
    """Cut a text into sentences by the rules of its language (sentencex, which knows abbreviations and scripts).

    A sentence of more than `max_characters` is cut further, after the last clause mark or space before the limit.
    """
    whole = _unbroken(_segments(base(lang), text))
    segments = [part for segment in whole for part in _cut(segment, max_characters)]
    sentences: list[str] = []
    separators = [""]
    for segment in segments:
        before, sentence, after = _edges(segment)
        if not sentence:
            separators[-1] += segment
            continue
        separators[-1] += before
        sentences.append(sentence)
        separators.append(after)
    return Passage(tuple(sentences), tuple(separators))


def join(sentences: Sequence[str], separators: Sequence[str]) -> str:
    """Join sentences by their separators."""
    parts = [separators[0]]
    for sentence, after in zip(sentences, separators[1:], strict=True):
        parts += [sentence, after]
    return "".join(parts)


def reassemble(passage: Passage, translated: Sequence[str], lang: str) -> str:
    """Join the translated sentences of a passage to a text of `lang`, in NFC.

    Line ends stay where they were. Other separators are the source's, unless the two languages differ in whether sentences have a space
    between them. A sentence whose translation is empty leaves one separator.
    """
    spaced = base(lang) not in UNSPACED
    parts: list[str] = []
    pending = passage.separators[0]
    for sentence, after in zip(translated, passage.separators[1:], strict=True):
        text = sentence.strip()
        if text:
            parts += [_separator(pending, spaced=spaced) if parts else pending, text]
            pending = after
        elif "\n" in after:
            pending = after
    return unicodedata.normalize("NFC", "".join([*parts, passage.separators[-1]]) if parts else "")


def readable(sentence: str) -> str:
    """Return a sentence as an engine reads it: one line, single spaces."""
    return _SPACE.sub(" ", sentence).strip()


def has_letters(text: str) -> bool:
    """Return true if there is anything to translate: a text without letters stays as it is, since models would make something up."""
    return _LETTER.search(text) is not None


def _separator(separator: str, *, spaced: bool) -> str:
    if "\n" in separator:
        return separator
    if spaced:
        return separator or " "
    return ""


def _edges(segment: str) -> tuple[str, str, str]:
    body = segment.strip()
    start = segment.find(body)
    return segment[:start], body, segment[start + len(body) :]


def _segments(lang: str, text: str) -> list[str]:
    try:
        segments = _segmenter()(lang, text)
    except BaseException as error:
        # sentencex 1.0 panics on some texts with ideographic spaces; a Rust panic is no Exception and has no class to import.
        if type(error).__name__ != "PanicException":
            raise
        segments = _cut_at_marks(text)
    if "".join(segments) != text:
        raise TranslatorError(
            f"sentencex lost characters of the text {text[:60]!r}; report it to github.com/wikimedia/sentencex"
        )
    return segments


def _cut_at_marks(text: str) -> list[str]:
    """Cut behind sentence marks and line ends, for texts on which sentencex fails. Knows no abbreviations."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return [text[start:end] for start, end in pairwise(dict.fromkeys([0, *ends, len(text)]))]


@functools.cache
def _segmenter() -> Callable[[str, str], list[str]]:
    try:
        library: Any = importlib.import_module("sentencex")  # has no types
    except ImportError as error:
        raise TranslatorError(f"splitting sentences needs sentencex: {how_to_install('mt')}") from error
    return lambda lang, text: list(library.segment(lang, text))


def _unbroken(segments: Sequence[str]) -> list[str]:
    """Put together again what was cut behind a full stop that no space follows: it belongs to an abbreviation (`J.-C.`) or a name."""
    whole: list[str] = []
    for segment in segments:
        if whole and whole[-1].endswith(".") and not segment[:1].isspace():
            whole[-1] += segment
        else:
            whole.append(segment)
    return whole


def _cut(segment: str, limit: int) -> list[str]:
    parts = []
    while len(segment.strip()) > limit:
        match = _CLAUSE_END.match(segment, 0, limit)
        end = match.end() if match and segment[: match.end()].strip() else limit
        parts.append(segment[:end])
        segment = segment[end:]
    return [*parts, segment]
