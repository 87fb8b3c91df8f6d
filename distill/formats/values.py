"""Values as files spell them: ids and numbers, the same in every reader. What cannot be read exactly is refused, never rounded."""

import math
import re
from decimal import Decimal

_WHOLE_FLOATS = 2**53
"""Up to here every whole number has a float of 64 bits of its own."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\ufeff]")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_id(value: object) -> str:
    """Return the id that a value is: a string without white space, which TREC files cannot carry, or a whole number.

    A whole number that is stored as a float or decimal (the ids of a pandas column with gaps) is the number: `12.0` is `12`.

    Raises:
        ValueError: what the value is and what was expected.
    """
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and value and " " not in value:
            return value
        return _checked(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        if abs(value) >= _WHOLE_FLOATS:
            raise ValueError(f"{value:.0f} is stored as a float, which has not its digits; store ids as text")
        return str(int(value))
    raise ValueError(f"{kind_of(value)}, expected a string or a whole number")


def _checked(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    if text.split() != [text]:
        raise ValueError(f"{shortened(text)} holds white space, which TREC files cannot carry in an id")
    if _UNSEEN.search(text):
        raise ValueError(f"{shortened(text)} holds a control character or byte-order mark")
    return encodable(text)


def encodable(text: str) -> str:
    """Return a text that can be written as UTF-8; raise ValueError otherwise."""
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell as \ud83d
        raise ValueError(f"not Unicode: half a surrogate pair at character {error.start + 1}") from error
    return text


def read_whole_number(text: str, bits: int = 64) -> int:
    """Return the whole number that a text spells in the digits 0 to 9; raise ValueError for others and for what `bits` bits cannot hold."""
    if _WHOLE_NUMBER.fullmatch(text):
        number = int(text)
        if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            return number
    raise ValueError("expected a whole number")


def read_number(text: str) -> float:
    """Return the number that a text spells (`2`, `-0.5`, `1e-3`); raise ValueError for what is none and for what no float can hold."""
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def shortened(text: str, limit: int = 80) -> str:
    """Return a text in quotes for messages, with its end left out beyond `limit` characters and what cannot be seen escaped."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}..."


def kind_of(value: object) -> str:
    """Return the kind of a JSON value in words, for messages: "a number", "null"."""
    names = {
        type(None): "null",
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a string",
        dict: "an object",
        bytes: "bytes",
    }
    return names.get(type(value), f"a {type(value).__name__}")
