"""Documents cut into passages: ids, languages, titles, and the faults that are refused."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from cluster.locations import SourceError
from distill.formats.rows import PASSAGE_ROWS
from distill.sources.cutting import Cut, cut_documents
from distill.sources.settings import CutSettings
from distill.sources.windows import word_atoms

LONG = "one two three four five six seven"


def table(*rows: Mapping[str, str]) -> pa.Table:
    base = {"doc_id": "", "title": "", "line": 0, "source": "p.jsonl"}
    filled = [{**base, "line": line, **row} for line, row in enumerate(rows, 1)]
    filled = [row | {"doc_id": row["doc_id"] or row["passage_id"]} for row in filled]
    return pa.Table.from_pylist(filled, PASSAGE_ROWS)


def texts(cut: Cut) -> list[dict[tuple[str, str], str]]:
    return [{(row["passage_id"], row["lang"]): row["text"] for row in part.to_pylist()} for part in cut.tables]


def test_a_long_document_becomes_passages_with_its_title_and_id() -> None:
    english = table(
        {"passage_id": "d1", "lang": "en", "title": "T", "text": LONG},
        {"passage_id": "d2", "lang": "en", "title": "U", "text": "short text"},
        {"passage_id": "d3", "lang": "en", "title": "a title of many words " * 5, "text": ""},
    )
    cut = cut_documents([english, PASSAGE_ROWS.empty_table()], CutSettings(length=3))
    rows = sorted(cut.tables[0].to_pylist(), key=lambda row: row["passage_id"])
    assert [(row["passage_id"], row["doc_id"], row["title"], row["text"], row["line"]) for row in rows] == [
        ("d1#en.1", "d1", "T", "one two three", 1),
        ("d1#en.2", "d1", "T", "four five six", 1),
        ("d1#en.3", "d1", "T", "seven", 1),
        ("d2", "d2", "U", "short text", 2),
        ("d3", "d3", "a title of many words " * 5, "", 3),
    ]
    assert cut.counts == {"en": {"documents": 1, "passages": 3}}
    assert cut.apart == 0


def test_versions_are_cut_apart_and_short_ones_stay_together() -> None:
    english = table(
        {"passage_id": "d1", "lang": "en", "text": LONG},
        {"passage_id": "d2", "lang": "en", "text": "short text"},
        {"passage_id": "d3", "lang": "en", "text": "still short"},
    )
    others = table(
        {"passage_id": "d1", "lang": "de", "text": "eins zwei drei vier fünf sechs sieben"},
        {"passage_id": "d2", "lang": "de", "text": "kurzer Text"},
        # The English version is short: cut apart all the same, or d3 would be a whole text in English and a part of one in Chinese.
        {"passage_id": "d3", "lang": "zh", "text": "蜜蜂跳舞告诉同伴花在哪里"},
        {"passage_id": "d4", "lang": "zh-TW", "text": "蜜蜂跳舞告訴同伴"},
    )
    cut = cut_documents([english, others], CutSettings(length=4, stride=3))
    assert texts(cut) == [
        {
            ("d2", "en"): "short text",
            ("d1#en.1", "en"): "one two three four",
            ("d1#en.2", "en"): "four five six seven",
            ("d3#en.1", "en"): "still short",
        },
        {
            ("d2", "de"): "kurzer Text",
            ("d4", "zh-TW"): "蜜蜂跳舞告訴同伴",
            ("d1#de.1", "de"): "eins zwei drei vier",
            ("d1#de.2", "de"): "vier fünf sechs sieben",
            ("d3#zh.1", "zh"): "蜜蜂跳舞告诉同伴",
            ("d3#zh.2", "zh"): "同伴花在哪里",
        },
    ]
    assert cut.apart == 2
    assert cut.counts["zh"] == {"documents": 1, "passages": 2}


def test_parts_of_a_document_are_cut_under_their_own_ids() -> None:
    cut = cut_documents(
        [table({"passage_id": "d1_1", "doc_id": "d1", "lang": "en", "text": LONG})], CutSettings(length=4)
    )
    rows = cut.tables[0].to_pylist()
    assert [(row["passage_id"], row["doc_id"]) for row in rows] == [("d1_1#en.1", "d1"), ("d1_1#en.2", "d1")]


def test_an_id_that_exists_is_refused() -> None:
    english = table({"passage_id": "d1", "lang": "en", "text": LONG})
    others = table({"passage_id": "d1#en.2", "lang": "de", "text": "anderes"})
    with pytest.raises(
        SourceError,
        match=r"p.jsonl line 1: passage 'd1#en.2' has the id that source.cut gives to a part of document 'd1'",
    ):
        cut_documents([english, others], CutSettings(length=3))
    # An id with the suffix in it is no fault by itself, and is cut like any other.
    cut = cut_documents([table({"passage_id": "d1#en.2", "lang": "en", "text": LONG})], CutSettings(length=4))
    assert [row["passage_id"] for row in cut.tables[0].to_pylist()] == ["d1#en.2#en.1", "d1#en.2#en.2"]


def test_tokens_of_a_model(tiny_bert: Path) -> None:
    # The tiny vocabulary has bee, dance, stone and bridge; other words are spelled: z o o is three tokens.
    settings = CutSettings(length=3, unit="tokens", tokenizer=str(tiny_bert))
    english = table({"passage_id": "d1", "lang": "en", "text": "Bee dance. Zoo stone bridge"})
    assert [row["text"] for row in cut_documents([english], settings).tables[0].to_pylist()] == [
        "Bee dance.",
        "Zoo",
        "stone bridge",
    ]


def test_settings_that_lose_text_or_contradict_are_refused() -> None:
    with pytest.raises(
        ValidationError, match="stride 4 is above length 3: the text between two passages would be lost"
    ):
        CutSettings(length=3, stride=4)
    with pytest.raises(ValidationError, match=r"tokens are counted by a tokenizer: name it \(tokenizer\)"):
        CutSettings(unit="tokens")
    with pytest.raises(ValidationError, match="words need no tokenizer"):
        CutSettings(tokenizer="bundled:student")


def test_every_word_is_in_a_passage() -> None:
    english = table({"passage_id": "d", "lang": "en", "text": " ".join(f"w{i}" for i in range(1001))})
    for length, stride in ((150, None), (150, 75), (7, 3), (1, 1)):
        cut = cut_documents([english], CutSettings(length=length, stride=stride))
        passages = [row["text"].split() for row in cut.tables[0].to_pylist()]
        assert {word for passage in passages for word in passage} == {f"w{i}" for i in range(1001)}
        step = stride or length
        assert [passage[0] for passage in passages] == [f"w{i * step}" for i in range(len(passages))]
        assert all(len(passage) == length for passage in passages[:-1])
        assert len(word_atoms(" ".join(passages[-1]))) <= length
