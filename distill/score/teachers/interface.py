"""The interface of every teacher, and of the two halves that most are made of: a composer of token ids and an engine that scores them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from distill.numerics.inputs import check_texts

Pair = tuple[int, int]
"""Positions of a query and of a passage in the lists that are scored together."""


class TokenPair(NamedTuple):
    """A query and a passage as one sequence of token ids, as a model reads them.

    Attributes:
        ids: the token ids, special tokens and prompt included.
        second: position of the first token of the second segment (for models with segment ids); `len(ids)` where there is one segment.
        truncated: whether the passage was cut.
    """

    ids: list[int]
    second: int
    truncated: bool


@dataclass(frozen=True)
class Scored:
    """The scores of pairs, in their order.

    Attributes:
        scores: raw float32 scores: logits, log-odds, cosines or MaxSim, before any activation. Not finite where there is no score.
        truncated: whether the teacher read less than the whole passage.
    """

    scores: Float[np.ndarray, " P"]
    truncated: Bool[np.ndarray, " P"]


@dataclass(frozen=True)
class Provenance:
    """The facts that decide a teacher's scores, recorded with them.

    Attributes:
        kind: the teacher's `type` in the settings.
        model: Hugging Face id, folder, address or file.
        revision: commit on the hub, empty where none was given.
        engine: `transformers`, `vllm`, or the server that computed.
        engine_version: its version.
        prompt: hash of the prompt's text and of the answers' tokens, empty where there is no prompt.
        truncation: the lengths at which texts are cut.
        dtype: precision of the model's body.
    """

    kind: str
    model: str
    revision: str = ""
    engine: str = ""
    engine_version: str = ""
    prompt: str = ""
    truncation: str = ""
    dtype: str = ""

    @property
    def name(self) -> str:
        """The model and its revision: what the scores table calls the teacher."""
        return f"{self.model}@{self.revision}" if self.revision else self.model


def check_pairs(queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> None:
    """Raise TypeError for a text instead of a list of texts, and IndexError for a pair of a position that a list does not have."""
    check_texts(queries)
    check_texts(passages)
    wrong = next((pair for pair in pairs if not (0 <= pair[0] < len(queries) and 0 <= pair[1] < len(passages))), None)
    if wrong is not None:
        raise IndexError(f"pair {tuple(wrong)} of {len(queries)} queries and {len(passages)} passages")


@runtime_checkable
class PairScorer(Protocol):
    """The interface of a teacher."""

    @property
    def provenance(self) -> Provenance:
        """The facts that decide the scores."""
        ...

    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Scored:
        """Return the raw scores of `pairs`, in their order; none for none. Raise TypeError for a text instead of a list of texts."""
        ...


@runtime_checkable
class Composer(Protocol):
    """The half of a teacher that turns texts into token ids. Equal texts give equal ids, whatever else is composed beside them."""

    @property
    def prompt_hash(self) -> str:
        """Hash of the text around query and passage, empty where there is none."""
        ...

    @property
    def truncation(self) -> str:
        """The lengths at which texts are cut, for the record."""
        ...

    def compose(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> list[TokenPair]:
        """Return the token ids of `pairs`, in their order; every distinct text is tokenised once."""
        ...


@runtime_checkable
class LogitEngine(Protocol):
    """The half of a teacher that scores token ids."""

    @property
    def version(self) -> str:
        """Version of the library that computes."""
        ...

    def logits(self, pairs: Sequence[TokenPair]) -> Float[np.ndarray, " P"]:
        """Return the raw float32 logits of `pairs`, in their order."""
        ...
