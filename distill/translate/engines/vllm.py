"""Translation by a large language model in vLLM."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from distill.models.loading import load_any_tokenizer
from distill.models.vllm import import_vllm, start_engine
from distill.translate.engines.interface import Translated, TranslatorError
from distill.translate.engines.prompting import extract, fill, language_name
from distill.translate.settings import VllmTranslator

_SETTING = "translate.pool"
_SLACK = 64
"""Tokens that a prompt may have beyond the counted ones: names of languages, and merges where texts meet."""


class _Prompt(NamedTuple):
    ids: list[int]
    truncated: bool


class VllmTranslation:
    """Asks a language model for each sentence, greedily (temperature 0), and takes the translation out of its answer.

    The prompt goes through the model's own chat template if it has one, and to vLLM as token ids. Generation stops at the closing
    delimiter. An answer without a translation that can be told from talk is an empty text, which the stage flags; one that reaches
    `max_new_tokens` is marked truncated. Equal sentences get equal translations, but for the last bits of a float, which depend on what
    is computed beside them and decide a tie now and then.

    Cost: one pass over the prompt, whose shared beginning is cached, and one over the model for each token of the answer.

    Args:
        settings: the translator.

    Raises:
        ModelError: vLLM is missing or refuses the model.
    """

    def __init__(self, settings: VllmTranslator) -> None:
        self._settings = settings
        revision = settings.revision
        self.name = f"{settings.model}@{revision} vllm" if revision else f"{settings.model} vllm"
        self._vllm = import_vllm(_SETTING)
        self.version = self._vllm.__version__
        self._tokenizer = load_any_tokenizer(settings.model, revision)
        around = len(compose(settings, self._tokenizer, "", "", "").ids)
        self._longest_prompt = around + settings.max_source_tokens + _SLACK
        own: dict[str, Any] = {
            "runner": "generate",
            "dtype": settings.dtype,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "enable_prefix_caching": True,
            "max_model_len": self._longest_prompt + settings.max_new_tokens,
        }
        self._llm = start_engine(settings.model, revision, own, settings.options, _SETTING)
        self._sampling = self._vllm.SamplingParams(
            temperature=0.0,
            max_tokens=settings.max_new_tokens,
            stop=[settings.closing] if settings.closing else None,
            include_stop_str_in_output=True,
        )

    def translate(self, sentences: Sequence[str], source_lang: str, lang: str) -> list[Translated]:
        """Translate sentences, in their order; empty where the answer held none."""
        source, target = (language_name(code, self._settings.language_names) for code in (source_lang, lang))
        prompts = [compose(self._settings, self._tokenizer, source, target, sentence) for sentence in sentences]
        for sentence, prompt in zip(sentences, prompts, strict=True):
            if len(prompt.ids) > self._longest_prompt:
                raise TranslatorError(
                    f"the prompt of '{sentence[:40]}...' has {len(prompt.ids)} tokens, {self._longest_prompt} were expected; "
                    "lower the translator's max_source_tokens"
                )
        if not prompts:
            return []
        tokens = [self._vllm.TokensPrompt(prompt_token_ids=prompt.ids) for prompt in prompts]
        answers = [output.outputs[0] for output in self._llm.generate(tokens, self._sampling, use_tqdm=False)]
        return [self._read(answer, prompt) for answer, prompt in zip(answers, prompts, strict=True)]

    def _read(self, answer: Any, prompt: _Prompt) -> Translated:
        capped = answer.finish_reason == "length"
        text = extract(answer.text, self._settings.opening, self._settings.closing, capped=capped)
        return Translated(text, capped or prompt.truncated)


def compose(settings: VllmTranslator, tokenizer: Any, source_language: str, target_language: str, text: str) -> _Prompt:
    """Return the token ids that ask for a translation; the text alone is cut, to `max_source_tokens`.

    Args:
        settings: the translator.
        tokenizer: a fast Hugging Face tokenizer, which tells where its tokens lie in the text.
        source_language: name of the language translated from.
        target_language: name of the language translated to.
        text: a sentence.
    """
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    truncated = len(offsets) > settings.max_source_tokens
    if truncated:
        text = text[: offsets[settings.max_source_tokens][0]]
    asked = fill(settings.prompt, source_language, target_language, text)
    if tokenizer.chat_template is None:
        return _Prompt(tokenizer(asked, verbose=False)["input_ids"], truncated)
    message = [{"role": "user", "content": asked}]
    rendered = tokenizer.apply_chat_template(
        message, add_generation_prompt=True, tokenize=False, **settings.template_options
    )
    # The template has written the special tokens already.
    return _Prompt(tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"], truncated)
