from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from distill.models.locate import ModelError
from distill.score.settings import MonoT5Teacher
from distill.score.teachers.monot5 import ANSWERS, MonoT5, Seq2SeqLogits
from tests.tiny_teachers import PAIRS, PASSAGES, QUERIES, T5_ANSWERS, PlainTransformers

MakeTeacher = Callable[[str], Path]


def teacher(folder: Path, **changes: Any) -> MonoT5:
    chosen: dict[str, Any] = {"answers": T5_ANSWERS} | changes
    settings = MonoT5Teacher(model=str(folder), **chosen)
    return MonoT5(settings, "float32", 300, "cpu")


def test_an_unknown_checkpoint_needs_its_answers(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("t5")
    with pytest.raises(ModelError) as error:
        teacher(folder, answers=None)
    assert str(error.value).startswith(
        f"it is not known what '{folder}' answers: set score.teacher.answers; known are "
    )
    assert "castorini/monot5-base-msmarco, " in str(error.value)


def test_an_answer_of_several_tokens_is_refused(tiny_teacher: MakeTeacher) -> None:
    with pytest.raises(ModelError, match="the answer '▁truest' is not one token of"):
        teacher(tiny_teacher("t5"), answers=("▁false", "▁truest"))


def test_known_answers() -> None:
    assert ANSWERS["castorini/monot5-3b-msmarco-10k"] == ("▁false", "▁true")
    assert ANSWERS["unicamp-dl/mt5-base-mmarco-v2"] == ("▁no", "▁yes")
    assert ANSWERS["unicamp-dl/mt5-13b-mmarco-100k"] == ("▁", "▁true")
    assert ANSWERS["unicamp-dl/mt5-3B-mmarco-en-pt"] == ("▁", "▁true")
    assert ANSWERS["unicamp-dl/ptt5-base-pt-msmarco-10k-v2"] == ("▁não", "▁sim")


def test_other_answers_give_other_scores(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("mt5_untied")
    plain = PlainTransformers("mt5_untied", folder)
    no, yes = plain.tokenizer.convert_tokens_to_ids(["▁", "▁true"])
    ids = torch.tensor([plain.ids(QUERIES[0], PASSAGES[0])])
    with torch.inference_mode():
        logits = plain.model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
    found = teacher(folder, answers=("▁", "▁true"))
    assert found.score(QUERIES, PASSAGES, [(0, 0)]).scores[0] == pytest.approx(
        (logits[yes] - logits[no]).item(), abs=1e-5
    )
    assert found.provenance.prompt != teacher(folder).provenance.prompt


def test_the_log_probability_follows_from_the_score(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("t5_untied")
    plain = PlainTransformers("t5_untied", folder)
    ids = torch.tensor([plain.ids(QUERIES[1], PASSAGES[1])])
    with torch.inference_mode():
        logits = plain.model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
    both = logits[plain.tokenizer.convert_tokens_to_ids(list(T5_ANSWERS))]
    score = torch.from_numpy(teacher(folder).score(QUERIES, PASSAGES, [(1, 1)]).scores)
    assert -torch.nn.functional.softplus(-score)[0] == pytest.approx(torch.log_softmax(both, 0)[1].item(), abs=1e-5)


def test_the_cue_stays_when_a_passage_is_cut(tiny_teacher: MakeTeacher) -> None:
    found = teacher(tiny_teacher("t5"), max_tokens=40)
    pair = found.composer.compose(QUERIES, PASSAGES, [(0, 4)])[0]
    tokens = PlainTransformers("t5", tiny_teacher("t5")).tokenizer.convert_ids_to_tokens(pair.ids)
    assert len(tokens) == 40
    assert tokens[-2:] == ["▁Relevant:", "</s>"]
    assert found.score(QUERIES, PASSAGES, [(0, 4), (2, 3)]).truncated.tolist()[0]


def test_layouts_are_scaled_as_transformers_scales_them(tiny_teacher: MakeTeacher) -> None:
    scales = {}
    for family in ("t5", "t5_untied", "mt5_untied"):
        model = AutoModelForSeq2SeqLM.from_pretrained(tiny_teacher(family))
        assert model.config.tie_word_embeddings  # says nothing: transformers 5 sets it for all of them
        settings = MonoT5Teacher(model=str(tiny_teacher(family)), answers=T5_ANSWERS)
        scales[family] = Seq2SeqLogits(settings, (3, 4), "float32", 300, "cpu")._scale
    assert scales == {"t5": pytest.approx(32**-0.5), "t5_untied": 1.0, "mt5_untied": 1.0}


@pytest.mark.parametrize("fault", ["scale", "rows", "nan"])
def test_the_check_at_loading_finds_faults(tiny_teacher: MakeTeacher, fault: str) -> None:
    found = teacher(tiny_teacher("t5_untied"))
    engine: Any = found.engine
    pair = found.composer.compose(["what is it"], ["it is this"], [(0, 0)])[0]
    engine.self_check(pair)
    if fault == "scale":
        engine._scale = 32**-0.5
    elif fault == "rows":
        engine._rows = engine._model.shared.weight[[3, 4]].detach()
    else:
        engine._rows = engine._rows * float("nan")
    with pytest.raises(ModelError, match=r"differ by .* from its own forward pass under transformers"):
        engine.self_check(pair)


def test_scores_do_not_depend_on_the_batches(tiny_teacher: MakeTeacher) -> None:
    settings = MonoT5Teacher(model=str(tiny_teacher("t5")), answers=T5_ANSWERS)
    one, many = (
        MonoT5(settings, "float32", budget, "cpu").score(QUERIES, PASSAGES, PAIRS).scores for budget in (1, 10_000)
    )
    assert np.abs(one - many).max() < 1e-5
