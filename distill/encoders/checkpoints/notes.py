"""Differences that other projects have with the checkpoint of an encoder."""

import string

from distill.encoders.encoder import Encoder
from distill.encoders.late_interaction import LateInteractionEncoder
from distill.encoders.readers import Traits, differences

_PROBE = "bee"


def reader_notes(encoder: Encoder, layout: str) -> list[str]:
    """Return a sentence for each difference of scores that a reader of the layout has; only hf_colbert has any."""
    if layout != "hf_colbert" or not isinstance(encoder, LateInteractionEncoder):
        return []
    settings = encoder.settings
    pieces = [encoder.tokenizer.tokenize(mark) for mark in string.punctuation]
    vocabulary = encoder.tokenizer.get_vocab()
    own = set(encoder.skipped_tokens)
    return differences(
        Traits(
            settings.marker_mode,
            settings.query_expansion,
            settings.mask_punctuation,
            markers=_count(encoder, f". {_PROBE}") != 1 + _count(encoder, _PROBE),
            first_pieces=own != {piece[0] for piece in pieces if piece},
            tokens=own != {mark for mark in string.punctuation if mark in vocabulary},
        )
    )


def _count(encoder: LateInteractionEncoder, text: str) -> int:
    return len(encoder.tokenizer.tokenize(text))
