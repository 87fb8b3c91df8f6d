"""The single-vector student: one vector for a text (DPR, arXiv 2004.04906; Sentence-BERT, arXiv 1908.10084).

Shapes: B texts, T tokens of a text, D the vector's size: the backbone's width, or less where vectors are cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distill.encoders.encoder import Encoder, TokenBatch, freeze_pooler
from distill.encoders.settings import Dtype, PooledEncoder
from distill.models.locate import ModelError, load_tokenizer, locate
from distill.numerics.batching import attention_of, padded


@dataclass(frozen=True)
class SingleVectorSettings:
    """How texts become vectors. Stored in the checkpoint, because other values give other scores.

    Attributes:
        pooling: the vector: mean of the last hidden states, the first of them, or the backbone's pooler on the first.
        normalize: whether vectors have unit length.
        query_tokens: longest query.
        passage_tokens: longest passage.
        query_prefix: text put before every query.
        passage_prefix: text put before every passage.
        dim: the size to which vectors are cut, before they are normalised (Matryoshka, arXiv 2205.13147); none: the backbone's width.
    """

    pooling: Literal["mean", "cls", "pooler"] = "mean"
    normalize: bool = True
    query_tokens: int = 32
    passage_tokens: int = 220
    query_prefix: str = ""
    passage_prefix: str = ""
    dim: int | None = None


class SingleVectorEncoder(Encoder):
    """A backbone with pooling.

    Args:
        backbone: an encoder whose output has `last_hidden_state`, and `pooler_output` for pooling `pooler`.
        tokenizer: a fast tokenizer with a pad token.
        settings: how texts become vectors.
    """

    def __init__(
        self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: SingleVectorSettings
    ) -> None:
        super().__init__(backbone, tokenizer)
        self.settings = settings
        if settings.pooling != "pooler":
            freeze_pooler(backbone)
        elif getattr(backbone, "pooler", None) is None:
            raise ModelError(
                "pooling 'pooler' needs a backbone with a pooler and its weights, and this "
                f"{type(backbone).__name__} has none; use 'cls' or 'mean'"
            )
        width = int(backbone.config.hidden_size)
        if settings.dim is not None and not 1 <= settings.dim <= width:
            raise ModelError(f"vectors cannot be cut to dim {settings.dim}: they have {width} numbers")

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return self.settings.dim or int(self.backbone.config.hidden_size)

    def query_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries after their prefix, without padding."""
        return self._rows(self.settings.query_prefix, texts, self.settings.query_tokens)

    def passage_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of passages after their prefix, without padding."""
        return self._rows(self.settings.passage_prefix, texts, self.settings.passage_tokens)

    def pad_queries(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Queries, padded to the longest."""
        return self.pad_passages(rows)

    def pad_passages(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Texts, padded to the longest."""
        attention = attention_of([len(row) for row in rows])
        return TokenBatch(padded(rows, self._pad), attention, attention.bool())

    def forward(
        self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B 1 D"]:
        """One vector for each text, pooled, cut and normalised in float32."""
        del keep
        output = self.backbone(input_ids=ids, attention_mask=attention)
        vectors = self._pooled(output, attention)[:, : self.dim]
        if self.settings.normalize:
            vectors = functional.normalize(vectors, dim=-1)
        return vectors.unsqueeze(1)

    def kept(self, batch: TokenBatch) -> Bool[Tensor, "B 1"]:
        """Every vector takes part in the score."""
        return torch.ones(len(batch.ids), 1, dtype=torch.bool, device=batch.ids.device)

    def _pooled(self, output: Any, attention: Int[Tensor, "B T"]) -> Float[Tensor, "B H"]:
        match self.settings.pooling:
            case "mean":
                return mean_pooled(output.last_hidden_state.float(), attention)
            case "cls":
                return output.last_hidden_state[:, 0].float()
            case "pooler":
                return output.pooler_output.float()

    def _rows(self, prefix: str, texts: Sequence[str], length: int) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer([prefix + text for text in texts], truncation=True, max_length=length)["input_ids"]


def mean_pooled(hidden: Float[Tensor, "B T H"], attention: Int[Tensor, "B T"]) -> Float[Tensor, "B H"]:
    """The mean of each text's states over the tokens that attention sees."""
    weights = attention.unsqueeze(-1).float()
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def load_pooled(settings: PooledEncoder, dtype: Dtype, device: str) -> SingleVectorEncoder:
    """Load any Hugging Face encoder in `dtype`, pooled as `settings` say; a `ModelError` if the model does not exist."""
    tokenizer = load_tokenizer(settings.model, settings.revision)
    backbone = AutoModel.from_pretrained(
        locate(settings.model), revision=settings.revision, dtype=getattr(torch, dtype)
    )
    kept = SingleVectorSettings(
        pooling=settings.pooling,
        normalize=settings.normalize,
        query_tokens=settings.max_query_tokens,
        passage_tokens=settings.max_passage_tokens,
        query_prefix=settings.query_prefix,
        passage_prefix=settings.passage_prefix,
    )
    return SingleVectorEncoder(backbone, tokenizer, kept).to(device).eval()
