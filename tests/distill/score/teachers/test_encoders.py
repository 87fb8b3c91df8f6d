from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from distill.encoders.checkpoints import load_late_interaction
from distill.models.locate import ModelError
from distill.numerics.maxsim import maxsim
from distill.score.settings import BiEncoderTeacher, LateInteractionTeacher
from distill.score.teachers import encoders
from distill.score.teachers.encoders import BiEncoder, LateInteraction, longer_than

QUERIES = ["honey bee", "river", "honey bee"]
PASSAGES = ["bee dance sun angle food", "stone bridge , river", "city map", "bee dance sun angle food", "bee " * 40]
PAIRS = [(1, 2), (0, 0), (0, 1), (1, 1), (2, 3), (0, 4), (1, 0)]


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
    found = BiEncoder(settings, "float32", 24, "cpu").score(QUERIES, PASSAGES, PAIRS)
    assert np.allclose(found.scores, expected, atol=1e-5, rtol=1e-5)
    assert not found.truncated.any()


def test_bi_encoder_says_which_passages_it_cut(tiny_bert: Path) -> None:
    # "bee dance sun angle food" has 7 tokens with its special ones, and 8 with the prefix
    for limit, prefix, cut in [(7, "", False), (6, "", True), (7, "sun ", True), (8, "sun ", False)]:
        settings = BiEncoderTeacher(model=str(tiny_bert), max_passage_tokens=limit, passage_prefix=prefix)
        found = BiEncoder(settings, "float32", 64, "cpu").score(QUERIES, PASSAGES, PAIRS)
        assert found.truncated.tolist() == [False, cut, False, False, cut, True, cut]


def test_bi_encoder_has_nothing_to_score(tiny_bert: Path) -> None:
    found = BiEncoder(BiEncoderTeacher(model=str(tiny_bert)), "float32", 64, "cpu").score([], [], [])
    assert found.scores.shape == found.truncated.shape == (0,)


@pytest.mark.parametrize("in_memory", [1, 10**6])
def test_late_interaction_is_maxsim(tiny_student: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr(encoders, "_TOKENS_IN_MEMORY", in_memory)  # every passage a block of its own, or all in one
    encoder = load_late_interaction(tiny_student)
    expected = []
    for q, p in PAIRS:
        passage = encoder.encode_passages([PASSAGES[p]])[0]
        keep = torch.ones(1, 1, len(passage), dtype=torch.bool)
        expected.append(maxsim(encoder.encode_queries([QUERIES[q]]), passage[None, None], keep).item())
    teacher = LateInteraction(LateInteractionTeacher(model=str(tiny_student)), "float32", 64, "cpu")
    found = teacher.score(QUERIES, PASSAGES, PAIRS)
    assert np.abs(found.scores - expected).max() < 1e-5
    assert found.scores[1] == pytest.approx(found.scores[4])  # equal texts
    assert found.truncated.tolist() == [False, False, False, False, False, True, False]  # 40 words for 32 tokens
    assert teacher.provenance.kind == "late_interaction"
    assert teacher.provenance.truncation == "queries at 8, passages at 32 tokens"


def test_every_distinct_text_is_encoded_once(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = LateInteraction(LateInteractionTeacher(model=str(tiny_student)), "float32", 64, "cpu")
    seen: list[str] = []
    for name in ("encode_queries", "encode_passages"):
        original = getattr(teacher._encoder, name)
        monkeypatch.setattr(
            teacher._encoder, name, lambda texts, *rest, original=original: seen.extend(texts) or original(texts, *rest)
        )
    monkeypatch.setattr(encoders, "_TOKENS_IN_MEMORY", 64)
    teacher.score(QUERIES, PASSAGES, PAIRS)
    assert sorted(seen) == sorted(set(QUERIES) | set(PASSAGES))


def test_late_interaction_in_bfloat16(tiny_student: Path) -> None:
    settings = LateInteractionTeacher(model=str(tiny_student))
    exact, rough = (
        LateInteraction(settings, dtype, 64, "cpu").score(QUERIES, PASSAGES, PAIRS).scores
        for dtype in ("float32", "bfloat16")
    )
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.1


def test_late_interaction_needs_its_metadata(tiny_bert: Path) -> None:
    with pytest.raises(ModelError, match="is not a late-interaction checkpoint"):
        LateInteraction(LateInteractionTeacher(model=str(tiny_bert)), "float32", 64, "cpu")


def test_longer_than_counts_special_tokens(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    assert longer_than(tokenizer, ["sun bee", "sun", "sun bee"], 3).tolist() == [True, False, True]
