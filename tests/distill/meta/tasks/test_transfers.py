import pytest
from pydantic import ValidationError

from distill.meta.settings import TaskSettings
from distill.meta.tasks.transfers import (
    MODES,
    LanguageSet,
    Mode,
    Transfer,
    check_mode,
    derived,
    mode_of,
    phases,
    transfer_at,
)

BY_HAND: dict[Mode, list[str]] = {
    "mono_mono": ["ar_ar-de_de", "de_de-el_el", "el_el-ar_ar"],
    "mono_bi": ["ar_ar-ar_de", "de_de-de_el", "el_el-el_ar"],
    "mono_multi": ["ar_ar-ar_de,ar", "de_de-de_el,de", "el_el-el_ar,el"],
    "bi_multi": ["ar_de-ar_de,ar", "de_el-de_el,de", "el_ar-el_ar,el"],
    "mixed": [
        "ar_ar-de_de", "ar_ar-ar_de", "ar_ar-ar_de,ar", "ar_de-ar_de,ar",
        "de_de-el_el", "de_de-de_el", "de_de-de_el,de", "de_el-de_el,de",
        "el_el-ar_ar", "el_el-el_ar", "el_el-el_ar,el", "el_ar-el_ar,el",
    ],
    "trans": ["ar_ar-ar_de", "de_de-de_el", "el_el-el_ar", "ar_de-ar_de,ar", "de_el-de_el,de", "el_ar-el_ar,el"],
    "mono_bi_multi": ["ar_ar-ar_de-ar_de,ar,el", "de_de-de_el-de_el,de,ar", "el_el-el_ar-el_ar,el,de"],
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_transfers_of_every_mode_are_derived_and_written_and_read(mode: Mode) -> None:
    made = derived(mode, ("ar", "de", "el"))
    assert [str(transfer) for transfer in made] == BY_HAND[mode]
    assert tuple(Transfer.parse(text) for text in BY_HAND[mode]) == made
    check_mode(mode, made)
    assert TaskSettings(mode=mode, transfers=tuple(BY_HAND[mode])).wanted_transfers(()) == made
    assert TaskSettings(mode=mode).wanted_transfers(("ar", "de", "el")) == made


def test_the_papers_chain_is_read() -> None:
    assert Transfer.parse("el_el-el_ar-el_ar,el,hi").sets == (
        LanguageSet("el", ("el",)),
        LanguageSet("el", ("ar",)),
        LanguageSet("el", ("ar", "el", "hi")),
    )
    assert Transfer.parse("el_el-el_ar-el_ar,el,hi").languages == ("el", "ar", "hi")


def test_codes_with_regions_and_scripts_are_told_from_sets() -> None:
    transfer = Transfer.parse("pt-BR_pt-BR-pt-BR_zh-Hant,es-419")
    assert transfer.sets == (LanguageSet("pt-BR", ("pt-BR",)), LanguageSet("pt-BR", ("zh-Hant", "es-419")))
    assert str(transfer) == "pt-BR_pt-BR-pt-BR_zh-Hant,es-419"
    with pytest.raises(ValueError, match=r"'pt-br' is no language code; write regions and scripts as in BCP 47"):
        derived("mono_bi", ("pt-br", "de"))


@pytest.mark.parametrize(
    "text", ["", "el_el", "el_el-el", "el-el_ar", "el_el_el_ar", "el_el-el_ar,", "el_el-el_ar-el_ar-el_ar"]
)
def test_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not `support-query` or .*such as `el_el-el_ar` or"):
        Transfer.parse(text)


def test_a_language_twice_in_a_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'el_ar,ar': name each candidate language once"):
        Transfer.parse("el_el-el_ar,ar")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("el_ar-el_hi", r"is bi_bi, and no such mode exists; there are mono_mono \(a_a-b_b\), mono_bi"),
        ("el_ar,el-el_el", "is multi_mono, and no such mode"),
        ("el_el-el_el", r"stays in 'el'; mono_mono \(a_a-b_b\) needs a second language"),
        ("el_el-hi_ar", r"asks in el and hi; mono_bi \(a_a-a_b\) asks in one language throughout"),
        ("el_el-el_ar-hi_ar,el", r"asks in el and hi; mono_bi_multi"),
    ],
)
def test_transfers_of_no_mode_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mode_of(Transfer.parse(text))


