import pytest

from distill.translate.engines.interface import TranslatorError
from distill.translate.engines.prompting import extract, fill, language_name
from distill.translate.settings import VllmTranslator

OPENING, CLOSING = "<t>", "</t>"


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("<t>Guten Tag.</t>", "Guten Tag."),
        ("Sure! Here is it:\n\n<t>\nGuten Tag.\n</t>\nAnything else?", "Guten Tag."),
        ("<t>eins</t> or perhaps <t>zwei</t>", "eins"),
        ("<t>a < b, c > d</t>", "a < b, c > d"),
        ("<think>Is it <t>Hallo</t>? No.</think>\n<t>Guten Tag.</t>", "Guten Tag."),
        ("thought without its beginning</think><t>Guten Tag.</t>", "Guten Tag."),
        ("<t></t>", ""),
        ("Guten Tag.", ""),  # a translation or talk: who can tell
        ("I cannot translate this.", ""),
        ("<t>Guten Tag. I hope that helps!", ""),  # ended by itself without saying where
        ("Guten Tag.</t>", ""),
        ("<think>Is it <t>Hallo</t>?", ""),
        ("", ""),
    ],
)
def test_answers_are_found_or_left(output: str, answer: str) -> None:
    assert extract(output, OPENING, CLOSING, capped=False) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("<t>Guten Tag, wie geht", "Guten Tag, wie geht"),
        ("<t>Guten Tag.</", "Guten Tag."),
        ("<t>Guten Tag.</t", "Guten Tag."),
        ("<t>Guten Tag.</t>", "Guten Tag."),
        ("Well, the translation would", ""),
        ("<think>hmm, <t>", ""),
    ],
)
def test_answers_that_were_cut_keep_what_there_is(output: str, answer: str) -> None:
    assert extract(output, OPENING, CLOSING, capped=True) == answer


@pytest.mark.parametrize("capped", [False, True])
def test_without_delimiters_all_is_answer(capped: bool) -> None:
    assert extract("<think>a</think>\n Guten Tag. \n", "", "", capped=capped) == "Guten Tag."
    assert extract("<think>a", "", "", capped=capped) == ""


def test_places_are_filled_once() -> None:
    template = "{source_language} to {target_language}: {text} {other}"
    assert fill(template, "English", "German", "{text} {target_language}") == (
        "English to German: {text} {target_language} {other}"
    )


def test_languages_have_names() -> None:
    assert [language_name(lang, {}) for lang in ("de", "pt-BR", "zh-Hant", "nb")] == [
        "German", "Brazilian Portuguese", "Traditional Chinese", "Norwegian Bokmål",
    ]  # fmt: skip
    assert language_name("de", {"de": "Swiss German"}) == "Swiss German"
    with pytest.raises(
        TranslatorError, match=r"no name is known for the language 'tlh'; give it in .*language_names: \{tlh: \.\.\.\}"
    ):
        language_name("tlh", {})


def test_a_prompt_must_say_what_and_into_what() -> None:
    with pytest.raises(ValueError, match=r"prompt has no \{target_language\} and no \{text\}"):
        VllmTranslator(model="m", prompt="Translate!")
    with pytest.raises(ValueError, match="opening and closing are either both given or both empty"):
        VllmTranslator(model="m", closing="")
