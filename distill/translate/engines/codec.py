"""Sentences to token ids and back, as each family of translation models reads and writes them.

Special tokens are put around the pieces here instead of by the tokenizer, so that nothing in a passage that merely looks like one
(`</s>`, `>>fra<<`) can end a sentence or change its language, and so that cutting a long sentence never cuts them off.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import regex

from distill.models.loading import load_any_tokenizer
from distill.translate.engines.interface import TranslatorError
from distill.translate.languages import flores, marian_codes, short_codes
from distill.translate.settings import ModelTranslator

Family = Literal["marian", "nllb", "m2m100", "t5"]

_LIMIT_STEP = 16


class Source(NamedTuple):
    """A sentence as a model reads it.

    Attributes:
        ids: token ids, special tokens included.
        truncated: whether its end was cut off.
    """

    ids: list[int]
    truncated: bool


class Codec:
    """The tokenizer of a model and the conventions of its family.

    - Marian: `pieces </s>`, with `>>code<<` before the pieces where the model has several target languages.
    - NLLB, M2M100: `source-language pieces </s>` (older NLLB tokenizers: `pieces </s> source-language`), and the translation begins with
      the target language's token.
    - T5 as MADLAD uses it: `<2de> pieces </s>`.

    Args:
        tokenizer: the model's tokenizer.
        config: the model's configuration.
        settings: lengths and language codes.
        model: the model's name, for messages.
    """

    def __init__(self, tokenizer: Any, config: Any, settings: ModelTranslator, model: str) -> None:
        self.tokenizer = tokenizer
        self.family: Family = _family(tokenizer, config.model_type, model)
        self._model = model
        self._settings = settings
        # T5 has relative positions, as many as are needed.
        self._positions: int = settings.max_source_tokens if self.family == "t5" else config.max_position_embeddings
        self._limit = min(settings.max_source_tokens, self._positions)
        specials = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}, key=len, reverse=True)
        self._specials = regex.compile("|".join([regex.escape(token) for token in specials] + ["^>>"]))

    def encode(self, sentences: Sequence[str], source_lang: str, lang: str) -> list[Source]:
        """Return the token ids of sentences, at most `max_source_tokens` long, special tokens included."""
        before, after, text = self._frame(source_lang, lang)
        plain = [text + self._specials.sub(lambda match: f"{match[0][0]} {match[0][1:]}", s) for s in sentences]
        rows = self.tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else []
        room = self._limit - len(before) - len(after)
        return [Source([*before, *row[:room], *after], len(row) > room) for row in rows]

    def target_start(self, lang: str) -> list[int]:
        """Return the tokens that every translation into `lang` begins with, after the decoder's start token."""
        return [self.language_id(lang)] if self.family in {"nllb", "m2m100"} else []

    def length_limit(self, source_tokens: int) -> int:
        """Return the longest translation, in tokens: a * n + b, rounded up to a multiple of 16 so that few batches differ in it.

        It depends on the sentence alone, so a translation does not depend on what else is in its batch. A model that knows no more
        positions ends it earlier.
        """
        limit = self._settings.length_factor * source_tokens + self._settings.length_offset
        rounded = -(-int(limit) // _LIMIT_STEP) * _LIMIT_STEP
        return rounded if self.family == "t5" else min(rounded, self._positions - 1)

    def by_limit(self, sources: Sequence[Source]) -> dict[int, list[int]]:
        """Return the positions of sentences by the length limit of their translations."""
        groups: dict[int, list[int]] = {}
        for index, source in enumerate(sources):
            groups.setdefault(self.length_limit(len(source.ids)), []).append(index)
        return groups

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of token ids, without special tokens."""
        if not rows:
            return []
        return self.tokenizer.batch_decode(
            [list(row) for row in rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def language_id(self, lang: str) -> int:
        """Return the id of a language's token; raise TranslatorError where the model has none."""
        tokens = [token for code in self._candidates(lang) for token in self._spellings(code)]
        vocabulary = self.tokenizer.get_vocab()
        for token in tokens:
            known = vocabulary.get(token)
            if known is None and self.family == "m2m100":
                known = self.tokenizer.lang_token_to_id.get(token)
            if known is not None:
                return known
        raise TranslatorError(
            f"model '{self._model}' does not know the language '{lang}' (tried {', '.join(tokens) or 'nothing'});"
            " set language_codes of the translator to what it calls the language"
        )

    def _frame(self, source_lang: str, lang: str) -> tuple[list[int], list[int], str]:
        """Return the token ids before and after the pieces of every sentence, and the text before it."""
        end = [self.tokenizer.eos_token_id]
        match self.family:
            case "marian":
                several = bool(self.tokenizer.supported_language_codes)
                return ([self.language_id(lang)] if several else []), end, ""
            case "nllb" | "m2m100":
                source = [self.language_id(source_lang)]
                legacy = self.family == "nllb" and getattr(self.tokenizer, "legacy_behaviour", False)
                return ([], end + source, "") if legacy else (source, end, "")
            case "t5":
                wanted = self.language_id(lang)
                mark = self.tokenizer.convert_ids_to_tokens(wanted).lstrip("▁")
                if wanted not in self.tokenizer(f"{mark} a", add_special_tokens=False)["input_ids"][:2]:
                    raise TranslatorError(
                        f"the tokenizer of '{self._model}' cuts its language token {mark} into pieces; it would be read as text"
                    )
                return [], end, f"{mark} "

    def _candidates(self, lang: str) -> list[str]:
        if lang in self._settings.language_codes:
            return [self._settings.language_codes[lang]]
        match self.family:
            case "marian":
                return marian_codes(lang)
            case "nllb":
                return flores(lang)
            case "m2m100" | "t5":
                return short_codes(lang)

    def _spellings(self, code: str) -> list[str]:
        match self.family:
            case "marian":
                return [f">>{code}<<"]
            case "nllb":
                return [code]
            case "m2m100":
                return [f"__{code}__"]
            case "t5":
                return [f"<2{code}>", f"▁<2{code}>"]


def load_tokenizer(folder: str, revision: str | None) -> Any:
    """Load the tokenizer of a model."""
    with warnings.catch_warnings():
        # Marian's asks for sacremoses, whose normaliser it then never calls.
        warnings.filterwarnings("ignore", message=".*sacremoses.*")
        return load_any_tokenizer(folder, revision)


def _family(tokenizer: Any, model_type: str, model: str) -> Family:
    if model_type == "marian":
        return "marian"
    if model_type in {"t5", "mt5", "umt5"}:
        return "t5"
    if model_type == "m2m_100":
        return "m2m100" if hasattr(tokenizer, "lang_token_to_id") else "nllb"
    raise TranslatorError(
        f"'{model}' is a '{model_type}' model; translators are Marian, NLLB, M2M100 and MADLAD (T5) models"
    )
