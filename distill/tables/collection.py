"""Tables of collections: queries, passages, judgements, translations, and rejected rows."""

import pyarrow as pa

from distill.tables.contract import STRING, STRINGS, Column, Table

QUERIES = Table(
    "queries",
    "Search queries. A query in several languages keeps one query_id.",
    (
        Column("query_id", STRING, "id, the same for every language version of a query"),
        Column("lang", STRING, "language code as the configuration spells it (`en`, `de`, `zh` ...)"),
        Column("text", STRING, "the query, Unicode NFC"),
        Column("split", STRING, "`train`, `dev` or `test`; every language version of a query is in the same split"),
    ),
    ("query_id", "lang"),
    "no meaning",
    {
        "query_id": "nature-01-a.question",
        "lang": "en",
        "text": "How do honey bees tell each other where food is?",
        "split": "train",
    },
)

PASSAGES = Table(
    "passages",
    "Passages in the source language, the one in which the teacher reads.",
    (
        Column("passage_id", STRING, "id, shared with every translation"),
        Column(
            "doc_id",
            STRING,
            "the document that the passage was cut from; the passage's own id where passages are documents",
        ),
        Column("lang", STRING, "the source language"),
        Column("title", STRING, "title, empty where there is none"),
        Column("text", STRING, "body, Unicode NFC"),
    ),
    ("passage_id",),
    "no meaning",
    {
        "passage_id": "nature-01-a",
        "doc_id": "nature-01-a",
        "lang": "en",
        "title": "The waggle dance",
        "text": "A honey bee forager ...",
    },
)

PARTS = Table(
    "parts",
    "Passages that are parts of a longer document, in any language. A passage without a row here is a document of its own.",
    (
        Column("passage_id", STRING, "the passage; those that `source.cut` makes are named `ID#LANG.N`"),
        Column("doc_id", STRING, "its document, in every language; no passage has this id"),
        Column(
            "lang",
            STRING,
            "the language of the version that `source.cut` cut; empty where the source itself has the passage",
        ),
    ),
    ("passage_id",),
    "no meaning",
    {"passage_id": "d7#en.2", "doc_id": "d7", "lang": "en"},
)

_TRANSLATION_MEASURES = (
    "`passages`, those with each flag, `flagged` (with any), `sentences`, `distinct_sentences` (what the engine read), `second` (passages "
    "that the fallback translated again), `replaced` (whose second translation was taken)"
)

TRANSLATIONS = Table(
    "translations",
    "Passages in the other languages, under the ids of their sources.",
    (
        Column("passage_id", STRING, "the source passage's id"),
        Column("source_lang", STRING, "language translated from"),
        Column("lang", STRING, "language translated to"),
        Column("title", STRING, "translated title, empty where there is none"),
        Column("text", STRING, "translated body, Unicode NFC"),
        Column("translator", STRING, "who or what translated: a model, or the file or data set it was read from"),
        Column(
            "flags", STRINGS, "doubts: `empty`, `copied`, `length_ratio`, `repeated`, `wrong_language`, `truncated`"
        ),
    ),
    ("passage_id", "lang"),
    "no meaning",
    {
        "passage_id": "nature-01-a",
        "source_lang": "en",
        "lang": "de",
        "title": "Der Schwänzeltanz",
        "text": "Hat eine Sammlerin ...",
        "translator": "bundled",
        "flags": [],
    },
)

MISSING_TRANSLATIONS = Table(
    "missing_translations",
    "Pairs of passage and language without a text: no translation exists, or an engine's is empty.",
    (Column("passage_id", STRING, "the source passage's id"), Column("lang", STRING, "the language that is missing")),
    ("passage_id", "lang"),
    "no meaning",
    {"passage_id": "nature-01-a", "lang": "fa"},
)

