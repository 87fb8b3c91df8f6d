"""Single-vector students: the vectors by hand, and sentence-transformers both ways."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn
from torch.nn import functional

from distill.encoders.checkpoints import layout_of, load_backbone, load_encoder, load_single_vector, save_encoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.models.locate import ModelError
from tests.tiny_students import PASSAGES, QUERIES, save_backbone


@pytest.fixture(scope="module", params=["bert", "xlmr"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp(request.param) / request.param, request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("bert") / "bert", "bert")


def student(folder: Path, **settings: Any) -> SingleVectorEncoder:
    return SingleVectorEncoder(*load_backbone(folder), SingleVectorSettings(**settings)).eval()


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_vectors_by_hand(bert: Path, pooling: Any) -> None:
    encoder = student(bert, pooling=pooling, query_prefix="road ", query_tokens=8)
    ids = [encoder.tokenizer.get_vocab()[piece] for piece in ("[CLS]", "road", "honey", "bee", "[SEP]")]
    with torch.inference_mode():
        output = encoder.backbone(input_ids=torch.tensor([ids]))
    hidden = output.last_hidden_state[0]
    expected = {"mean": hidden.mean(0), "cls": hidden[0], "pooler": output.pooler_output[0]}[pooling]
    found = encoder.encode_queries(["honey bee", "bee honey dance hive"])  # the other text makes padding
    assert torch.allclose(found[0, 0], expected / expected.norm(), atol=1e-5)


def test_vectors_are_normalised_after_they_are_cut(bert: Path) -> None:
    """Cutting unit vectors and not normalising again would leave lengths below 1."""
    whole = student(bert, normalize=False).encode_queries(["honey bee"])[0, 0]
    cut = student(bert, dim=6)
    assert cut.dim == 6
    assert torch.allclose(cut.encode_queries(["honey bee"])[0, 0], whole[:6] / whole[:6].norm(), atol=1e-5)
    assert torch.allclose(
        student(bert, dim=6, normalize=False).encode_queries(["honey bee"])[0, 0], whole[:6], atol=1e-5
    )
    with pytest.raises(ModelError, match="cannot be cut to dim 33: they have 32 numbers"):
        student(bert, dim=33)


def same(ours: SingleVectorEncoder, theirs: SentenceTransformer, *, normalized: bool = False) -> None:
    """Equal vectors, and so equal scores by sentence-transformers' own `similarity`."""
    queries, passages = theirs.encode_query(QUERIES), theirs.encode_document(PASSAGES)
    mine = ours.encode_queries(QUERIES)[:, 0], torch.cat(ours.encode_passages(PASSAGES))
    for own, other in zip(mine, (queries, passages), strict=True):
        expected = torch.as_tensor(np.asarray(other))
        assert torch.allclose(own, functional.normalize(expected, dim=-1) if normalized else expected, atol=1e-5)
    assert torch.allclose(mine[0] @ mine[1].T, theirs.similarity(queries, passages), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling": "cls", "normalize": False},
        {"pooling": "pooler"},
        {"pooling": "pooler", "normalize": False, "query_tokens": 20, "passage_tokens": 20},
        {"query_prefix": "road: ", "passage_prefix": "bee. ", "query_tokens": 9, "passage_tokens": 15},
    ],
)
def test_written_for_sentence_transformers(backbone: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    encoder = student(backbone, **settings)
    save_encoder(encoder, tmp_path, {"lr": 5e-6})
    assert layout_of(tmp_path) == "sentence_transformers"
    same(encoder, SentenceTransformer(str(tmp_path), device="cpu"))
    again = load_encoder(tmp_path)
    assert isinstance(again, SingleVectorEncoder)
    assert again.settings == encoder.settings
    assert torch.equal(again.encode_queries(QUERIES), encoder.encode_queries(QUERIES))
    assert json.loads((tmp_path / "config_sentence_transformers.json").read_text())["polyray"] == {"lr": 5e-6}


def test_equal_lengths_are_written_as_older_releases_read_them(bert: Path, tmp_path: Path) -> None:
    save_encoder(student(bert, query_tokens=20, passage_tokens=20), tmp_path)
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text()) == {"max_seq_length": 20}


