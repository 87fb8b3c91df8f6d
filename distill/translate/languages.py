"""Languages: the code that each family of models has for one, and how long its texts are.

The configuration spells languages as BCP 47 does (`de`, `zh`, `pt-BR`). NLLB wants FLORES-200 codes (`deu_Latn`), M2M100 mostly ISO 639-1
(`__de__`), MADLAD `<2de>`, and Marian models of several targets `>>deu<<` or `>>de<<`. A table can be wrong for a model; then its
vocabulary does not hold the token, which is an error that names the setting to use.
"""

from collections.abc import Mapping

_SCRIPTS = {
    "Arab": "ar:arb ckb:ckb fa:pes ks:kas ps:pbt sd:snd ug:uig ur:urd prs:prs",
    "Armn": "hy:hye",
    "Beng": "as:asm bn:ben",
    "Cyrl": "ba:bak be:bel bg:bul kk:kaz ky:kir mk:mkd mn:khk ru:rus sr:srp tg:tgk tt:tat uk:ukr",
    "Deva": "bho:bho hi:hin mai:mai mr:mar ne:npi sa:san",
    "Ethi": "am:amh ti:tir",
    "Geor": "ka:kat",
    "Grek": "el:ell",
    "Gujr": "gu:guj",
    "Guru": "pa:pan",
    "Hang": "ko:kor",
    "Hans": "zh:zho",
    "Hebr": "he:heb yi:ydd",
    "Jpan": "ja:jpn",
    "Khmr": "km:khm",
    "Knda": "kn:kan",
    "Laoo": "lo:lao",
    "Latn": (
        "af:afr ast:ast az:azj bm:bam bs:bos ca:cat ceb:ceb cs:ces cy:cym da:dan de:deu din:dik en:eng eo:epo es:spa et:est eu:eus fi:fin"
        " fil:tgl fj:fij fo:fao fr:fra fuv:fuv ga:gle gd:gla gl:glg gn:grn ha:hau hr:hrv ht:hat hu:hun id:ind ig:ibo ilo:ilo is:isl it:ita"
        " jv:jav ku:kmr lb:ltz lg:lug li:lim ln:lin lt:lit lv:lvs mg:plt mi:mri ms:zsm mt:mlt nb:nob nl:nld nn:nno no:nob ny:nya oc:oci"
        " om:gaz pl:pol pt:por qu:quy ro:ron rw:kin sk:slk sl:slv sm:smo sn:sna so:som sq:als ss:ssw st:sot su:sun sv:swe sw:swh tk:tuk"
        " tl:tgl tn:tsn tr:tur ts:tso tw:twi uz:uzn vi:vie wo:wol xh:xho yo:yor zu:zul nus:nus"
    ),
    "Mlym": "ml:mal",
    "Mymr": "my:mya",
    "Orya": "or:ory",
    "Sinh": "si:sin",
    "Taml": "ta:tam",
    "Telu": "te:tel",
    "Thai": "th:tha",
    "Tibt": "bo:bod",
}
_FLORES = {
    short: f"{long}_{script}"
    for script, pairs in _SCRIPTS.items()
    for short, _, long in (pair.partition(":") for pair in pairs.split())
    if long
} | {"zh-Hant": "zho_Hant", "zh-TW": "zho_Hant", "zh-HK": "yue_Hant", "yue": "yue_Hant", "sr-Latn": "srp_Latn"}

_MACRO = {
    "ar": "ara", "az": "aze", "et": "est", "fa": "fas", "ku": "kur", "lv": "lav", "mg": "mlg", "mn": "mon", "ms": "msa", "ne": "nep",
    "no": "nor", "or": "ori", "ps": "pus", "sq": "sqi", "sw": "swa", "uz": "uzb", "yi": "yid",
}  # fmt: skip
"""ISO 639-3 codes of macrolanguages, where FLORES-200 names one of their members."""

UNSPACED = frozenset({"zh", "ja", "yue", "wuu", "nan"})
"""Languages that put no space between sentences."""

_RELATIVE_LENGTH = {
    "ar": 0.92, "bn": 1.03, "de": 1.15, "en": 1.0, "es": 1.17, "fa": 0.94, "fr": 1.19, "ha": 1.03, "hi": 1.0, "id": 1.06, "ja": 0.45,
    "km": 1.04, "ko": 0.5, "lg": 1.13, "ln": 1.02, "mr": 1.03, "ms": 1.08, "my": 1.3, "ne": 0.98, "om": 1.15, "prs": 0.93, "ps": 0.96,
    "pt": 1.1, "ru": 1.16, "rw": 1.12, "so": 1.16, "sw": 1.08, "ta": 1.26, "ti": 0.68, "tl": 1.22, "ur": 0.97, "yue": 0.3, "zh": 0.33,
    "zu": 1.12,
}  # fmt: skip
"""Characters of a text for each character of the English one. From the 3,071 segments of TICO-19 (CC0), except de (the bundled corpus)
and ja, ko (rounded from parallel texts at large); any other language counts as 1."""


def base(lang: str) -> str:
    """Return the language without script and region: `pt` of `pt-BR`."""
    return lang.partition("-")[0]


def flores(lang: str) -> list[str]:
    """Return the FLORES-200 codes to try, as NLLB spells them."""
    return _known([_FLORES.get(lang), _FLORES.get(base(lang))])


def short_codes(lang: str) -> list[str]:
    """Return the codes to try for models that use ISO 639-1 with exceptions (M2M100, MADLAD)."""
    older = {"he": "iw", "fil": "tl", "tl": "fil", "nb": "no", "no": "nb", "jv": "jw"}
    return _known([lang.replace("-", "_"), base(lang), older.get(base(lang))])


def marian_codes(lang: str) -> list[str]:
    """Return the codes to try in `>>code<<`: OPUS-MT models of different years use different ones."""
    code = flores(lang)
    long = [code[0].partition("_")[0]] if code else []
    chinese = ["cmn_Hans", "cmn", "zho"] if base(lang) == "zh" else []
    regional = [lang.replace("-", "_"), lang.replace("-", "_").lower()] if "-" in lang else []
    return _known([*regional, *chinese, *long, _MACRO.get(base(lang)), *code, base(lang)])


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
