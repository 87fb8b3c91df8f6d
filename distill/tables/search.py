"""Tables of retrieval: vectors of a collection, runs, and their measurements."""

import pyarrow as pa

from distill.tables.contract import FLOATS, STRING, Column, Table

DOCUMENTS = Table(
    "documents",
    "The documents of an index, in the order of its vectors.",
    (
        Column("position", pa.int64(), "position in the index, from 0 without gaps"),
        Column("passage_id", STRING, "id, shared by the language versions"),
        Column("doc_id", STRING, "the document that the passage is a part of; its own id where it is one"),
        Column("lang", STRING, "language of this version"),
        Column("title", STRING, "title, empty where there is none"),
        Column("text", STRING, "body"),
        Column("tokens", pa.int32(), "number of its token vectors"),
        Column("truncated", pa.bool_(), "whether the student read less than title and body"),
    ),
    ("passage_id", "lang"),
    "by position",
    {
        "position": 0,
        "passage_id": "nature-01-a",
        "doc_id": "nature-01-a",
        "lang": "de",
        "title": "Der Schwänzeltanz",
        "text": "Hat eine ...",
        "tokens": 87,
        "truncated": False,
    },
)

VECTORS = Table(
    "vectors",
    "The token vectors of an index, as float16 (of unit length, so that a score changes by less than 0.1 %).",
    (
        Column("position", pa.int64(), "the document's position in the index"),
        Column("vectors", pa.list_(pa.float16()), "its token vectors, one after the other"),
    ),
    ("position",),
    "by position",
    {"position": 0, "vectors": [0.5, -0.5, 0.5, 0.5]},
)

PASSAGE_VECTORS = Table(
    "passage_vectors",
    "One vector for each passage, of a selector's encoder.",
    (
        Column("passage_id", STRING, "the passage"),
        Column("vector", FLOATS, "its vector"),
    ),
    ("passage_id",),
    "by passage_id",
    {"passage_id": "nature-01-a", "vector": [0.5, -0.5]},
)

PASSAGE_INDEX = Table(
    "passage_index",
    "The FAISS index of a selector's vectors.",
    (
        Column("file", STRING, "its file in the stage's folder"),
        Column("factory", STRING, "FAISS's factory string"),
        Column("vectors", pa.int64(), "vectors in it, in the order of `passage_vectors`"),
    ),
    ("file",),
    "no meaning",
    {"file": "passages.faiss", "factory": "IVF4096,PQ48", "vectors": 8841823},
)

RUN = Table(
    "run",
    "A ranking, as in TREC, of what is judged: of passages, or of documents by their best passages. Pooled ids are `ID@LANG`.",
    (
        Column("query_id", STRING, "the query"),
        Column("passage_id", STRING, "the retrieved passage or document"),
        Column("rank", pa.int32(), "rank from 1"),
        Column("score", pa.float32(), "the system's score, larger is better"),
        Column("tag", STRING, "system and collection"),
    ),
    ("tag", "query_id", "passage_id"),
    "no meaning; rank orders",
    {"query_id": "nature-01-a.question", "passage_id": "nature-01-a", "rank": 1, "score": 21.5, "tag": "student-de"},
)

TAGS = Table(
    "tags",
    "The runs that were made, also those without a result for any query, which have no row in `run`.",
    (Column("tag", STRING, "system and collection, as in `run`"),),
    ("tag",),
    "no meaning",
    {"tag": "student-de"},
)

TRUNCATED_QUERIES = Table(
    "truncated_queries",
    "Evaluated queries of which a student reads only the beginning.",
    (
        Column("query_id", STRING, "the query"),
        Column("system", STRING, "the student, as in `run`"),
    ),
    ("query_id", "system"),
    "no meaning",
    {"query_id": "nature-01-a.question", "system": "student"},
)

MEASUREMENTS = Table(
    "measurements",
    "One value per system, collection, measure and query.",
    (
        Column("system", STRING, "bm25, english_distillation, student or teacher"),
        Column("collection", STRING, "a language code, `mixed` or `pooled`"),
        Column("measure", STRING, "in the notation of ir_measures"),
        Column("query_id", STRING, "the query"),
        Column("value", pa.float64(), "the measure's value for the query"),
    ),
    ("system", "collection", "measure", "query_id"),
    "no meaning",
    {"system": "student", "collection": "de", "measure": "nDCG@20", "query_id": "nature-01-a.question", "value": 1.0},
)

COMPARISONS = Table(
    "comparisons",
    "Paired comparisons of two systems over the same queries.",
    (
        Column("system", STRING, "the first system"),
        Column("baseline", STRING, "the second system"),
        Column("collection", STRING, "a language code, `mixed` or `pooled`"),
        Column("measure", STRING, "in the notation of ir_measures"),
        Column("queries", pa.int64(), "number of queries"),
        Column("difference", pa.float64(), "mean of system minus baseline"),
        Column("low", pa.float64(), "lower end of the difference's confidence interval (Student's t)"),
        Column("high", pa.float64(), "upper end"),
        Column("test", STRING, "the paired t-test: `two_sided`, or `one_sided` (is the first system better)"),
        Column("p", pa.float64(), "its p-value"),
        Column("correction", STRING, "`holm` or `bonferroni`"),
        Column("p_corrected", pa.float64(), "p, corrected so for the number of comparisons in this table"),
    ),
    ("system", "baseline", "collection", "measure"),
    "no meaning",
    {
        "system": "student",
        "baseline": "bm25",
        "collection": "de",
        "measure": "nDCG@20",
        "queries": 144,
        "difference": 0.25,
        "low": 0.2,
        "high": 0.3,
        "test": "two_sided",
        "p": 0.001,
        "correction": "holm",
        "p_corrected": 0.004,
    },
)
