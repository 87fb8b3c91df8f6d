"""Translation of whole passages: their sentences through an engine, back to passages, and their flags."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from distill.text import is_blank
from distill.translate.engines import Engines
from distill.translate.engines.interface import Translated, TranslationEngine, TranslatorError
from distill.translate.flags import Flagger
from distill.translate.sentences import Passage, has_letters, readable, reassemble, split
from distill.translate.settings import TranslateSettings


@dataclass(frozen=True)
class SourcePassage:
    """A passage to translate: its title, empty where there is none, and its text."""

    title: str
    text: str


@dataclass(frozen=True)
class TranslatedPassage:
    """A passage in another language.

    Attributes:
        title: translated title.
        text: translated text.
        translator: the engine's name.
        flags: doubts, in the order of `distill.translate.flags.FLAGS`.
    """

    title: str
    text: str
    translator: str
    flags: tuple[str, ...]


@dataclass
class Work:
    """Counts of an engine's work.

    Attributes:
        sentences: sentences of the passages.
        translated: distinct ones, which is what the engine read.
        second: passages that the fallback engine translated again.
        replaced: passages whose second translation was the better one.
    """

    sentences: int = 0
    translated: int = 0
    second: int = 0
    replaced: int = 0


@dataclass
class PassageTranslator:
    """A translator of passages, which translates doubtful ones a second time by another engine.

    Args:
        settings: how sentences are cut, and the limits of the flags.
        source_lang: the passages' language.
        languages: the languages of the job.
        engines: the translator.
        fallback: the translator of flagged passages; if None, they stay as they are.
        origin: `source_lang` where it is not the job's source language.
    """

    settings: TranslateSettings
    source_lang: str
    languages: Sequence[str]
    engines: Engines
    fallback: Engines | None = None
    origin: str = ""
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        self._flagger = Flagger(self.settings.flags, self.source_lang, self.languages)

    def translate(self, passages: Sequence[SourcePassage], lang: str) -> list[TranslatedPassage]:
        """Translate passages into `lang`, in their order; each is kept, whatever its flags.

        A flagged passage is translated by the fallback engine, and that translation is taken if it has fewer flags, or as many but a text
        where the first has none.
        """
        if not passages:
            return []
        translated = self._once(passages, lang, self.engines.get(lang, self.origin))
        doubtful = [index for index, passage in enumerate(translated) if passage.flags]
        if self.fallback is None or not doubtful:
            return translated
        second = self._once([passages[index] for index in doubtful], lang, self.fallback.get(lang, self.origin))
        self.work.second += len(doubtful)
        for index, other in zip(doubtful, second, strict=True):
            if _rank(other) < _rank(translated[index]):
                translated[index] = other
                self.work.replaced += 1
        return translated

    def _once(self, passages: Sequence[SourcePassage], lang: str, engine: TranslationEngine) -> list[TranslatedPassage]:
        titles = [_whole(passage.title) for passage in passages]
        bodies = [
            split(unicodedata.normalize("NFC", passage.text), self.source_lang, self.settings.max_sentence_characters)
            for passage in passages
        ]
        known = self._sentences([*titles, *bodies], lang, engine)
        return [
            self._assembled(title, body, known, lang, engine.name) for title, body in zip(titles, bodies, strict=True)
        ]

    def _sentences(self, passages: Sequence[Passage], lang: str, engine: TranslationEngine) -> dict[str, Translated]:
        """Return the translation of every distinct sentence, by the sentence."""
        sentences = [sentence for passage in passages for sentence in passage.sentences]
        known = {sentence: Translated(sentence, truncated=False) for sentence in sentences if not has_letters(sentence)}
        wanted: dict[str, list[str]] = {}
        for sentence in dict.fromkeys(sentence for sentence in sentences if sentence not in known):
            wanted.setdefault(readable(sentence), []).append(sentence)
        results = engine.translate(list(wanted), self.source_lang, lang) if wanted else []
        if len(results) != len(wanted):
            raise TranslatorError(f"engine {engine.name} gave {len(results)} translations of {len(wanted)} sentences")
        self.work.sentences += len(sentences)
        self.work.translated += len(wanted)
        for spellings, result in zip(wanted.values(), results, strict=True):
            known |= dict.fromkeys(spellings, result)
        return known

    def _assembled(
        self, title: Passage, body: Passage, known: dict[str, Translated], lang: str, name: str
    ) -> TranslatedPassage:
        new_title, new_text = (
            reassemble(passage, [known[sentence].text for sentence in passage.sentences], lang)
            for passage in (title, body)
        )
        truncated = any(known[sentence].truncated for passage in (title, body) for sentence in passage.sentences)
        # A passage that is all title is judged by its title.
        pair = (body.text, new_text) if not is_blank(body.text) else (title.text, new_title)
        return TranslatedPassage(
            new_title, new_text, name, tuple(self._flagger.flags(*pair, lang, truncated=truncated))
        )


def _whole(title: str) -> Passage:
    """Return a title as one sentence, whatever marks are in it."""
    text = unicodedata.normalize("NFC", title).strip()
    return Passage((text,), ("", "")) if text else Passage((), ("",))


def _rank(passage: TranslatedPassage) -> tuple[int, bool]:
    """Return the rank of a translation among others of a passage, from its flags; lower is better."""
    return len(passage.flags), "empty" in passage.flags
