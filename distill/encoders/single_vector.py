"""The single-vector student: one vector for a text (DPR, arXiv 2004.04906; Sentence-BERT, arXiv 1908.10084).

Shapes: B texts, T tokens of a text, H the backbone's width, D the vector's size: H, or what the last dense layer gives, or less where
vectors are cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.encoders.encoder import Encoder, TokenBatch, TokenRows, freeze_pooler, tokenized
from distill.encoders.settings import Pooling
from distill.models.locate import ModelError
from distill.numerics.batching import attention_of, padded
from distill.numerics.inputs import check_texts


@dataclass(frozen=True)
class SingleVectorSettings:
    """The way from texts to vectors. Stored in the checkpoint, because other values give other scores.

    Attributes:
        pooling: the vector: mean of the last hidden states (`mean`), the first (`cls`) or last of them (`lasttoken`), the backbone's pooler
            on the first (`pooler`), their maximum in each dimension (`max`), their mean weighted by position from 1 (`weightedmean`), or
            their sum over the square root of their number (`mean_sqrt_len_tokens`).
        normalize: whether vectors have unit length.
        query_tokens: longest query.
        passage_tokens: longest passage.
        query_prefix: text put before every query.
        passage_prefix: text put before every passage.
        dim: the size to which vectors are cut, before they are normalised (Matryoshka, arXiv 2205.13147). If None, all numbers.
    """

    pooling: Pooling = "mean"
    normalize: bool = True
    query_tokens: int = 32
    passage_tokens: int = 220
    query_prefix: str = ""
    passage_prefix: str = ""
    dim: int | None = None


class Dense(nn.Module):
    """A linear layer after pooling, with its activation."""

    def __init__(self, linear: nn.Linear, activation: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.activation = activation

    def forward(self, vectors: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        """Return the layer's output."""
        return self.activation(self.linear(vectors))


class SingleVectorEncoder(Encoder):
    """A backbone with pooling, and maybe dense layers after it.

    Args:
        backbone: an encoder whose output has `last_hidden_state`, and `pooler_output` for pooling `pooler`.
        tokenizer: a fast tokenizer with a pad token.
        settings: how texts become vectors.
        dense: layers after pooling, computed in float32.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: SingleVectorSettings,
        dense: Sequence[Dense] = (),
    ) -> None:
        super().__init__(backbone, tokenizer)
        self.settings = settings
        self.dense = nn.ModuleList(dense)
        if settings.pooling != "pooler":
            freeze_pooler(backbone)
        elif getattr(backbone, "pooler", None) is None:
            raise ModelError(
                "pooling 'pooler' needs a backbone with a pooler and its weights, and this "
                f"{type(backbone).__name__} has none; use 'cls' or 'mean'"
            )
        width = self._width
        if settings.dim is not None and not 1 <= settings.dim <= width:
            raise ModelError(f"vectors cannot be cut to dim {settings.dim}: they have {width} numbers")

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return self.settings.dim or self._width

    @property
    def _width(self) -> int:
        """Size of a vector before it is cut."""
        layer = self.dense[-1] if len(self.dense) else None
        return layer.linear.out_features if isinstance(layer, Dense) else int(self.backbone.config.hidden_size)

    @property
    def query_vectors_each(self) -> int:
        """Vectors of a query: one."""
        return 1

    def read_queries(self, texts: Sequence[str]) -> TokenRows:
        """Return the token ids of queries after their prefix, and which queries are truncated."""
        return self._rows(self.settings.query_prefix, texts, self.settings.query_tokens)

    def read_passages(self, texts: Sequence[str]) -> TokenRows:
        """Return the token ids of passages after their prefix, and which passages are truncated."""
        return self._rows(self.settings.passage_prefix, texts, self.settings.passage_tokens)

    def pad_queries(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Pad queries to the longest."""
        return self.pad_passages(rows)

    def pad_passages(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Pad texts to the longest."""
        attention = attention_of([len(row) for row in rows])
        return TokenBatch(padded(rows, self._pad), attention, attention.bool())

    def forward(
        self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B 1 D"]:
        """Return one vector for each text, pooled, cut and normalised in float32."""
        del keep
        output = self.backbone(input_ids=ids, attention_mask=attention)
        vectors = self._pooled(output, attention)
        for layer in self.dense:
            vectors = layer(vectors)
        vectors = vectors[:, : self.dim]
        if self.settings.normalize:
            vectors = functional.normalize(vectors, dim=-1)
        return vectors.unsqueeze(1)

    def kept(self, batch: TokenBatch) -> Bool[Tensor, "B 1"]:
        """Return that every vector takes part in the score."""
        return torch.ones(len(batch.ids), 1, dtype=torch.bool, device=batch.ids.device)

    def _pooled(self, output: Any, attention: Int[Tensor, "B T"]) -> Float[Tensor, "B H"]:
        if self.settings.pooling == "pooler":
            return output.pooler_output.float()
        return pooled(output.last_hidden_state.float(), attention, self.settings.pooling)

    def query_vectors(self, texts: Sequence[str], tokens_per_batch: int = 16_384) -> Float[Tensor, "Q D"]:
        """Return the vectors of queries, in order, on the CPU. Equal texts are encoded once."""
        return self._each(texts, lambda distinct: self.encode_each_query(distinct, tokens_per_batch))

    def passage_vectors(self, texts: Sequence[str], tokens_per_batch: int = 16_384) -> Float[Tensor, "N D"]:
        """Return the vectors of passages, in order, on the CPU. Equal texts are encoded once."""
        return self._each(texts, lambda distinct: self.encode_passages(distinct, tokens_per_batch))

    def _each(self, texts: Sequence[str], encode: Callable[[list[str]], list[Tensor]]) -> Float[Tensor, "N D"]:
        check_texts(texts)
        if not texts:
            return torch.empty(0, self.dim)
        number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        return torch.cat(encode(list(number)))[[number[text] for text in texts]]

    def _rows(self, prefix: str, texts: Sequence[str], length: int) -> TokenRows:
        check_texts(texts)
        return tokenized(self.tokenizer, [prefix + text for text in texts], length)


def pooled(hidden: Float[Tensor, "B T H"], attention: Int[Tensor, "B T"], how: Pooling) -> Float[Tensor, "B H"]:
    """Return one vector for each text, of the states of the tokens that attention sees. Padding comes after a text's own tokens."""
    weights = attention.unsqueeze(-1).float()
    match how:
        case "cls":
            return hidden[:, 0]
        case "lasttoken":
            return hidden[torch.arange(len(hidden), device=hidden.device), attention.sum(dim=1) - 1]
        case "max":
            return hidden.masked_fill(weights == 0, -torch.inf).amax(dim=1)
        case "mean":
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        case "mean_sqrt_len_tokens":
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1).sqrt()
        case "weightedmean":
            weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        case "pooler":
            raise ValueError("the pooler's output is the backbone's, not one of its hidden states")
