"""The data contracts: every Parquet table that a stage reads or writes.

A stage checks what it reads and what it writes with `Table.check`, which names every fault at once. `docs/data.md` is generated from
this module (`python -m distill.tables > docs/data.md`) and a test keeps the two equal. Ids are strings everywhere. Nothing here imports
torch or ray.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

STRING = pa.string()
STRINGS = pa.list_(pa.string())
FLOATS = pa.list_(pa.float32())


class TableError(ValueError):
    """A table does not keep its contract. The message names the columns or rows, what was found and what was expected."""


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, its meaning, and whether its lists may hold nulls."""

    name: str
    type: pa.DataType
    meaning: str
    gaps: bool = False


@dataclass(frozen=True)
class Table:
    """One data contract.

    Attributes:
        name: the table's name, also its folder's name inside a stage's output.
        purpose: one sentence for the documentation.
        columns: the columns, in order.
        key: the columns whose values together are unique.
        order: what row order means, or why it means nothing.
        example: one row, shown in the documentation and checked by a test.
        aligned: groups of list columns whose lengths are equal in each row.
    """

    name: str
    purpose: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order: str
    example: Mapping[str, Any]
    aligned: tuple[tuple[str, ...], ...] = field(default=())

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; no column is nullable."""
        return pa.schema([pa.field(column.name, column.type, nullable=False) for column in self.columns])

    def check(self, table: pa.Table, source: str = "") -> pa.Table:
        """Return `table` with the columns in contract order, or raise a `TableError` that names every fault.

        Checked: missing and unexpected columns, types, nulls, duplicate keys, and unequal lengths of aligned lists.
        `source` (a file or a stage) begins the message. Cost: one hash of the key columns.
        """
        faults = self._shape_faults(table)
        if not faults:
            table = table.select([column.name for column in self.columns])
            faults = [*self._null_faults(table), *self._length_faults(table), *self._key_faults(table)]
        if faults:
            place = f"{source}: " if source else ""
            message = f"{place}not a '{self.name}' table: " + "; ".join(faults)
            raise TableError(message)
        return table.cast(self.schema)

    def empty(self) -> pa.Table:
        """A table of this contract without rows."""
        return self.schema.empty_table()

    def from_rows(self, rows: Iterable[Mapping[str, Any]], source: str = "") -> pa.Table:
        """Build and check a table from dictionaries."""
        rows = list(rows)
        names = [column.name for column in self.columns]
        unknown = sorted({name for row in rows for name in row} - set(names))
        if unknown:
            message = f"not a '{self.name}' table: unexpected columns {unknown}"
            raise TableError(message)
        arrays = [pa.array([row.get(column.name) for row in rows], type=column.type) for column in self.columns]
        return self.check(pa.table(arrays, names=names), source)

    def _shape_faults(self, table: pa.Table) -> list[str]:
        faults = []
        for column in self.columns:
            if column.name not in table.column_names:
                faults.append(f"column '{column.name}' is missing")
            elif not _same_type(table.schema.field(column.name).type, column.type):
                faults.append(
                    f"column '{column.name}' is {table.schema.field(column.name).type}, expected {column.type}"
                )
        unexpected = sorted(set(table.column_names) - {column.name for column in self.columns})
        if unexpected:
            faults.append(f"unexpected columns {unexpected}")
        return faults

    def _null_faults(self, table: pa.Table) -> list[str]:
        faults = []
        for name in table.column_names:
            if table[name].null_count:
                row = pc.index(pc.is_null(table[name]), value=True).as_py()
                faults.append(f"column '{name}' has {table[name].null_count} nulls, the first in row {row}")
        whole = [column.name for column in self.columns if pa.types.is_list(column.type) and not column.gaps]
        holes = {name: pc.list_flatten(table[name]).null_count for name in whole}
        return faults + [f"column '{name}' has {found} nulls in its lists" for name, found in holes.items() if found]

    def _length_faults(self, table: pa.Table) -> list[str]:
        faults = []
        for first, *others in self.aligned:
            for other in others:
                differ = pc.not_equal(pc.list_value_length(table[first]), pc.list_value_length(table[other]))
                row = pc.index(differ, value=True).as_py() if len(table) else -1
                if row >= 0:
                    faults.append(
                        f"row {row} has {len(table[first][row])} {first} but {len(table[other][row])} {other}"
                        f" ({', '.join(f'{k} {table[k][row].as_py()!r}' for k in self.key)})"
                    )
        return faults

    def _key_faults(self, table: pa.Table) -> list[str]:
        repeated = duplicates(table, self.key)
        if not repeated:
            return []
        shown = ", ".join(
            "(" + ", ".join(f"{k} {v!r}" for k, v in zip(self.key, values, strict=True)) + ")"
            for values in repeated[:3]
        )
        return [f"{len(repeated)} repeated keys, among them {shown}"]


def duplicates(table: pa.Table, key: Sequence[str]) -> list[tuple[Any, ...]]:
    """The key values that occur more than once, in sorted order."""
    if not key or len(table) < 2:
        return []
    counts = table.select(list(key)).group_by(list(key)).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1)).select(list(key))
    return sorted(tuple(row[k] for k in key) for row in repeated.to_pylist())


def _same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    if pa.types.is_list(found) and pa.types.is_list(expected):
        return _same_type(found.value_type, expected.value_type)
    return found == expected


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
    "Pairs of passage and language without a text: no translation was found, or an engine's is empty.",
    (Column("passage_id", STRING, "the source passage's id"), Column("lang", STRING, "the language that is missing")),
    ("passage_id", "lang"),
    "no meaning",
    {"passage_id": "nature-01-a", "lang": "fa"},
)

_TRANSLATION_MEASURES = (
    "`passages`, those with each flag, `flagged` (with any), `sentences`, `distinct_sentences` (what the engine read), `second` (passages "
    "that the fallback translated again), `replaced` (whose second translation was taken)"
)

TRANSLATION_COUNTS = Table(
    "translation_counts",
    "What engines did in each shard: counts that add up to the translation report.",
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
            "order", pa.uint64(), "place in a random order that depends on passage and language alone; lowest are shown"
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
    "Relevance judgements, as in TREC.",
    (
        Column("query_id", STRING, "the judged query"),
        Column("passage_id", STRING, "the judged passage, in every language"),
        Column("relevance", pa.int32(), "grade; 0 and below is not relevant"),
    ),
    ("query_id", "passage_id"),
    "no meaning",
    {"query_id": "nature-01-a.question", "passage_id": "nature-01-a", "relevance": 3},
)

CANDIDATES = Table(
    "candidates",
    "The passages that a selector found for each query, best first.",
    (
        Column("query_id", STRING, "the query"),
        Column("passage_ids", STRINGS, "found passages, best first; an empty list where nothing matched"),
        Column("selector", STRING, "which selector found them"),
    ),
    ("query_id",),
    "rows: no meaning; lists: rank",
    {"query_id": "nature-01-a.question", "passage_ids": ["nature-01-a", "nature-01-c"], "selector": "bm25"},
)

SCORES = Table(
    "scores",
    "What the teacher says of each candidate, keyed by id so that a student may read any translation of it.",
    (
        Column("query_id", STRING, "the query"),
        Column("passage_ids", STRINGS, "the candidates, in the selector's order"),
        Column(
            "scores", FLOATS, "raw teacher scores (log-odds, cosine or MaxSim), before any activation or temperature"
        ),
        Column("teacher", STRING, "the teacher's name and revision"),
    ),
    ("query_id",),
    "rows: no meaning; lists: the selector's rank",
    {
        "query_id": "nature-01-a.question",
        "passage_ids": ["nature-01-a", "nature-01-c"],
        "scores": [0.5, 0.25],
        "teacher": "all-MiniLM-L6-v2",
    },
    (("passage_ids", "scores"),),
)

TRUNCATED_PAIRS = Table(
    "truncated_pairs",
    "Pairs of which the teacher read less than the whole passage.",
    (Column("query_id", STRING, "the query"), Column("passage_id", STRING, "the passage that was cut")),
    ("query_id", "passage_id"),
    "no meaning",
    {"query_id": "nature-01-a.question", "passage_id": "nature-01-a"},
)

PROVENANCE = Table(
    "provenance",
    "What decided a teacher's scores, one row for each shard of them.",
    (
        Column("shard", pa.int64(), "the shard's number"),
        Column("kind", STRING, "the teacher's `type` in the settings"),
        Column("model", STRING, "Hugging Face id, folder, address or file"),
        Column("revision", STRING, "commit on the hub, empty where none was given"),
        Column("engine", STRING, "what computed: transformers, vllm, a server"),
        Column("engine_version", STRING, "its version"),
        Column(
            "prompt", STRING, "hash of the prompt's text and of the answers' tokens, empty where there is no prompt"
        ),
        Column("truncation", STRING, "what is cut at which length"),
        Column("dtype", STRING, "precision of the model's body"),
        Column("query_lang", STRING, "the language in which the teacher read the queries"),
        Column("passage_lang", STRING, "the language in which it read the passages"),
    ),
    ("shard",),
    "by shard",
    {
        "shard": 0,
        "kind": "cross_encoder",
        "model": "BAAI/bge-reranker-v2-m3",
        "revision": "",
        "engine": "transformers",
        "engine_version": "5.23.0",
        "prompt": "",
        "truncation": "passages, pairs at 512 tokens",
        "dtype": "bfloat16",
        "query_lang": "en",
        "passage_lang": "en",
    },
)

TEACHER_REPORT = Table(
    "teacher_report",
    "Figures on the teachers' raw scores, one a row.",
    (
        Column("stage", STRING, "the score stage whose table is described"),
        Column("teacher", STRING, "the teacher's name and revision"),
        Column("other", STRING, "for the agreement of two teachers the other one's stage, otherwise empty"),
        Column("lang", STRING, "languages in which the teacher read query and passage"),
        Column("ranks", STRING, "ranks of the selector that the figure is about, or `all`"),
        Column(
            "measure",
            STRING,
            "what is measured: `queries`, `pairs`, `mean`, `deviation` (population), `minimum`, `maximum`, `q05` to `q95` and `median` (of "
            "evenly spaced queries where there are many), `spread` (best minus worst candidate of a query), `tied_share` (candidates "
            "that share their score with another of the query), `constant_share` (queries with several candidates that all score the "
            "same), `saturated_share`, "
            "`not_finite_share`, `truncated_share` (pairs), `best_share` (queries whose best candidate has such a rank), `judged_queries`, "
            "`judged_found_share` (of them, with a relevant candidate), `judged_best_share` (whose best candidate is judged relevant), "
            "`judged_best_by_chance`, `judged_best_deviations` (the difference in standard errors), `spearman`, `best_agreement`",
        ),
        Column("value", pa.float64(), "the figure; shares are from 0 to 1"),
        Column("count", pa.int64(), "how many queries or pairs it was computed from"),
    ),
    ("stage", "other", "lang", "ranks", "measure"),
    "no meaning",
    {
        "stage": "score",
        "teacher": "all-MiniLM-L6-v2",
        "other": "",
        "lang": "en-en",
        "ranks": "2-5",
        "measure": "mean",
        "value": 0.5,
        "count": 1920,
    },
)

EXAMPLES = Table(
    "examples",
    "n-way training examples, with their texts, in training order.",
    (
        Column("position", pa.int64(), "place in the training order, from 0 without gaps"),
        Column("query_id", STRING, "the query"),
        Column("query", STRING, "the query's text"),
        Column("query_lang", STRING, "the query's language"),
        Column("passage_ids", STRINGS, "the n passages"),
        Column("passages", STRINGS, "their texts (title and body) in the drawn languages"),
        Column("langs", STRINGS, "the drawn languages"),
        Column(
            "scores",
            FLOATS,
            "raw teacher scores; null where the teacher has not scored a pair, or there is none",
            gaps=True,
        ),
    ),
    ("position",),
    "by position",
    {
        "position": 0,
        "query_id": "nature-01-a.question",
        "query": "How do honey bees tell each other where food is?",
        "query_lang": "en",
        "passage_ids": ["nature-01-a", "nature-01-c"],
        "passages": ["Der Schwänzeltanz Hat eine Sammlerin ...", "Соты ..."],
        "langs": ["de", "ru"],
        "scores": [0.5, 0.25],
    },
    (("passage_ids", "passages", "langs", "scores"),),
)

DOCUMENTS = Table(
    "documents",
    "The documents of an index, in the order of its vectors.",
    (
        Column("position", pa.int64(), "place in the index, from 0 without gaps"),
        Column("passage_id", STRING, "id, shared by the language versions"),
        Column("lang", STRING, "language of this version"),
        Column("title", STRING, "title, empty where there is none"),
        Column("text", STRING, "body"),
        Column("tokens", pa.int32(), "number of its token vectors"),
    ),
    ("passage_id", "lang"),
    "by position",
    {
        "position": 0,
        "passage_id": "nature-01-a",
        "lang": "de",
        "title": "Der Schwänzeltanz",
        "text": "Hat eine ...",
        "tokens": 87,
    },
)

VECTORS = Table(
    "vectors",
    "The token vectors of an index, as float16 (of unit length, so that a score changes by less than 0.1 %).",
    (
        Column("position", pa.int64(), "the document's place in the index"),
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
    "A ranking, as in TREC. In pooled collections a document is `passage_id@lang`.",
    (
        Column("query_id", STRING, "the query"),
        Column("passage_id", STRING, "the retrieved document"),
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
    "The runs that were made, also those that found nothing for any query and so have no row in `run`.",
    (Column("tag", STRING, "system and collection, as in `run`"),),
    ("tag",),
    "no meaning",
    {"tag": "student-de"},
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

TRAINING_LOG = Table(
    "training_log",
    "The training curve.",
    (
        Column("step", pa.int64(), "optimiser step, from 1"),
        Column("loss", pa.float64(), "mean loss over the workers"),
        Column("learning_rate", pa.float64(), "rate used in the step"),
        Column("examples", pa.int64(), "examples seen so far, over all workers"),
        Column("gradient_norm", pa.float64(), "mean norm of the gradient before it was clipped"),
    ),
    ("step",),
    "by step",
    {"step": 1, "loss": 1.79, "learning_rate": 5e-06, "examples": 64, "gradient_norm": 1.5},
)

DEV_MEASUREMENTS = Table(
    "dev_measurements",
    "Retrieval with the student while it was trained, if `train.dev` asks for it.",
    (
        Column("step", pa.int64(), "optimiser step"),
        Column("lang", STRING, "language of the passages"),
        Column("measure", STRING, "what was measured, in the notation of ir_measures"),
        Column("value", pa.float64(), "mean over the development queries"),
    ),
    ("step", "lang"),
    "by step",
    {"step": 2000, "lang": "de", "measure": "nDCG@20", "value": 0.41},
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
        Column("p", pa.float64(), "two-sided p-value of the paired t-test"),
        Column("p_corrected", pa.float64(), "the same, corrected by Holm's method for all comparisons in this table"),
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
        "p": 0.001,
        "p_corrected": 0.004,
    },
)

QUESTIONS = Table(
    "questions",
    "Questions of a meta-learning source.",
    (
        Column("question_id", STRING, "id of the question in its language"),
        Column("xling_id", STRING, "id of the question, the same in all languages"),
        Column("lang", STRING, "language code"),
        Column("text", STRING, "the question"),
        Column("article", STRING, "what it was asked about; folds cut between articles"),
        Column("split", STRING, "`train`, `dev` or `test` by the source; empty where it has none"),
    ),
    ("question_id",),
    "by xling_id, then lang",
    {
        "question_id": "56beb434_de",
        "xling_id": "56beb434",
        "lang": "de",
        "text": "Wie viele Punkte?",
        "article": "Super_Bowl_50",
        "split": "",
    },
)

ANSWERS = Table(
    "answers",
    "Candidates of a meta-learning source: all that a question may be answered by.",
    (
        Column("answer_id", STRING, "id of the candidate in its language"),
        Column("lang", STRING, "language code"),
        Column("text", STRING, "the candidate"),
        Column("article", STRING, "what it is from"),
        Column("split", STRING, "`train`, `dev` or `test` by the source; empty where it has none"),
    ),
    ("answer_id",),
    "by answer_id",
    {"answer_id": "de_xq00-0_0", "lang": "de", "text": "Die Panthers ...", "article": "Super_Bowl_50", "split": ""},
)

ANSWERED = Table(
    "answered",
    "Which candidates answer a question, in whatever language either is.",
    (
        Column("xling_id", STRING, "the question"),
        Column("answer_id", STRING, "a candidate that answers it"),
    ),
    ("xling_id", "answer_id"),
    "by xling_id, then answer_id",
    {"xling_id": "56beb434", "answer_id": "de_xq00-0_0"},
)

SENTENCE_PAIRS = Table(
    "sentence_pairs",
    "Pairs of sentences with graded scores, a row for each language.",
    (
        Column("pair_id", STRING, "id of the pair, the same in all languages"),
        Column("lang", STRING, "language code"),
        Column("first", STRING, "the first sentence"),
        Column("second", STRING, "the second sentence"),
        Column("score", pa.float32(), "how alike they are, from 0 to 1"),
        Column("split", STRING, "`train`, `dev` or `test`"),
    ),
    ("pair_id", "lang"),
    "by pair_id, then lang",
    {
        "pair_id": "train/0",
        "lang": "de",
        "first": "Ein Flugzeug hebt ab.",
        "second": "Ein Flugzeug startet.",
        "score": 1.0,
        "split": "train",
    },
)

RETRIEVAL_TASKS = Table(
    "retrieval_tasks",
    "Meta-tasks of questions: the triplets of every set of a task, one row a task.",
    (
        Column("position", pa.int64(), "number of the task, from 0"),
        Column("transfer", STRING, "its languages: `support-query`, each `question_candidates`"),
        Column("sets", pa.list_(pa.int8()), "the set of each triplet: 0 support, 1 query, 2 second query; ascending"),
        Column("question_ids", STRINGS, "the questions"),
        Column("question_langs", STRINGS, "their languages"),
        Column("questions", STRINGS, "their texts"),
        Column("positive_ids", STRINGS, "candidates that answer them"),
        Column("positive_langs", STRINGS, "their languages"),
        Column("positives", STRINGS, "their texts"),
        Column("negative_ids", STRINGS, "candidates that do not, in the positives' languages"),
        Column("negatives", STRINGS, "their texts"),
    ),
    ("position",),
    "by position",
    {
        "position": 0,
        "transfer": "de_de-de_fr",
        "sets": [0, 1],
        "question_ids": ["q1_de", "q7_de"],
        "question_langs": ["de", "de"],
        "questions": ["Wie weit?", "Warum?"],
        "positive_ids": ["a1_de", "a7_fr"],
        "positive_langs": ["de", "fr"],
        "positives": ["Zwei Meilen.", "Parce que ..."],
        "negative_ids": ["a9_de", "a2_fr"],
        "negatives": ["Am Abend.", "Le soir."],
    },
    (
        (
            "sets", "question_ids", "question_langs", "questions", "positive_ids", "positive_langs", "positives", "negative_ids",
            "negatives",
        ),
    ),
)  # fmt: skip

SIMILARITY_TASKS = Table(
    "similarity_tasks",
    "Meta-tasks of sentence pairs: the pairs of every set of a task, one row a task.",
    (
        Column("position", pa.int64(), "number of the task, from 0"),
        Column("transfer", STRING, "its languages: `support-query`, each `first_second`"),
        Column("sets", pa.list_(pa.int8()), "the set of each pair: 0 support, 1 query, 2 second query; ascending"),
        Column("pair_ids", STRINGS, "the pairs"),
        Column("first_langs", STRINGS, "languages of the first sentences"),
        Column("firsts", STRINGS, "the first sentences"),
        Column("second_langs", STRINGS, "languages of the second sentences"),
        Column("seconds", STRINGS, "the second sentences"),
        Column("scores", FLOATS, "how alike they are, from 0 to 1"),
    ),
    ("position",),
    "by position",
    {
        "position": 0,
        "transfer": "de_de-de_fr",
        "sets": [0, 1],
        "pair_ids": ["train/0", "dev/3"],
        "first_langs": ["de", "de"],
        "firsts": ["Ein Flugzeug hebt ab.", "Ein Mann tanzt."],
        "second_langs": ["de", "fr"],
        "seconds": ["Ein Flugzeug startet.", "Un homme danse."],
        "scores": [1.0, 0.95],
    },
    (("sets", "pair_ids", "first_langs", "firsts", "second_langs", "seconds", "scores"),),
)

QUESTION_VECTORS = Table(
    "question_vectors",
    "Vectors of questions, of an encoder that is evaluated or that finds neighbours.",
    (
        Column("question_id", STRING, "the question"),
        Column("count", pa.int32(), "its vectors: 1, or with late interaction one for each token that takes part in the score"),
        Column("vectors", FLOATS, "they, one after the other"),
    ),
    ("question_id",),
    "by xling_id, then lang",
    {"question_id": "56beb434_de", "count": 1, "vectors": [0.5, -0.5]},
)  # fmt: skip

ANSWER_VECTORS = Table(
    "answer_vectors",
    "Vectors of candidates, of the same encoder.",
    (
        Column("answer_id", STRING, "the candidate"),
        Column("count", pa.int32(), "its vectors: 1, or with late interaction one for each token that takes part in the score"),
        Column("vectors", FLOATS, "they, one after the other"),
    ),
    ("answer_id",),
    "by answer_id",
    {"answer_id": "de_xq00-0_0", "count": 1, "vectors": [0.5, -0.5]},
)  # fmt: skip

QUESTION_PRECISION = Table(
    "question_precision",
    "Average precision of every test question of a fold, the candidates of all languages in one pool.",
    (
        Column("question_id", STRING, "the question"),
        Column("xling_id", STRING, "the same in all languages"),
        Column("lang", STRING, "its language"),
        Column(
            "value", pa.float64(), "AP@k: the sum of precisions at the ranks of answers, by min(number of answers, k)"
        ),
    ),
    ("question_id",),
    "no meaning",
    {"question_id": "56beb434_de", "xling_id": "56beb434", "lang": "de", "value": 0.25},
)

PAIR_SIMILARITY = Table(
    "pair_similarity",
    "Similarity of every test pair in every pair of languages.",
    (
        Column("pair_id", STRING, "the pair"),
        Column("first_lang", STRING, "language of the first sentence"),
        Column("second_lang", STRING, "language of the second sentence"),
        Column("value", pa.float64(), "cosine of the encoder"),
        Column("score", pa.float64(), "the graded score, from 0 to 1"),
    ),
    ("pair_id", "first_lang", "second_lang"),
    "no meaning",
    {"pair_id": "test/0", "first_lang": "en", "second_lang": "de", "value": 0.8, "score": 0.9},
)

META_LOSSES = Table(
    "meta_losses",
    "What the loss of a meta-training is made of, each a mean over the steps since the line before.",
    (
        Column("step", pa.int64(), "outer steps taken"),
        Column(
            "part",
            STRING,
            "MAML: `query`; MAML-Align: `teacher`, `student`, and `gap`, what distillation minimises; fine-tuning: `set_0`, ...",
        ),
        Column("value", pa.float64(), "the loss"),
    ),
    ("step", "part"),
    "by step",
    {"step": 10, "part": "teacher", "value": 0.8},
)

META_RESULTS = Table(
    "meta_results",
    "Quality of every system, by fold and language.",
    (
        Column("system", STRING, "name of the system"),
        Column("fold", STRING, "number of the fold, or `all`: the mean over the folds"),
        Column("measure", STRING, "`AP@k`, `pearson` or `spearman`"),
        Column("group", STRING, "a language, a pair of languages (`en-de`), or the means `seen`, `unseen` and `mean` over languages"),
        Column("value", pa.float64(), "the value"),
        Column("low", pa.float64(), "lower end of its bootstrap interval"),
        Column("high", pa.float64(), "upper end"),
        Column("items", pa.int64(), "questions or pairs"),
    ),
    ("system", "fold", "measure", "group"),
    "no meaning",
    {"system": "maml_align", "fold": "all", "measure": "AP@20", "group": "de", "value": 0.3, "low": 0.28, "high": 0.32, "items": 1190},
)  # fmt: skip

META_COMPARISONS = Table(
    "meta_comparisons",
    "Paired comparisons of two systems over the same questions or pairs.",
    (
        Column("system", STRING, "the first system"),
        Column("baseline", STRING, "the second system"),
        Column("measure", STRING, "`AP@k`, `pearson` or `spearman`"),
        Column("group", STRING, "a language, a pair of languages, or the means `seen`, `unseen` and `mean`"),
        Column("items", pa.int64(), "questions or pairs; versions of one in several languages count once in a mean"),
        Column("difference", pa.float64(), "system minus baseline"),
        Column("low", pa.float64(), "lower end of the difference's confidence interval"),
        Column("high", pa.float64(), "upper end"),
        Column("p", pa.float64(), "two-sided p-value"),
        Column("p_corrected", pa.float64(), "the same, corrected by Holm's method for all comparisons in this table"),
    ),
    ("system", "baseline", "measure", "group"),
    "no meaning",
    {
        "system": "maml_align",
        "baseline": "fine_tune",
        "measure": "AP@20",
        "group": "mean",
        "items": 1190,
        "difference": 0.02,
        "low": 0.01,
        "high": 0.03,
        "p": 0.001,
        "p_corrected": 0.004,
    },
)

TABLES = (
    QUERIES,
    PASSAGES,
    TRANSLATIONS,
    MISSING_TRANSLATIONS,
    TRANSLATION_COUNTS,
    TRANSLATION_SAMPLES,
    TRANSLATION_REPORT,
    REFERENCE_TRANSLATIONS,
    QRELS,
    CANDIDATES,
    SCORES,
    TRUNCATED_PAIRS,
    PROVENANCE,
    TEACHER_REPORT,
    EXAMPLES,
    DOCUMENTS,
    VECTORS,
    PASSAGE_VECTORS,
    PASSAGE_INDEX,
    RUN,
    TAGS,
    MEASUREMENTS,
    TRAINING_LOG,
    DEV_MEASUREMENTS,
    REJECTED,
    COMPARISONS,
    QUESTIONS,
    ANSWERS,
    ANSWERED,
    SENTENCE_PAIRS,
    RETRIEVAL_TASKS,
    SIMILARITY_TASKS,
    QUESTION_VECTORS,
    ANSWER_VECTORS,
    QUESTION_PRECISION,
    PAIR_SIMILARITY,
    META_LOSSES,
    META_RESULTS,
    META_COMPARISONS,
)


def lookup(table: pa.Table, key: str, ids: Sequence[str] | pa.Array, what: str) -> pa.Table:
    """The rows of `table` whose `key` is each of `ids`, in the order of `ids`.

    An id that `table` lacks is a `TableError` that begins with `what` and names up to three of them.
    """
    wanted: pa.Array = ids if isinstance(ids, pa.Array) else pa.array(ids, STRING)
    rows = pc.index_in(wanted, value_set=table[key].combine_chunks())
    if rows.null_count:
        lost = sorted(set(wanted.filter(pc.is_null(rows)).to_pylist()))
        message = f"{what}: {len(lost)} of {key} do not exist, among them {lost[:3]}"
        raise TableError(message)
    return table.take(rows)


def documentation() -> str:
    """The text of `docs/data.md`."""
    lines = [
        "# Data contracts",
        "",
        "Every stage reads and writes Parquet tables of the schemas below. Ids are strings; no column is nullable. A table that does not",
        "keep its contract is refused with a message that names each fault. Generated by `python -m distill.tables`.",
    ]
    for table in TABLES:
        lines += ["", f"## {table.name}", "", table.purpose, ""]
        lines += [f"Key: {', '.join(f'`{k}`' for k in table.key) or 'none'}. Row order: {table.order}.", ""]
        lines += ["| column | type | meaning | example |", "|---|---|---|---|"]
        lines += [
            f"| {c.name} | {_type_name(c.type)} | {c.meaning} | `{table.example[c.name]}` |" for c in table.columns
        ]
    return "\n".join(lines) + "\n"


def _type_name(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


if __name__ == "__main__":
    import sys

    sys.stdout.write(documentation())
