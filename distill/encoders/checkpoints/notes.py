"""What other projects do differently with a checkpoint that is written here."""

import string

from distill.encoders.encoder import Encoder
from distill.encoders.late_interaction import LateInteractionEncoder

_PROBE = "bee"


def reader_notes(encoder: Encoder, layout: str) -> list[str]:
    """A sentence for each difference of scores that a reader of the layout would have; none where scores are the same everywhere.

    Only hf_colbert has any: of it, readers know the markers and the lengths, and do the rest in their own way.
    """
    if layout != "hf_colbert" or not isinstance(encoder, LateInteractionEncoder):
        return []
    settings, notes = encoder.settings, []
    if not settings.query_expansion:
        notes.append(
            "PLAID-X, PyLate and sentence-transformers expand queries with [MASK]; this student was not trained so"
        )
    if not settings.mask_punctuation:
        notes.append("PyLate leaves punctuation of passages out unless it is given skiplist_words=[]")
    inserting, overwriting = "PyLate and sentence-transformers", "PLAID-X"
    if _pieces(encoder, f". {_PROBE}") != 1 + _pieces(encoder, _PROBE):
        other, how = (overwriting, "overwrites") if settings.marker_mode == "insert" else (inserting, "insert")
        notes.append(f"{other} {how} markers, which gives other tokens with this tokenizer, and so other scores")
    if settings.mask_punctuation:
        first, token = _skipped(encoder)
        own = set(encoder.skipped_tokens)
        if own != first:
            notes.append(f"{overwriting} leaves other tokens of passages out of the score")
        if own != token:
            notes.append(f"{inserting} leave other tokens of passages out of the score")
    return notes


def _pieces(encoder: LateInteractionEncoder, text: str) -> int:
    return len(encoder.tokenizer.tokenize(text))


def _skipped(encoder: LateInteractionEncoder) -> tuple[set[str], set[str]]:
    """What the two kinds of skip-list hold for ASCII punctuation."""
    pieces = [encoder.tokenizer.tokenize(mark) for mark in string.punctuation]
    vocabulary = encoder.tokenizer.get_vocab()
    return {piece[0] for piece in pieces if piece}, {mark for mark in string.punctuation if mark in vocabulary}
