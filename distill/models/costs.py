"""The cost of work: floating-point operations of every kind of model from its shape and the lengths of its inputs.

A multiply and an add are two operations. Only matrix products are counted, on the tokens there are, without padding: what is measured
against these numbers is a share of the hardware's limit (model FLOPs utilisation, as in PaLM, arXiv 2204.02311).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distill.models.locate import ModelError


@dataclass(frozen=True)
class EncoderShape:
    """A bidirectional encoder (BERT, XLM-R, ModernBERT, DeBERTa).

    Attributes:
        layers: layers.
        hidden: width.
        inner: width of the feed-forward part.
        gated: whether the feed-forward part has a gate, and so three matrices instead of two.
    """

    layers: int
    hidden: int
    inner: int
    gated: bool = False

    def forward(self, tokens: float) -> float:
        """Return the operations of one sequence of so many tokens."""
        matrices = 4 * self.hidden**2 + (3 if self.gated else 2) * self.hidden * self.inner
        return 2 * self.layers * matrices * tokens + 4 * self.layers * self.hidden * tokens**2

    def train(self, tokens: float, *, checkpointing: bool = False) -> float:
        """Return the operations of forward and backward of one sequence; with activation checkpointing the forward pass is done twice."""
        return (4 if checkpointing else 3) * self.forward(tokens)


@dataclass(frozen=True)
class DecoderShape:
    """A causal language model with grouped queries and a gated feed-forward part (Qwen, Llama, Gemma).

    Attributes:
        layers: layers.
        hidden: width.
        inner: width of the feed-forward part.
        heads: query heads.
        head_dim: width of a head.
        key_heads: key and value heads.
        vocabulary: rows of the output matrix.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    head_dim: int
    key_heads: int
    vocabulary: int

    def read(self, tokens: float, cached: float = 0.0) -> float:
        """Return the operations of reading a prompt of `tokens`, the first `cached` of them in the prefix cache, and two logits."""
        new = tokens - cached
        wide = self.heads * self.head_dim
        matrices = (
            2 * self.hidden * wide + 2 * self.hidden * self.key_heads * self.head_dim + 3 * self.hidden * self.inner
        )
        attention = 4 * self.layers * wide * (new * cached + new**2 / 2)
        return 2 * self.layers * matrices * new + attention + 2 * self.hidden * 2

    def generate(self, prompt: float, answer: float) -> float:
        """Return the operations of reading a prompt and generating an answer, greedily."""
        return self.read(prompt + answer) + 2 * self.hidden * self.vocabulary * answer


@dataclass(frozen=True)
class Seq2SeqShape:
    """An encoder-decoder (T5, mT5, Marian, NLLB, M2M100, MADLAD).

    Attributes:
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        hidden: width.
        attention: width of all heads together (T5's may differ from `hidden`).
        inner: width of the feed-forward part.
        gated: whether the feed-forward part has a gate.
        vocabulary: rows of the output matrix.
    """

    encoder_layers: int
    decoder_layers: int
    hidden: int
    attention: int
    inner: int
    gated: bool
    vocabulary: int

    def judge(self, tokens: float) -> float:
        """Return the operations of monoT5 on one pair: encoder, one decoder step, two logits."""
        step = 4 * self.hidden * self.attention + 2 * self.hidden * self.attention + self._feed_forward
        decoder = 2 * self.decoder_layers * step + 4 * self.decoder_layers * self.attention * tokens
        return self._encode(tokens) + self._cross(tokens) + decoder + 2 * self.hidden * 2

    def translate(self, source: float, target: float, beams: int = 1) -> float:
        """Return the operations of translating `source` tokens into `target` tokens."""
        step = 4 * self.hidden * self.attention + 2 * self.hidden * self.attention + self._feed_forward
        token = (
            2 * self.decoder_layers * step
            + 2 * self.vocabulary * self.hidden
            + 4 * self.decoder_layers * self.attention * (source + target / 2)
        )
        return self._encode(source) + self._cross(source) + beams * target * token

    @property
    def _feed_forward(self) -> int:
        return (3 if self.gated else 2) * self.hidden * self.inner

    def _encode(self, tokens: float) -> float:
        matrices = 4 * self.hidden * self.attention + self._feed_forward
        return 2 * self.encoder_layers * matrices * tokens + 4 * self.encoder_layers * self.attention * tokens**2

    def _cross(self, tokens: float) -> float:
        """Keys and values of the encoder's states, for every decoder layer."""
        return 2 * self.decoder_layers * 2 * self.hidden * self.attention * tokens


Shape = EncoderShape | DecoderShape | Seq2SeqShape

_SEQ2SEQ = {"t5", "mt5", "umt5", "marian", "m2m_100", "nllb_moe", "mbart", "bart"}
_GATED_ENCODERS = {"modernbert"}


def model_shape(config: Mapping[str, Any], model: str = "the model") -> Shape:
    """Return the shape that a Hugging Face configuration (config.json) describes; a `ModelError` for an unknown kind."""
    kind = str(config.get("model_type", ""))
    try:
        if kind in {"t5", "mt5", "umt5"}:
            inner = config["num_heads"] * config["d_kv"]
            gated = str(config.get("feed_forward_proj", "relu")).startswith("gated")
            layers = config["num_layers"]
            decoder = config.get("num_decoder_layers") or layers
            return Seq2SeqShape(layers, decoder, config["d_model"], inner, config["d_ff"], gated, config["vocab_size"])
        if kind in _SEQ2SEQ:
            hidden = config["d_model"]
            layers = (config["encoder_layers"], config["decoder_layers"])
            return Seq2SeqShape(
                *layers, hidden, hidden, config["encoder_ffn_dim"], gated=False, vocabulary=config["vocab_size"]
            )
        layers, hidden, inner = (config[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size"))
        if config.get("num_key_value_heads") is not None:
            heads = config["num_attention_heads"]
            dim = config.get("head_dim") or hidden // heads
            return DecoderShape(layers, hidden, inner, heads, dim, config["num_key_value_heads"], config["vocab_size"])
        return EncoderShape(layers, hidden, inner, kind in _GATED_ENCODERS)
    except KeyError as error:
        raise ModelError(
            f"the configuration of {model} (model_type {kind!r}) has no {error}; its cost cannot be estimated"
        ) from error


def gpu_hours(operations: float, tflops: float, efficiency: float) -> float:
    """Return the hours of one GPU that does `tflops` (10^12 operations a second) at most and reaches the share `efficiency` of that."""
    return operations / (tflops * 1e12 * efficiency) / 3600
