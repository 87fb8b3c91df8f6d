"""Models as settings name them: vectors and scores are those of sentence-transformers, and contradictions are errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from distill.encoders.checkpoints.pooled import load_pooled
from distill.encoders.settings import PooledEncoder
from distill.models.locate import ModelError
from tests.tiny_students import PASSAGES, QUERIES, save_backbone

DENSE = [Dense(32, 12, activation_function=nn.Identity()), Dense(12, 20, bias=False, activation_function=nn.GELU())]
CHECKPOINTS: dict[str, list[nn.Module]] = {
    "cls": [Pooling(32, pooling_mode="cls"), Normalize()],
    "mean": [Pooling(32, pooling_mode="mean"), Normalize()],
    "max": [Pooling(32, pooling_mode="max"), Normalize()],
    "lasttoken": [Pooling(32, pooling_mode="lasttoken"), Normalize()],
    "weightedmean": [Pooling(32, pooling_mode="weightedmean"), Normalize()],
    "mean_sqrt_len_tokens": [Pooling(32, pooling_mode="mean_sqrt_len_tokens")],
    "LaBSE": [Pooling(32, pooling_mode="cls"), Dense(32, 32), Normalize()],
    "distiluse": [Pooling(32), Dense(32, 12), Normalize()],
    "two layers": [Pooling(32), *DENSE],
    "without Normalize": [Pooling(32)],
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("bert") / "bert", "bert")


def saved(backbone: Path, folder: Path, kind: str, **settings: Any) -> SentenceTransformer:
    model = SentenceTransformer(
        modules=[Transformer(str(backbone)), *CHECKPOINTS[kind]], device="cpu", similarity_fn_name="dot", **settings
    )
    model.save_pretrained(str(folder), create_model_card=False)
    return model


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_scores_are_those_of_sentence_transformers(backbone: Path, tmp_path: Path, kind: str) -> None:
    """Inner products of what `encode` gives, of texts of different lengths in one batch."""
    theirs = saved(backbone, tmp_path, kind)
    normalize = None if kind in {"two layers", "without Normalize", "mean_sqrt_len_tokens"} else True
    ours = load_pooled(PooledEncoder(model=str(tmp_path), normalize=normalize), "float32", "cpu", "score.teacher")
    expected = [torch.as_tensor(theirs.encode(texts)) for texts in (QUERIES, PASSAGES)]
    found = [ours.query_vectors(QUERIES), ours.passage_vectors(PASSAGES)]
    assert found[0].shape == expected[0].shape
    assert ours.dim == expected[0].shape[1]
    assert torch.allclose(found[0] @ found[1].T, expected[0] @ expected[1].T, atol=1e-4, rtol=1e-5)


def test_prompts_are_the_folders_unless_settings_give_them(backbone: Path, tmp_path: Path) -> None:
    theirs = saved(backbone, tmp_path, "cls", prompts={"query": "road: ", "document": "bee. "})
    ours = load_pooled(PooledEncoder(model=str(tmp_path)), "float32", "cpu", "score.teacher")
    assert torch.allclose(ours.query_vectors(QUERIES), torch.as_tensor(theirs.encode_query(QUERIES)), atol=1e-5)
    assert torch.allclose(ours.passage_vectors(PASSAGES), torch.as_tensor(theirs.encode_document(PASSAGES)), atol=1e-5)
    given = PooledEncoder(model=str(tmp_path), query_prefix="", passage_prefix="sun ")
    other = load_pooled(given, "float32", "cpu", "score.teacher")
    assert torch.allclose(other.query_vectors(QUERIES), torch.as_tensor(theirs.encode(QUERIES)), atol=1e-5)
    texts = ["sun " + text for text in PASSAGES]
    assert torch.allclose(other.passage_vectors(PASSAGES), torch.as_tensor(theirs.encode(texts)), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "pooler"])
def test_a_plain_model_is_pooled_as_settings_say(backbone: Path, pooling: Any) -> None:
    settings = PooledEncoder(model=str(backbone), pooling=pooling, normalize=False)
    ours = load_pooled(settings, "float32", "cpu", "score.teacher")
    ids = torch.tensor([ours.tokenizer("honey bee")["input_ids"]])
    with torch.inference_mode():
        output = ours.backbone(input_ids=ids)
    hidden = output.last_hidden_state[0]
    expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0), "pooler": output.pooler_output[0]}
    assert torch.allclose(ours.query_vectors(["honey bee", "bee"])[0], expected[pooling], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("cls", {"pooling": "mean"}, "score.teacher.pooling is 'mean', but the folder of '{0}' says 'cls' ({0}); leave"),
        ("LaBSE", {"pooling": "mean"}, "score.teacher.pooling is 'mean', but the folder of '{0}' says 'cls'"),
        ("mean", {"normalize": False}, "score.teacher.normalize is false, but the folder of '{0}' says true"),
        ("without Normalize", {"normalize": True}, "score.teacher.normalize is true, but the folder of '{0}' says false"),
    ],
)  # fmt: skip
def test_a_setting_that_contradicts_the_folder_is_named(
    backbone: Path, tmp_path: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    saved(backbone, tmp_path, kind)
    with pytest.raises(ModelError) as caught:
        load_pooled(PooledEncoder(model=str(tmp_path), **settings), "float32", "cpu", "score.teacher")
    assert str(caught.value).startswith(message.format(tmp_path))


def test_a_folder_that_says_nothing_of_length_leaves_it_to_the_setting(backbone: Path, tmp_path: Path) -> None:
    saved(backbone, tmp_path, "without Normalize")
    file = tmp_path / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"similarity_fn_name": None}))
    lengths = []
    for normalize in (None, True, False):
        model = load_pooled(PooledEncoder(model=str(tmp_path), normalize=normalize), "float32", "cpu", "score.teacher")
        lengths.append(model.query_vectors(["honey bee"]).norm().item())
    assert lengths[:2] == pytest.approx([1.0, 1.0])
    assert lengths[2] > 2


def test_a_late_interaction_checkpoint_is_refused(tiny_student: Path) -> None:
    with pytest.raises(
        ModelError, match=r"select.by.encoder.model '.*' is a late-interaction checkpoint \(hf_colbert\)"
    ):
        load_pooled(PooledEncoder(model=str(tiny_student)), "float32", "cpu", "select.by.encoder")


def test_the_backbone_is_in_the_precision_asked_for(backbone: Path, tmp_path: Path) -> None:
    saved(backbone, tmp_path, "distiluse")
    settings = PooledEncoder(model=str(tmp_path))
    rough, exact = (load_pooled(settings, dtype, "cpu", "score.teacher") for dtype in ("bfloat16", "float32"))
    assert rough.backbone.dtype == torch.bfloat16
    found = rough.query_vectors(QUERIES)
    assert found.dtype == torch.float32
    assert 0 < (found - exact.query_vectors(QUERIES)).abs().max() < 0.1
