"""The student: an encoder of queries and passages over any Hugging Face backbone.

Shapes: B texts, T tokens of a text, V vectors of a text, D the size of a vector, H the backbone's width.

`LateInteractionEncoder` (ColBERT, arXiv 2004.12832; ColBERT-X, arXiv 2201.08471) gives a vector for every token, and
`distill.encoders.single_vector.SingleVectorEncoder` one for the text, so that MaxSim is their inner product and everything downstream is the
same. Checkpoints are read and written by `distill.encoders.checkpoints`.
"""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distill.models.locate import ModelError, load_tokenizer
from distill.numerics.batching import attention_of, fitting_tokens, padded, token_budget_batches

QUERY_MARKER = "[unused0]"
PASSAGE_MARKER = "[unused1]"
SkipList = Literal["first_piece", "token", "token_or_unknown"]


@dataclass(frozen=True)
class EncoderSettings:
    """How texts become tokens, and tokens vectors. Stored in the checkpoint, because other values give other scores.

    Attributes:
        dim: size of a token vector.
        query_tokens: every query has this many vectors: longer ones are truncated, shorter ones padded.
        passage_tokens: longest passage.
        marker_mode: markers inserted at index 1 (colbert-ai, PyLate), or written over index 1 after a '. ' prefix (PLAID-X), or put as text
            before the text (`prompt`: sentence-transformers). For XLM-R the first two differ: its tokenizer makes two pieces of '. ', and
            overwriting leaves the full stop at index 2.
        mask_punctuation: whether the tokens of the skip-list are left out of the score of passages.
        attend_to_mask_tokens: whether attention sees the [MASK] padding of queries.
        query_expansion: whether queries are padded with [MASK] to `query_tokens` and all of those vectors enter the score (ColBERT), or
            only the query's own tokens do. Without it padding has zero vectors, each of which adds 0 to a score.
        skip_list: which tokens stand for the skip words: the first piece that the tokenizer makes of each (ColBERT, PLAID-X), the token of
            that name (sentence-transformers), or the same with the unknown token for words that have none (PyLate). For XLM-R the first
            is mostly the bare word-start piece, so that '.' stays in the score.
        skip_words: what the skip-list is made of.
        query_marker: the token that marks a query; with marker mode `prompt` any text.
        passage_marker: the token that marks a passage; with marker mode `prompt` any text.
    """

    dim: int = 128
    query_tokens: int = 32
    passage_tokens: int = 220
    marker_mode: Literal["insert", "overwrite", "prompt"] = "insert"
    mask_punctuation: bool = True
    attend_to_mask_tokens: bool = False
    query_expansion: bool = True
    skip_list: SkipList = "first_piece"
    skip_words: tuple[str, ...] = tuple(string.punctuation)
    query_marker: str = QUERY_MARKER
    passage_marker: str = PASSAGE_MARKER


