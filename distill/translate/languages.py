"""Languages: the code that each family of models has for one, and how long its texts are.

The configuration spells languages as BCP 47 does (`de`, `zh-Hant`, `pt-BR`); case and `_` for `-` do not matter. NLLB wants FLORES-200
codes (`deu_Latn`), M2M100 mostly ISO 639-1 (`__de__`), MADLAD `<2de>`, and Marian models of several targets `>>deu<<` or `>>de<<`.
`langcodes` reads the tags and says which script a language is written in where the tag does not (CLDR's likely subtags: `zh-TW` is
Traditional, `pa-PK` Arabic). A code without a script is tried only for the script that the language is usually written in, so that a model
never translates into another script than the one asked for. A code that the model's vocabulary lacks is an error that names the setting
to use.
"""

from collections.abc import Mapping
from functools import lru_cache

from langcodes import Language, tag_is_valid

from distill.translate.engines.interface import TranslatorError

_MEMBERS = {
    "ara": "arb", "aym": "ayr", "aze": "azj", "din": "dik", "est": "est", "fas": "pes", "ful": "fuv", "kau": "knc", "kok": "gom",
    "kur": "kmr", "lav": "lvs", "mlg": "plt", "mon": "khk", "msa": "zsm", "nep": "npi", "nor": "nob", "ori": "ory", "orm": "gaz",
    "pus": "pbt", "que": "quy", "sqi": "als", "swa": "swh", "uzb": "uzn", "yid": "ydd", "fil": "tgl", "cmn": "zho",
}  # fmt: skip
"""The member of a macrolanguage that FLORES-200 and models of its kind mean by it."""

_MEMBERS_IN_SCRIPT = {("aze", "Arab"): "azb", ("kur", "Arab"): "ckb"}
"""The member of a macrolanguage that is written in a script."""

_SCRIPTS = {"Kore": "Hang"}
"""Scripts that FLORES-200 names otherwise than CLDR."""

_ALIKE = {"cmn": "zh", "fil": "tl"}
"""Languages whose lengths and letters are those of another code of the same language."""

_USUAL_SCRIPTS = {
    "acm": "Arab",
    "acq": "Arab",
    "ajp": "Arab",
    "azb": "Arab",
    "crh": "Latn",
    "pbt": "Arab",
    "tzm": "Tfng",
}
"""Scripts of languages that CLDR lacks, or gives another script than the models do."""

UNSPACED = frozenset({"zh", "ja", "yue", "wuu", "nan"})
"""Languages that put no space between sentences."""

_RELATIVE_LENGTH = {
    "ar": 0.92, "bn": 1.03, "de": 1.15, "en": 1.0, "es": 1.17, "fa": 0.94, "fr": 1.19, "ha": 1.03, "hi": 1.0, "id": 1.06, "ja": 0.45,
    "km": 1.04, "ko": 0.5, "lg": 1.13, "ln": 1.02, "mr": 1.03, "ms": 1.08, "my": 1.3, "ne": 0.98, "om": 1.15, "ps": 0.96,
    "pt": 1.1, "ru": 1.16, "rw": 1.12, "so": 1.16, "sw": 1.08, "ta": 1.26, "ti": 0.68, "tl": 1.22, "ur": 0.97, "yue": 0.3, "zh": 0.33,
    "zu": 1.12,
}  # fmt: skip
"""Characters of a text for each character of the English one. From the 3,071 segments of TICO-19 (CC0), except de (the bundled corpus)
and ja, ko (rounded from parallel texts at large); any other language counts as 1."""


def base(lang: str) -> str:
    """Return the language without script and region: `pt` of `pt-BR`, `zh` of `cmn-Hant`; what is no tag of a language stays as it is."""
    if not tag_is_valid(lang):
        return lang
    language = Language.get(lang).language or lang
    return _ALIKE.get(language, language)


def flores(lang: str) -> list[str]:
    """Return the FLORES-200 codes to try, as NLLB spells them. Raises TranslatorError where `lang` is no tag of a language."""
    tag = _parse(lang)
    long, script = _long(tag), _script(tag)
    written = _SCRIPTS.get(script, script)
    member = _MEMBERS_IN_SCRIPT.get((long, script)) or _MEMBERS.get(long, long)
    return _known([f"{member}_{written}", f"{long}_{written}"])


def short_codes(lang: str) -> list[str]:
    """Return the codes to try for models that use ISO 639-1 with exceptions (M2M100, MADLAD). Raises TranslatorError as `flores` does."""
    tag = _parse(lang)
    short = base(lang)
    script = _script(tag)
    older = {"he": "iw", "fil": "tl", "tl": "fil", "nb": "no", "no": "nb", "jv": "jw"}
    spelled = tag.to_tag().replace("-", "_")
    usual = [short, older.get(short)] if _is_usual(tag) else []
    return _known([*([spelled] if "_" in spelled else []), f"{short}_{script}", *usual])


def marian_codes(lang: str) -> list[str]:
    """Return the codes to try in `>>code<<`, of which OPUS-MT models of different years use different ones. Raises TranslatorError."""
    tag = _parse(lang)
    code = flores(lang)
    written = code[0].partition("_")[2]
    short = base(lang)
    long = [one.partition("_")[0] for one in code] + (["cmn", "zho"] if short == "zh" else [])
    spelled = tag.to_tag().replace("-", "_")
    regional = [spelled, spelled.lower()] if "_" in spelled else []
    usual = [*long, short] if _is_usual(tag) else []
    return _known([*regional, *(f"{one}_{written}" for one in reversed(long)), *usual])


@lru_cache(maxsize=256)
def _parse(lang: str) -> Language:
    if not tag_is_valid(lang):
        raise TranslatorError(
            f"'{lang}' is no tag of a language (BCP 47: de, zh-Hant, pt-BR); translators need one, or set language_codes"
            " of the translator to what its model calls the language"
        )
    return Language.get(lang)


def _long(tag: Language) -> str:
    """Return the language in three letters; Dari, which CLDR spells `fa-AF`, is one of its own in FLORES-200."""
    if tag.language == "fa" and tag.territory == "AF":
        return "prs"
    return tag.to_alpha3()


def _script(tag: Language) -> str:
    """Return the script of a tag: the one that it names, or else the usual one of its language and region."""
    return tag.script or _USUAL_SCRIPTS.get(_long(tag)) or tag.maximize().script or "Latn"


def _is_usual(tag: Language) -> bool:
    """Return true if a code without a script means the script of the tag."""
    return _script(tag) == _script(Language.make(language=tag.language))


def usual_ratio(
    source_lang: str, lang: str, factor: float, given: Mapping[str, tuple[float, float]]
) -> tuple[float, float]:
    """Return the least and the greatest usual ratio of characters, translation to source."""
    if lang in given:
        return given[lang]
    expected = _RELATIVE_LENGTH.get(base(lang), 1.0) / _RELATIVE_LENGTH.get(base(source_lang), 1.0)
    return expected / factor, expected * factor


def _known(codes: list[str | None]) -> list[str]:
    return list(dict.fromkeys(code for code in codes if code))
