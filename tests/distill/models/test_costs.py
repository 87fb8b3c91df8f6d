import pytest

from distill.models.costs import DecoderShape, EncoderShape, Seq2SeqShape, gpu_hours, model_shape
from distill.models.locate import ModelError

MT5_XXL = {"model_type": "mt5", "d_model": 4096, "d_kv": 64, "num_heads": 64, "num_layers": 24, "num_decoder_layers": 24, "d_ff": 10240,
           "feed_forward_proj": "gated-gelu", "vocab_size": 250112}  # fmt: skip
T5_3B = {
    "model_type": "t5",
    "d_model": 1024,
    "d_kv": 128,
    "num_heads": 32,
    "num_layers": 24,
    "d_ff": 16384,
    "vocab_size": 32128,
}
QWEN3_8B = {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 12288, "num_attention_heads": 32,
            "head_dim": 128, "num_key_value_heads": 8, "vocab_size": 151936}  # fmt: skip
XLMR_LARGE = {
    "model_type": "xlm-roberta",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
}
NLLB_3B = {
    "model_type": "m2m_100",
    "d_model": 2048,
    "encoder_layers": 24,
    "decoder_layers": 24,
    "encoder_ffn_dim": 8192,
    "vocab_size": 256206,
}
TERA = 1e12


def test_by_hand() -> None:
    """2 layers of width 4, inner 8, 3 tokens: 2*2*(4*16 + 2*4*8)*3 + 4*2*4*9 = 1,824; a gate adds 2*2*32*3 = 384."""
    assert EncoderShape(2, 4, 8).forward(3.0) == 1824
    assert EncoderShape(2, 4, 8, gated=True).forward(3.0) == 1824 + 384
    assert EncoderShape(2, 4, 8).train(3.0) == 3 * 1824
    assert EncoderShape(2, 4, 8).train(3.0, checkpointing=True) == 4 * 1824
    # One layer: 2*(2*4*4 + 2*4*2 + 3*4*8)*n + 4*4*(n*c + n*n/2) + 16 for n = 3 of 5 tokens, 2 cached.
    decoder = DecoderShape(1, 4, 8, 2, 2, 1, 10)
    assert decoder.read(5.0, cached=2.0) == 2 * 144 * 3 + 16 * (6 + 4.5) + 16
    assert decoder.generate(3.0, 2.0) == 2 * 144 * 5 + 16 * 12.5 + 16 + 2 * 4 * 10 * 2


def test_a_cached_prefix_costs_what_is_left() -> None:
    decoder = model_shape(QWEN3_8B)
    assert isinstance(decoder, DecoderShape)
    # Reading the rest after a prefix is reading all less reading the prefix (the two logits are counted in each).
    two_logits = 2 * 4096 * 2
    assert decoder.read(165.0, 64.0) == pytest.approx(decoder.read(165.0) - decoder.read(64.0) + two_logits, rel=1e-12)


def test_published_shapes() -> None:
    """Operations of well-known models, worked out apart from this code in the same conventions."""
    xxl, t5, qwen, xlmr, nllb = (model_shape(config) for config in (MT5_XXL, T5_3B, QWEN3_8B, XLMR_LARGE, NLLB_3B))
    assert isinstance(xxl, Seq2SeqShape)
    assert isinstance(t5, Seq2SeqShape)
    assert isinstance(qwen, DecoderShape)
    assert isinstance(xlmr, EncoderShape)
    assert isinstance(nllb, Seq2SeqShape)
    assert xxl.judge(100.0) / TERA == pytest.approx(1.10, abs=0.005)
    assert xxl.judge(512.0) / TERA == pytest.approx(5.68, abs=0.03)
    assert t5.judge(100.0) / TERA == pytest.approx(0.29, abs=0.005)
    assert qwen.read(165.0) / TERA == pytest.approx(2.30, abs=0.01)
    assert qwen.read(165.0, 64.0) / TERA == pytest.approx(1.41, abs=0.01)
    assert xlmr.forward(95.0) / TERA == pytest.approx(0.058, abs=0.001)
    assert nllb.translate(76.0, 91.0) / TERA == pytest.approx(0.57, abs=0.01)
    assert nllb.translate(76.0, 91.0, beams=4) / TERA == pytest.approx(1.63, abs=0.03)
    step = 64 * (xlmr.train(32.0) + 6 * xlmr.train(180.0))
    assert step / TERA == pytest.approx(132.6, rel=0.01)


def test_hours() -> None:
    assert gpu_hours(3600 * 790e12, 790.0, 1.0) == 1.0
    assert gpu_hours(3600 * 790e12, 790.0, 0.4) == 2.5


def test_an_unknown_configuration_is_named() -> None:
    with pytest.raises(
        ModelError, match=r"the configuration of some/model \(model_type 'mamba'\) has no 'intermediate_size'"
    ):
        model_shape({"model_type": "mamba", "num_hidden_layers": 2, "hidden_size": 4}, "some/model")
