"""Translation engines: one class each with the interface of `distill.translate.engines.interface`. Classes on strings, without Ray."""

from typing import assert_never

from distill.translate.engines.interface import TranslationEngine, TranslatorError
from distill.translate.settings import (
    CommandTranslator,
    CTranslate2Translator,
    EngineTranslator,
    ModelTranslator,
    TransformersTranslator,
    VllmTranslator,
)


def load_engine(
    settings: EngineTranslator, source_lang: str, lang: str, device: str, threads: int = 1, model: str = ""
) -> TranslationEngine:
    """Return the engine of `settings` for translations into `lang`. Only the packages that this kind of engine needs are imported.

    Args:
        settings: the translator.
        source_lang: language translated from.
        lang: language translated to; it decides the model where there is one for each language.
        device: `cpu` or `cuda`.
        threads: CPU threads of engines that manage their own.
        model: the model instead of that of the settings for `lang`.
    """
    match settings:
        case TransformersTranslator():
            from distill.translate.engines.transformers import TransformersEngine

            return TransformersEngine(settings, model or model_for(settings, lang), device)
        case CTranslate2Translator():
            from distill.translate.engines.ctranslate2 import CTranslate2Engine

            model = model or model_for(settings, lang)
            return CTranslate2Engine(settings, model, device, threads, source_lang, lang)
        case VllmTranslator():
            from distill.translate.engines.vllm import VllmTranslation

            return VllmTranslation(settings)
        case CommandTranslator():
            from distill.translate.engines.command import CommandEngine

            return CommandEngine(settings)
        case _:
            assert_never(settings)


def model_for(settings: ModelTranslator, lang: str, origin: str = "") -> str:
    """Return the model that translates into `lang`, from `origin` where it is not the source language.

    Raises:
        TranslatorError: the settings name none.
    """
    model = settings.model if origin else settings.model_for(lang)
    if model is None and origin:
        raise TranslatorError(
            f"no model translates from '{origin}': the models of the translator's `models` are for the source language; "
            "name a multilingual `model`"
        )
    if model is None:
        known = ", ".join(sorted(settings.models))
        raise TranslatorError(
            f"no model translates into '{lang}': the translator names models for {known};"
            " add one to `models`, or a multilingual `model`"
        )
    return model


class Engines:
    """The engine of each language, loaded when it is first needed and kept while the next language wants the same.

    A model for each language is dropped when another is loaded: work comes ordered by language, and models are large.

    Args:
        settings: the translator.
        source_lang: language translated from.
        device: `cpu` or `cuda`.
        threads: CPU threads.
    """

    def __init__(self, settings: EngineTranslator, source_lang: str, device: str, threads: int) -> None:
        self._settings = settings
        self._source_lang = source_lang
        self._device = device
        self._threads = threads
        self._held: tuple[str, TranslationEngine] | None = None

    def get(self, lang: str, origin: str = "") -> TranslationEngine:
        """Return the engine that translates into `lang`, from the source language or from another one, `origin`.

        A model of `models` translates from the source language alone, so that another one needs the multilingual `model`.
        """
        wanted = model_for(self._settings, lang, origin) if isinstance(self._settings, ModelTranslator) else ""
        if self._held is None or self._held[0] != wanted:
            # The old model is freed first, or both are in memory.
            self._held = None
            engine = load_engine(self._settings, origin or self._source_lang, lang, self._device, self._threads, wanted)
            self._held = (wanted, engine)
        return self._held[1]
