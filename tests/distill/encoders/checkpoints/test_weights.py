"""Weights and tokenizers of checkpoints: only safetensors, nothing random, nothing left out in silence."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertModel

from distill.encoders.checkpoints import (
    load_backbone,
    load_encoder,
    load_late_interaction,
    load_single_vector,
    save_encoder,
)
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.encoders.settings import LateInteractionStudent, PretrainedStudent, SingleVectorStudent
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.encoders.start import start_student
from distill.models.locate import ModelError


@pytest.fixture
def student(tiny_student: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_student, tmp_path / "student"))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def run_line(message: str, folder: Path) -> None:
    """Do what an error message says."""
    found = re.search(r'python -c "(.*)"$', message)
    assert found is not None
    subprocess.run([sys.executable, "-c", found[1]], cwd=folder, check=True, timeout=120)


def test_pickled_weights_are_refused_with_a_line_that_converts_them(student: Path, tiny_student: Path) -> None:
    torch.save(load_file(student / "model.safetensors"), student / "pytorch_model.bin")
    (student / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \.safetensors weights, and pickled ones are not loaded") as caught:
        load_encoder(student)
    run_line(str(caught.value), student)
    queries = load_encoder(tiny_student).encode_queries(["honey bee"])
    assert torch.equal(load_encoder(student).encode_queries(["honey bee"]), queries)


def test_the_first_format_of_colbert_too(student: Path, tiny_student: Path) -> None:
    state = {"model_state_dict": load_file(student / "model.safetensors"), "arguments": {"model": "bert-base-uncased"}}
    torch.save(state, student / "colbert.dnn")
    (student / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"convert colbert\.dnn, if you trust whoever made it, with") as caught:
        load_encoder(student)
    run_line(str(caught.value), student)
    queries = load_encoder(tiny_student).encode_queries(["honey bee"])
    assert torch.equal(load_encoder(student).encode_queries(["honey bee"]), queries)


def test_adapters_and_folders_without_weights(student: Path) -> None:
    (student / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"save it with transformers' save_pretrained"):
        load_encoder(student)
    (student / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"but an adapter; merge it with peft's merge_and_unload"):
        load_encoder(student)


def test_weights_in_several_files(student: Path, tiny_student: Path) -> None:
    state = load_file(student / "model.safetensors")
    (student / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, student / file, {"format": "pt"})
    weight_map = {name: file for file, own in parts.items() for name in own}
    (student / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    queries = load_encoder(tiny_student).encode_queries(["honey bee"])
    assert torch.equal(load_encoder(student).encode_queries(["honey bee"]), queries)
    (student / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names b\.safetensors, which is not there"):
        load_encoder(student)


def test_a_folder_without_a_tokenizer_is_refused(student: Path, tiny_bert: Path, tmp_path: Path) -> None:
    """transformers 5 would make one with an empty vocabulary, to which every text is the same."""
    bare = tmp_path / "bare"
    shutil.copytree(tiny_bert, bare)
    for folder in (student, bare):
        for file in folder.glob("tokenizer*"):
            file.unlink()
    with pytest.raises(ModelError, match="has no tokenizer files"):
        load_encoder(student)
    for settings in (LateInteractionStudent, SingleVectorStudent):
        with pytest.raises(ModelError, match="has no tokenizer files"):
            start_student(settings(start=PretrainedStudent(model=str(bare))), [], 0)
    with pytest.raises(ModelError, match="has no tokenizer files"):
        LateInteractionEncoder.from_backbone(str(bare), EncoderSettings())


def test_weights_that_the_backbone_does_not_have_are_named(student: Path) -> None:
    rewrite(student, lambda state: state | {"linear.bias": torch.zeros(16)})
    with pytest.raises(
        ModelError, match=r"has 1 weights that BertModel of a student does not have, among them \['linear\.bias'\]"
    ):
        load_encoder(student)


def test_a_start_may_have_heads(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "m")
    rewrite(
        tmp_path / "m",
        lambda state: {f"bert.{k}": v for k, v in state.items()} | {"cls.predictions.bias": torch.zeros(3)},
    )
    backbone, _ = load_backbone(tmp_path / "m")
    plain = BertModel.from_pretrained(tiny_bert)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in backbone.state_dict().items())


def test_names_of_the_first_bert_checkpoints(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "m")

    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    rewrite(tmp_path / "m", lambda state: {old(name): value + 0.5 for name, value in state.items()})
    backbone, _ = load_backbone(tmp_path / "m")
    expected = BertModel.from_pretrained(tiny_bert).get_parameter("embeddings.LayerNorm.weight") + 0.5
    assert torch.equal(backbone.get_parameter("embeddings.LayerNorm.weight"), expected)


def test_a_pooler_that_is_not_there_is_not_made_up(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "m")
    rewrite(tmp_path / "m", lambda state: {name: value for name, value in state.items() if "pooler" not in name})
    settings = SingleVectorStudent(start=PretrainedStudent(model=str(tmp_path / "m")), pooling="pooler")
    with pytest.raises(
        ModelError, match=r"needs a backbone with a pooler and its weights, and this BertModel has none"
    ):
        start_student(settings, [], 0)
    mean = start_student(settings.model_copy(update={"pooling": "mean"}), [], 0)
    save_encoder(mean, tmp_path / "s")
    assert not any("pooler" in name for name in load_file(tmp_path / "s" / "model.safetensors"))
    assert torch.equal(load_single_vector(tmp_path / "s").encode_queries(["bee"]), mean.eval().encode_queries(["bee"]))


def test_a_checkpoint_with_single_vectors_is_a_start(tiny_bert: Path, tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(tiny_bert)
    save_encoder(SingleVectorEncoder(backbone, tokenizer, SingleVectorSettings()), tmp_path)
    student = start_student(LateInteractionStudent(start=PretrainedStudent(model=str(tmp_path)), dim=8), [], 0)
    weight = student.backbone.get_parameter("embeddings.word_embeddings.weight")
    vocabulary = backbone.get_parameter("embeddings.word_embeddings.weight")
    assert torch.equal(weight[: len(vocabulary)], vocabulary)


def test_float16_weights_are_read_as_float32(student: Path) -> None:
    rewrite(student, lambda state: {name: value.half() for name, value in state.items()})
    assert {value.dtype for value in load_late_interaction(student).parameters()} == {torch.float32}


def test_the_tokenizer_is_written_for_transformers_4_too(student: Path, tmp_path: Path) -> None:
    """transformers 4 knows neither 5's generic class nor its list of extra special tokens, which it takes for a mapping."""
    encoder = load_late_interaction(student)
    encoder.tokenizer.add_special_tokens({"additional_special_tokens": ["[Q]", "[D]"]})
    encoder.backbone.resize_token_embeddings(len(encoder.tokenizer))
    save_encoder(encoder, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["[Q]", "[D]"]
    assert "extra_special_tokens" not in config
    assert load_late_interaction(tmp_path / "out").tokenizer.tokenize("[Q] bee") == ["[Q]", "bee"]
