"""Words of BM25 and language codes, on inputs that people reported."""

import regex

from distill.select.bm25 import Bm25
from distill.text import words
from distill.translate.languages import flores
from tests.cases import case


def test_katakana_collection_of_thirty_passages() -> None:
    text = (case("03-katakana-choonpu") / "effect.py").read_text()
    terms = regex.search(r'terms="([^"]+)"', text)[1].split()  # pyright: ignore[reportOptionalSubscript]
    tails = regex.findall(r'"([^"]+)"', regex.search(r"tails=\[(.+)\]", text)[1])  # pyright: ignore[reportOptionalSubscript]
    assert (len(terms), len(tails)) == (30, 5)
    documents = [f"この{term}{tails[i % 5]}{terms[(i + 7) % 30]}とは別に保管する。" for i, term in enumerate(terms)]
    index = Bm25([f"d{i:02}" for i in range(30)], documents)
    shares = []
    for i, term in enumerate(terms):
        best = {found for found, _ in index.search(f"{term}はどこですか", 2)}
        shares.append(len(best & {f"d{i:02}", f"d{(i - 7) % 30:02}"}) / 2)
    assert sum(shares) / 30 >= 0.966
    assert words("データベース") == ["デー", "ータ", "タベ", "ベー", "ース"]


def test_language_codes() -> None:
    case("20-language-codes")
    assert {flores(tag)[0] for tag in ("zh-Hant-TW", "zh-Hant-HK", "zh-hant", "zh-tw", "zh-MO")} == {"zho_Hant"}
    assert [flores(tag)[0] for tag in ("sr-Latn-RS", "uz-Cyrl", "pa-Arab")] == ["srp_Latn", "uzn_Cyrl", "pan_Arab"]
