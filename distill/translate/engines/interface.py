"""The interface of translation engines. Engines see sentences only: splitting, reassembly and flags are the stage's."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from distill.models.locate import ModelError


class TranslatorError(ModelError):
    """An engine cannot be made, or does not keep its side of the interface. One line that says what is wrong and what to do."""


class Translated(NamedTuple):
    """An engine's translation of one sentence.

    Attributes:
        text: the translation, without special tokens; empty where the engine wrote nothing.
        truncated: whether the source was cut before the engine read it, or the translation reached its length limit.
    """

    text: str
    truncated: bool


@runtime_checkable
class TranslationEngine(Protocol):
    """An engine that translates sentences. Pure: equal sentences get equal translations, whatever else is translated beside them."""

    @property
    def name(self) -> str:
        """The name of what made the translations, for the `translator` column: the model, its revision and the engine."""
        ...

    @property
    def version(self) -> str:
        """Version of the library that computes."""
        ...

    def translate(self, sentences: Sequence[str], source_lang: str, lang: str) -> list[Translated]:
        """Translate sentences from `source_lang` to `lang` (codes of the configuration, such as `de`), in their order.

        A `TranslatorError` where the engine does not know a language.
        """
        ...
