"""Tables of meta-learning: questions and answers in several languages, sentence pairs, meta-tasks, and results."""

import pyarrow as pa

from distill.tables.contract import FLOATS, STRING, STRINGS, Column, Table

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
        Column("fold", STRING, "number of the fold, or `all`: the mean over folds, each counting alike"),
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
        Column("difference", pa.float64(), "system minus baseline, of the values of `meta_results` in the fold `all`"),
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
