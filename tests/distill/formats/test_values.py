"""Ids and numbers as files spell them."""

import math
import re
from decimal import Decimal

import pytest

from distill.formats.values import read_id, read_number, read_whole_number, shortened


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("p1", "p1"),
        ("12.0", "12.0"),
        ("ü/ï@de", "ü/ï@de"),
        ("می\u200cروم", "می\u200cروم"),
        (12, "12"),
        (-3, "-3"),
        (2**70, str(2**70)),
        (12.0, "12"),
        (float(2**53 - 1), str(2**53 - 1)),
        (Decimal("12.00"), "12"),
    ],
)
def test_ids(value: object, expected: str) -> None:
    assert read_id(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.5, "a number, expected a string or a whole number"),
        (math.nan, "a number, expected a string or a whole number"),
        (math.inf, "a number, expected a string or a whole number"),
        (Decimal("1.5"), "a Decimal, expected a string or a whole number"),
        (float(2**53), "9007199254740992 is stored as a float, which has not its digits; store ids as text"),
        (True, "a truth value, expected a string or a whole number"),
        (None, "null, expected a string or a whole number"),
        (b"p1", "bytes, expected a string or a whole number"),
        ("", "is empty"),
        ("a b", "'a b' holds white space, which TREC files cannot carry in an id"),
        ("a\u00a0b", r"'a\xa0b' holds white space, which TREC files cannot carry in an id"),
        ("\ufeffp3", r"'\ufeffp3' holds a control character or byte-order mark"),
        ("a\x00", r"'a\x00' holds a control character or byte-order mark"),
        ("a\ud83d", "not Unicode: half a surrogate pair at character 2"),
    ],
)
def test_what_is_no_id(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        read_id(value)


@pytest.mark.parametrize(
    ("text", "bits", "number"),
    [("+7", 64, 7), ("-2147483648", 32, -(2**31)), ("007", 32, 7), (f"{2**63 - 1}", 64, 2**63 - 1)],
)
def test_whole_numbers(text: str, bits: int, number: int) -> None:
    assert read_whole_number(text, bits) == number


@pytest.mark.parametrize("text", ["", "-", "--5", "²", "١", "1.0", "1_0", "2147483648", "9" * 5000])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a whole number$"):
        read_whole_number(text, 32)


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2.0), ("-.5", -0.5), ("1.", 1.0), ("1.5e+02", 150.0), ("-3E-4", -3e-4)]
)
def test_numbers(text: str, number: float) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["", ".", "nan", "inf", "1,5", "1_000", "0x1p3", "١", "1e400", " 1"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a finite number$"):
        read_number(text)


def test_long_texts_are_cut_in_messages() -> None:
    assert shortened("a\u200b") == r"'a\u200b'"
    assert shortened("x" * 81) == f"'{'x' * 80}'..."
