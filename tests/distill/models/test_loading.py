"""Models through transformers: nothing random, nothing that is no number, every fault in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
)

from distill.models.loading import check_finite, check_tokens, load_config, load_model, load_tokenizer, positions_of
from distill.models.locate import ModelError


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def test_a_head_that_is_not_among_the_weights_is_refused(folder: Path) -> None:
    """transformers makes a random one: plausible scores of a teacher that was never trained."""
    with pytest.raises(
        ModelError,
        match=r"lacks 2 weights of BertForSequenceClassification, among them classifier\.bias, classifier\.weight",
    ):
        load_model(AutoModelForSequenceClassification, str(folder), num_labels=1)


def test_weights_that_may_be_absent_are_given(folder: Path) -> None:
    rewrite(folder, lambda state: [state.pop(name) for name in list(state) if name.startswith("pooler.")])
    with pytest.raises(ModelError, match=r"lacks 2 weights of BertModel, among them pooler"):
        load_model(AutoModel, str(folder))
    _, absent = load_model(AutoModel, str(folder), absent=("pooler.",))
    assert absent == {"pooler.dense.bias", "pooler.dense.weight"}


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    loaded, _ = load_model(AutoModelForCausalLM, str(tmp_path))
    assert loaded.lm_head.weight.data_ptr() == loaded.transformer.wte.weight.data_ptr()


def test_another_shape_is_named(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"intermediate_size": 48}))
    with pytest.raises(ModelError, match=r"dense\.(weight|bias)' in another shape than its config\.json says: \(\d+"):
        load_model(AutoModel, str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: float, dtype: str) -> None:
    rewrite(folder, lambda state: state["encoder.layer.1.output.dense.weight"].__setitem__((3, 5), value))
    with pytest.raises(ModelError, match=r"'encoder\.layer\.1\.output\.dense\.weight' holds NaN or infinite numbers"):
        load_model(AutoModel, str(folder), dtype=dtype)


def test_numbers_of_all_kinds_pass() -> None:
    check_finite({"a": torch.tensor([1e38, -1e38]), "b": torch.tensor([3]), "c": torch.empty(0)}.items(), "it")


def test_an_unknown_model_type_is_named(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "my_bert"}))
    with pytest.raises(ModelError, match=r"cannot be loaded by transformers \d.*model type `my_bert`") as caught:
        load_config(str(folder))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_be_read_is_named(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model": {"type": "Unknown"}}))
    with pytest.raises(ModelError, match=rf"model '{folder}' cannot be loaded by transformers") as caught:
        load_tokenizer(str(folder))
    assert "\n" not in str(caught.value)


def test_a_token_beyond_the_embeddings_is_refused(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    check_tokens(tokenizer, nn.Embedding(len(tokenizer), 4), "m")
    with pytest.raises(
        ModelError, match=rf"tokenizer of 'm': it has a token with id {len(tokenizer) - 1}, .* below 5 only"
    ):
        check_tokens(tokenizer, nn.Embedding(5, 4), "m")


def test_positions_are_those_that_texts_may_have() -> None:
    assert positions_of(BertConfig(max_position_embeddings=512)) == 512
    assert positions_of(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert positions_of(object()) is None
