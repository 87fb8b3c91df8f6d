"""The model card: its metadata, and that its sentences follow the settings."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config import Config
from distill.encoders.settings import FreshStudent, LateInteractionStudent, PretrainedStudent, SingleVectorStudent
from distill.mix.settings import MixSettings
from distill.report.card import model_card
from distill.score.settings import CrossEncoderTeacher, ScoreSettings
from distill.select.settings import RunSelector, SelectSettings
from distill.sources.settings import BeirSource, IrDatasetsSource
from distill.train.loss_settings import KlLoss
from distill.train.settings import TrainSettings

NUMBERS: dict[str, Any] = {
    "primary": "nDCG@20",
    "queries_of_collections": {"en": 144, "de": 144, "mixed": 144},
    "mean_languages": ["de"],
    "not_evaluated": "",
    "metrics": {
        "bm25": {"de": {"nDCG@20": 0.125}, "mixed": {"nDCG@20": 0.25}},
        "student": {"de": {"nDCG@20": 0.5}, "mixed": {"nDCG@20": 0.75}},
        "teacher": {"en": {"nDCG@20": 0.9375}},
    },
    "means": {"bm25": {"nDCG@20": 0.125}, "student": {"nDCG@20": 0.5}},
    "training": {"student": {"steps": 100, "first_loss": 1.75, "last_loss": 0.5}},
    "counts": {
        "queries": 144,
        "trained_on": 0,
        "passages": 1240,
        "translations": 1239,
        "missing_translations": 1,
        "rejected": 0,
    },
}


def config(**settings: Any) -> Config:
    return Config(name="tiny", languages=("de",), **settings)


def metadata(card: str) -> dict[str, Any]:
    start, front, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front)


def test_metadata() -> None:
    assert metadata(model_card(config(), NUMBERS)) == {
        "language": ["en", "de"],
        "license": "unknown",
        "pipeline_tag": "sentence-similarity",
        "tags": ["ColBERT", "late-interaction", "multilingual-retrieval", "cross-language-retrieval", "distillation"],
        "metrics": ["ndcg", "map", "recall", "mrr"],
        "base_model": "xlm-roberta-large",
    }


def test_a_norwegian_model_is_not_false() -> None:
    """YAML 1.1 reads a bare `no` as a truth value."""
    assert metadata(model_card(Config(name="tiny", languages=("no",)), NUMBERS))["language"] == ["en", "no"]


@pytest.mark.parametrize("start", [FreshStudent(), PretrainedStudent(model="bundled:student")])
def test_the_licence_of_a_model_made_of_the_projects_own(start: FreshStudent | PretrainedStudent) -> None:
    own = config(student=LateInteractionStudent(start=start))
    assert metadata(model_card(own, NUMBERS))["license"] == "apache-2.0"
    assert "base_model" not in metadata(model_card(own, NUMBERS))
    assert metadata(model_card(own, NUMBERS, "mit"))["license"] == "mit"
    elsewhere = own.model_copy(update={"source": BeirSource(path="beir")})
    assert metadata(model_card(elsewhere, NUMBERS))["license"] == "unknown"


def test_a_local_start_is_named_without_its_path(tmp_path: Path) -> None:
    card = model_card(
        config(student=LateInteractionStudent(start=PretrainedStudent(model=str(tmp_path / "my-encoder")))), NUMBERS
    )
    assert "base_model" not in metadata(card)
    assert "- Start: a local checkpoint, `my-encoder`." in card
    assert str(tmp_path) not in card


def test_results_table() -> None:
    card = model_card(config(), NUMBERS)
    assert "On 144 queries of the test split, in en." in card
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert table == [
        "| nDCG@20 | BM25 | student | teacher |",
        "|---|---:|---:|---:|",
        "| de | 0.125 | 0.500 | – |",
        "| mixed | 0.250 | 0.750 | – |",
        "| en | – | – | 0.938 |",
    ]


def test_the_mean_names_the_languages_that_it_is_over() -> None:
    metrics = {"student": {lang: {"nDCG@20": value} for lang, value in (("de", 0.5), ("fr", 0.25), ("zh", 0.75))}}
    numbers = {**NUMBERS, "metrics": metrics, "means": {"student": {"nDCG@20": 0.5}}}
    numbers["queries_of_collections"] = {"de": 144, "fr": 144, "zh": 144}
    job = Config(name="tiny", languages=("de", "fr", "zh"))
    lines = model_card(job, {**numbers, "mean_languages": ["de", "fr", "zh"]}).splitlines()
    assert "| mean of 3 languages | 0.500 |" in lines
    lines = model_card(job, {**numbers, "mean_languages": ["de", "zh"]}).splitlines()
    assert "| mean over de, zh | 0.500 |" in lines


def test_collections_of_fewer_queries_say_so() -> None:
    numbers = {**NUMBERS, "queries_of_collections": {"en": 144, "de": 1200, "mixed": 1200}}
    card = model_card(config(), numbers)
    assert "| de (1,200 queries) | 0.125 | 0.500 | – |" in card.splitlines()
    assert "Queries to which no document of a collection is relevant are left out there." in card
    assert "left out there" not in model_card(config(), NUMBERS)


def test_queries_that_were_trained_on_are_in_the_head_of_the_results() -> None:
    counts = NUMBERS["counts"]
    some = model_card(config(), {**NUMBERS, "counts": {**counts, "trained_on": 3}})
    assert "## Results\n\n**3 of the evaluated queries were trained on.** On 144 queries" in some
    every = model_card(config(), {**NUMBERS, "counts": {**counts, "trained_on": 144}})
    assert "## Results\n\n**All of the evaluated queries were trained on.** On 144 queries" in every
    assert "trained on.**" not in model_card(config(), NUMBERS)


def test_a_student_that_was_not_evaluated() -> None:
    numbers = {**NUMBERS, "metrics": {}, "means": {}}
    assert "The student was not evaluated." in model_card(config(), numbers)
    assert "The student was not evaluated: no qrels." in model_card(config(), {**numbers, "not_evaluated": "no qrels"})


def test_training_follows_the_settings() -> None:
    card = model_card(
        config(
            source=IrDatasetsSource(
                passages={"en": "msmarco-passage", "de": "neumarco/de"}, queries={"train": "msmarco-passage/train"}
            ),
            select=SelectSettings(by=RunSelector(path="colbert.run", top_k=20)),
            score=ScoreSettings(teacher=CrossEncoderTeacher(model="org/reranker", revision="abc123")),
            mix=MixSettings(strategy="round_robin", n_way=4),
            train=TrainSettings(learning_rate=1e-4, steps=12_000, batch_size=32, loss=KlLoss(teacher_scale=20)),
        ),
        NUMBERS,
    )
    for line in (
        "- Data: ir_datasets `msmarco-passage` (en), `neumarco/de` (de); 1,240 passages in en, 1,239 translations of them.",
        "- Start: `xlm-roberta-large`.",
        "- Teacher: the cross-encoder `org/reranker` at revision `abc123`, on queries and passages in en.",
        "- Candidates: 20 a query, from a run file.",
        "- Examples: 4 passages drawn at random from the candidates; every example once in each language (*round-robin entries*).",
        "- Loss at the first and last logged step: 1.75, 0.5.",
        "- 1 pairs of passage and language had no translation and were not trained on.",
    ):
        assert line in card.splitlines()
    assert "on raw scores times 20 (teacher) and 1 (student)" in card
    assert "12,000 steps of 32 examples, learning rate 0.0001 (constant, 0 steps of warm-up)" in card
    assert "arxiv.org/abs/2405.00977" in card
    assert "bundled corpus" not in card


def test_translate_distill_names_its_language() -> None:
    card = model_card(config(mix=MixSettings(strategy="single", language="de")), NUMBERS)
    assert "every passage in de." in card


@pytest.mark.parametrize(
    ("mode", "same", "other"),
    [
        ("insert", "PyLate and sentence-transformers", "PLAID-X places"),
        ("overwrite", "PLAID-X", "PyLate and sentence-transformers place"),
    ],
)
def test_loading_says_which_library_gives_the_same_scores(mode: Any, same: str, other: str) -> None:
    card = model_card(config(student=LateInteractionStudent(marker_mode=mode)), NUMBERS)
    assert f"- Markers are placed as by {same} (`marker_mode: {mode}`); {other} them differently" in card
    assert 'load_late_interaction("path/to/this/folder")' in card
    assert 'MultiVectorEncoder("path/to/this/folder")' in card
    assert "SentenceTransformer(" not in card


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"query_expansion": False}, "- Queries are not expanded with [MASK] tokens"),
        ({"mask_punctuation": False}, "- Punctuation of passages takes part in the score; PyLate leaves it out"),
        (
            {"skip_list": "first_piece"},
            "- PyLate and sentence-transformers leave other tokens of passages out of the score with some tokenizers (XLM-R).",
        ),
    ],
)
def test_what_other_readers_do_differently_is_said(settings: dict[str, Any], said: str) -> None:
    assert said in model_card(config(student=LateInteractionStudent(**settings)), NUMBERS)
    assert said not in model_card(config(), NUMBERS)


def test_the_skip_list_of_the_other_project_is_said() -> None:
    plaid = "- PLAID-X leaves other tokens of passages out of the score with some tokenizers (XLM-R)."
    own = config(student=LateInteractionStudent(skip_list="token", marker_mode="overwrite"))
    assert plaid in model_card(own, NUMBERS)
    assert plaid not in model_card(config(student=LateInteractionStudent(marker_mode="overwrite")), NUMBERS)


def test_a_single_vector_student() -> None:
    card = model_card(config(student=SingleVectorStudent(pooling="cls", sizes=(64, 256))), NUMBERS)
    assert "ColBERT" not in card
    assert metadata(card)["tags"][:2] == ["dense-retrieval", "single-vector"]
    assert "A single-vector retriever: one vector for each text (cls)" in card
    assert 'load_single_vector("path/to/this/folder")' in card
    assert 'can be cut to 64 or 256 numbers: `load_single_vector("path/to/this/folder", dim=64)`' in card
    assert "can be cut" not in model_card(config(student=SingleVectorStudent()), NUMBERS)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (
            {"type": "monot5", "model": "castorini/monot5-3b-msmarco-10k"},
            "the monoT5 `castorini/monot5-3b-msmarco-10k`",
        ),
        (
            {"type": "imported", "files": ["x"], "format": "tdist", "unit": "log_probability", "name": "t53b"},
            "imported scores of `t53b`",
        ),
        ({"type": "http", "url": "http://x/score", "api": "vllm_score", "model": "m/n"}, "`m/n` behind HTTP"),
        (
            {
                "type": "ensemble",
                "teachers": [{"type": "causal", "model": "a/b"}, {"type": "cross_encoder", "model": "c/d"}],
            },
            "the ensemble (z_score) of the causal reranker `a/b`, the cross-encoder `c/d`",
        ),
    ],
)
def test_every_teacher_is_named(teacher: dict, said: str) -> None:
    score = ScoreSettings(teacher=teacher, passage_lang="zh")  # pyright: ignore[reportArgumentType]
    text = model_card(config(score=score), NUMBERS)
    assert f"- Teacher: {said}, on queries in en, passages in zh." in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"method": "translate_train", "mix": {"n_way": 2}},
            (
                "from judgements (Translate-Train)",
                "- Examples: 2 passages drawn at random from the candidates, one of them judged relevant; each passage",
                "- Loss: cross-entropy of the positive among the passages of an example.",
            ),
        ),
        (
            {
                "method": "self_distillation",
                "mix": {"n_way": 2, "sampling": "pairs", "epochs": 9},
                "student": {"type": "single_vector"},
            },
            (
                "by [adaptive relevance margins](https://arxiv.org/abs/2407.21515)",
                "- Examples: a positive and a negative, 9 different pairs of each query; each passage",
                "- Loss: distributed relevance margins, squared error.",
            ),
        ),
        (
            {"method": "english_distillation", "mix": {"sampling": "beta", "max_beta": 4}},
            (
                "trained to find passages in en with queries in en",
                "6 passages drawn from the candidates, ever more of the first ones (beta up to 4); every passage in en.",
            ),
        ),
        (
            {"mix": {"query_lang": "de"}, "train": {"loss": {"type": "margin_mse", "weight": 2}}},
            (
                "with queries in de, by distilling",
                "- Loss: squared error of the score margins of the first passage (weight 2).",
            ),
        ),
    ],
)
def test_methods(settings: dict[str, Any], said: tuple[str, ...]) -> None:
    found = Config.model_validate({"languages": ["de"], **settings})
    card = model_card(found, NUMBERS)
    for text in said:
        assert text in card
    assert ("- Teacher:" in card) == found.has_teacher
