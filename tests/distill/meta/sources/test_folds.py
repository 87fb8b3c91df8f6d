"""Folds: which articles each holds out, by values, and which rows tasks and evaluation read."""

import pyarrow as pa
import pytest

from distill.meta.sources.folds import Fold, source_articles
from distill.tables import TableError

ARTICLES = [f"a{number}" for number in range(7)]
SPLITS = pa.table({"article": ["a0", "a1", "a2", "a3"], "split": ["train", "dev", "test", "train"]})


def test_articles_are_dealt_in_the_order_of_hashes_of_seed_and_name() -> None:
    """By SHA-256 of `5/a0` and so on the order is a1 a2 a0 a6 a5 a4 a3; with seed 6 a2 a3 a4 a0 a1 a6 a5."""
    assert [Fold(number, 3, 5).held_out(ARTICLES) for number in range(3)] == [
        ["a1", "a3", "a6"],
        ["a2", "a5"],
        ["a0", "a4"],
    ]
    assert [Fold(number, 3, 6).held_out(ARTICLES) for number in range(3)] == [
        ["a0", "a2", "a5"],
        ["a1", "a3"],
        ["a4", "a6"],
    ]
    assert Fold(0, 3, 5).held_out([*reversed(ARTICLES), "a3"]) == ["a1", "a3", "a6"]


def test_a_fold_tests_what_no_task_is_made_of() -> None:
    """Splits of the source have no say in a cross-validation."""
    table = pa.table({"article": ["a1", "a2", "a3", "a2"], "split": ["train", "test", "dev", "train"]})
    fold = Fold(0, 3, 5)
    assert fold.tested(table, ARTICLES)["article"].to_pylist() == ["a1", "a3"]
    assert fold.trained(table, ARTICLES)["article"].to_pylist() == ["a2", "a2"]


def test_the_sources_own_split_tests_test_and_makes_tasks_of_train_alone() -> None:
    """Rows of dev are neither tested nor trained on."""
    fold = Fold(0, None, 5)
    assert fold.tested(SPLITS, ARTICLES)["article"].to_pylist() == ["a2"]
    assert fold.trained(SPLITS, ARTICLES)["article"].to_pylist() == ["a0", "a3"]
    assert fold.held_out(ARTICLES) == []


def test_more_folds_than_articles() -> None:
    assert Fold(2, 3, 5).held_out(["a1", "a2", "a3"]) == ["a3"]
    with pytest.raises(TableError, match=r"2 articles are fewer than the 3 folds; lower tasks.folds"):
        Fold(0, 3, 5).held_out(["a1", "a2", "a2"])


def test_articles_of_questions_and_of_candidates_alone() -> None:
    questions, answers = pa.table({"article": ["b", "a", "b"]}), pa.table({"article": ["c", "a"]})
    assert source_articles(questions, answers) == ["a", "b", "c"]
