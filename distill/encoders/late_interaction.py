"""The late-interaction student: a vector for every token (ColBERT, arXiv 2004.12832; ColBERT-X, arXiv 2201.08471)."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distill.encoders.encoder import Encoder, TokenBatch, TokenRows, freeze_pooler, required_id, tokenized
from distill.models.loading import check_tokens, load_model, load_tokenizer
from distill.models.locate import ModelError
from distill.numerics.batching import attention_of, padded
from distill.numerics.inputs import check_texts

QUERY_MARKER = "[unused0]"


PASSAGE_MARKER = "[unused1]"


SkipList = Literal["first_piece", "token", "token_or_unknown"]


@dataclass(frozen=True)
class EncoderSettings:
    """The way from texts to tokens and vectors. Stored in the checkpoint, because other values give other scores.

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
            raise ModelError(f"projection must be without bias and give dim {settings.dim}, found {projection}")
        self.projection = projection
        self.settings = settings
        freeze_pooler(backbone)
        self._markers: dict[str, int] = {}
        if settings.marker_mode != "prompt":
            self._markers = {
                mark: _token_id(tokenizer, mark) for mark in (settings.query_marker, settings.passage_marker)
            }
        self._mask = required_id(tokenizer.mask_token_id, "mask token")
        self._skip = torch.tensor(_skip_ids(tokenizer, settings), dtype=torch.long)

    @property
    def dim(self) -> int:
        """Size of a token vector."""
        return self.settings.dim

    @property
    def query_vectors_each(self) -> int:
        """Vectors of a query: `query_tokens`."""
        return self.settings.query_tokens

    def read_queries(self, texts: Sequence[str]) -> TokenRows:
        """Return the token ids of queries with their marker, and which queries are truncated."""
        return self._marked(texts, self.settings.query_marker, self.settings.query_tokens)

    def read_passages(self, texts: Sequence[str]) -> TokenRows:
        """Return the token ids of passages with their marker, and which passages are truncated."""
        return self._marked(texts, self.settings.passage_marker, self.settings.passage_tokens)

    @property
    def skipped_tokens(self) -> list[str]:
        """The tokens of passages that are left out of the score."""
        return [str(self.tokenizer.convert_ids_to_tokens(int(token))) for token in self._skip]

    def pad_queries(self, rows: Sequence[list[int]]) -> TokenBatch:
        """Pad queries to rows of `query_tokens` tokens.

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
        """Pad passages to the longest; padding and (by setting) punctuation take no part in the score."""
        ids = padded(rows, self._pad)
        attention = attention_of([len(row) for row in rows])
        keep = attention.bool()
        if len(self._skip):
            keep = keep & ~torch.isin(ids, self._skip)
        return TokenBatch(ids, attention, keep)

    def forward(
        self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Return token vectors of unit length; positions not kept are zero. Normalised in float32."""
        hidden = self.backbone(input_ids=ids, attention_mask=attention).last_hidden_state
        vectors = self.projection(hidden).float() * keep.unsqueeze(-1)
        return functional.normalize(vectors, dim=-1)

    def kept(self, batch: TokenBatch) -> Bool[Tensor, "B T"]:
        """Return which token vectors take part in the score."""
        return batch.keep

    def tokenizer_texts(self, texts: Sequence[str], marker: str) -> list[str]:
        """Return the texts that the tokenizer reads for queries or passages, with the text before them that the marker mode wants."""
        check_texts(texts)
        before = {"insert": "", "overwrite": ". ", "prompt": marker}[self.settings.marker_mode]
        return [before + text for text in texts]

    def tokenizer_limit(self, length: int) -> int:
        """Return the number of tokens at which the tokenizer cuts, so that a text with its marker has at most `length`."""
        return length - 1 if self.settings.marker_mode == "insert" else length

    def _marked(self, texts: Sequence[str], marker: str, length: int) -> TokenRows:
        read = tokenized(self.tokenizer, self.tokenizer_texts(texts, marker), self.tokenizer_limit(length))
        match self.settings.marker_mode:
            case "prompt":
                return read
            case "overwrite":
                return read._replace(ids=[[row[0], self._markers[marker], *row[2:]] for row in read.ids])
            case "insert":
                return read._replace(ids=[[row[0], self._markers[marker], *row[1:]] for row in read.ids])

    @classmethod
    def from_backbone(
        cls, model: str, settings: EncoderSettings, revision: str | None = None
    ) -> "LateInteractionEncoder":
        """Put a new projection on any Hugging Face encoder; markers that its tokenizer lacks are added.

        New weights come from torch's global generator: seed it first. `model` is a local folder or a name on the hub.
        """
        tokenizer = load_tokenizer(model, revision)
        backbone, _ = load_model(AutoModel, model, revision, absent=("pooler.",), pickled=False, use_safetensors=True)
        check_tokens(tokenizer, backbone.get_input_embeddings(), model)
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


def _skip_ids(tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings) -> list[int]:
    if not settings.mask_punctuation or not settings.skip_words:
        return []
    if settings.skip_list == "first_piece":
        pieces = tokenizer(list(settings.skip_words), add_special_tokens=False)["input_ids"]
        return sorted({piece[0] for piece in pieces if piece})
    vocabulary = tokenizer.get_vocab()
    found = {vocabulary[word] for word in settings.skip_words if word in vocabulary}
    if settings.skip_list == "token_or_unknown" and any(word not in vocabulary for word in settings.skip_words):
        found.add(required_id(tokenizer.unk_token_id, "unknown token, which skip_list 'token_or_unknown' leaves out"))
    return sorted(found)


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    found = tokenizer.get_vocab().get(token)
    return required_id(found, f"token {token}")
