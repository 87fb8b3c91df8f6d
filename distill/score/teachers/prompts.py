"""From texts to token ids: pairs for models with segments, and prompts.

Both composers tokenise each distinct text once and join ids, which is much cheaper than tokenising every pair, and cut the passage alone:
a cut query asks something else, and a prompt without its end asks nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from distill.models.locate import ModelError
from distill.score.teachers.interface import Composer, LogitEngine, Pair, Provenance, Scored, TokenPair, check_pairs

SETTING = "score.teacher.max_tokens"


class PairComposer:
    """Query and passage in the tokenizer's own template for pairs: `[CLS] q [SEP] p [SEP]`, `<s> q </s></s> p </s>` ...

    Args:
        tokenizer: a fast tokenizer.
        max_tokens: longest pair, special tokens included.
        model: what messages call the model.
        segments: whether the model has segment ids; the tokenizer says where the second segment begins.
    """

    prompt_hash = ""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_tokens: int, model: str, *, segments: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        encoded = tokenizer("a", "a", return_token_type_ids=True)
        ids, owners, types = encoded["input_ids"], encoded.sequence_ids(0), encoded["token_type_ids"]
        first, last = owners.index(0), len(owners) - owners[::-1].index(1)
        between = [position for position in range(first, last) if owners[position] is None]
        if not between:
            raise ModelError(
                f"the tokenizer of '{model}' puts nothing between query and passage; a cross-encoder needs a template for pairs,"
                " a causal reranker the type causal"
            )
        self._before = ids[:first]
        self._between = [ids[position] for position in between]
        self._after = ids[last:]
        known = "token_type_ids" in tokenizer.model_input_names and types[owners.index(1)] == 1
        self._segments = segments and known
        self._early = sum(types[position] for position in between)  # 0 in every template that is known

    @property
    def truncation(self) -> str:
        """The lengths at which texts are cut, for the record."""
        return f"passages, pairs at {self._max_tokens} tokens"

    def compose(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> list[TokenPair]:
        """Return the token ids of `pairs`, in their order.

        A query that leaves no room for a passage is a `ModelError`: its pairs would all look alike.
        """
        heads = _tokenise(self._tokenizer, queries, (q for q, _ in pairs))
        bodies = _tokenise(self._tokenizer, passages, (p for _, p in pairs))
        heads = {q: [*self._before, *ids, *self._between] for q, ids in heads.items()}
        rooms = _rooms(heads, queries, self._max_tokens - len(self._after), 1, self._max_tokens)
        composed = []
        for q, p in pairs:
            head, body, room = heads[q], bodies[p], rooms[q]
            ids = [*head, *body[:room], *self._after]
            second = len(head) - self._early if self._segments else len(ids)
            composed.append(TokenPair(ids, second, len(body) > room))
        return composed


@dataclass(frozen=True)
class Prompt:
    """The text around a query and a passage, in the pieces that are tokenised apart.

    Tokenising in pieces is part of a model's recipe, because byte-pair merges cross the places where pieces meet. A piece that follows
    another keeps the space at its beginning, as tokenizers attach spaces to the word that follows them.

    Attributes:
        opening: pieces before the query.
        query: text before and after the query, all in one piece.
        between: pieces between query and passage.
        passage: text before and after the passage, all in one piece.
        closing: pieces after that.
        answers: the tokens that answer: negative and positive, or the positive one alone.
    """

    opening: tuple[str, ...]
    query: tuple[str, str]
    between: tuple[str, ...]
    passage: tuple[str, str]
    closing: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def hash(self) -> str:
        """The first 16 digits of the SHA-256 of all of it."""
        parts = [self.opening, self.query, self.between, self.passage, self.closing, self.answers]
        text = "\x1e".join("\x1f".join(part) for part in parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def text(self, query: str, passage: str) -> str:
        """Return the text that the model reads."""
        around = "".join(self.opening) + self.query[0] + query + self.query[1] + "".join(self.between)
        return around + self.passage[0] + passage + self.passage[1] + "".join(self.closing)


class PromptComposer:
    """Query and passage in a prompt: the ids of its pieces, the passage's cut to what room they leave.

    Args:
        tokenizer: a fast tokenizer; it adds no special tokens, the prompt spells them out.
        prompt: the text around query and passage.
        max_tokens: longest prompt.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._opening = self._join(prompt.opening)
        self._between = self._join(prompt.between)
        self._closing = self._join(prompt.closing)
        # Of the passage's piece, its label ("B: ") and the text after it are no part of what may be cut.
        label, after = prompt.passage
        self._uncut = len(self._join((label.rstrip(), after)))

    @property
    def prompt_hash(self) -> str:
        """Hash of the text around query and passage and of the answers."""
        return self._prompt.hash

    @property
    def truncation(self) -> str:
        """The lengths at which texts are cut, for the record."""
        return f"passages, prompts at {self._max_tokens} tokens"

    def compose(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> list[TokenPair]:
        """Return the token ids of `pairs`, in their order.

        A query that leaves no room for a passage is a `ModelError`: its pairs would all look alike.
        """
        before, after = self._prompt.query
        heads = _tokenise(self._tokenizer, [before + query + after for query in queries], (q for q, _ in pairs))
        before, after = self._prompt.passage
        texts = [before + passage + after for passage in passages]
        bodies = _tokenise(self._tokenizer, texts, (p for _, p in pairs))
        heads = {q: [*self._opening, *ids, *self._between] for q, ids in heads.items()}
        limit = self._max_tokens - len(self._closing)
        rooms = _rooms(heads, queries, limit, self._uncut + 1, self._max_tokens)
        cut = {p for q, p in pairs if len(bodies[p]) > rooms[q]}
        ends = self._ends(texts, cut)
        composed = []
        for q, p in pairs:
            body, room = bodies[p], rooms[q]
            truncated = len(body) > room
            if truncated:
                kept = body[ends[p] :]
                body = [*body[: min(ends[p], max(room - len(kept), 0))], *kept]
            ids = [*heads[q], *body, *self._closing]
            composed.append(TokenPair(ids, len(ids), truncated))
        return composed

    def _ends(self, texts: Sequence[str], positions: Iterable[int]) -> dict[int, int]:
        """Of each piece, the first token that holds text after the passage. A merge of both (`?` and a line break) is such a token."""
        after = len(self._prompt.passage[1])
        ends: dict[int, int] = {}
        for position in positions:
            encoded = self._tokenizer(
                texts[position], add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            stop = len(texts[position]) - after
            offsets = encoded["offset_mapping"]
            ends[position] = next((i for i, (_, end) in enumerate(offsets) if end > stop), len(offsets))
        return ends

    def check_whole(self, model: str) -> None:
        """Raise a `ModelError` where the pieces' tokens are not those of the whole text.

        For prompts whose recipe is to tokenise the whole text. A few probes tell prompts whose pieces meet where the tokenizer merges
        over them, and tokenizers that begin a piece with a mark that the model never saw there.
        """
        queries, passages = ["what is it", "who?"], ["it is this", "(this?)", "12"]
        pairs = [(q, p) for q in range(len(queries)) for p in range(len(passages))]
        roomy = PromptComposer(self._tokenizer, self._prompt, 1_000_000)
        for (q, p), composed in zip(pairs, roomy.compose(queries, passages, pairs), strict=True):
            text = self._prompt.text(queries[q], passages[p])
            whole = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            if composed.ids == whole:
                continue
            position = next(
                (i for i, (a, b) in enumerate(zip(composed.ids, whole, strict=False)) if a != b), len(whole)
            )
            raise ModelError(
                f"the tokenizer of '{model}' splits the prompt differently in pieces, from token {position} on;"
                " end the text before the passage with a space, a line break or a special token"
            )

    def _join(self, pieces: Iterable[str]) -> list[int]:
        pieces = [piece for piece in pieces if piece]
        rows = self._tokenizer(pieces, add_special_tokens=False, verbose=False)["input_ids"] if pieces else []
        return [token for row in rows for token in row]


class ComposedScorer:
    """A teacher made of a composer and an engine.

    Args:
        composer: turns texts into token ids.
        engine: scores them.
        provenance: what decides the scores.
    """

    def __init__(self, composer: Composer, engine: LogitEngine, provenance: Provenance) -> None:
        self.composer = composer
        self.engine = engine
        self._provenance = provenance

    @property
    def provenance(self) -> Provenance:
        """The facts that decide the scores."""
        return self._provenance

    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Scored:
        """Raw logits of `pairs`, in their order. Cost: one forward pass a pair, each distinct text tokenised once."""
        check_pairs(queries, passages, pairs)
        composed = self.composer.compose(queries, passages, pairs)
        truncated = np.array([pair.truncated for pair in composed], dtype=bool)
        return Scored(self.engine.logits(composed), truncated)


def special_token(tokenizer: PreTrainedTokenizerBase, name: str) -> str | None:
    """Return the text of a tokenizer's `bos_token`, `eos_token` ..., if it has one."""
    return tokenizer.special_tokens_map.get(name)


def answer_id(tokenizer: PreTrainedTokenizerBase, answer: str, model: str) -> int:
    """Return the id of an answer, which must be one token of the vocabulary, spelled as the tokenizer spells it."""
    found = tokenizer.get_vocab().get(answer)
    if found is None:
        raise ModelError(f"the answer '{answer}' is not one token of '{model}'; give it as its tokenizer spells it")
    return found


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], used: Iterable[int]) -> dict[int, list[int]]:
    """Ids of the texts in use, by position, without special tokens. Equal texts are tokenised once."""
    positions = sorted(set(used))
    distinct = list(dict.fromkeys(texts[position] for position in positions))
    if not distinct:
        return {}
    rows = tokenizer(distinct, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    ids = dict(zip(distinct, rows, strict=True))
    return {position: ids[texts[position]] for position in positions}


def _rooms(
    heads: dict[int, list[int]], queries: Sequence[str], limit: int, least: int, max_tokens: int
) -> dict[int, int]:
    """Return how many tokens of a passage fit behind each query."""
    rooms = {position: limit - len(head) for position, head in heads.items()}
    for position, room in rooms.items():
        if room < least:
            text = queries[position] if len(queries[position]) <= 60 else queries[position][:57] + "..."
            needed = max_tokens - room + least
            raise ModelError(
                f"query '{text}' leaves no room for a passage within max_tokens {max_tokens};"
                f" set {SETTING} to at least {needed}"
            )
    return rooms
