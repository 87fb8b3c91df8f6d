"""States of the English encoder, carried onto the student's tokens.

Shapes: H is the English encoder's width, D the size of a student's vector, n tokens of the student in a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

_LONGEST = 256


@dataclass(frozen=True)
class EnglishText:
    """A text as the student will read it and as the English encoder understands it.

    Attributes:
        ids: the student's tokens, without special ones.
        states: the English encoder's state of each.
        whole: the mean of its states over all its own tokens, of length 1: its sentence vector.
    """

    ids: Int[np.ndarray, " n"]
    states: Float[np.ndarray, "n H"]
    whole: Float[np.ndarray, " H"]


class EnglishEncoder:
    """A BERT-like sentence encoder that pools by the mean."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def states(self, rows: Sequence[Sequence[int]], batch: int = 32) -> list[Float[Tensor, "_ H"]]:
        """Last hidden states of token sequences. Batches hold sequences of similar length."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            width = max(len(rows[i]) for i in chosen)
            ids = torch.zeros(len(chosen), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for position, i in enumerate(chosen):
                ids[position, : len(rows[i])] = torch.tensor(rows[i])
                mask[position, : len(rows[i])] = 1
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            for position, i in enumerate(chosen):
                found[i] = hidden[position, : len(rows[i])].clone()
        return found

    def pieces(self, pieces: Sequence[str]) -> Float[Tensor, "V H"]:
        """Return the state of each piece alone between [CLS] and [SEP], as in Model2Vec (Tulkens and van Dongen, 2024)."""
        known = self._tokenizer.get_vocab()
        start, end = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        states = self.states([[start, known[piece], end] for piece in pieces], batch=512)
        return torch.stack([state[1] for state in states])

    def texts(self, texts: Sequence[str], student: PreTrainedTokenizerBase, longest: int) -> list[EnglishText]:
        """Texts with, for each token of the student, the mean of the states of the pieces that it overlaps, by shared characters."""
        theirs = self._tokenizer(list(texts), truncation=True, max_length=_LONGEST, return_offsets_mapping=True)
        ours = student(
            list(texts), truncation=True, max_length=longest, add_special_tokens=False, return_offsets_mapping=True
        )
        found: list[EnglishText] = []
        for row, states in enumerate(self.states(theirs["input_ids"])):
            weights = overlap(np.array(ours["offset_mapping"][row]), np.array(theirs["offset_mapping"][row]))
            whole = functional.normalize(states.mean(0), dim=0).numpy()
            ids = np.array(ours["input_ids"][row], dtype=np.int64)
            found.append(EnglishText(ids, weights @ states.numpy(), whole))
        return found


def overlap(spans: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "n m"]:
    """For each span [start, end) the shares of its characters in the other spans; a row sums to 1, or to 0 where nothing overlaps."""
    spans, others = spans.reshape(-1, 2), others.reshape(-1, 2)
    shared = np.minimum(spans[:, None, 1], others[None, :, 1]) - np.maximum(spans[:, None, 0], others[None, :, 0])
    shared = np.maximum(shared, 0).astype(np.float32)
    return shared / np.maximum(shared.sum(1, keepdims=True), 1)


def principal_basis(states: Float[Tensor, "N H"], size: int) -> Float[Tensor, "H D"]:
    """Orthonormal leading directions of the states, each scaled to length 1 first; not centred, so that cosines are kept best.

    The largest entry of each direction is positive: the sign of an eigenvector is arbitrary.
    """
    unit = functional.normalize(states, dim=1)
    _, vectors = torch.linalg.eigh((unit.T @ unit).double() / len(unit))
    basis = vectors.flip(1)[:, :size]
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return (basis * torch.sign(largest)).float()