@pytest.mark.parametrize(
    ("mode", "transfers", "message"),
    [
        ("mono_bi_multi", ("el_el-el_ar",), r"needs a_a-a_b-a_b,a,c .*: a multilingual query set after 'el_ar' is missing"),
        ("mono_bi", ("el_el-el_ar-el_ar,el",), r"'el_ar,el' is a set too many"),
        ("mono_multi", ("el_el-el_ar",), r"'el_ar' is missing a second candidate language"),
        ("bi_multi", ("el_el-el_ar,el",), r"'el_el' is missing exactly one candidate language, other than the question's"),
        ("trans", ("el_el-el_ar",), r"mode trans needs transfers of all its modes: el_el-el_ar lacks a_b-a_b,a \(bi_multi\)"),
        ("mixed", ("el_el-el_ar", "el_ar-el_ar,el"), r"lacks a_a-b_b \(mono_mono\) or a_a-a_b,a \(mono_multi\)"),
        ("mixed", ("el_el-el_ar-el_ar,el",), r"is of mode mono_bi_multi; mode mixed needs a_a-b_b"),
    ],
)  # fmt: skip
def test_settings_refuse_transfers_of_another_mode(mode: Mode, transfers: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskSettings(mode=mode, transfers=transfers)


def test_too_few_languages_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match=r"mode mono_bi_multi needs 3 languages, and there are 2 \(de, en\): add 1"):
        derived("mono_bi_multi", ("de", "en"))
    with pytest.raises(ValueError, match=r"mode mixed needs 2 languages, and there are 1 \(de\): add 1"):
        derived("mixed", ("de",))
    with pytest.raises(ValueError, match="names a language twice"):
        derived("mono_bi", ("de", "de"))


def test_a_similar_query_set_needs_as_many_neighbours() -> None:
    with pytest.raises(ValidationError, match="neighbours 2 is less than queries 3"):
        TaskSettings(query_set="similar", neighbours=2)


def test_transfers_take_turns() -> None:
    groups = phases(derived("mono_bi", ("ar", "de", "el")))
    assert [str(transfer_at(groups, t, 5)) for t in range(5)] == [BY_HAND["mono_bi"][t] for t in (0, 1, 2, 0, 1)]
    mixed = phases(derived("mixed", ("ar", "de", "el")))
    assert [str(transfer_at(mixed, t, 13)) for t in range(13)] == [*BY_HAND["mixed"], BY_HAND["mixed"][0]]


def test_trans_has_mono_bi_in_the_first_half_and_bi_multi_in_the_second() -> None:
    mono_bi, bi_multi = BY_HAND["mono_bi"], BY_HAND["bi_multi"]
    groups = phases(derived("trans", ("ar", "de", "el")))
    found = [str(transfer_at(groups, t, 9)) for t in range(9)]
    assert found == [*mono_bi, *mono_bi[:2], *bi_multi, bi_multi[0]]
    # the order in which they are named does not matter
    assert phases([Transfer.parse(text) for text in (*bi_multi, *mono_bi)]) == groups
    assert str(transfer_at(groups, 0, 1)) == mono_bi[0]


def test_transfers_that_are_of_no_mode_together_are_refused() -> None:
    transfers = [Transfer.parse(text) for text in ("el_el-el_ar", "el_el-ar_ar")]
    with pytest.raises(
        ValueError, match=r"el_el-el_ar, el_el-ar_ar are of no mode together, but of mono_bi, mono_mono"
    ):
        phases(transfers)
    with pytest.raises(ValueError, match=r"transfers none are of no mode together, but of nothing"):
        phases([])
