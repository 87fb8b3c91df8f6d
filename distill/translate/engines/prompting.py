"""Prompts that ask a language model for a translation, and the translation in what it writes. Pure functions on strings."""

import re
from collections.abc import Mapping

from distill.translate.engines.interface import TranslatorError

_NAMES = (
    "af:Afrikaans am:Amharic ar:Arabic as:Assamese az:Azerbaijani be:Belarusian bg:Bulgarian bn:Bengali bo:Tibetan bs:Bosnian ca:Catalan "
    "cs:Czech cy:Welsh da:Danish de:German el:Greek en:English eo:Esperanto es:Spanish et:Estonian eu:Basque fa:Persian fi:Finnish "
    "fil:Filipino fr:French ga:Irish gl:Galician gu:Gujarati ha:Hausa he:Hebrew hi:Hindi hr:Croatian ht:Haitian_Creole hu:Hungarian "
    "hy:Armenian id:Indonesian ig:Igbo is:Icelandic it:Italian ja:Japanese jv:Javanese ka:Georgian kk:Kazakh km:Khmer kn:Kannada "
    "ko:Korean ku:Kurdish ky:Kyrgyz lb:Luxembourgish lg:Luganda ln:Lingala lo:Lao lt:Lithuanian lv:Latvian mg:Malagasy mi:Maori "
    "mk:Macedonian ml:Malayalam mn:Mongolian mr:Marathi ms:Malay mt:Maltese my:Burmese nb:Norwegian_Bokmål ne:Nepali nl:Dutch "
    "nn:Norwegian_Nynorsk no:Norwegian om:Oromo or:Odia pa:Punjabi pl:Polish prs:Dari ps:Pashto pt:Portuguese pt-BR:Brazilian_Portuguese "
    "pt-PT:European_Portuguese ro:Romanian ru:Russian rw:Kinyarwanda sd:Sindhi si:Sinhala sk:Slovak sl:Slovenian sn:Shona so:Somali "
    "sq:Albanian sr:Serbian st:Sesotho su:Sundanese sv:Swedish sw:Swahili ta:Tamil te:Telugu tg:Tajik th:Thai ti:Tigrinya tk:Turkmen "
    "tl:Tagalog tr:Turkish tt:Tatar ug:Uyghur uk:Ukrainian ur:Urdu uz:Uzbek vi:Vietnamese wo:Wolof xh:Xhosa yi:Yiddish yo:Yoruba "
    "yue:Cantonese zh:Chinese zh-Hans:Simplified_Chinese zh-Hant:Traditional_Chinese zh-TW:Traditional_Chinese zu:Zulu"
)
_LANGUAGE_NAMES = {code: name.replace("_", " ") for code, _, name in (entry.partition(":") for entry in _NAMES.split())}
_FIELD = re.compile(r"\{(source_language|target_language|text)\}")
_THOUGHT_END = "</think>"
_THOUGHT_START = "<think>"


def language_name(lang: str, given: Mapping[str, str]) -> str:
    """Return the English name of a language of the configuration, which is how prompts call it."""
    name = given.get(lang) or _LANGUAGE_NAMES.get(lang)
    if name is None:
        raise TranslatorError(
            f"no name is known for the language '{lang}'; give it in the translator's language_names: {{{lang}: ...}}"
        )
    return name


def fill(template: str, source_language: str, target_language: str, text: str) -> str:
    """Return the template with its fields filled, all at once: braces in the text stay as they are."""
    values = {"source_language": source_language, "target_language": target_language, "text": text}
    return _FIELD.sub(lambda field: values[field[1]], template)


def extract(output: str, opening: str, closing: str, *, capped: bool) -> str:
    """Return the translation in what a model wrote, or an empty text where it cannot be told from the rest.

    1. What stands before the last `</think>` is thought, not answer. A thought that does not end leaves no answer.
    2. Without delimiters, all that remains is the answer.
    3. Otherwise it is what stands between the first `opening` and the first `closing` after it.
    4. Without `closing`, it is all after `opening` if the model was stopped by its length limit (the caller marks it truncated), and
       nothing if the model ended by itself: where the translation stops and talk begins is then unknown.
    5. Without `opening` there is no answer, however much was written.

    White space around the answer is dropped.

    Args:
        output: what the model wrote.
        opening: delimiter before the answer; empty where all is answer.
        closing: delimiter after it.
        capped: whether the model was stopped by its length limit.
    """
    before, end, after = output.rpartition(_THOUGHT_END)
    answer = after if end else before + after
    if _THOUGHT_START in answer:
        return ""
    if opening:
        _, opened, answer = answer.partition(opening)
        answer, closed, _ = answer.partition(closing)
        if not opened or not (closed or capped):
            return ""
        if not closed:
            answer = _without_start_of(answer, closing)
    return answer.strip()


def _without_start_of(answer: str, closing: str) -> str:
    """Remove a closing delimiter that the length limit cut in two from the end of an answer."""
    for length in range(min(len(closing), len(answer)), 0, -1):
        if answer.endswith(closing[:length]):
            return answer[:-length]
    return answer
