r"""Contextual alignment: the student trained to give every token, in any language, the state of the English tokens that it translates.

Token-level knowledge distillation across languages, after Reimers and Gurevych (arXiv 2004.09813), who do the same for whole sentences.
For student vectors s and targets h, both of length 1, the loss of a batch is

.. math:: \overline{w_j (1 - \langle s_j, h_j \rangle)} + \overline{1 - \langle s_\#, h \rangle} - 0.3 \sum_{ab} p_{ab} \log q_{ab} / B

where w is the probability that a token translates anything, # runs over the special tokens, whose target h is the sentence vector, and p
and q are softmaxes over the batch of 20 times the cosines of sentence vectors, and of [CLS] vectors with them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from distill.bundled.embeddings import AlignedText
from distill.bundled.english import EnglishText
from distill.bundled.parallel import Unit
from distill.encoders.encoder import TokenBatch
from distill.encoders.late_interaction import PASSAGE_MARKER, QUERY_MARKER, LateInteractionEncoder

TOKENS = 1500
"""Tokens in a batch, about."""
RATE = 2e-3
"""Highest learning rate: linear warm-up over a twentieth of the steps, then a cosine to 0."""
ENGLISH_SHARE = 0.3
"""Share of units that are drawn in English."""
PIECE_SHARE = 0.15
"""Share of batches of lone English pieces, which keep words that the parallel text lacks near their meaning."""
_CONTRAST_WEIGHT, _CONTRAST_SCALE = 0.3, 20.0
_POOL = 64
_LOG_EVERY = 100


@dataclass(frozen=True)
class Example:
    """A text with its targets.

    Attributes:
        ids: its tokens, without special ones.
        states: the target of each token, of length 1, in float16.
        weights: how much each counts.
        whole: the target of the special tokens.
    """

    ids: Int[np.ndarray, " n"]
    states: Float[np.ndarray, "n D"]
    weights: Float[np.ndarray, " n"]
    whole: Float[np.ndarray, " D"]


def examples(
    english: Sequence[EnglishText], aligned: Sequence[AlignedText], basis: Float[np.ndarray, "H D"]
) -> list[dict[str, Example]]:
    """Each unit's texts by language: English states in the basis, and their posterior-weighted means for foreign tokens."""
    found: list[dict[str, Example]] = []
    for text in english:
        states = _unit(text.states @ basis).astype(np.float16)
        whole = _unit(text.whole @ basis)
        found.append({"en": Example(text.ids, states, np.ones(len(text.ids), np.float32), whole)})
    for text in aligned:
        source = found[text.unit]["en"]
        states = _unit(text.posterior @ source.states.astype(np.float32)).astype(np.float16)
        found[text.unit][text.lang] = Example(text.ids, states, text.posterior.sum(1), source.whole)
    return found


def pieces_alone(english: Int[Tensor, " E"], vectors: Float[Tensor, "E D"]) -> list[Example]:
    """Texts of one English piece each."""
    one = np.ones(1, np.float32)
    return [
        Example(np.array([token]), vector[None].astype(np.float16), one, vector)
        for token, vector in zip(english.tolist(), functional.normalize(vectors, dim=1).numpy(), strict=True)
    ]


