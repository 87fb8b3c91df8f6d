from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from distill.config import BeirSource, Config, ConfigError, FreshStudent, dump, load, merge


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_papers() -> None:
    config = load()
    assert (config.train.learning_rate, config.train.steps, config.train.batch_size) == (5e-6, 200_000, 64)
    assert (config.mix.n_way, config.select.by.top_k) == (6, 50)
    assert (config.student.query_tokens, config.student.passage_tokens, config.student.dim) == (32, 220, 128)


def test_the_command_line_wins_over_the_environment_and_that_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "a.yaml", "train: {steps: 10, batch_size: 32, log_every: 5, checkpoint_every: 5}\nname: a")
    second = write(tmp_path / "b.yaml", "name: b")
    monkeypatch.setenv("POLYRAY_TRAIN__STEPS", "20")
    monkeypatch.setenv("POLYRAY_TRAIN__LEARNING_RATE", "1e-4")
    config = load([first, second], ["--train.steps", "30", "--languages", "de,zh"])
    assert (config.name, config.train.steps, config.train.batch_size) == ("b", 30, 32)
    assert config.train.learning_rate == 1e-4
    assert config.languages == ("de", "zh")


def test_choices_are_made_by_type() -> None:
    config = load([], ["--source.type", "beir", "--source.path", "x", "--student.start.type", "fresh"])
    assert config.source == BeirSource(path="x")
    assert config.student.start == FreshStudent()


def test_a_group_whose_type_changes_is_replaced_whole() -> None:
    below = {"source": {"type": "files", "passages": ["a"], "queries": ["b"]}, "name": "x"}
    assert merge(below, {"source": {"type": "beir", "path": "p"}}) == {
        "source": {"type": "beir", "path": "p"},
        "name": "x",
    }
    assert merge(below, {"source": {"root": "r"}})["source"] == {
        "type": "files",
        "passages": ["a"],
        "queries": ["b"],
        "root": "r",
    }


def test_what_is_dumped_loads_to_the_same(tmp_path: Path) -> None:
    config = load([], ["--train.learning_rate", "1e-5", "--source.type", "beir", "--source.path", "s3://b/ü"])
    assert load([write(tmp_path / "c.yaml", dump(config))]) == config
    assert yaml.safe_load(dump(config))["source"] == {"type": "beir", "path": "s3://b/ü"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {learning_rate: -1}", "train.learning_rate: Input should be greater than 0 (got -1)"),
        ("trian: {}", "trian: no such setting; --help lists them"),
        ("train: {rate: 1}", "train.rate: no such setting; --help lists them (got 1)"),
        ("train: {batch_size: 10, workers: 4}", "train: batch_size 10 is not a multiple of workers 4"),
        ("train: {checkpoint_every: 70}", "train: checkpoint_every 70 is not a multiple of log_every 50"),
        ("train: {warmup_steps: 9, steps: 9}", "train: warmup_steps 9 is not less than steps 9"),
        ("languages: [de, de]", "languages ['de', 'de'] names a language twice"),
        ("languages: [en]", "languages holds the source language 'en'; list only the others"),
        ("mix: {languages: [it]}", "mix draws from ['it'], which are neither source_lang nor in languages"),
        (
            "mix: {strategy: single}",
            "mix: strategy 'single' with language None: 'single' needs a language, the others take none",
        ),
        (
            "mix: {group: 3}",
            "train.batch_size / train.workers = 64 is not a multiple of mix.group 3, which no worker may cut",
        ),
        ("mix: {n_way: 6, draw_from: 5}", "mix: draw_from 5 is less than n_way 6"),
        ("score: {pool: {min_actors: 3}}", "score.pool: min_actors 3 is more than max_actors 1"),
        ("student: {start: {type: fresh, hidden: 100}}", "student.start.fresh: hidden 100 is not a multiple of 32"),
        ("- 1", "holds a list, expected settings by name"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([write(tmp_path / "c.yaml", text)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configuration file .*none.yaml does not exist"):
        load([tmp_path / "none.yaml"])


def test_settings_do_not_change() -> None:
    config = load()
    with pytest.raises(ValidationError, match="frozen"):
        config.train.steps = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_identity_leaves_out_how_the_work_is_done() -> None:
    a = load([], ["--score.pool.max_actors", "7", "--train.max_failures", "9"])
    b = load()
    assert a.score.identity() == b.score.identity()
    assert a.train.identity() == b.train.identity()
    assert "pool" not in a.score.identity()
    assert load([], ["--score.tokens_per_batch", "64"]).score.identity() != b.score.identity()


def test_every_setting_has_a_meaning() -> None:
    def undocumented(model: type, path: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():  # pyright: ignore[reportAttributeAccessIssue]
            if name != "type" and not field.description:
                found.append(f"{path}{name}")
            for inner in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if isinstance(inner, type) and hasattr(inner, "model_fields"):
                    found += undocumented(inner, f"{path}{name}.")
        return found

    assert undocumented(Config) == []
