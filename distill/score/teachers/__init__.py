"""Teachers: models that say how relevant a passage is to a query. Plain classes on strings, without Ray.

A teacher scores a list of pairs in token-budget batches and returns raw float32 scores, before any activation: sigmoids saturate, and
what a loss needs can be computed from raw scores but not back.
"""

from typing import assert_never

from distill.score.settings import (
    BiEncoderTeacher,
    CausalTeacher,
    CrossEncoderTeacher,
    Dtype,
    HttpTeacher,
    LateInteractionTeacher,
    MonoT5Teacher,
)
from distill.score.teachers.interface import PairScorer

ModelTeacher = (
    BiEncoderTeacher | LateInteractionTeacher | CrossEncoderTeacher | MonoT5Teacher | CausalTeacher | HttpTeacher
)
"""The settings of teachers that compute scores: all but imported ones and ensembles."""


def load_teacher(settings: ModelTeacher, dtype: Dtype, tokens_per_batch: int, device: str) -> PairScorer:
    """The teacher that `settings` describe, its weights in `dtype` on `device`. Imports what that kind of teacher needs, and no more."""
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
