"""Tables of distillation: candidates, the teacher's scores, training examples and the curves of training."""

import pyarrow as pa

from distill.tables.contract import FLOATS, STRING, STRINGS, Column, Table

CANDIDATES = Table(
    "candidates",
    "The passages that a selector chose for each query, best first.",
    (
        Column("query_id", STRING, "the query"),
        Column("passage_ids", STRINGS, "selected passages, best first; an empty list where nothing matched"),
        Column("selector", STRING, "the selector"),
    ),
    ("query_id",),
    "rows: no meaning; lists: rank",
    {"query_id": "nature-01-a.question", "passage_ids": ["nature-01-a", "nature-01-c"], "selector": "bm25"},
)

SCORES = Table(
    "scores",
    "The teacher's score of each candidate, by id, so that a student may read any translation of it.",
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
        Column("position", pa.int64(), "position in the training order, from 0 without gaps"),
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
    "Retrieval with the student while it was trained, if `train.dev` is set.",
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
