"""Language codes of the families of translation models, by language and script."""

import pytest

from distill.translate.engines.interface import TranslatorError
from distill.translate.languages import base, flores, marian_codes, short_codes, usual_ratio


@pytest.mark.parametrize(
    ("lang", "code"),
    [
        *((tag, "zho_Hans") for tag in ("zh", "zh-CN", "zh-SG", "zh-Hans", "zh_hans", "cmn", "zho", "ZH-cn")),
        *(
            (tag, "zho_Hant")
            for tag in ("zh-TW", "zh-tw", "zh_TW", "zh-MO", "zh-HK", "zh-Hant", "zh-hant", "zh-Hant-TW")
        ),
        ("zh-Hant-HK", "zho_Hant"),
        ("cmn_Hant", "zho_Hant"),
        ("yue", "yue_Hant"),
        ("sr", "srp_Cyrl"),
        ("ks", "kas_Arab"),
        ("ks-Deva", "kas_Deva"),
        ("pa", "pan_Guru"),
        ("az", "azj_Latn"),
        ("az-Arab", "azb_Arab"),
        ("az-IR", "azb_Arab"),
        ("azb", "azb_Arab"),
        ("ku", "kmr_Latn"),
        ("ckb", "ckb_Arab"),
        ("uz", "uzn_Latn"),
        ("fa", "pes_Arab"),
        ("fa-AF", "prs_Arab"),
        ("prs", "prs_Arab"),
        ("ar", "arb_Arab"),
        ("arz", "arz_Arab"),
        ("no", "nob_Latn"),
        ("nn", "nno_Latn"),
        ("iw", "heb_Hebr"),
        ("in", "ind_Latn"),
        ("fil", "tgl_Latn"),
        ("ko", "kor_Hang"),
        ("pt-BR", "por_Latn"),
        ("es-419", "spa_Latn"),
        ("de", "deu_Latn"),
    ],
)
def test_nllb_code_of_a_language(lang: str, code: str) -> None:
    assert flores(lang)[0] == code


def test_every_code_of_nllb_is_tried_for_its_own_tag() -> None:
    """The tags are those of the released tokenizer, so this table is its vocabulary, not ours."""
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    assert len(FAIRSEQ_LANGUAGE_CODES) > 200
    assert [code for code in FAIRSEQ_LANGUAGE_CODES if code not in flores(code.replace("_", "-"))] == []
    of_one_script = {code[:3] for code in FAIRSEQ_LANGUAGE_CODES}
    scripts = {lang: [code for code in FAIRSEQ_LANGUAGE_CODES if code[:3] == lang] for lang in of_one_script}
    wrong = [codes[0] for lang, codes in scripts.items() if len(codes) == 1 and codes[0] not in flores(lang)]
    assert wrong == ["sat_Beng"]  # Santali is written in Ol Chiki, whatever this code says


@pytest.mark.parametrize(
    ("lang", "wrong"),
    [
        ("sr-Latn-RS", "srp_Cyrl"),
        ("uz-Cyrl", "uzn_Latn"),
        ("pa-Arab", "pan_Guru"),
        ("pa-PK", "pan_Guru"),
        ("zh-MO", "zho_Hans"),
    ],
)
def test_no_code_of_another_script_is_tried(lang: str, wrong: str) -> None:
    assert wrong not in flores(lang)
    script = flores(lang)[0].partition("_")[2]
    assert {code.partition("_")[2] for code in flores(lang)} == {script}
    # A code without a script would be that of the language's usual one.
    assert base(lang) not in short_codes(lang)
    assert base(lang) not in marian_codes(lang)
    assert flores(lang)[0].partition("_")[0] not in marian_codes(lang)


def test_short_codes() -> None:
    assert short_codes("zh") == ["zh_Hans", "zh"]
    assert short_codes("zh-tw") == ["zh_TW", "zh_Hant"]
    assert short_codes("pt-BR") == ["pt_BR", "pt_Latn", "pt"]
    assert short_codes("he") == ["he_Hebr", "he", "iw"]
    assert short_codes("fil") == ["tl_Latn", "tl", "fil"]


def test_marian_codes() -> None:
    assert marian_codes("zh-TW") == ["zh_TW", "zh_tw", "zho_Hant", "cmn_Hant"]
    assert marian_codes("zh") == ["zho_Hans", "cmn_Hans", "zho", "cmn", "zh"]
    assert marian_codes("de") == ["deu_Latn", "deu", "de"]
    assert marian_codes("sr-Latn") == ["sr_Latn", "sr_latn", "srp_Latn"]
    assert marian_codes("nb") == ["nob_Latn", "nob", "nb"]


@pytest.mark.parametrize("lang", ["english", "x", "de-", "deu_Latin"])
def test_what_is_no_language_tag_is_refused(lang: str) -> None:
    for codes in (flores, short_codes, marian_codes):
        with pytest.raises(TranslatorError, match="is no tag of a language"):
            codes(lang)


def test_base_and_length_of_regional_tags() -> None:
    assert [base(lang) for lang in ("pt_BR", "zh-Hant-TW", "cmn-Hant", "fil", "iw", "english")] == [
        "pt",
        "zh",
        "zh",
        "tl",
        "he",
        "english",
    ]
    assert usual_ratio("en", "cmn-Hant", 2.0, {}) == usual_ratio("en", "zh", 2.0, {}) == (0.165, 0.66)
    assert usual_ratio("en", "fil", 2.0, {}) == (0.61, 2.44)
