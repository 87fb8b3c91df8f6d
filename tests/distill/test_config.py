"""Settings: what is refused and in which words, and which layer wins."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from distill.config import Config, load
from distill.mix.settings import NegativeSettings
from distill.score.settings import BiEncoderTeacher
from distill.select.settings import SelectSettings
from distill.settings.load import ConfigError, dump, merge
from distill.train.loss_settings import CrossEntropyLoss, InfoNceLoss, KlLoss, RelevanceMarginLoss


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--trin.learning_rate", "1"],
            "command line: no such setting --trin.learning_rate (did you mean --train.learning_rate?); --help lists them",
        ),
        (["--qqqq=1"], "command line: no such setting --qqqq; --help lists them"),
        (
            ["--train.steps", "0"],
            "train.steps: Input should be greater than or equal to 1 (got '0')",
        ),
        (["--languages", "en"], "languages holds the source language 'en'; list only the others"),
        (["--train.workers", "3"], "train: batch_size 64 is not a multiple of workers 3"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load([], arguments)
    assert str(caught.value) == message
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trin: {}", "trin: no such setting; --help lists them"),
        ("train: {step: 3}", "train.step: no such setting; --help lists them (got 3)"),
        ("- 1", "{file} holds a list, expected settings by name"),
        (
            "mix: {strategy: single}",
            "mix: strategy 'single' with language None: 'single' needs a language, the others take none",
        ),
    ],
)
def test_wrong_files(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([file])
    assert str(caught.value) == message.replace("{file}", str(file))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^configuration file lost\.yaml does not exist$"):
        load(["lost.yaml"])


def test_files_then_environment_then_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("seed: 1\ntrain: {steps: 11, log_every: 1, learning_rate: 0.5}")
    monkeypatch.setenv("POLYRAY_TRAIN__STEPS", "22")
    monkeypatch.setenv("POLYRAY_TRAIN__LOG_EVERY", "2")
    config = load([file], ["--train.steps", "33"])
    assert (config.seed, config.train.learning_rate, config.train.log_every, config.train.steps) == (1, 0.5, 2, 33)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_group_of_another_type_is_replaced_whole() -> None:
    below = {"by": {"type": "bm25", "k1": 1}, "n": 1}
    assert merge(below, {"by": {"type": "run", "path": "x"}}) == {"by": {"type": "run", "path": "x"}, "n": 1}
    assert merge(below, {"by": {"k1": 2}}) == {"by": {"type": "bm25", "k1": 2}, "n": 1}


def test_one_setting_of_a_choice_keeps_the_default_type() -> None:
    config = load([], ["--score.teacher.model", "x", "--select.by.top_k", "7"])
    assert isinstance(config.score.teacher, BiEncoderTeacher)
    assert (config.score.teacher.model, config.select.by.top_k) == ("x", 7)


@pytest.mark.parametrize(
    "settings", [[], ["--train.loss.teacher_scale", "20"], ["--mix.group", "8", "--mix.missing", "mask"]]
)
def test_translate_train_is_one_setting(settings: list[str]) -> None:
    config = load([], ["--method", "translate_train", *settings])
    assert (config.mix.group, config.mix.missing) == (1, "error")
    assert isinstance(config.train.loss, CrossEntropyLoss)
    assert config.select.add_judged
    assert config.mix.negatives == NegativeSettings()
    assert (config.has_teacher, config.compares_english) == (False, False)
    assert load([], []).train.loss == KlLoss()


def test_a_loss_without_teacher_stays_and_what_is_implied_is_saved(tmp_path: Path) -> None:
    config = load([], ["--method", "translate_train", "--train.loss.type", "info_nce", "--train.loss.scale", "20"])
    assert config.train.loss == InfoNceLoss(scale=20)
    saved = tmp_path / "saved.yaml"
    saved.write_text(dump(config), encoding="utf-8")
    assert "add_judged: true" in saved.read_text()
    assert load([saved]) == config


def test_what_a_method_implies_is_in_the_settings_however_they_are_made() -> None:
    """Made in code, validated or loaded; faults of a group are named as of any other method."""
    made = Config(method="translate_train", select=SelectSettings(queries_per_shard=7))
    assert (made.select.add_judged, made.select.queries_per_shard) == (True, 7)
    assert Config.model_validate({"method": "translate_train", "select": {"queries_per_shard": 7}}) == made
    assert load([], ["--method", "translate_train", "--select.queries_per_shard", "7"]) == made
    assert Config.model_validate(made.model_dump()) == made
    with pytest.raises(ConfigError, match=r"^mix\.n_way: Input should be greater than or equal to 2 \(got '1'\)$"):
        load([], ["--method", "translate_train", "--mix.n_way", "1"])


def test_self_distillation_takes_pairs_and_its_loss() -> None:
    settings = ["--mix.n_way", "2", "--mix.sampling", "pairs", "--student.type", "single_vector"]
    config = load([], ["--method", "self_distillation", *settings])
    assert config.train.loss == RelevanceMarginLoss()
    assert config.mix.negatives == NegativeSettings()


def test_english_distillation_draws_no_other_language() -> None:
    assert load([], ["--method", "english_distillation"]).mixed_languages == ("en",)


def test_no_languages_leave_the_source_language() -> None:
    config = Config.model_validate({"languages": [], "mix": {"strategy": "single", "language": "en"}})
    assert config.mixed_languages == ("en",)
    with pytest.raises(ValidationError, match="languages is empty"):
        Config(languages=())


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"method": "translate_train", "train": {"loss": {"type": "margin_mse"}}},
            "method 'translate_train' has no teacher, but train.loss 'margin_mse' needs one",
        ),
        (
            {"method": "translate_train", "mix": {"negatives": {"margin": 1}}},
            "method 'translate_train' has no teacher, but mix.negatives.margin reads its scores",
        ),
        (
            {"method": "translate_train", "mix": {"negatives": {"include_positive": False}}},
            "train.loss 'cross_entropy' needs a positive in each example; set mix.negatives",
        ),
        ({"train": {"loss": {"type": "info_nce"}}}, "train.loss 'info_nce' needs a positive in each example"),
        ({"mix": {"sampling": "pairs", "n_way": 2}}, "mix.sampling 'pairs' needs positives; set mix.negatives"),
        ({"method": "self_distillation"}, "but mix.n_way is 6; set it to 2"),
        (
            {"train": {"loss": {"type": "sum", "losses": [{"type": "kl"}, {"type": "language"}]}}},
            "it needs mix.strategy 'round_robin' and two languages or more",
        ),
        (
            {"languages": ["zh", "fa", "ru"], "mix": {"strategy": "round_robin"}, "train": {"workers": 8}},
            r"train.batch_size / train.workers = 8 is not a multiple of the 3 languages of each round_robin",
        ),
        ({"mix": {"group": 3}}, "train.batch_size / train.workers = 64 is not a multiple of mix.group 3"),
        (
            {"mix": {"group": 32}, "train": {"accumulate": 4}},
            "train.batch_size 64 is 2 uncut parts of 32 examples, fewer than 4: workers x train.accumulate",
        ),
        (
            {"method": "self_distillation", "mix": {"n_way": 2}},
            "'relevance_margin' compares cosines of single vectors; set student.type to 'single_vector', with normalize",
        ),
        (
            {
                "method": "self_distillation",
                "mix": {"n_way": 2},
                "student": {"type": "single_vector", "normalize": False},
            },
            "'relevance_margin' compares cosines of single vectors",
        ),
        (
            {
                "mix": {"group": 2, "missing": "mask", "imported": {"type": "sentence_transformers", "files": ["f"]}},
                "train": {"loss": {"type": "info_nce"}},
            },
            "'info_nce' takes the first passage for the positive, but with mix.group 2 it is that of the group's first query alone",
        ),
        ({"select": {"by": {"type": "bm25", "top_k": 5}}}, "select.by.top_k 5 is less than mix.n_way 6"),
        (
            {"mix": {"n_way": 6, "negatives": {"first_rank": 10, "last_rank": 13}}},
            "leaves ranks 10 to 13 of select.by.top_k 50, but mix.n_way 6 needs 5 negatives",
        ),
        (
            {"select": {"by": {"type": "bm25", "top_k": 20}}, "mix": {"n_way": 6, "negatives": {"first_rank": 17}}},
            "leaves ranks 17 to 20 of select.by.top_k 20, but mix.n_way 6 needs 5 negatives",
        ),
        ({"mix": {"query_lang": "pl"}}, "mix.query_lang 'pl' is neither source_lang nor in languages"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Config.model_validate(settings)


def test_candidates_that_just_fill_an_example_are_enough() -> None:
    by = {"by": {"type": "bm25", "top_k": 20}}
    for mix in ({"n_way": 20}, {"n_way": 6, "negatives": {"first_rank": 16}}, {"n_way": 21, "negatives": {}}):
        assert Config.model_validate({"select": by, "mix": mix}).mix.n_way == mix["n_way"]


def test_round_robin_with_whole_entries_is_possible() -> None:
    """The released model: two entries in three languages on each of eight GPUs."""
    settings = {"strategy": "round_robin"}
    config = Config.model_validate(
        {"languages": ["zh", "fa", "ru"], "mix": settings, "train": {"workers": 8, "batch_size": 48}}
    )
    assert config.mix.strategy == "round_robin"