def test_a_cut_student_has_the_same_scores_there(bert: Path, tmp_path: Path) -> None:
    encoder = student(bert, dim=6)
    save_encoder(encoder, tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert theirs.encode_query(["bee"]).shape == (1, 6)
    same(encoder, theirs, normalized=True)
    assert load_single_vector(tmp_path).settings == encoder.settings


def test_a_whole_student_is_cut_as_it_is_loaded(bert: Path, tmp_path: Path) -> None:
    save_encoder(student(bert), tmp_path)
    found = load_single_vector(tmp_path, dim=6).encode_queries(QUERIES)
    assert torch.allclose(found, student(bert, dim=6).encode_queries(QUERIES), atol=1e-6)
    whole = SentenceTransformer(str(tmp_path), device="cpu", truncate_dim=6).encode_query(
        QUERIES, normalize_embeddings=True
    )
    assert torch.allclose(found[:, 0], torch.as_tensor(whole), atol=1e-5)


def theirs(backbone: Path, *modules: nn.Module, **settings: Any) -> SentenceTransformer:
    return SentenceTransformer(modules=[Transformer(str(backbone)), *modules], device="cpu", **settings)


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("prompts", [{}, {"query": "road: ", "document": "bee. "}])
def test_sentence_transformers_read(backbone: Path, tmp_path: Path, mode: Any, prompts: dict[str, str]) -> None:
    model = theirs(backbone, Pooling(32, pooling_mode=mode), Normalize(), prompts=prompts)
    model.save_pretrained(str(tmp_path), create_model_card=False)
    ours = load_single_vector(tmp_path)
    same(ours, model)
    assert (ours.settings.query_tokens, ours.settings.passage_tokens) == (model.max_seq_length,) * 2


def test_a_square_dense_with_tanh_is_the_pooler(bert: Path, tmp_path: Path) -> None:
    """LaBSE's modules."""
    torch.manual_seed(5)
    model = theirs(bert, Pooling(32, pooling_mode="cls"), Dense(32, 32), Normalize())
    model.save_pretrained(str(tmp_path), create_model_card=False)
    ours = load_single_vector(tmp_path)
    assert ours.settings.pooling == "pooler"
    same(ours, model)


def test_the_score_is_the_cosine_unless_the_checkpoint_says_dot(bert: Path, tmp_path: Path) -> None:
    model = theirs(bert, Pooling(32))
    model.save_pretrained(str(tmp_path / "cosine"), create_model_card=False)
    same(load_single_vector(tmp_path / "cosine"), model, normalized=True)
    model.similarity_fn_name = "dot"
    model.save_pretrained(str(tmp_path / "dot"), create_model_card=False)
    assert not load_single_vector(tmp_path / "dot").settings.normalize
    same(load_single_vector(tmp_path / "dot"), model)


@pytest.mark.parametrize(
    ("file", "values", "named"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "median"}, 'pooling_mode is "median"; a student'),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, r'pooling_mode is \["cls", "mean"\]'),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt is false"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}, 'similarity_fn_name is "euclidean"'),
        ("config_sentence_transformers.json", {"similarity_fn_name": "dot", "truncate_dim": 4}, "truncate_dim is 4"),
        ("config_sentence_transformers.json", {"quantize": "int8"}, 'quantize is "int8"'),
        ("config_sentence_transformers.json", {"prompts": {"passage": "p: "}}, r'prompts\.passage is "p: "; .*rename'),
        ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}, 'model_type is "CrossEncoder"'),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.SELU"}, "activation_function is"),
        ("2_Dense/config.json", {"out_features": 8}, "out_features is 8; its weights have 32"),
    ],
)
def test_what_a_student_cannot_have_is_named(
    bert: Path, tmp_path: Path, file: str, values: dict[str, Any], named: str
) -> None:
    save_encoder(student(bert, pooling="pooler"), tmp_path)
    path = tmp_path / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ModelError, match=named) as caught:
        load_encoder(tmp_path)
    assert str(path) in str(caught.value)


def test_old_checkpoints_name_their_pooling_by_flags(bert: Path, tmp_path: Path) -> None:
    save_encoder(student(bert), tmp_path)
    file = tmp_path / "1_Pooling" / "config.json"
    config = json.loads(file.read_text())
    assert config["pooling_mode_mean_tokens"] is True
    file.write_text(json.dumps(config | {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}))
    assert load_single_vector(tmp_path).settings.pooling == "max"
    file.write_text(json.dumps(config | {"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelError, match=r'pooling_mode is \["mean", "max"\]'):
        load_encoder(tmp_path)


def test_dense_layers_are_read_and_written(bert: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    layers = Dense(32, 12, activation_function=nn.Identity()), Dense(12, 20, bias=False, activation_function=nn.GELU())
    model = theirs(bert, Pooling(32, pooling_mode="max"), *layers, Normalize())
    model.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    ours = load_single_vector(tmp_path / "theirs")
    assert ours.dim == 20
    same(ours, model)
    save_encoder(ours, tmp_path / "ours")
    same(ours, SentenceTransformer(str(tmp_path / "ours"), device="cpu"))
    again = load_single_vector(tmp_path / "ours", dim=6)
    expected = ours.encode_queries(QUERIES)[..., :6]
    assert torch.allclose(again.encode_queries(QUERIES), functional.normalize(expected, dim=-1), atol=1e-6)


def test_a_late_interaction_layout_is_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="this student has single vectors; write it as sentence_transformers"):
        save_encoder(student(bert), tmp_path, layout="hf_colbert")
