"""Checks of what callers pass in, for functions that anyone calls from Python."""

from collections.abc import Sequence


def check_texts(texts: Sequence[object]) -> None:
    """Raise TypeError for what is no sequence of texts: one text, whose characters would be taken for texts, or something else in it."""
    if isinstance(texts, str | bytes):
        raise TypeError(f"expected a list of texts, found one text ({texts[:40]!r}); put it into a list")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"expected a list of texts, found {type(text).__name__} in it")