def train(
    student: LateInteractionEncoder,
    texts: Sequence[Mapping[str, Example]],
    units: Sequence[Unit],
    pieces: Sequence[Example],
    steps: int,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Train the student in place for `steps` batches of texts of similar length, Adam, gradients clipped to norm 2."""
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    probability = np.array([unit.weight for unit in units])
    probability /= probability.sum()
    lengths = np.array([len(text["en"].ids) for text in texts])
    student.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 20 * (step + 1) / steps) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        if generator.random() < PIECE_SHARE:
            chosen = [pieces[i] for i in generator.integers(len(pieces), size=TOKENS // 4)]
        else:
            chosen = _draw(texts, lengths, probability, generator)
        loss = alignment_loss(student, chosen, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 2.0)
        optimizer.step()
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == steps:
            report(f"alignment step {step + 1} of {steps}, loss {loss.item():.4f}")
    student.eval()


def alignment_loss(
    student: LateInteractionEncoder, chosen: Sequence[Example], generator: np.random.Generator
) -> Float[Tensor, ""]:
    """Return the loss of a batch (see the module). Short texts get the query marker seven times of ten, long ones once."""
    tokens, states, weights, special = _batch(student, chosen, generator)
    output = student(*tokens)
    distance = 1.0 - (output * states).sum(-1)
    own = (distance * weights).sum() / weights.sum().clamp(min=1.0)
    whole = (distance * special).sum() / special.sum()
    logits = _CONTRAST_SCALE * output[:, 0] @ states[:, 0].T
    truth = torch.softmax(_CONTRAST_SCALE * states[:, 0] @ states[:, 0].T, dim=1)
    contrast = -(truth * logits.log_softmax(1)).sum(1).mean()
    return own + whole + _CONTRAST_WEIGHT * contrast


def _draw(
    texts: Sequence[Mapping[str, Example]],
    lengths: Int[np.ndarray, " U"],
    probability: Float[np.ndarray, " U"],
    generator: np.random.Generator,
) -> list[Example]:
    """Draw a run of units of similar length, each in English or one of its other languages."""
    pool = generator.choice(len(texts), size=_POOL, p=probability)
    pool = pool[np.argsort(lengths[pool], kind="stable")]
    anchor = int(generator.integers(len(pool)))
    count = max(4, min(_POOL, TOKENS // (int(lengths[pool[anchor]]) + 6)))
    first = max(0, min(anchor - count // 2, len(pool) - count))
    chosen: list[Example] = []
    for i in pool[first : first + count]:
        others = [lang for lang in texts[i] if lang != "en"]
        english = not others or generator.random() < ENGLISH_SHARE
        chosen.append(texts[i]["en" if english else others[int(generator.integers(len(others)))]])
    return chosen


def _batch(
    student: LateInteractionEncoder, chosen: Sequence[Example], generator: np.random.Generator
) -> tuple[TokenBatch, Tensor, Tensor, Tensor]:
    """Texts as `[CLS] marker text [SEP]`: tokens, targets, weights of the text's positions, and of the special ones."""
    vocabulary = student.tokenizer.get_vocab()
    pad, start, end = (vocabulary[token] for token in ("[PAD]", "[CLS]", "[SEP]"))
    width = max(len(example.ids) for example in chosen) + 3
    dim = chosen[0].whole.shape[0]
    ids = np.full((len(chosen), width), pad, dtype=np.int64)
    attention = np.zeros((len(chosen), width), dtype=np.int64)
    states = np.zeros((len(chosen), width, dim), dtype=np.float32)
    weights = np.zeros((len(chosen), width), dtype=np.float32)
    special = np.zeros((len(chosen), width), dtype=np.float32)
    markers = {True: vocabulary[QUERY_MARKER], False: vocabulary[PASSAGE_MARKER]}
    for row, example in enumerate(chosen):
        count = len(example.ids)
        as_query = bool(generator.random() < (0.7 if count < 24 else 0.1))
        ids[row, :2] = start, markers[as_query]
        ids[row, 2 : count + 2] = example.ids
        ids[row, count + 2] = end
        attention[row, : count + 3] = 1
        states[row, 2 : count + 2] = example.states
        weights[row, 2 : count + 2] = example.weights
        for position in (0, 1, count + 2):
            states[row, position] = example.whole
            special[row, position] = 1.0
    mask = torch.from_numpy(attention)
    tokens = TokenBatch(torch.from_numpy(ids), mask, mask.bool())
    return tokens, torch.from_numpy(states), torch.from_numpy(weights), torch.from_numpy(special)


def _unit(rows: Float[np.ndarray, "... D"]) -> Float[np.ndarray, "... D"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)
