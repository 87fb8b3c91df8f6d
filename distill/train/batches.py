"""Training batches: examples as token ids, every distinct text once, cut by length into chunks of bounded size."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.encoders.encoder import Encoder, TokenBatch
from distill.numerics.batching import token_budget_batches


class Example(NamedTuple):
    """A query with its N passages, as training reads it.

    Attributes:
        query_id: id of the query.
        query: text of the query.
        passage_ids: ids of the passages; the versions of a passage in several languages have one id.
        passages: texts of the passages.
        scores: the teacher's score of each passage; None where there is none.
        position: position of the example in its table, for messages.
        query_lang: language of the query.
        langs: language of each passage.
    """

    query_id: str
    query: str
    passage_ids: Sequence[str]
    passages: Sequence[str]
    scores: Sequence[float | None]
    position: int = 0
    query_lang: str = ""
    langs: Sequence[str] = ()


Tally = Counter[tuple[str, str, bool]]
"""Numbers of texts that were read, by role (`query` or `passage`), language and whether they are truncated."""


class Chunks(NamedTuple):
    """Texts in padded batches, longest first, and the position of each text in the concatenation of the batches."""

    batches: tuple[TokenBatch, ...]
    order: Int[Tensor, " U"]
    tokens: int
    """Tokens of the texts themselves, padding not counted."""

    def to(self, device: torch.device) -> "Chunks":
        """Return the chunks on a device."""
        return Chunks(tuple(batch.to(device) for batch in self.batches), self.order.to(device), self.tokens)


class TrainingBatch(NamedTuple):
    """B queries, the U distinct texts among their passages, which of those each query's N passages are, and the teacher's scores.

    Keys are hashes of ids, and of texts, equal on every worker. A query has those of its id and its text; a text has those of the ids under
    which it is a passage, K of them, filled up by the first, and its own. `versions` are the rows of each entry, an example being one of
    its language versions: one column unless every entry of the batch is there in the same number of languages (round robin).
    """

    queries: Chunks
    passages: Chunks
    positions: Int[Tensor, "B N"]
    teacher: Float[Tensor, "B N"]
    query_keys: Int[Tensor, "B 2"]
    passage_keys: Int[Tensor, "U K"]
    text_keys: Int[Tensor, " U"]
    versions: Int[Tensor, "E L"]

    @property
    def tokens(self) -> int:
        """Tokens that are encoded, padding not counted."""
        return self.queries.tokens + self.passages.tokens

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the batch on a device."""
        moved: list[Any] = [part.to(device) for part in self]
        return TrainingBatch(*moved)


def make_batch(
    encoder: Encoder, examples: Sequence[Example], tokens_per_batch: int, tally: Tally | None = None
) -> TrainingBatch:
    """Tokenise examples. Queries and passages that occur twice are tokenised, and later encoded, once.

    Args:
        encoder: the student, which has the tokenizer.
        examples: B examples with the same number N of passages.
        tokens_per_batch: most padded tokens in a chunk.
        tally: the distinct texts are added to it.

    Raises:
        ValueError: a score is infinite or NaN, or examples have different numbers of passages. A score of None becomes NaN.
    """
    scores = [example.scores for example in examples]
    for example in examples:
        if any(score is not None and not math.isfinite(score) for score in example.scores):
            raise ValueError(
                f"example {example.position}: its teacher scores {list(example.scores)} are not finite; score its query again"
            )
    if len({len(row) for row in scores}) != 1:
        raise ValueError(
            f"examples of a batch have different numbers of passages: {sorted({len(row) for row in scores})}"
        )
    queries = [example.query for example in examples]
    passages = [example.passages for example in examples]
    ids: dict[str, dict[str, None]] = {}
    for example in examples:
        for passage_id, text in zip(example.passage_ids, example.passages, strict=True):
            ids.setdefault(text, {})[passage_id] = None
    texts = list(ids)
    position = {text: i for i, text in enumerate(texts)}
    query_texts = list(dict.fromkeys(queries))
    query_place = {text: i for i, text in enumerate(query_texts)}
    read, read_queries = encoder.read_passages(texts), encoder.read_queries(query_texts)
    if tally is not None:
        langs = {
            t: lang for e in examples for t, lang in zip(e.passages, e.langs or [""] * len(e.passages), strict=True)
        }
        query_langs = {example.query: example.query_lang for example in examples}
        tally.update(("passage", langs[text], cut) for text, cut in zip(texts, read.truncated, strict=True))
        tally.update(
            ("query", query_langs[text], cut) for text, cut in zip(query_texts, read_queries.truncated, strict=True)
        )
    chunked = _chunks(read.ids, encoder.pad_passages, tokens_per_batch)
    query_chunks = _chunks(read_queries.ids, encoder.pad_queries, tokens_per_batch)
    of_queries = query_chunks.order[torch.tensor([query_place[text] for text in queries])]
    most = max(map(len, ids.values()))
    rows = [
        [*map(key, names), *[key(next(iter(names)))] * (most - len(names)), key(text)] for text, names in ids.items()
    ]
    keys = torch.empty(len(texts), most + 1, dtype=torch.long)
    keys[chunked.order] = torch.tensor(rows)
    return TrainingBatch(
        query_chunks._replace(order=of_queries),
        chunked,
        chunked.order[torch.tensor([[position[text] for text in row] for row in passages])],
        torch.tensor([[float("nan") if s is None else s for s in row] for row in scores], dtype=torch.float32),
        torch.tensor([[key(example.query_id), key(example.query)] for example in examples]),
        keys[:, :-1],
        keys[:, -1],
        _versions([(example.query_id, tuple(example.passage_ids)) for example in examples]),
    )


def with_tallies(rows: Sequence[Mapping[str, Any]], tallies: Sequence[Tally]) -> list[dict[str, Any]]:
    """Return the sum of earlier counts and tallies: role, lang, texts and truncated of each role and language, sorted."""
    counts = {(row["role"], row["lang"]): dict(row) for row in rows}
    for tally in tallies:
        for (role, lang, truncated), number in tally.items():
            row = counts.setdefault((role, lang), {"role": role, "lang": lang, "texts": 0, "truncated": 0})
            row["texts"] += number
            row["truncated"] += number * truncated
    return [counts[each] for each in sorted(counts)]


def key(text: str) -> int:
    """Return a number for an id or a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def _versions(entries: Sequence[Hashable]) -> Int[Tensor, "E L"]:
    """Return the rows of each entry. Its versions follow one another; an entry that comes again later in the batch is another one."""
    lengths = [len(list(run)) for _, run in groupby(entries)]
    return torch.arange(len(entries)).view(-1, math.gcd(*lengths))


def _chunks(
    rows: Sequence[list[int]], pad: Callable[[Sequence[list[int]]], TokenBatch], tokens_per_batch: int
) -> Chunks:
    lengths = [len(row) for row in rows]
    batches = token_budget_batches(lengths, tokens_per_batch)
    order = torch.empty(len(rows), dtype=torch.long)
    order[torch.tensor([i for batch in batches for i in batch])] = torch.arange(len(rows))
    return Chunks(tuple(pad([rows[i] for i in batch]) for batch in batches), order, sum(lengths))
