"""Inputs that people reported of trainings elsewhere."""

import pytest

from cluster.errors import UserError
from distill.config import load
from jobs.running.training_checks import check_student
from tests.cases import case


def test_lengths_beyond_the_positions_are_said_at_once() -> None:
    config = load([case("05-passage-tokens-beyond-positions") / "train.yaml"])
    with pytest.raises(
        UserError, match=r"student\.passage_tokens 800: 'bundled:student' has 320 positions; lower it to 320"
    ):
        check_student(config)
