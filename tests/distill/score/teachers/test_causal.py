from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

from distill.models.loading import load_tokenizer
from distill.models.locate import ModelError
from distill.score.settings import CausalTeacher, PromptSettings
from distill.score.teachers.causal import Causal, causal_answers
from tests.tiny_teachers import PASSAGES, QUERIES, PlainTransformers, qwen_bytes, teacher_settings

MakeTeacher = Callable[[str], Path]
OWN = PromptSettings(before_query="Q: ", before_passage="\nD: ", after_passage="\n?<|im_end|>", no="no", yes="yes")
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "max_position_embeddings": 2048,
}


def test_answers_are_the_negative_and_the_positive_one(tiny_teacher: MakeTeacher) -> None:
    for family, names in {"qwen3": ["no", "yes"], "qwen2": ["0", "1"], "gemma": ["Yes"]}.items():
        tokenizer = load_tokenizer(str(tiny_teacher(family)), None)
        found = causal_answers(teacher_settings(family, tiny_teacher(family)), tokenizer)
        assert tokenizer.convert_ids_to_tokens(list(found)) == names


def test_the_instruction_is_part_of_prompt_and_hash(tiny_teacher: MakeTeacher) -> None:
    places = {"qwen3": "<Instruct>: {}\n<Query>: stone", "qwen2": "instruction: {}\nquery: stone", "gemma": "\n{}"}
    for family, place in places.items():
        settings = teacher_settings(family, tiny_teacher(family))
        own = settings.model_copy(update={"instruction": "the oldest bridge"})
        before, after = (Causal(each, "float32", 500, "cpu") for each in (settings, own))
        ids = after.composer.compose(["stone bridge"], ["river"], [(0, 0)])[0].ids
        tokenizer = load_tokenizer(str(tiny_teacher(family)), None)
        text = tokenizer.decode(ids)
        assert place.format("the oldest bridge") in text
        assert before.provenance.prompt != after.provenance.prompt


def test_a_prompt_of_ones_own(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("qwen2")
    plain = PlainTransformers("qwen2", folder)
    ids = plain.tokenizer(f"Q: {QUERIES[1]}\nD: {PASSAGES[3]}\n?<|im_end|>", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = plain.model(input_ids=torch.tensor([ids])).logits[0, -1]
    no, yes = plain.tokenizer.convert_tokens_to_ids(["no", "yes"])
    both = CausalTeacher(model=str(folder), prompt=OWN)
    alone = CausalTeacher(model=str(folder), prompt=OWN.model_copy(update={"no": None}))
    for settings, expected in ((both, logits[yes] - logits[no]), (alone, logits[yes])):
        # padded beside a longer one
        found = Causal(settings, "float32", 5000, "cpu").score(QUERIES, PASSAGES, [(0, 4), (1, 3)])
        assert found.scores[1] == pytest.approx(expected.item(), abs=1e-5)


def test_an_instruction_beside_a_prompt_of_ones_own_is_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"instruction is for the known prompts; write it into prompt\.before_query"
    ):
        CausalTeacher(model="some/model", prompt=OWN, instruction="Find it.")


def test_an_answer_of_several_tokens_is_refused(tiny_teacher: MakeTeacher) -> None:
    own = OWN.model_copy(update={"yes": "yes!"})
    with pytest.raises(ModelError, match="the answer 'yes!' is not one token of"):
        Causal(CausalTeacher(model=str(tiny_teacher("qwen2")), prompt=own), "float32", 500, "cpu")


def test_capped_logits_are_capped(tmp_path: Path) -> None:
    qwen_bytes(tmp_path)
    size = len(AutoTokenizer.from_pretrained(tmp_path))
    torch.manual_seed(0)
    config = Gemma2Config(vocab_size=size, head_dim=16, final_logit_softcapping=0.05, pad_token_id=0, **SMALL)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    teacher = Causal(CausalTeacher(model=str(tmp_path), prompt=OWN), "float32", 500, "cpu")
    plain = PlainTransformers("qwen2", tmp_path)
    ids = torch.tensor([teacher.composer.compose(QUERIES, PASSAGES, [(0, 0)])[0].ids])
    with torch.inference_mode():
        logits = plain.model(input_ids=ids).logits[0, -1]
    no, yes = plain.tokenizer.convert_tokens_to_ids(["no", "yes"])
    assert teacher.score(QUERIES, PASSAGES, [(0, 0)]).scores[0] == pytest.approx(
        (logits[yes] - logits[no]).item(), abs=1e-6
    )


def test_a_model_that_does_more_to_its_logits_is_refused(tmp_path: Path) -> None:
    qwen_bytes(tmp_path)
    size = len(AutoTokenizer.from_pretrained(tmp_path))
    torch.manual_seed(0)
    config = GraniteConfig(vocab_size=size, logits_scaling=8.0, pad_token_id=0, initializer_range=0.5, **SMALL)
    GraniteForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"differ by .* from its own forward pass"):
        Causal(CausalTeacher(model=str(tmp_path), prompt=OWN), "float32", 500, "cpu")


def test_more_tokens_than_positions_are_refused(tiny_teacher: MakeTeacher) -> None:
    with pytest.raises(ModelError, match="has 2048 positions, fewer than max_tokens 4096"):
        Causal(CausalTeacher(model=str(tiny_teacher("qwen3")), max_tokens=4096), "float32", 500, "cpu")
