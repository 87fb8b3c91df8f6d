"""Every engine on transformers against the plain one: one pair at a time, unpadded, in float32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.score.teachers import load_teacher
from distill.score.teachers.prompts import ComposedScorer
from tests.tiny_teachers import FAMILIES, PAIRS, PASSAGES, QUERIES, PlainTransformers, teacher_settings

MakeTeacher = Callable[[str], Path]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens_per_batch", [1, 700, 100_000])
def test_scores_are_those_of_plain_transformers(tiny_teacher: MakeTeacher, family: str, tokens_per_batch: int) -> None:
    folder = tiny_teacher(family)
    plain = PlainTransformers(family, folder)
    expected = [plain.score(QUERIES[q], PASSAGES[p]) for q, p in PAIRS]
    teacher = load_teacher(teacher_settings(family, folder), "float32", tokens_per_batch, "cpu")
    found = teacher.score(QUERIES, PASSAGES, PAIRS)
    assert np.std(expected) > 1e-3  # scores that are all alike would prove nothing
    assert found.scores.dtype == np.float32
    assert np.abs(found.scores - expected).max() < 1e-5
    assert not found.truncated.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_token_ids_are_those_of_plain_transformers(tiny_teacher: MakeTeacher, family: str) -> None:
    folder = tiny_teacher(family)
    plain = PlainTransformers(family, folder)
    teacher: Any = load_teacher(teacher_settings(family, folder), "float32", 700, "cpu")
    found = teacher.composer.compose(QUERIES, PASSAGES, PAIRS)
    assert [pair.ids for pair in found] == [plain.ids(QUERIES[q], PASSAGES[p]) for q, p in PAIRS]


@pytest.mark.parametrize("family", ["bert", "xlmr", "modernbert", "deberta", "t5", "qwen3", "gemma"])
def test_bfloat16_bodies_give_float32_scores(tiny_teacher: MakeTeacher, family: str) -> None:
    settings = teacher_settings(family, tiny_teacher(family))
    exact = load_teacher(settings, "float32", 700, "cpu").score(QUERIES, PASSAGES, PAIRS).scores
    teacher = load_teacher(settings, "bfloat16", 700, "cpu")
    found = teacher.score(QUERIES, PASSAGES, PAIRS).scores
    assert teacher.provenance.dtype == "bfloat16"
    assert np.abs(found - exact).max() < 0.1 * max(1, np.abs(exact).max())
    rounded = torch.tensor(found).to(torch.bfloat16).float().numpy()
    assert (rounded != found).sum() >= len(found) // 2  # more digits than bfloat16 has


@pytest.mark.parametrize("family", ["bert", "t5", "qwen3"])
def test_nothing_to_score(tiny_teacher: MakeTeacher, family: str) -> None:
    teacher = load_teacher(teacher_settings(family, tiny_teacher(family)), "float32", 700, "cpu")
    assert isinstance(teacher, ComposedScorer)
    found = teacher.score([], [], [])
    assert found.scores.shape == found.truncated.shape == (0,)


@pytest.mark.parametrize("family", ["bert", "mt5_untied", "qwen2"])
def test_provenance_says_what_decides_the_scores(tiny_teacher: MakeTeacher, family: str) -> None:
    import transformers

    folder = tiny_teacher(family)
    found = load_teacher(teacher_settings(family, folder), "float32", 700, "cpu").provenance
    kind, what = {"bert": ("cross_encoder", "pairs at 512"), "mt5_untied": ("monot5", "prompts at 512")}.get(
        family, ("causal", "prompts at 1024")
    )
    assert (found.kind, found.model, found.engine) == (kind, str(folder), "transformers")
    assert found.engine_version == transformers.__version__
    assert found.truncation == f"passages, {what} tokens"
    assert len(found.prompt) == (0 if family == "bert" else 16)
    assert found.dtype == "float32"
