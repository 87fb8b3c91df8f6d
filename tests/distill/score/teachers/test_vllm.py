"""Logits by vLLM against plain transformers. vLLM runs in a Python of its own, which POLYRAY_VLLM_PYTHON names (infra/vllm-env.sh)."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from distill.models.locate import ModelError
from distill.models.vllm import check_version
from distill.score.settings import CausalTeacher, CrossEncoderTeacher, VllmEngine
from distill.score.teachers import load_teacher
from distill.score.teachers.vllm import causal_overrides, check_generate
from tests.tiny_teachers import PAIRS, PASSAGES, QUERIES, PlainTransformers, teacher_settings

ROOT = Path(__file__).parents[4]
PYTHON = os.environ.get("POLYRAY_VLLM_PYTHON")
FAMILIES = ("qwen3", "qwen2", "gemma", "bert", "xlmr", "modernbert")
MakeTeacher = Callable[[str], Path]
WORKER = """
import json, sys
import numba  # as BM25 does, before vllm starts
from pydantic import TypeAdapter
from distill.score.settings import SingleTeacher
from distill.score.teachers import load_teacher

given = json.loads(sys.stdin.read())
found = {}
for name, settings in given["teachers"].items():
    teacher = load_teacher(TypeAdapter(SingleTeacher).validate_python(settings), "float32", 1000, "cpu")
    scored = teacher.score(given["queries"], given["passages"], [tuple(pair) for pair in given["pairs"]])
    found[name] = {"scores": scored.scores.tolist(), "engine": teacher.provenance.engine, "version": teacher.provenance.engine_version}
    del teacher
print("RESULT" + json.dumps(found))
"""


def run_vllm(code: str, given: Any) -> Any:
    """What a script prints after RESULT in the environment of vLLM."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [str(PYTHON), "-c", code],
        input=json.dumps(given),
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = [line for line in (done.stdout or "").splitlines() if line.startswith("RESULT")]
    assert lines, str(done.stderr)[-2000:]
    return json.loads(lines[0].removeprefix("RESULT"))


