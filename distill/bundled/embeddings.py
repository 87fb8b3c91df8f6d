"""Embeddings of foreign pieces: means of English ones, weighted by how often they translate each other."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from distill.bundled.alignment import translation_table
from distill.bundled.english import EnglishText
from distill.bundled.parallel import Unit
from distill.sources.corpus import LANGUAGES

LEAST_COUNT = 0.05
"""Expected counts up to this are noise and left out."""


class AlignedText(NamedTuple):
    """A foreign text of a unit, aligned to the English one.

    Attributes:
        unit: the unit's position.
        lang: its language.
        ids: its tokens (J of them).
        posterior: P(English position | own position).
    """

    unit: int
    lang: str
    ids: Int[np.ndarray, " J"]
    posterior: Float[np.ndarray, "J I"]


class TranslationCounts(NamedTuple):
    """Expected numbers of times that foreign tokens translate English ones, over the counted units."""

    foreign: Int[np.ndarray, " K"]
    english: Int[np.ndarray, " K"]
    counts: Float[np.ndarray, " K"]


def align(
    units: Sequence[Unit],
    english: Sequence[EnglishText],
    tokenizer: PreTrainedTokenizerBase,
    longest: int,
    iterations: int,
) -> list[AlignedText]:
    """Align every foreign text; the table of each language is estimated from its counted units."""
    aligned: list[AlignedText] = []
    for lang in LANGUAGES[1:]:
        having = [i for i, unit in enumerate(units) if lang in unit.texts]
        if not having:
            continue
        coded = tokenizer(
            [units[i].texts[lang] for i in having], truncation=True, max_length=longest, add_special_tokens=False
        )["input_ids"]
        pairs = {
            i: (english[i].ids, np.array(ids, dtype=np.int64))
            for i, ids in zip(having, coded, strict=True)
            if ids and len(english[i].ids)
        }
        counted = [pair for i, pair in pairs.items() if units[i].counted]
        table = translation_table(counted, len(tokenizer), iterations)
        for i, (source, target) in pairs.items():
            aligned.append(AlignedText(i, lang, target, table.posterior(source, target).astype(np.float32)))
    return aligned


def translation_counts(
    units: Sequence[Unit], english: Sequence[EnglishText], aligned: Iterable[AlignedText], size: int
) -> TranslationCounts:
    """Sum the posteriors of the counted units over pairs of tokens, of which there are `size`."""
    keys: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    for text in aligned:
        if units[text.unit].counted:
            keys.append((text.ids[:, None] * size + english[text.unit].ids[None, :]).ravel())
            shares.append(text.posterior.ravel())
    table, cell = np.unique(np.concatenate(keys), return_inverse=True)
    counts = np.bincount(cell, np.concatenate(shares), len(table))
    return TranslationCounts(table // size, table % size, counts)


def initial_embeddings(
    english: Int[Tensor, " E"], vectors: Float[Tensor, "E D"], translations: TranslationCounts, size: int
) -> Float[Tensor, "V D"]:
    r"""Rows of length 1: English tokens as given, others :math:`\propto \sum_e c(f, e) \, v_e` with expected counts c.

    Translation-weighted means of source embeddings start a model in a new language in WECHSEL (Minixhofer et al., arXiv 2112.06598) and
    FOCUS (Dobler and de Melo, arXiv 2305.14481). Tokens without a count above `LEAST_COUNT` stay zero.
    """
    table = torch.zeros(size, vectors.shape[1])
    table[english] = functional.normalize(vectors, dim=1)
    known = torch.zeros(size, dtype=torch.bool)
    known[english] = True
    keep = translations.counts > LEAST_COUNT
    foreign = torch.from_numpy(translations.foreign[keep])
    source = torch.from_numpy(translations.english[keep])
    counts = torch.from_numpy(translations.counts[keep]).float()
    use = known[source] & ~known[foreign]
    sums = torch.zeros_like(table)
    sums.index_add_(0, foreign[use], counts[use, None] * table[source[use]])
    return torch.where(known[:, None], table, functional.normalize(sums, dim=1))
