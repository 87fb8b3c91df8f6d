from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from distill.models.loading import load_tokenizer
from distill.models.locate import ModelError
from distill.score.settings import CrossEncoderTeacher
from distill.score.teachers.checks import check_positions
from distill.score.teachers.cross_encoder import ClassificationLogits, CrossEncoder, has_segments
from distill.score.teachers.first_token import FirstTokenLayer, shorten_last_layer
from distill.score.teachers.prompts import PairComposer
from tests.tiny_teachers import PAIRS, PASSAGES, QUERIES

MakeTeacher = Callable[[str], Path]


def test_segments_count(tiny_teacher: MakeTeacher) -> None:
    """BERT without segment ids gives other scores: the engine must be given them, and use them."""
    settings = CrossEncoderTeacher(model=str(tiny_teacher("bert")))
    tokenizer = load_tokenizer(settings.model, None)
    engine = ClassificationLogits(settings, "float32", 500, "cpu")
    right, wrong = (
        engine.logits(PairComposer(tokenizer, 512, "tiny", segments=segments).compose(QUERIES, PASSAGES, PAIRS))
        for segments in (True, False)
    )
    assert np.abs(right - wrong).min() > 1e-4


@pytest.mark.parametrize(
    ("family", "segments"), [("bert", True), ("deberta", False), ("modernbert", False), ("xlmr", False)]
)
def test_which_models_have_segments(tiny_teacher: MakeTeacher, family: str, segments: bool) -> None:
    assert has_segments(AutoConfig.from_pretrained(tiny_teacher(family))) == segments


@pytest.mark.parametrize(
    ("family", "short"), [("bert", True), ("xlmr", True), ("deberta", False), ("modernbert", False)]
)
def test_last_layers_that_are_shortened(tiny_teacher: MakeTeacher, family: str, short: bool) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_teacher(family))
    assert shorten_last_layer(model) == short
    if short:
        ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 1]])
        mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
        whole = AutoModelForSequenceClassification.from_pretrained(tiny_teacher(family)).eval()
        with torch.inference_mode():
            found = model.eval()(input_ids=ids, attention_mask=mask)
            expected = whole(input_ids=ids, attention_mask=mask)
            states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.allclose(found.logits, expected.logits, atol=1e-6)
        assert states.shape == (2, 1, 32)


def test_a_shortened_layer_that_changes_the_logit_is_found(
    tiny_teacher: MakeTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FirstTokenLayer, "forward", lambda self, hidden, *rest, **named: hidden[:, :1])
    with pytest.raises(ModelError, match=r"differ by .* from its own forward pass"):
        CrossEncoder(CrossEncoderTeacher(model=str(tiny_teacher("bert"))), "float32", 64, "cpu")


def test_truncated_pairs_are_marked(tiny_teacher: MakeTeacher) -> None:
    settings = CrossEncoderTeacher(model=str(tiny_teacher("bert")), max_tokens=32)
    teacher = CrossEncoder(settings, "float32", 500, "cpu")
    tokenizer = load_tokenizer(settings.model, None)
    expected = [len(tokenizer(QUERIES[q], PASSAGES[p])["input_ids"]) > 32 for q, p in PAIRS]
    assert teacher.score(QUERIES, PASSAGES, PAIRS).truncated.tolist() == expected
    assert any(expected)
    assert not all(expected)


def test_a_classifier_of_two_labels_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=2)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has 2 labels; a teacher needs one"):
        CrossEncoder(CrossEncoderTeacher(model=str(tmp_path)), "float32", 64, "cpu")


def test_more_tokens_than_positions_are_refused(tiny_teacher: MakeTeacher) -> None:
    with pytest.raises(
        ModelError, match=r"has 512 positions, fewer than max_tokens 513; lower score\.teacher.max_tokens"
    ):
        CrossEncoder(CrossEncoderTeacher(model=str(tiny_teacher("xlmr")), max_tokens=513), "float32", 64, "cpu")
    check_positions(AutoConfig.from_pretrained(tiny_teacher("xlmr")), 512, "tiny")
    check_positions(AutoConfig.from_pretrained(tiny_teacher("t5")), 10_000, "tiny")
