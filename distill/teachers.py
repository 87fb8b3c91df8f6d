"""Teachers: models that say how relevant a passage is to a query. Plain classes on strings, without Ray.

A teacher scores a list of pairs in token-budget batches and returns raw float32 scores, before any activation: sigmoids saturate, and
what a loss needs can be computed from raw scores but not back.
"""

from collections.abc import Sequence
from typing import Protocol, assert_never, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from distill.batching import token_budget_batches
from distill.config import BiEncoderTeacher, CrossEncoderTeacher, Teacher
from distill.models import ModelError, locate

Pair = tuple[int, int]
"""Places of a query and of a passage in the lists they were given in."""


@runtime_checkable
class PairScorer(Protocol):
    """What every teacher offers."""

    name: str
    """Model and revision, recorded with the scores."""

    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Float[np.ndarray, " P"]:
        """Raw float32 scores of `pairs`, in their order."""
        ...


def load_teacher(settings: Teacher, dtype: str, tokens_per_batch: int, device: str) -> PairScorer:
    """The teacher that `settings` describe, its weights in `dtype` on `device`."""
    match settings:
        case BiEncoderTeacher():
            return BiEncoder(settings, dtype, tokens_per_batch, device)
        case CrossEncoderTeacher():
            return CrossEncoder(settings, dtype, tokens_per_batch, device)
        case _:
            assert_never(settings)


class BiEncoder:
    """A single-vector encoder; the score of a pair is the inner product of its two vectors (a cosine where they are normalised).

    Every distinct text is encoded once, however many pairs it is in.
    """

    def __init__(self, settings: BiEncoderTeacher, dtype: str, tokens_per_batch: int, device: str) -> None:
        folder = locate(settings.model)
        self.name = _name(settings.model, settings.revision)
        self._settings = settings
        self._tokens_per_batch = tokens_per_batch
        self._device = device
        self._tokenizer = AutoTokenizer.from_pretrained(folder, revision=settings.revision)
        model = AutoModel.from_pretrained(folder, revision=settings.revision, dtype=getattr(torch, dtype))
        self._model = model.to(device).eval()

    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Float[np.ndarray, " P"]:
        """Raw float32 scores of `pairs`, in their order. Cost: one forward pass a text."""
        settings = self._settings
        query_vectors = self.encode([settings.query_prefix + text for text in queries], settings.max_query_tokens)
        passage_vectors = self.encode(
            [settings.passage_prefix + text for text in passages], settings.max_passage_tokens
        )
        left = query_vectors[[q for q, _ in pairs]]
        right = passage_vectors[[p for _, p in pairs]]
        return (left * right).sum(dim=-1).numpy()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], max_tokens: int) -> Float[Tensor, "B H"]:
        """Pooled float32 vectors of texts, in order, on the CPU."""
        rows = self._tokenizer(list(texts), truncation=True, max_length=max_tokens)
        vectors = torch.empty(len(texts), self._model.config.hidden_size)
        for batch in token_budget_batches([len(row) for row in rows["input_ids"]], self._tokens_per_batch):
            inputs = self._tokenizer.pad({k: [rows[k][i] for i in batch] for k in rows}, return_tensors="pt").to(
                self._device
            )
            hidden = self._model(**inputs).last_hidden_state.float()
            vectors[batch] = self._pool(hidden, inputs["attention_mask"]).cpu()
        return vectors

    def _pool(self, hidden: Float[Tensor, "B T H"], attention: Tensor) -> Float[Tensor, "B H"]:
        if self._settings.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = attention.unsqueeze(-1).float()
            pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return functional.normalize(pooled, dim=-1) if self._settings.normalize else pooled


class CrossEncoder:
    """A sequence-classification model with one label; the score of a pair is its logit.

    Only the passage is truncated: cutting the query, or what follows the passage, changes what is asked.
    """

    def __init__(self, settings: CrossEncoderTeacher, dtype: str, tokens_per_batch: int, device: str) -> None:
        folder = locate(settings.model)
        self.name = _name(settings.model, settings.revision)
        self._settings = settings
        self._tokens_per_batch = tokens_per_batch
        self._device = device
        self._tokenizer = AutoTokenizer.from_pretrained(folder, revision=settings.revision)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, revision=settings.revision, dtype=getattr(torch, dtype)
        )
        if model.config.num_labels != 1:
            message = f"cross-encoder '{settings.model}' has {model.config.num_labels} labels; a teacher needs one"
            raise ModelError(message)
        self._model = model.to(device).eval()

    @torch.inference_mode()
    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Float[np.ndarray, " P"]:
        """Raw float32 logits of `pairs`, in their order. Cost: one forward pass a pair."""
        rows = self.compose([queries[q] for q, _ in pairs], [passages[p] for _, p in pairs])
        scores = torch.empty(len(pairs))
        for batch in token_budget_batches([len(row) for row in rows["input_ids"]], self._tokens_per_batch):
            inputs = self._tokenizer.pad({k: [rows[k][i] for i in batch] for k in rows}, return_tensors="pt").to(
                self._device
            )
            scores[batch] = self._model(**inputs).logits[:, 0].float().cpu()
        return scores.numpy()

    def compose(self, queries: Sequence[str], passages: Sequence[str]) -> dict[str, list[list[int]]]:
        """Token ids (and segment ids where the model has them) of pairs, at most `max_tokens` long.

        A query that alone leaves no room for a passage is a `ModelError`: its pairs would all look alike.
        """
        limit = self._settings.max_tokens
        longest = max((len(ids) for ids in self._tokenizer(list(queries))["input_ids"]), default=0)
        if longest + 2 >= limit:
            message = f"a query of {longest} tokens leaves no room for a passage within max_tokens {limit}; raise score.teacher.max_tokens"
            raise ModelError(message)
        return dict(self._tokenizer(list(queries), list(passages), truncation="only_second", max_length=limit))


def _name(model: str, revision: str | None) -> str:
    return f"{model}@{revision}" if revision else model