def widened(family: str, tiny: Path, folder: Path) -> Path:
    """The tiny teacher with heads of 32 numbers, the fewest that vLLM has on CPUs."""
    config = transformers.AutoConfig.from_pretrained(tiny)
    config.hidden_size, config.intermediate_size = 64, 128
    if getattr(config, "head_dim", None):
        config.head_dim = 32
    torch.manual_seed(5)
    model = getattr(transformers, (config.architectures or [""])[0])(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


@pytest.mark.skipif(not PYTHON, reason="POLYRAY_VLLM_PYTHON names no Python with vllm")
def test_logits_are_those_of_plain_transformers(tiny_teacher: MakeTeacher, tmp_path: Path) -> None:
    folders = {family: widened(family, tiny_teacher(family), tmp_path / family) for family in FAMILIES}
    options = {"kv_cache_memory_bytes": 64 << 20}
    teachers = {}
    for family, folder in folders.items():
        settings = teacher_settings(family, folder).model_dump(mode="json")
        teachers[family] = {**settings, "engine": {"type": "vllm", "options": options}}
    for family in ("qwen3", "qwen2"):
        teachers[f"{family} generate"] = {
            **teachers[family], "engine": {"type": "vllm", "task": "generate", "options": options}
        }  # fmt: skip
    teachers["qwen3 uncached"] = {
        **teachers["qwen3"], "engine": {"type": "vllm", "enable_prefix_caching": False, "options": options}
    }  # fmt: skip
    given = {"teachers": teachers, "queries": QUERIES, "passages": PASSAGES, "pairs": PAIRS}
    found = run_vllm(WORKER, given)
    for name, result in found.items():
        family = name.split()[0]
        plain = PlainTransformers(family, folders[family])
        expected = np.array([plain.score(QUERIES[q], PASSAGES[p]) for q, p in PAIRS])
        assert np.std(expected) > 1e-2, name
        assert np.abs(np.array(result["scores"]) - expected).max() < 1e-4, name
        assert (result["engine"], result["version"][:2]) == ("vllm", "0.")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_without_vllm_the_remedy_is_named(tiny_teacher: MakeTeacher, family: str) -> None:
    settings = teacher_settings(family, tiny_teacher(family)).model_copy(update={"engine": VllmEngine()})
    with pytest.raises(ModelError) as caught:
        load_teacher(settings, "float32", 1000, "cpu")
    message = str(caught.value)
    assert message.startswith(f"vllm cannot be imported by {sys.executable} (No module named 'vllm')")
    assert "infra/vllm-env.sh" in message
    assert "score.pool.runtime_env: {py_executable: FOLDER/bin/python}" in message


def overrides(folder: Path, answers: tuple[int, ...], gpus: int = 1, **changes: Any) -> dict[str, Any]:
    config = transformers.AutoConfig.from_pretrained(folder)
    for name, value in changes.items():
        setattr(config, name, value)
    return causal_overrides(CausalTeacher(model=str(folder)), config, answers, gpus)


def test_overrides_name_the_answers_as_tokens(tiny_teacher: MakeTeacher) -> None:
    qwen, gemma = tiny_teacher("qwen3"), tiny_teacher("gemma")
    no, yes = transformers.AutoTokenizer.from_pretrained(qwen).convert_tokens_to_ids(["no", "yes"])
    assert overrides(qwen, (no, yes)) == {
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": ["no", "yes"],
        "method": "from_2_way_softmax",
    }
    yes = transformers.AutoTokenizer.from_pretrained(gemma).convert_tokens_to_ids("Yes")
    assert overrides(gemma, (yes,)) == {
        "architectures": ["GemmaForSequenceClassification"],
        "classifier_from_token": ["Yes"],
        "method": "no_post_processing",
    }


def test_what_vllm_would_score_wrongly_is_refused(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("qwen3")
    size = transformers.AutoConfig.from_pretrained(folder).vocab_size
    assert overrides(folder, (3, size // 2 - 1), gpus=2)["method"] == "from_2_way_softmax"
    with pytest.raises(ModelError, match=rf"token {size // 2} of .* lies beyond the first {size // 2} rows"):
        overrides(folder, (3, size // 2), gpus=2)
    with pytest.raises(ModelError, match=r"has final_logit_softcapping, which vllm leaves out .*task to generate"):
        overrides(folder, (3, 4), final_logit_softcapping=30.0)
    with pytest.raises(ModelError, match=r"is no causal language model: its config\.json names \['BertForSequence"):
        overrides(tiny_teacher("bert"), (3, 4))


def test_generate_refuses_scores_that_it_cannot_give() -> None:
    check_generate("m", (1, 2))
    with pytest.raises(ModelError, match="'m' is a cross-encoder and generates nothing"):
        check_generate("m", None)
    with pytest.raises(ModelError, match="the logit of one answer, which generate cannot give"):
        check_generate("m", (2,))


@pytest.mark.parametrize("version", ["0.32.0", "0.32.1+cpu", "0.100.0", "1.0", "0.0.0", "dev"])
def test_recent_versions_will_do(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["0.31.9", "0.9.2"])
def test_old_versions_will_not(version: str) -> None:
    with pytest.raises(ModelError, match=rf"vllm {version} is too old, 0\.32 or later is needed"):
        check_version(version)


def test_how_many_gpus_share_a_model_is_not_part_of_what_comes_out() -> None:
    one = CrossEncoderTeacher(model="m", engine=VllmEngine())
    assert one.identity() == CrossEncoderTeacher(model="m", engine=VllmEngine(tensor_parallel_size=4)).identity()
    assert one.identity() != CrossEncoderTeacher(model="m", engine=VllmEngine(task="generate")).identity()
