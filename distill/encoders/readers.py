"""Differences of scores that other projects have with a late-interaction checkpoint in the HF_ColBERT layout.

Of this layout readers know the markers and the lengths, and do the rest in their own way. Some differences depend on the tokenizer: they
are known of an encoder, and of its settings alone only possible.
"""

from dataclasses import dataclass
from typing import Literal

from distill.encoders.settings import LateInteractionStudent

_INSERTING, _OVERWRITING = "PyLate and sentence-transformers", "PLAID-X"


@dataclass(frozen=True)
class Traits:
    """Properties of a student that decide what other readers do differently.

    Attributes:
        marker_mode: how markers enter.
        query_expansion: whether queries are padded with [MASK].
        mask_punctuation: whether punctuation of passages is left out of the score.
        markers: whether the two ways of placing markers give different tokens; None where the tokenizer is not known.
        first_pieces: whether the first pieces of punctuation marks, which PLAID-X leaves out, are other tokens than the student's.
        tokens: whether the tokens named like punctuation marks, which PyLate and sentence-transformers leave out, are other ones.
    """

    marker_mode: Literal["insert", "overwrite", "prompt"]
    query_expansion: bool
    mask_punctuation: bool
    markers: bool | None
    first_pieces: bool | None
    tokens: bool | None


def traits_of_settings(student: LateInteractionStudent) -> Traits:
    """Return what settings decide; what depends on the tokenizer is None."""
    skip_list = student.skip_list or ("first_piece" if student.marker_mode == "overwrite" else "token")
    return Traits(
        student.marker_mode,
        student.query_expansion,
        student.mask_punctuation,
        markers=None,
        first_pieces=None if skip_list == "token" else False,
        tokens=None if skip_list == "first_piece" else False,
    )


def differences(traits: Traits) -> list[str]:
    """Return a sentence for each difference of scores; an empty list where scores are the same everywhere."""
    lines = []
    if not traits.query_expansion:
        lines.append(
            "Queries are not expanded with [MASK] tokens, which this layout cannot say: PLAID-X, PyLate and sentence-transformers expand "
            "queries with [MASK]. `jobs/export.py student --format sentence_transformers` writes a folder that sentence-transformers reads "
            "right."
        )
    if not traits.mask_punctuation:
        lines.append(
            "Punctuation of passages takes part in the score; PyLate leaves it out (`skiplist_words=[]` keeps it)."
        )
    if traits.markers is not False:
        same, other = (_INSERTING, f"{_OVERWRITING} places")
        if traits.marker_mode == "overwrite":
            same, other = _OVERWRITING, f"{_INSERTING} place"
        lines.append(
            f"Markers are placed as by {same} (`marker_mode: {traits.marker_mode}`); {other} them differently, which gives other tokens"
            f"{_where(traits.markers)}, and so other scores."
        )
    if traits.mask_punctuation:
        for differ, readers in (
            (traits.first_pieces, f"{_OVERWRITING} leaves"),
            (traits.tokens, f"{_INSERTING} leave"),
        ):
            if differ is not False:
                lines.append(f"{readers} other tokens of passages out of the score{_where(differ)}.")
    return lines


def _where(certain: bool | None) -> str:
    return " with this tokenizer" if certain else " with some tokenizers (XLM-R)"
