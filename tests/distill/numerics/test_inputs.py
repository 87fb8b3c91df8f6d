"""Checks of what callers pass in."""

import pytest

from distill.numerics.inputs import check_texts


def test_texts_are_a_list_of_them() -> None:
    check_texts(["a", "b"])
    check_texts(())
    with pytest.raises(
        TypeError, match=r"^expected a list of texts, found one text \('what is it'\); put it into a list$"
    ):
        check_texts("what is it")
    with pytest.raises(TypeError, match=r"^expected a list of texts, found NoneType in it$"):
        check_texts(["a", None])
