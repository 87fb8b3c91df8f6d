"""The student: an encoder of queries and passages over any Hugging Face backbone.

Shapes: B texts, T tokens of a text, V vectors of a text, D the size of a vector, H the backbone's width.

`LateInteractionEncoder` (ColBERT, arXiv 2004.12832; ColBERT-X, arXiv 2201.08471) gives a vector for every token, and
`distill.encoders.single_vector.SingleVectorEncoder` one for the text, so that MaxSim is their inner product and everything
downstream is the same. Checkpoints are read and written by `distill.encoders.checkpoints`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.models.locate import ModelError
from distill.numerics.batching import fitting_tokens, token_budget_batches
from distill.numerics.inputs import check_texts


class TokenBatch(NamedTuple):
    """Padded token ids, what attention sees, and which positions take part in the score."""

    ids: Int[Tensor, "B T"]
    attention: Int[Tensor, "B T"]
    keep: Bool[Tensor, "B T"]

    def to(self, device: torch.device) -> "TokenBatch":
        """Return the batch on a device."""
        return TokenBatch(*(part.to(device, non_blocking=True) for part in self))


class TokenRows(NamedTuple):
    """Texts as token ids, special tokens included, without padding.

    Attributes:
        ids: a row for each text.
        truncated: whether each text is longer than what the encoder reads of it.
    """

    ids: list[list[int]]
    truncated: list[bool]


class Encoder(nn.Module):
    """A backbone and its tokenizer: texts to rows of token ids, rows to padded batches, batches to vectors.

    Args:
        backbone: an encoder whose output has `last_hidden_state`.
        tokenizer: a fast tokenizer with a pad token.
    """

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self._pad = required_id(tokenizer.pad_token_id, "pad token")

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.backbone.device

    @property
    def dim(self) -> int:
        """Size of a vector."""
        raise NotImplementedError

    def read_queries(self, texts: Sequence[str]) -> TokenRows:
        """Return the token ids of queries, and which queries are truncated."""
        raise NotImplementedError

    def read_passages(self, texts: Sequence[str]) -> TokenRows:
        """Return the token ids of passages, and which passages are truncated."""
        raise NotImplementedError

    @property
    def query_vectors_each(self) -> int:
        """Vectors of a query in a batch, V."""
        raise NotImplementedError

    def query_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of queries, special tokens included, without padding."""
        return self.read_queries(texts).ids

    def passage_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of passages, special tokens included, without padding."""
        return self.read_passages(texts).ids

    def pad_queries(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Pad token ids of queries to a batch."""
        raise NotImplementedError

    def pad_passages(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Pad token ids of passages to a batch, as long as the longest."""
        raise NotImplementedError

    def forward(
        self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V D"]:
        """Return the vectors of each text; those that take no part in a score are zero."""
        raise NotImplementedError

    def kept(self, batch: TokenBatch) -> Bool[Tensor, "B V"]:
        """Return which of the vectors that `forward` gives take part in the score."""
        raise NotImplementedError

    def tokenize_queries(self, texts: Sequence[str]) -> TokenBatch:
        """Return a padded batch of queries."""
        return self.pad_queries(self.query_rows(texts))

    def tokenize_passages(self, texts: Sequence[str]) -> TokenBatch:
        """Return a padded batch of passages."""
        return self.pad_passages(self.passage_rows(texts))

    @torch.inference_mode()
    def encode_queries(self, texts: Sequence[str]) -> Float[Tensor, "Q V D"]:
        """Return the vectors of queries, in order, on the CPU. All are one batch: as many as fit in memory.

        Without queries it is a tensor of none. A text instead of a list of them is a TypeError, here and in every other method.
        """
        check_texts(texts)
        if not texts:
            return torch.empty(0, self.query_vectors_each, self.dim)
        was_training = self.training
        self.eval()
        vectors = self(*self.tokenize_queries(texts).to(self.device)).cpu()
        self.train(was_training)
        return vectors

    @torch.inference_mode()
    def encode_passages(self, texts: Sequence[str], tokens_per_batch: int = 16_384) -> list[Float[Tensor, "n D"]]:
        """Return the kept vectors of each passage, in order, on the CPU. Batches hold at most `tokens_per_batch` padded tokens.

        On a CPU batches are smaller where larger ones would not fit its caches.
        """
        return self.encode_passage_rows(self.passage_rows(texts), tokens_per_batch)

    @torch.inference_mode()
    def encode_passage_rows(
        self, rows: Sequence[list[int]], tokens_per_batch: int = 16_384
    ) -> list[Float[Tensor, "n D"]]:
        """Return the kept vectors of passages that are token ids (`read_passages`), as `encode_passages` does."""
        return self._encode_rows(rows, [len(row) for row in rows], self.pad_passages, tokens_per_batch)

    @torch.inference_mode()
    def encode_each_query(self, texts: Sequence[str], tokens_per_batch: int = 16_384) -> list[Float[Tensor, "n D"]]:
        """Return the kept vectors of each query, in order, on the CPU, in batches like those of `encode_passages`."""
        return self.encode_query_rows(self.query_rows(texts), tokens_per_batch)

    @torch.inference_mode()
    def encode_query_rows(
        self, rows: Sequence[list[int]], tokens_per_batch: int = 16_384
    ) -> list[Float[Tensor, "n D"]]:
        """Return the kept vectors of queries that are token ids (`read_queries`), as `encode_each_query` does."""
        # Late interaction pads every query to one length, whatever its own is.
        lengths = [self.pad_queries([row]).ids.shape[1] for row in rows]
        return self._encode_rows(rows, lengths, self.pad_queries, tokens_per_batch)

    def _encode_rows(
        self,
        rows: Sequence[list[int]],
        lengths: Sequence[int],
        pad: Callable[[Sequence[list[int]]], TokenBatch],
        tokens_per_batch: int,
    ) -> list[Float[Tensor, "n D"]]:
        """Return the kept vectors of each row of token ids; `lengths` are those of rows that are padded alone."""
        was_training = self.training
        self.eval()
        encoded: list[Tensor] = [torch.empty(0)] * len(rows)
        budget = fitting_tokens(tokens_per_batch, self.backbone.config, self.device.type)
        for batch in token_budget_batches(lengths, budget):
            tokens = pad([rows[i] for i in batch])
            vectors = self(*tokens.to(self.device)).cpu()
            for i, vector, keep in zip(batch, vectors, self.kept(tokens), strict=True):
                encoded[i] = vector[keep]
        self.train(was_training)
        return encoded


def tokenized(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> TokenRows:
    """Return the token ids of texts, at most `length` of each, special tokens included; and which texts have more."""
    if not texts:
        return TokenRows([], [])
    read = tokenizer(list(texts), truncation=True, max_length=length)
    # What a fast tokenizer leaves out of a text it keeps beside the rest.
    if read.encodings is None:
        raise ModelError("the tokenizer is not a fast one, which does not say what it leaves out of a text")
    return TokenRows(read["input_ids"], [bool(text.overflowing) for text in read.encodings])


def freeze_pooler(backbone: PreTrainedModel) -> None:
    """Take the pooler's weights out of training: nothing uses them, and DDP refuses parameters without a gradient."""
    for name, parameter in backbone.named_parameters():
        if name.startswith("pooler."):
            parameter.requires_grad = False


def required_id(value: Any, what: str) -> int:
    """Return the id of a token that a student needs; a `ModelError` if the tokenizer has none."""
    if not isinstance(value, int):
        raise ModelError(f"the tokenizer has no {what}; a student needs one")
    return value
