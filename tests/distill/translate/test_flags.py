"""Every flag by hand-made cases, and none on what people translated."""

import pytest

from distill.sources import corpus
from distill.translate.flags import FLAGS, Flagger, looped, repeated_share
from distill.translate.languages import usual_ratio
from distill.translate.settings import FlagSettings

ENGLISH = "The bees dance on the comb to tell their sisters where the flowers are."
GERMAN = "Die Bienen tanzen auf der Wabe, um ihren Schwestern zu sagen, wo die Blumen sind."
FRENCH = "Les abeilles dansent sur le rayon pour dire à leurs sœurs où sont les fleurs."
CHINESE = "蜜蜂在蜂巢上跳舞，告诉姐妹们花在哪里。"


@pytest.fixture(scope="module")
def flagger() -> Flagger:
    return Flagger(FlagSettings(), "en", ("de", "fr", "es", "zh", "fa", "ru"))


def test_no_flag_on_the_corpus(flagger: Flagger) -> None:
    """1,440 passages and titles that people wrote in six languages."""
    for row in corpus.rows():
        for lang in corpus.LANGUAGES[1:]:
            assert flagger.flags(row["text"]["en"], row["text"][lang], lang, truncated=False) == []


@pytest.mark.parametrize(
    ("source", "translation", "lang", "flags"),
    [
        (ENGLISH, GERMAN, "de", []),
        (ENGLISH, CHINESE, "zh", []),
        (ENGLISH, "", "de", ["empty"]),
        (ENGLISH, " \u3000\n", "de", ["empty"]),
        ("", "", "de", []),
        ("GPS", "GPS", "de", ["copied"]),
        ("GPS", "gps ", "de", ["copied"]),
        ("42", "42", "de", []),
        (ENGLISH, ENGLISH, "de", ["copied", "wrong_language"]),
        (ENGLISH, ENGLISH + "!", "de", ["wrong_language"]),
        (ENGLISH, FRENCH, "de", ["wrong_language"]),
        (ENGLISH, "Die Bienen tanzen.", "de", ["length_ratio"]),
        (ENGLISH, f"{GERMAN} {GERMAN.replace('Die Bienen', 'Alle Ameisen')}", "de", ["repeated"]),
        (ENGLISH, CHINESE + "这是后来加上的一句话，原文里并没有这些内容，译者自己想出来的，长得离谱。", "zh", ["length_ratio"]),
        (ENGLISH, "Die Bienen tanzen und tanzen und tanzen und tanzen und tanzen auf der Wabe.", "de", ["repeated"]),
        (ENGLISH, "Die Bienen tanzentanzentanzentanzentanzen auf der großen Wabe.", "de", ["repeated"]),
        (
            "No no no no no no no no no, said the bees to the old beekeeper.",
            "Nein nein nein nein nein nein nein nein nein, sagten die Bienen zu dem alten Imker.",
            "de",
            [],
        ),
        ("Yes.", "Ja, das ist ganz richtig so.", "de", []),
    ],
)  # fmt: skip
def test_cases(flagger: Flagger, source: str, translation: str, lang: str, flags: list[str]) -> None:
    assert flagger.flags(source, translation, lang, truncated=False) == flags


def test_truncation_is_what_the_engine_says(flagger: Flagger) -> None:
    assert flagger.flags(ENGLISH, GERMAN, "de", truncated=True) == ["truncated"]
    assert flagger.flags(ENGLISH, "", "de", truncated=True) == ["empty", "truncated"]
    assert FLAGS == ("empty", "copied", "length_ratio", "repeated", "wrong_language", "truncated")


def test_limits_are_settings() -> None:
    short = "Die Bienen tanzen auf der Wabe."
    strict = Flagger(FlagSettings(length_factor=1.2), "en", ("de",))
    given = Flagger(FlagSettings(length_ratios={"de": (0.1, 3.0)}), "en", ("de",))
    assert strict.flags(ENGLISH, short, "de", truncated=False) == ["length_ratio"]
    assert given.flags(ENGLISH, "Die Bienen.", "de", truncated=False) == []
    assert (
        Flagger(FlagSettings(min_characters=100), "en", ("de", "fr")).flags(ENGLISH, FRENCH, "de", truncated=False)
        == []
    )


def test_usual_ratios_depend_on_both_languages() -> None:
    low, high = usual_ratio("en", "zh", 2.0, {})
    assert (low, high) == (pytest.approx(0.165), pytest.approx(0.66))
    assert usual_ratio("zh", "en", 2.0, {}) == (pytest.approx(1 / 0.66), pytest.approx(1 / 0.165))
    assert usual_ratio("en", "pt-BR", 1.1, {}) == (pytest.approx(1.0), pytest.approx(1.21))


def test_languages_hardly_told_apart_and_unknown_ones_are_left_alone() -> None:
    flagger = Flagger(FlagSettings(), "en", ("ms", "id", "ckb"))
    indonesian = "Lebah menari di sarang untuk memberi tahu saudara-saudaranya di mana bunga berada."
    assert flagger.flags(ENGLISH, indonesian, "ms", truncated=False) == []
    assert not flagger.identifies("ckb")
    assert flagger.flags(ENGLISH, GERMAN, "ckb", truncated=False) == []


def test_loops_by_words_and_by_letters() -> None:
    assert looped("", ["a", "b"] * 4, 4)
    assert not looped("", ["a", "b"] * 3, 4)
    assert not looped("", ["very"] * 4, 4)
    assert looped("", ["very"] * 8, 4)
    assert looped("x" + "abc" * 8, [], 4)
    assert not looped("abc" * 7, [], 4)
    assert not looped("-" * 90, [], 4)
    assert looped("".join(["0 ".join("abcdef")] * 4), [], 4)


def test_share_of_what_was_there_before() -> None:
    units = [str(i) for i in range(12)]
    assert repeated_share(units) == 0.0
    # 24 words have 21 runs of four; the 9 inside the second half were there before.
    assert repeated_share(units * 2) == pytest.approx(9 / 21)
    assert repeated_share(["a"] * 11) == 0.0