class TokenBatch(NamedTuple):
    """Padded token ids, what attention sees, and which positions take part in the score."""

    ids: Int[Tensor, "B T"]
    attention: Int[Tensor, "B T"]
    keep: Bool[Tensor, "B T"]

    def to(self, device: torch.device) -> "TokenBatch":
        """The batch on a device."""
        return TokenBatch(*(part.to(device, non_blocking=True) for part in self))


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
        self._pad = _required(tokenizer.pad_token_id, "pad token")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    @property
    def dim(self) -> int:
        """Size of a vector."""
        raise NotImplementedError

    def query_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries, special tokens included, without padding."""
        raise NotImplementedError

    def passage_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of passages, special tokens included, without padding."""
        raise NotImplementedError

    def pad_queries(self, rows: Sequence[list[int]]) -> TokenBatch:
        """A batch of queries."""
        raise NotImplementedError

    def pad_passages(self, rows: Sequence[list[int]]) -> TokenBatch:
        """A batch of passages, padded to the longest."""
        raise NotImplementedError

    def forward(
        self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V D"]:
        """The vectors of each text; those that take no part in a score are zero."""
        raise NotImplementedError

    def kept(self, batch: TokenBatch) -> Bool[Tensor, "B V"]:
        """Which of the vectors that `forward` gives take part in the score."""
        raise NotImplementedError

    def tokenize_queries(self, texts: Sequence[str]) -> TokenBatch:
        """A padded batch of queries."""
        return self.pad_queries(self.query_rows(texts))

    def tokenize_passages(self, texts: Sequence[str]) -> TokenBatch:
        """A padded batch of passages."""
        return self.pad_passages(self.passage_rows(texts))

    @torch.inference_mode()
    def encode_queries(self, texts: Sequence[str]) -> Float[Tensor, "Q V D"]:
        """Vectors of queries, in order, on the CPU. One batch: call it with as many queries as fit in memory."""
        was_training = self.training
        self.eval()
        vectors = self(*self.tokenize_queries(texts).to(self.device)).cpu()
        self.train(was_training)
        return vectors

    @torch.inference_mode()
    def encode_passages(self, texts: Sequence[str], tokens_per_batch: int = 16_384) -> list[Float[Tensor, "n D"]]:
        """The kept vectors of each passage, in order, on the CPU. Batches hold at most `tokens_per_batch` padded tokens.

        On a CPU batches are smaller where larger ones would not fit its caches.
        """
        rows = self.passage_rows(texts)
        return self._encode_rows(rows, [len(row) for row in rows], self.pad_passages, tokens_per_batch)

    @torch.inference_mode()
    def encode_each_query(self, texts: Sequence[str], tokens_per_batch: int = 16_384) -> list[Float[Tensor, "n D"]]:
        """The kept vectors of each query, in order, on the CPU, in batches like those of `encode_passages`."""
        rows = self.query_rows(texts)
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
        """The kept vectors of each row of token ids; `lengths` are what rows have when they are padded alone."""
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


class LateInteractionEncoder(Encoder):
    """A backbone, a projection and a tokenizer: the last hidden states, projected and normalised.

    Args:
        backbone: an encoder whose output has `last_hidden_state`.
        projection: a linear layer H -> D without bias.
        tokenizer: a fast tokenizer that knows both markers and has pad and mask tokens.
        settings: how texts become vectors.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        projection: nn.Linear,
        tokenizer: PreTrainedTokenizerBase,
        settings: EncoderSettings,
    ) -> None:
        super().__init__(backbone, tokenizer)
        if projection.bias is not None or projection.out_features != settings.dim:
            message = f"projection must be without bias and give dim {settings.dim}, found {projection}"
            raise ModelError(message)
        self.projection = projection
        self.settings = settings
        freeze_pooler(backbone)
        self._markers: dict[str, int] = {}
        if settings.marker_mode != "prompt":
            self._markers = {
                mark: _token_id(tokenizer, mark) for mark in (settings.query_marker, settings.passage_marker)
            }
        self._mask = _required(tokenizer.mask_token_id, "mask token")
        self._skip = torch.tensor(_skip_ids(tokenizer, settings), dtype=torch.long)

    @property
    def dim(self) -> int:
        """Size of a token vector."""
        return self.settings.dim

    def query_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries with their marker, without padding."""
        return self._marked(texts, self.settings.query_marker, self.settings.query_tokens)

    def passage_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of passages with their marker, without padding."""
        return self._marked(texts, self.settings.passage_marker, self.settings.passage_tokens)

    @property
    def skipped_tokens(self) -> list[str]:
        """The tokens of passages that are left out of the score."""
        return [str(self.tokenizer.convert_ids_to_tokens(int(token))) for token in self._skip]

    def pad_queries(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Queries, every row `query_tokens` long.

        Beyond the text come [MASK] tokens (query augmentation, ColBERT section 3.2) and all positions take part in the score; without
        query expansion comes padding, which takes no part in it and which attention never sees.
        """
        length = self.settings.query_tokens
        filler = self._mask if self.settings.query_expansion else self._pad
        ids = torch.tensor([row + [filler] * (length - len(row)) for row in rows], dtype=torch.long)
        real = (torch.arange(length)[None, :] < torch.tensor([len(row) for row in rows])[:, None]).long()
        if not self.settings.query_expansion:
            return TokenBatch(ids, real, real.bool())
        attention = torch.ones_like(real) if self.settings.attend_to_mask_tokens else real
        return TokenBatch(ids, attention, torch.ones_like(ids, dtype=torch.bool))

    def pad_passages(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Passages, padded to the longest; padding and (by setting) punctuation take no part in the score."""
        ids = padded(rows, self._pad)
        attention = attention_of([len(row) for row in rows])
        keep = attention.bool()
        if len(self._skip):
            keep = keep & ~torch.isin(ids, self._skip)
        return TokenBatch(ids, attention, keep)

    def forward(
        self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Token vectors of unit length; positions not kept are zero. Normalised in float32."""
        hidden = self.backbone(input_ids=ids, attention_mask=attention).last_hidden_state
        vectors = self.projection(hidden).float() * keep.unsqueeze(-1)
        return functional.normalize(vectors, dim=-1)

    def kept(self, batch: TokenBatch) -> Bool[Tensor, "B T"]:
        """Which token vectors take part in the score."""
        return batch.keep

    def tokenizer_texts(self, texts: Sequence[str], marker: str) -> list[str]:
        """What the tokenizer is given for queries or passages: the texts themselves, or after what goes before them."""
        before = {"insert": "", "overwrite": ". ", "prompt": marker}[self.settings.marker_mode]
        return [before + text for text in texts]

    def tokenizer_limit(self, length: int) -> int:
        """At how many tokens the tokenizer cuts, so that a text with its marker has at most `length`."""
        return length - 1 if self.settings.marker_mode == "insert" else length

    def _marked(self, texts: Sequence[str], marker: str, length: int) -> list[list[int]]:
        if not texts:
            return []
        rows = self.tokenizer(
            self.tokenizer_texts(texts, marker), truncation=True, max_length=self.tokenizer_limit(length)
        )["input_ids"]
        match self.settings.marker_mode:
            case "prompt":
                return rows
            case "overwrite":
                return [[row[0], self._markers[marker], *row[2:]] for row in rows]
            case "insert":
                return [[row[0], self._markers[marker], *row[1:]] for row in rows]

    @classmethod
    def from_backbone(
        cls, model: str, settings: EncoderSettings, revision: str | None = None
    ) -> "LateInteractionEncoder":
        """Put a new projection on any Hugging Face encoder; markers that its tokenizer lacks are added.

        New weights come from torch's global generator: seed it first. `model` is a local folder or a name on the hub.
        """
        tokenizer = load_tokenizer(model, revision)
        backbone = AutoModel.from_pretrained(model, revision=revision, use_safetensors=True, dtype=torch.float32)
        return cls.assemble(backbone, tokenizer, settings)

    @classmethod
    def assemble(
        cls, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings
    ) -> "LateInteractionEncoder":
        """Join a backbone, its tokenizer and a new projection."""
        markers = () if settings.marker_mode == "prompt" else (settings.query_marker, settings.passage_marker)
        missing = [marker for marker in markers if marker not in tokenizer.get_vocab()]
        if missing:
            tokenizer.add_special_tokens({"additional_special_tokens": missing})
            backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        projection = nn.Linear(backbone.config.hidden_size, settings.dim, bias=False)
        nn.init.normal_(projection.weight, std=getattr(backbone.config, "initializer_range", 0.02))
        return cls(backbone, projection, tokenizer, settings)


def freeze_pooler(backbone: PreTrainedModel) -> None:
    """Take the pooler's weights out of training: nothing uses them, and DDP refuses parameters without a gradient."""
    for name, parameter in backbone.named_parameters():
        if name.startswith("pooler."):
            parameter.requires_grad = False


def _skip_ids(tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings) -> list[int]:
    if not settings.mask_punctuation or not settings.skip_words:
        return []
    if settings.skip_list == "first_piece":
        pieces = tokenizer(list(settings.skip_words), add_special_tokens=False)["input_ids"]
        return sorted({piece[0] for piece in pieces if piece})
    vocabulary = tokenizer.get_vocab()
    found = {vocabulary[word] for word in settings.skip_words if word in vocabulary}
    if settings.skip_list == "token_or_unknown" and any(word not in vocabulary for word in settings.skip_words):
        found.add(_required(tokenizer.unk_token_id, "unknown token, which skip_list 'token_or_unknown' leaves out"))
    return sorted(found)


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    found = tokenizer.get_vocab().get(token)
    return _required(found, f"token {token}")


def _required(value: Any, what: str) -> int:
    if not isinstance(value, int):
        message = f"the tokenizer has no {what}; a student needs one"
        raise ModelError(message)
    return value