TRANSLATION_COUNTS = Table(
    "translation_counts",
    "Work and results of the engines in each shard: counts that add up to the translation report.",
    (
        Column("lang", STRING, "language translated to"),
        Column("translator", STRING, "the engine"),
        Column(
            "measure", STRING, f"{_TRANSLATION_MEASURES}, `length_ratio_bin:k` (ratios of characters near 2^(k/10))"
        ),
        Column("value", pa.float64(), "the count"),
    ),
    (),
    "no meaning",
    {"lang": "de", "translator": "Helsinki-NLP/opus-mt-en-de ctranslate2/int8", "measure": "copied", "value": 2.0},
)

TRANSLATION_SAMPLES = Table(
    "translation_samples",
    "Passages beside their translations, for people to read.",
    (
        Column("passage_id", STRING, "the passage"),
        Column("lang", STRING, "language translated to"),
        Column("source", STRING, "title and text in the source language"),
        Column("translation", STRING, "title and text in the other"),
        Column("reference", STRING, "a parallel text, empty where there is none"),
        Column("translator", STRING, "the engine"),
        Column("flags", STRINGS, "the translation's flags"),
        Column(
            "order",
            pa.uint64(),
            "position in a random order that depends on passage and language alone; lowest are shown",
        ),
    ),
    (),
    "no meaning",
    {
        "passage_id": "nature-01-a",
        "lang": "de",
        "source": "The waggle dance A honey bee forager ...",
        "translation": "Der Schwänzeltanz Hat eine Sammlerin ...",
        "reference": "",
        "translator": "Helsinki-NLP/opus-mt-en-de ctranslate2/int8",
        "flags": [],
        "order": 1234567890,
    },
)

TRANSLATION_REPORT = Table(
    "translation_report",
    "Figures on the translations that engines made, one a row.",
    (
        Column("lang", STRING, "language translated to"),
        Column("translator", STRING, "the engine"),
        Column(
            "measure",
            STRING,
            f"{_TRANSLATION_MEASURES}, `length_ratio_q01`, `_q25`, `_q50`, `_q75`, `_q99` (characters, translation to source, within 4 %), "
            "`bleu`, `chrf` (sacrebleu, of passages with a parallel text), `references` (how many passages those are)",
        ),
        Column("value", pa.float64(), "the figure; BLEU and chrF are from 0 to 100"),
    ),
    ("lang", "translator", "measure"),
    "no meaning",
    {"lang": "de", "translator": "Helsinki-NLP/opus-mt-en-de ctranslate2/int8", "measure": "chrf", "value": 60.5},
)

REFERENCE_TRANSLATIONS = Table(
    "reference_translations",
    "Engine translations of passages that have a parallel text already; only the report uses them.",
    TRANSLATIONS.columns,
    ("passage_id", "lang"),
    "no meaning",
    TRANSLATIONS.example,
)

QRELS = Table(
    "qrels",
    "Relevance judgements, as in TREC: all of passages, or all of documents.",
    (
        Column("query_id", STRING, "the judged query"),
        Column("passage_id", STRING, "the judged passage, or the judged document of `parts`, in every language"),
        Column("relevance", pa.int32(), "grade; 0 and below is not relevant"),
    ),
    ("query_id", "passage_id"),
    "no meaning",
    {"query_id": "nature-01-a.question", "passage_id": "nature-01-a", "relevance": 3},
)

REJECTED = Table(
    "rejected",
    "Rows that a stage could not use. Nothing is dropped without a row here.",
    (
        Column("source", STRING, "file, data set or table that the row came from"),
        Column("line", pa.int64(), "line number from 1, or row number where the source has no lines"),
        Column("id", STRING, "the row's id, empty where it has none"),
        Column("field", STRING, "the field at fault, empty where the whole row is"),
        Column("reason", STRING, "what is wrong, and what was expected"),
    ),
    (),
    "no meaning",
    {"source": "queries.jsonl", "line": 7, "id": "", "field": "", "reason": "not JSON: Expecting value at column 1"},
)
