"""TICO-19, whose segments people translated into 38 languages: set POLYRAY_TICO19 to its segments.jsonl.gz."""

import gzip
import json
import os
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from distill.translate.flags import Flagger
from distill.translate.sentences import split
from distill.translate.settings import FlagSettings

FILE = os.environ.get("POLYRAY_TICO19", "")
LANGUAGES = ("ar", "es-LA", "fa", "hi", "id", "km", "my", "pt-BR", "ru", "sw", "ta", "ur", "zh")

pytestmark = pytest.mark.skipif(not Path(FILE).is_file(), reason="POLYRAY_TICO19 names no file")


def segments() -> Iterator[dict[str, str]]:
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        for line in islice(lines, 0, None, 10):
            yield json.loads(line)


def test_every_segment_comes_back() -> None:
    for row in segments():
        for lang, text in row.items():
            assert split(text, lang.replace("_", "-")).text == text, lang


def test_what_people_translated_is_hardly_flagged() -> None:
    flagger = Flagger(FlagSettings(), "en", LANGUAGES)
    rows = list(segments())
    for lang in LANGUAGES:
        flagged = sum(bool(flagger.flags(row["en"], row[lang], lang, truncated=False)) for row in rows)
        assert flagged <= 0.02 * len(rows), (lang, flagged)


def test_translations_of_another_segment_often_are() -> None:
    """The length alone betrays many of them."""
    flagger = Flagger(FlagSettings(), "en", LANGUAGES)
    rows = list(segments())
    shifted = pairwise(rows)
    flagged = sum(bool(flagger.flags(a["en"], b["ru"], "ru", truncated=False)) for a, b in shifted)
    assert flagged > 0.2 * len(rows)
