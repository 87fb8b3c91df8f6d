"""Cutting and joining: nothing is lost, and separators fit the language."""

import unicodedata
from random import Random

import pytest

from distill.sources import corpus
from distill.translate.sentences import _cut_at_marks, has_letters, join, readable, reassemble, split


def test_every_passage_of_the_corpus_comes_back_character_by_character() -> None:
    counts = dict.fromkeys(corpus.LANGUAGES, 0)
    for _, row in corpus.passages():
        passage = split(row["text"], row["lang"])
        assert passage.text == row["text"]
        assert all(sentence == sentence.strip() and sentence for sentence in passage.sentences)
        assert all(not separator.strip() for separator in passage.separators)
        counts[row["lang"]] += len(passage.sentences)
    assert all(count > 2 * 240 for count in counts.values()), counts


def test_an_identity_translation_gives_the_passage_back() -> None:
    """In its own language, that is: separators are then right as they are."""
    for _, row in corpus.passages():
        passage = split(row["text"], row["lang"])
        assert reassemble(passage, passage.sentences, row["lang"]) == unicodedata.normalize("NFC", row["text"])


def test_any_text_comes_back() -> None:
    random = Random(7)
    alphabet = 'ab .!?\n。”“Dr. \r\t\u200c\u3000😀e\u0301A1,;()"…؟۔।'
    for _ in range(3000):
        text = "".join(random.choice(alphabet) for _ in range(random.randint(0, 120)))
        for lang in ("en", "zh", "fa", "hi", "tlh"):
            passage = split(text, lang, 40)
            assert passage.text == text
            assert len(passage.separators) == len(passage.sentences) + 1
            assert all(len(sentence) <= 40 for sentence in passage.sentences)


def test_texts_on_which_the_splitter_panics_are_cut_at_marks() -> None:
    text = "A first one. \u3000(é) …  \u3000\u3000He said: „No!“ Then?\nA last one. 蜜蜂。跳舞。"
    assert "".join(_cut_at_marks(text)) == text
    assert _cut_at_marks("One. Two? 三。四！\nEnd") == ["One. ", "Two? ", "三。", "四！\n", "End"]
    assert _cut_at_marks("") == []
    assert _cut_at_marks("no mark") == ["no mark"]


def test_sentences_and_separators() -> None:
    passage = split("  Dr. Smith left.  He ran!\n\nThen? 12.", "en")
    assert passage.sentences == ("Dr. Smith left.", "He ran!", "Then?", "12.")
    assert passage.separators == ("  ", "  ", "\n\n", " ", "")
    assert join(("a", "b"), ("<", "-", ">")) == "<a-b>"
    assert split("", "en") == split("", "zh")
    assert split(" \n", "en").separators == (" \n",)


def test_a_full_stop_within_a_name_ends_no_sentence() -> None:
    assert split("En 138 av. J.-C., il part. Il revient.", "fr").sentences == (
        "En 138 av. J.-C., il part.",
        "Il revient.",
    )


def test_chinese_has_no_spaces_between_sentences_and_gets_none() -> None:
    passage = split("It rains. It pours.\nThe end.", "en")
    assert reassemble(passage, ["下雨了。", "倾盆大雨。", "完。"], "zh") == "下雨了。倾盆大雨。\n完。"
    assert reassemble(passage, ["雨。", "大雨。", "終。"], "ja") == "雨。大雨。\n終。"
    back = split("下雨了。倾盆大雨。", "zh")
    assert reassemble(back, ["It rains.", "It pours."], "en") == "It rains. It pours."
    assert reassemble(back, back.sentences, "ja") == "下雨了。倾盆大雨。"


def test_an_empty_translation_leaves_no_gap() -> None:
    passage = split("One. Two. Three.\nFour.", "en")
    assert reassemble(passage, ["eins.", "", "drei.", "vier."], "de") == "eins. drei.\nvier."
    assert reassemble(passage, ["eins.", "zwei.", "", "vier."], "de") == "eins. zwei.\nvier."
    assert reassemble(passage, ["", "", "", ""], "de") == ""
    assert reassemble(passage, ["", "zwei.", "", ""], "de") == "zwei."
    assert reassemble(passage, ["eins.", "", "", "vier."], "de") == "eins.\nvier."


def test_translations_are_put_together_in_nfc() -> None:
    passage = split("Green.", "en")
    assert reassemble(passage, ["gru\u0308n."], "de") == "grün."


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("alpha beta gamma delta epsilon zeta eta theta", ("alpha beta gamma delta epsilon zeta eta", "theta")),
        ("x" * 90, ("x" * 40, "x" * 40, "x" * 10)),
        ("蜜" * 30 + "，" + "蜂" * 30, ("蜜" * 30 + "，", "蜂" * 30)),
    ],
)
def test_overlong_sentences_are_cut_at_clauses(text: str, parts: tuple[str, ...]) -> None:
    passage = split(text, "zh" if "蜜" in text else "en", 40)
    assert passage.sentences == parts
    assert passage.text == text


def test_what_an_engine_reads() -> None:
    assert readable(" a\n  b\tc ") == "a b c"
    assert has_letters("é")
    assert has_letters("42 蜂")
    assert not has_letters("42 – 😀 1.5")
