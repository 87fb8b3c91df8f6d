"""Teachers: models that say how relevant a passage is to a query. Plain classes on strings, without Ray.

A teacher scores a list of pairs in token-budget batches and returns raw float32 scores, before any activation: sigmoids saturate, and
what a loss needs can be computed from raw scores but not back.
"""

from collections.abc import Sequence
from typing import assert_never

import numpy as np
from jaxtyping import Float

from distill.score.settings import (
    BiEncoderTeacher,
    CausalTeacher,
    CrossEncoderTeacher,
    Dtype,
    HttpTeacher,
    LateInteractionTeacher,
    ModelTeacher,
    MonoT5Teacher,
)
from distill.score.teachers.interface import PairScorer


def load_teacher(
    settings: ModelTeacher, dtype: Dtype = "float32", tokens_per_batch: int = 16_384, device: str = "cpu"
) -> PairScorer:
    """Load the teacher that `settings` describe. Only what this kind of teacher needs is imported.

    Args:
        settings: the teacher, as in `score.teacher` of a configuration.
        dtype: precision of the model's body; scores are float32.
        tokens_per_batch: padded tokens in a batch; on a CPU batches are smaller where larger ones would not fit its caches.
        device: the device of the weights.

    Raises:
        ModelError: the model does not exist, or its scores would be wrong.
    """
    match settings:
        case BiEncoderTeacher():
            from distill.score.teachers.encoders import BiEncoder

            return BiEncoder(settings, dtype, tokens_per_batch, device)
        case LateInteractionTeacher():
            from distill.score.teachers.encoders import LateInteraction

            return LateInteraction(settings, dtype, tokens_per_batch, device)
        case CrossEncoderTeacher():
            from distill.score.teachers.cross_encoder import CrossEncoder

            return CrossEncoder(settings, dtype, tokens_per_batch, device)
        case MonoT5Teacher():
            from distill.score.teachers.monot5 import MonoT5

            return MonoT5(settings, dtype, tokens_per_batch, device)
        case CausalTeacher():
            from distill.score.teachers.causal import Causal

            return Causal(settings, dtype, tokens_per_batch, device)
        case HttpTeacher():
            from distill.score.teachers.http import HttpScorer

            return HttpScorer(settings)
        case _:
            assert_never(settings)


def score_pairs(teacher: PairScorer, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, " P"]:
    """Return the teacher's raw float32 score of each (query, passage) pair of texts, in order. Every distinct text is read once.

    A score is NaN or infinite where the model gives none.
    """
    queries = {query: number for number, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
    passages = {passage: number for number, passage in enumerate(dict.fromkeys(passage for _, passage in pairs))}
    numbers = [(queries[query], passages[passage]) for query, passage in pairs]
    return teacher.score(list(queries), list(passages), numbers).scores
