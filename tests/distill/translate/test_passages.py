"""Passages through an engine: titles, sentences once each, flags, the second engine."""

from pathlib import Path

import pytest

from distill.translate.engines import Engines
from distill.translate.passages import PassageTranslator, SourcePassage, TranslatedPassage
from distill.translate.settings import EngineTranslator, FlagSettings, TranslateSettings
from tests.distill.translate.programs import dictionary, prefix

LENIENT = FlagSettings(length_ratios={"de": (0.01, 100.0), "zh": (0.01, 100.0)}, min_characters=1000)


def translator(
    by: EngineTranslator, fallback: EngineTranslator | None = None, flags: FlagSettings = LENIENT
) -> PassageTranslator:
    engines = Engines(by, "en", "cpu", 1)
    second = Engines(fallback, "en", "cpu", 1) if fallback else None
    return PassageTranslator(TranslateSettings(by=by, flags=flags), "en", ("de", "zh"), engines, second)


def test_title_and_sentences_are_translated_and_put_together() -> None:
    passages = [SourcePassage("The hive", "The bees dance.  They sing!\nWe see 42."), SourcePassage("", "They sing!")]
    assert translator(dictionary()).translate(passages, "de") == [
        TranslatedPassage("die Stock", "die Bienen tanzen.  sie singen!\nwir sehen 42.", "dictionary command", ()),
        TranslatedPassage("", "sie singen!", "dictionary command", ()),
    ]
    assert translator(dictionary()).translate([], "de") == []


def test_a_sentence_is_translated_once_and_what_has_no_letters_never(tmp_path: Path) -> None:
    log = tmp_path / "read"
    work = translator(dictionary("", str(log)))
    passages = [
        SourcePassage("", "The bees dance. 42. They  sing!"),
        SourcePassage("They sing!", "They sing! – The bees dance."),
    ]
    work.translate(passages, "de")
    assert sorted(log.read_text().splitlines()) == ["The bees dance.", "They sing!", "– The bees dance."]
    assert (work.work.sentences, work.work.translated) == (6, 3)


def test_flags_come_with_the_passage_and_nothing_is_dropped() -> None:
    passages = [
        SourcePassage("", "silent bees."),
        SourcePassage("", "copy bees."),
        SourcePassage("", "loop bees."),
        SourcePassage("", "The bees cut."),
        SourcePassage("cut bees", "The bees dance."),
        SourcePassage("silent", ""),
        SourcePassage("silent", "The bees dance."),
        SourcePassage("", ""),
    ]
    found = translator(dictionary()).translate(passages, "de")
    assert [passage.flags for passage in found] == [
        ("empty",), ("copied",), ("repeated",), ("truncated",), ("truncated",), ("empty",), (), (),
    ]  # fmt: skip
    assert found[6] == TranslatedPassage("", "die Bienen tanzen.", "dictionary command", ())


def test_flagged_passages_go_to_the_fallback_and_the_better_one_is_kept() -> None:
    passages = [
        SourcePassage("", "The bees dance."),
        SourcePassage("", "silent bees."),
        SourcePassage("", "copy bees."),
        SourcePassage("", "copy bees cut."),
    ]
    work = translator(dictionary(), prefix("die Bienen"))
    assert work.translate(passages, "de") == [
        TranslatedPassage("", "die Bienen tanzen.", "dictionary command", ()),
        TranslatedPassage("", "die Bienen", "prefix command", ()),
        TranslatedPassage("", "die Bienen", "prefix command", ()),
        TranslatedPassage("", "die Bienen", "prefix command", ()),
    ]
    assert (work.work.second, work.work.replaced) == (3, 3)


@pytest.mark.parametrize(
    ("text", "answer", "flags", "engine"),
    [
        # As many flags as before: the first stays ...
        ("copy bees.", "copy bees.", ("copied",), "dictionary"),
        # ... unless it has no text at all.
        ("silent bees.", "silent bees.", ("copied",), "prefix"),
        ("copy bees cut.", "copy bees cut.", ("copied",), "prefix"),
        ("silent bees.", "", ("empty",), "dictionary"),
    ],
)
def test_ties_between_engines(text: str, answer: str, flags: tuple[str, ...], engine: str) -> None:
    found = translator(dictionary(), prefix(answer)).translate([SourcePassage("", text)], "de")
    assert found[0].flags == flags
    assert found[0].translator == f"{engine} command"


def test_chinese_is_put_together_without_spaces() -> None:
    found = translator(prefix("蜜蜂。")).translate([SourcePassage("", "The bees dance. They sing.\nWe see.")], "zh")
    assert found[0].text == "蜜蜂。蜜蜂。\n蜜蜂。"
