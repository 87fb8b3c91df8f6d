"""Teachers that encode queries and passages apart: single vectors and late interaction."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from distill.encoders.checkpoints import load_late_interaction
from distill.encoders.checkpoints.pooled import load_pooled
from distill.encoders.settings import Dtype
from distill.models.fetch import fetch_folder
from distill.numerics.batching import fitting_tokens
from distill.numerics.blocks import maxsim_of_each
from distill.score.settings import BiEncoderTeacher, LateInteractionTeacher
from distill.score.teachers.interface import Pair, Provenance, Scored, check_pairs

_TOKENS_IN_MEMORY = 262_144


class BiEncoder:
    """A single-vector encoder; the score of a pair is the inner product of its two vectors (a cosine where they are normalised).

    Every distinct text is encoded once, however many pairs it is in.
    """

    def __init__(self, settings: BiEncoderTeacher, dtype: Dtype, tokens_per_batch: int, device: str) -> None:
        self.provenance = Provenance(
            kind=settings.type,
            model=settings.model,
            revision=settings.revision or "",
            engine="transformers",
            engine_version=transformers.__version__,
            truncation=f"queries at {settings.max_query_tokens}, passages at {settings.max_passage_tokens} tokens",
            dtype=dtype,
        )
        self._encoder = load_pooled(settings, dtype, device, "score.teacher")
        self._tokens_per_batch = tokens_per_batch

    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Scored:
        """Return the raw scores of `pairs`, in their order. Cost: one forward pass a distinct text; one vector a text in memory."""
        check_pairs(queries, passages, pairs)
        encoder, settings = self._encoder, self._encoder.settings
        left = encoder.query_vectors(queries, self._tokens_per_batch)[[q for q, _ in pairs]]
        right = encoder.passage_vectors(passages, self._tokens_per_batch)[[p for _, p in pairs]]
        texts = [settings.passage_prefix + text for text in passages]
        cut = longer_than(encoder.tokenizer, texts, settings.passage_tokens)
        return Scored((left * right).sum(dim=-1).numpy(), cut[[p for _, p in pairs]])


class LateInteraction:
    """A late-interaction encoder; the score of a pair is MaxSim, exact and in float32.

    Every distinct text is encoded once. Passages pass through memory in blocks of some 262,144 token vectors (128 MiB of 128 numbers).
    """

    def __init__(self, settings: LateInteractionTeacher, dtype: Dtype, tokens_per_batch: int, device: str) -> None:
        self._encoder = load_late_interaction(fetch_folder(settings.model, settings.revision), device).to(
            getattr(torch, dtype)
        )
        self._tokens_per_batch = fitting_tokens(tokens_per_batch, self._encoder.backbone.config, device)
        lengths = self._encoder.settings
        self.provenance = Provenance(
            kind=settings.type,
            model=settings.model,
            revision=settings.revision or "",
            engine="transformers",
            engine_version=transformers.__version__,
            truncation=f"queries at {lengths.query_tokens}, passages at {lengths.passage_tokens} tokens",
            dtype=dtype,
        )

    @torch.inference_mode()
    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Scored:
        """Raw scores of `pairs`, in their order.

        Cost: one forward pass a distinct text, and T*L*D multiply-adds a pair; the vectors of all queries and of one block of passages
        in memory.
        """
        check_pairs(queries, passages, pairs)
        scores = torch.empty(len(pairs))
        cut = np.zeros(len(passages), dtype=bool)
        if not pairs:
            return Scored(scores.numpy(), np.zeros(0, dtype=bool))
        distinct_queries = {text: position for position, text in enumerate(dict.fromkeys(queries))}
        vectors = self._encode_queries(list(distinct_queries))
        by_passage: dict[str, list[int]] = {}
        for position, (_, p) in enumerate(pairs):
            by_passage.setdefault(passages[p], []).append(position)
        query_of = [distinct_queries[queries[q]] for q, _ in pairs]
        for block in self._blocks(list(by_passage)):
            encoded = self._encoder.encode_passages(block, self._tokens_per_batch)
            by_query: dict[int, list[tuple[int, int]]] = {}
            for number, text in enumerate(block):
                for position in by_passage[text]:
                    by_query.setdefault(query_of[position], []).append((position, number))
            for query, found in by_query.items():
                scores[[position for position, _ in found]] = maxsim_of_each(
                    vectors[query][None], [encoded[n] for _, n in found]
                )[0]
        settings = self._encoder.settings
        read = self._encoder.tokenizer_texts(passages, settings.passage_marker)
        cut = longer_than(self._encoder.tokenizer, read, self._encoder.tokenizer_limit(settings.passage_tokens))
        return Scored(scores.numpy(), cut[[p for _, p in pairs]])

    def _encode_queries(self, texts: Sequence[str]) -> Float[Tensor, "Q T D"]:
        size = max(1, self._tokens_per_batch // self._encoder.settings.query_tokens)
        parts = [self._encoder.encode_queries(texts[start : start + size]) for start in range(0, len(texts), size)]
        return torch.cat(parts)

    def _blocks(self, texts: Sequence[str]) -> Iterator[list[str]]:
        size = max(1, _TOKENS_IN_MEMORY // self._encoder.settings.passage_tokens)
        for start in range(0, len(texts), size):
            yield list(texts[start : start + size])


def longer_than(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> np.ndarray:
    """Return which texts have more than `max_tokens` tokens, special tokens included: those that truncation cuts."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return np.zeros(0, dtype=bool)
    rows = tokenizer(distinct, return_attention_mask=False, verbose=False)["input_ids"]
    cut = {text: len(row) > max_tokens for text, row in zip(distinct, rows, strict=True)}
    return np.array([cut[text] for text in texts], dtype=bool)
