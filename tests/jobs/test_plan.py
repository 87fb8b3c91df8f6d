"""What a plan says, worked by hand."""

import pytest

from distill.config import Config
from jobs.plan import estimate

CONFIG = Config(
    languages=("de", "zh"),
    select={"by": {"type": "bm25", "top_k": 8}},  # pyright: ignore[reportArgumentType]
    mix={"n_way": 3, "epochs": 2},  # pyright: ignore[reportArgumentType]
    student={"query_tokens": 8, "passage_tokens": 24},  # pyright: ignore[reportArgumentType]
    train={"steps": 1000, "batch_size": 4},  # pyright: ignore[reportArgumentType]
)
DONE = {"sources": {"tables": {"queries": {"rows": 1500}, "passages": {"rows": 2000}}}}


@pytest.mark.parametrize(
    ("stage", "known", "work"),
    [
        ("sources", False, "read the bundled source"),
        ("evaluation_sources", False, "read the bundled source"),
        ("select", False, "up to 8 a query candidates"),
        ("select", True, "up to 12,000 candidates"),
        ("translate", True, "2 languages"),
        ("score", True, "up to 12,000 pairs of at most 256 tokens"),
        ("mix", True, "2 epochs of 3-way examples, mix_passages"),
        ("train", False, "1,000 steps x 4 = 4,000 examples, at most 320,000 tokens, 1 workers"),
        ("english_train", False, "1,000 steps x 4 = 4,000 examples, at most 320,000 tokens, 1 workers"),
        ("index", False, "up to all documents of at most 24 tokens"),
        ("index", True, "up to 6,000 documents of at most 24 tokens"),
        ("retrieve", True, "runs of depth 1,000"),
        ("evaluate", True, "nDCG@10, nDCG@20, AP, R@100, R@1000, RR@10"),
    ],
)
def test_work_is_said_in_numbers_where_they_are_known(stage: str, known: bool, work: str) -> None:
    assert estimate(stage, CONFIG, DONE if known else {}) == work
