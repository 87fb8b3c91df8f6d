"""The shipped configurations of papers hold the papers' numbers, and their files name every difference with its reason.

A row is a setting, the value in our file, and the value of the paper or its released code; where the two differ, words of the sentence in
the file that says why. What has no row of its own is a default that a row of `DEFAULTS` holds.
"""

from pathlib import Path
from typing import Any

import pytest

from distill.config import load
from distill.meta.config import MetaConfig
from distill.settings.load import load_as

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
QUERIES, PAIRS_OF_A_QUERY = 808_731, 128
"""Training queries of MS MARCO, of which the released score files have all; pairs of each query of adaptive relevance margins."""
Row = tuple[str, Any, Any] | tuple[str, Any, Any, str]


def same(name: str, value: object) -> Row:
    """Return the row of a setting that is the paper's."""
    return (name, value, value)


TRANSLATE_DISTILL: list[Row] = [
    # arXiv 2401.04810 and 2405.00977, the models' artifact.metadata and their cards
    ("select.by.type", "late_interaction", "late_interaction"),
    ("select.by.model", "colbert-ir/colbertv2.0", "colbert-ir/colbertv2.0"),
    ("select.by.top_k", 50, 50),
    ("select.query_lang", None, None),
    ("select.passage_lang", None, None),
    ("score.teacher.type", "monot5", "monot5"),
    ("score.teacher.model", "unicamp-dl/mt5-13b-mmarco-100k", "unicamp-dl/mt5-13b-mmarco-100k"),
    ("score.query_lang", None, None),
    ("score.passage_lang", None, None),
    ("score.calibration.unit", "log_probability", "log_probability"),
    ("score.calibration.temperature", 1.0, 1.0),
    ("mix.n_way", 6, 6),
    ("mix.sampling", "random", "random"),
    ("mix.draw_from", None, None),
    ("mix.negatives", None, None),
    ("mix.group", 1, 1),
    ("mix.queries", None, None),
    ("mix.query_lang", None, None),
    ("mix.shared_draws", 1, 8, "each has draws of its own, so that neither depends on the number of workers"),
    ("student.type", "late_interaction", "late_interaction"),
    ("student.start.model", "xlm-roberta-large", "xlm-roberta-large"),
    ("student.dim", 128, 128),
    ("student.query_tokens", 32, 32),
    ("student.passage_tokens", 220, 220),
    ("student.marker_mode", "overwrite", "overwrite"),
    ("student.mask_punctuation", True, True),
    ("student.query_expansion", True, True),
    ("student.attend_to_mask_tokens", False, False),
    ("train.loss.type", "kl", "kl"),
    ("train.loss.teacher_scale", 1.0, 1.0),
    ("train.loss.student_scale", 1.0, 1.0),
    ("train.learning_rate", 5e-6, 5e-6),
    ("train.schedule", "constant", "constant"),
    ("train.warmup_steps", 0, 0),
    ("train.weight_decay", 0.0, 0.0),
    ("train.max_grad_norm", 2.0, 2.0),
    ("train.batch_size", 64, 64),
    ("train.workers", 8, 8),
    ("train.steps", 200_000, 200_000),
    ("train.accumulate", 1, 1),
    ("train.ema", None, None),
    ("train.dtype", "bfloat16", "float16", "it needs no scaling"),
    ("train.checkpoint_every", 2000, 2000),
    ("evaluate.depth", 1000, 1000),
    ("evaluate.confidence", 0.95, 0.95),
    ("evaluate.test", "one_sided", "one_sided"),
    ("evaluate.correction", "bonferroni", "bonferroni"),
    ("evaluate.english_baseline", False, True, "a second training of this size, is left out"),
]
NEUCLIR: list[Row] = [
    ("evaluate.measures", ["nDCG@20", "AP", "R@1000"], ["nDCG@20", "AP", "R@1000"]),
    ("evaluate.source.cut.length", 180, 180),
    ("evaluate.source.cut.stride", 90, 90),
    ("evaluate.source.cut.unit", "tokens", "tokens"),
    ("evaluate.source.cut.tokenizer", "xlm-roberta-large", "xlm-roberta-large"),
]
META: list[Row] = [
    # meryemmhamdi1/meta-multi-sem-search, its arguments and scripts
    ("seed", 109883242, 109883242),
    ("student.type", "single_vector", "single_vector"),
    same("student.start.model", "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"),
    ("student.pooling", "mean", "mean"),
    ("student.normalize", True, True),
    ("tasks.tasks", 9000, 7000 + 2000),
    ("tasks.query_set", "random", "random"),
    ("tasks.negatives", "random", "random"),
    ("train.order", "first", "first"),
    ("train.inner_steps", 5, 5),
    ("train.inner_rate", 1e-3, 1e-3),
    ("train.learning_rate", 5e-5, 5e-5),
    ("train.weight_decay", 0.0, 0.0),
    ("train.distillation_weight", 0.5, 0.5),
    ("train.margin", 1.0, 1.0),
    ("train.tasks_per_batch", 4, 4),
    ("train.variant", "paper", "released_code", "the student, too, adapts"),
]
ROWS: dict[str, list[Row]] = {
    **{
        f"td_{lang}": [
            *TRANSLATE_DISTILL,
            *NEUCLIR,
            ("source.queries", {"train": "msmarco-passage/train"}, {"train": "msmarco-passage/train"}),
            same("source.passages", {"en": "msmarco-passage", lang: f"neumarco/{lang}"}),
            ("mix.strategy", "single", "single"),
            ("mix.language", lang, lang),
            ("mix.epochs", 16, 16),
            same("evaluate.source.passages", {lang: f"neuclir/1/{lang}"}),
            same("evaluate.source.queries", {"test": f"neuclir/1/{lang}/trec-2022"}),
        ]
        for lang in ("zh", "fa", "ru")
    },
    "mtd_neuclir": [
        *TRANSLATE_DISTILL,
        *NEUCLIR,
        ("languages", ["zh", "fa", "ru"], ["zh", "fa", "ru"]),
        ("source.queries", {"train": "msmarco-passage/train"}, {"train": "msmarco-passage/train"}),
        ("mix.strategy", "mix_passages", "mix_passages"),
        ("mix.epochs", 16, 16),
        same("evaluate.source.passages", {lang: f"neuclir/1/{lang}" for lang in ("zh", "fa", "ru")}),
        ("evaluate.source.queries.test", "neuclir/1/multi/trec-2023", "2022 and 2023", "no multilingual judgements of 2022"),
    ],
    "mtd_clef": [
        *TRANSLATE_DISTILL,
        ("languages", ["de", "es", "fr"], ["de", "es", "fr"]),
        ("source.queries.train", "msmarco-passage/train", "msmarco-passage/train"),
        ("source.passages.de", "mmarco/v2/de", "Sockeye", "the authors translated MS MARCO themselves, with Sockeye"),
        ("source.queries.test", "msmarco-passage/dev/small", "CLEF 2003", "ir_datasets has no CLEF collection"),
        ("mix.strategy", "mix_passages", "mix_passages"),
        ("mix.epochs", 16, 16),
        same("evaluate.measures", ["nDCG@20", "AP", "R@1000", "nDCG@10", "AP@100", "R@100"]),
    ],
    "arm_msmarco": [
        # webis-de/adaptive-relevance-margin-loss, configs/exp4/run-config-mpnet-distributed.yaml
        ("seed", 153201820, 153201820),
        ("languages", [], []),
        ("method", "self_distillation", "self_distillation"),
        ("student.start.model", "microsoft/mpnet-base", "microsoft/mpnet-base"),
        ("student.pooling", "cls", "cls"),
        ("student.normalize", True, True),
        ("student.query_tokens", 20, 20),
        ("student.passage_tokens", 200, 200),
        ("train.loss.type", "relevance_margin", "relevance_margin"),
        ("train.loss.margin", "distributed", "distributed"),
        ("train.loss.error", "squared", "squared"),
        ("train.loss.alignment", "code", "code"),
        ("train.learning_rate", 5e-7, 5e-7),
        ("train.weight_decay", 1e-6, 1e-6),
        ("train.schedule", "exponential", "exponential"),
        ("train.decay", 0.99999, 0.99999),
        ("train.warmup_steps", 0, 0),
        ("train.batch_size", 128, 128),
        ("train.max_grad_norm", 1e9, None, "the authors do not clip"),
        ("train.dtype", "bfloat16", "float16", "it needs neither the package nor the scaling"),
        ("train.dev.every", 500, 500),
        ("train.dev.measure", "nDCG@10", "nDCG@10"),
        ("train.dev.patience", 16, 16),
        ("train.dev.queries", 54, 54),
        ("train.dev.passages", 5000, 1000, "where they rerank the first 1,000 of BM25"),
        ("source.queries.dev", "msmarco-passage/trec-dl-2020/judged", "msmarco-passage/trec-dl-2020/judged"),
        ("source.queries.test", "msmarco-passage/trec-dl-2019/judged", "2019 and 2020", "So only DL 2019 is a test here"),
        ("select.by.top_k", 200, 1000, "no reader of triples is needed"),
        ("mix.sampling", "pairs", "pairs"),
        ("mix.epochs", PAIRS_OF_A_QUERY, PAIRS_OF_A_QUERY),
    ],
    "maml_lareqa": [
        *META,
        ("source.type", "lareqa", "lareqa"),
        ("source.context", True, True),
        ("student.query_tokens", 96, 96),
        ("student.passage_tokens", 256, 256),
        ("tasks.shots", 3, 3),
        ("tasks.queries", 3, 3),
        ("tasks.folds", 5, 5),
        ("tasks.fold_seed", 2342556, 2342556),
        ("train.steps", 4500, 126, "since it counts steps where it means tasks"),
        ("evaluate.depth", 20, 20),
        same("evaluate.languages", ["ar", "de", "el", "hi", "ru", "th", "tr"]),
    ],
    "maml_stsb": [
        *META,
        ("source.type", "sentence_pairs", "STS 2017", "each in its two languages alone"),
        ("source.max_score", 5.0, 5.0),
        ("languages", ["en", "es", "de"], ["ar", "en", "es", "tr"], "transfers for this data is not published"),
        ("student.passage_tokens", 100, 100),
        ("tasks.shots", 8, 8),
        ("tasks.queries", 4, 4),
        ("train.steps", 4500, 2 * (7000 + 2000) // 4),
    ],
}  # fmt: skip


def dumped(name: str, *arguments: str) -> dict[str, Any]:
    files = [CONFIGS / f"{name}.yaml"]
    found = load_as(MetaConfig, files, arguments) if name.startswith("maml") else load(files, arguments)
    return found.model_dump(mode="json")


def value_at(content: Any, path: str) -> Any:
    for key in path.split("."):
        content = content[key]
    return content


def comments(name: str) -> str:
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(" ".join(line.partition("#")[2] for line in lines).split())


@pytest.mark.parametrize("name", ROWS)
def test_the_papers_values(name: str) -> None:
    content, text = dumped(name), comments(name)
    if name == "mtd_clef":
        text += comments("mtd_neuclir")  # "besides what mtd_neuclir.yaml says"
    for path, ours, theirs, *reason in ROWS[name]:
        assert value_at(content, path) == ours, path
        assert (ours == theirs) == (not reason), f"{path}: a difference needs its reason, and only a difference does"
        for words in reason:
            assert words in text, f"{path}: the file does not say why it is not {theirs}"


@pytest.mark.parametrize("name", ["td_zh", "td_fa", "td_ru", "mtd_neuclir", "mtd_clef"])
def test_passes_over_the_queries(name: str) -> None:
    """The examples suffice for all steps, and one epoch fewer would not."""
    content = dumped(name)
    needed = content["train"]["steps"] * content["train"]["batch_size"]
    assert content["mix"]["epochs"] * QUERIES >= needed > (content["mix"]["epochs"] - 1) * QUERIES
    assert "15.8 passes over the queries" in comments(name)
    assert needed / QUERIES == pytest.approx(15.8, abs=0.03)


def test_the_round_robin_of_the_released_model() -> None:
    """Two entries in three languages on each of eight GPUs, as the comment says."""
    arguments = ("--mix.strategy", "round_robin", "--train.batch_size", "48", "--mix.epochs", "4")
    assert " ".join(arguments) in comments("mtd_neuclir")
    content = dumped("mtd_neuclir", *arguments)
    assert content["train"]["batch_size"] // content["train"]["workers"] == 2 * 3
    entries = content["train"]["steps"] * content["train"]["batch_size"] // 3
    assert 4 * QUERIES >= entries > 3 * QUERIES


def test_every_pair_of_adaptive_relevance_margins_is_read_once() -> None:
    content = dumped("arm_msmarco")
    mix, train = content["mix"], content["train"]
    assert mix["queries"] * mix["epochs"] == train["steps"] * train["batch_size"] == 284_000 * PAIRS_OF_A_QUERY
    assert mix["queries"] * mix["epochs"] / 269_919_004 == pytest.approx(0.135, abs=0.0005)


def test_the_transfers_of_every_mode_of_the_released_code() -> None:
    """multi_meta_ssd/config/meta_task_param.ini."""
    found = load_as(MetaConfig, [CONFIGS / "maml_lareqa.yaml"])
    of = {
        system: [str(one) for one in found.tasks.wanted_transfers(found.languages, mode)]
        for system, mode in found.modes.items()
    }
    parts = {
        "mono_mono": ["el_el-ar_ar", "hi_hi-de_de"],
        "mono_bi": ["el_el-el_ar", "hi_hi-hi_de"],
        "mono_multi": ["el_el-el_ar,el", "hi_hi-hi_de,hi"],
        "bi_multi": ["el_ar-el_ar,el", "hi_de-hi_de,hi"],
    }
    chain = ["el_el-el_ar-el_ar,el,hi", "hi_hi-hi_de-hi_de,hi,ar"]
    assert of == {
        "maml_align": chain,
        "fine_tune": chain,
        **{f"maml_{mode}": transfers for mode, transfers in parts.items()},
        "maml_mixed": [transfer for transfers in parts.values() for transfer in transfers],
        "maml_trans": parts["mono_bi"] + parts["bi_multi"],
    }
    assert {transfer.partition("_")[0] for transfers in of.values() for transfer in transfers} == {"el", "hi"}


def test_tasks_and_variant_of_the_released_code() -> None:
    train = load_as(MetaConfig, [CONFIGS / "maml_lareqa.yaml"]).train
    assert train.steps * train.tasks_per_batch == 2 * 9000
    assert (train.adapting_steps, train.sums_losses) == (5, False)
    released = load_as(MetaConfig, [CONFIGS / "maml_lareqa.yaml"], ["--train.variant", "released_code"]).train
    assert (released.adapting_steps, released.sums_losses) == (0, True)
