"""Translation by vLLM against greedy search of plain transformers, in the Python that POLYRAY_VLLM_PYTHON names (infra/vllm-env.sh)."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from distill.models.locate import ModelError
from distill.translate.engines import load_engine
from distill.translate.engines.vllm import compose
from distill.translate.settings import VllmTranslator
from tests.distill.score.teachers.test_vllm import run_vllm, widened
from tests.tiny_teachers import make

SENTENCES = ["stone bridge", "The oldest bridge has three arches.", "a map of the city -- see page 12?", "stone bridge"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n{{ mood }}"
WORKER = """
import json, sys
import numba  # as BM25 does, before vllm starts
from distill.translate.settings import VllmTranslator
from distill.translate.engines import load_engine

given = json.loads(sys.stdin.read())
found = []
for settings in given["settings"]:
    engine = load_engine(VllmTranslator.model_validate(settings), "en", "de", "cpu")
    found.append([engine.name, engine.translate(given["sentences"], "en", "de")])
    del engine
print("RESULT" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = widened("qwen3", make("qwen3", tmp_path_factory.mktemp("qwen3")), tmp_path_factory.mktemp("chat"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_the_chat_template_is_around_the_prompt(chat_model: Path) -> None:
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(chat_model)
    settings = VllmTranslator(
        model="m", prompt="{source_language} {target_language}\n\n{text}", template_options={"mood": "plain"}
    )
    ids, truncated = compose(settings, tokenizer, "English", "German", "stone {text}")
    expected = "<|im_start|>user\nEnglish German\n\nstone {text}<|im_end|>\n<|im_start|>assistant\nplain"
    assert tokenizer.decode(ids) == expected
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 2
    assert not truncated


def test_a_model_without_template_gets_its_own_special_tokens(tmp_path: Path) -> None:
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(make("gemma", tmp_path))
    ids, _ = compose(VllmTranslator(model="m", prompt="{target_language} {text}"), tokenizer, "English", "German", "A")
    assert ids == tokenizer("German A")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id


def test_only_the_sentence_is_cut(chat_model: Path) -> None:
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(chat_model)
    settings = VllmTranslator(model="m", prompt="{target_language} [{text}]", max_source_tokens=8)
    sentence = " ".join(["stone"] * 30)
    ids, truncated = compose(settings, tokenizer, "English", "German", sentence)
    kept = tokenizer.decode(tokenizer(sentence, add_special_tokens=False)["input_ids"][:8])
    assert truncated
    assert tokenizer.decode(ids) == f"<|im_start|>user\nGerman [{kept}]<|im_end|>\n<|im_start|>assistant\n"
    assert not compose(settings, tokenizer, "English", "German", kept).truncated


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_the_remedy_is_named(chat_model: Path) -> None:
    with pytest.raises(ModelError, match=r"vllm cannot be imported by .*translate\.pool\.runtime_env: \{py_executable"):
        load_engine(VllmTranslator(model=str(chat_model)), "en", "de", "cpu")


@pytest.mark.skipif("POLYRAY_VLLM_PYTHON" not in os.environ, reason="POLYRAY_VLLM_PYTHON names no Python with vllm")
def test_answers_are_those_of_greedy_search(chat_model: Path) -> None:
    common = {"model": str(chat_model), "dtype": "float32", "max_new_tokens": 12, "prompt": "{target_language} {text}"}
    common |= {"options": {"kv_cache_memory_bytes": 64 << 20}}
    settings = VllmTranslator.model_validate({**common, "opening": "", "closing": ""})
    found = run_vllm(WORKER, {"settings": [settings.model_dump(mode="json"), common], "sentences": SENTENCES})
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(chat_model)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(chat_model).eval()
    expected = []
    for sentence in SENTENCES:
        ids = compose(settings, tokenizer, "English", "German", sentence).ids
        with torch.inference_mode():
            inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}
            ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
            row = model.generate(**inputs, **ends, max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
        # A letter whose last bytes did not come is left out by vllm, and a question mark in a box in transformers.
        text = tokenizer.decode(row, skip_special_tokens=True).strip().rstrip("\ufffd")
        expected.append([text, tokenizer.eos_token_id not in row])
    assert found[0] == [f"{chat_model} vllm", expected]
    assert len({text for text, _ in expected}) > 1
    # A random model never writes the delimiters: nothing is taken for a translation.
    assert [text for text, _ in found[1][1]] == [""] * len(SENTENCES)
