"""Requests of the endpoint: their fields, their limits, and the messages that refuse them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from serve.errors import BadRequestError

MAX_BODY = 64 * 1024
"""Largest request body in bytes."""
EXAMPLE = '{"query": "...", "k": 10}'


class SearchRequest(BaseModel):
    """A query. Types are exact: a string is not a number, and true is not 1."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {"query": "How do honey bees tell each other where food is?"},
                {"query": "زنبورهای عسل چگونه جای غذا را به هم نشان می‌دهند؟", "k": 3, "langs": ["de", "fr"]},
            ]
        },
    )

    query: str
    """The query, in any language that the model knows."""
    k: int = 10
    """How many documents to return at most."""
    langs: Annotated[list[str], Field(min_length=1)] | None = None
    """Languages of the documents; leave it out to search all."""


class Error(BaseModel):
    """The answer to a request that is refused."""

    error: str
    """The reason, in one line."""


def check(request: SearchRequest, languages: Sequence[str], max_k: int, max_query_characters: int) -> None:
    """Check the values of a request whose types are right.

    Args:
        request: the request.
        languages: languages of the index.
        max_k: most results that a request may ask for.
        max_query_characters: longest query.

    Raises:
        BadRequestError: the query is empty, too long or not Unicode text, `k` is out of range, or a language is not in the index.
    """
    if not request.query.strip():
        raise BadRequestError("query is empty")
    if len(request.query) > max_query_characters:
        raise BadRequestError(f"query has {len(request.query)} characters, at most {max_query_characters} are allowed")
    if any("\ud800" <= character <= "\udfff" for character in request.query):
        raise BadRequestError("query holds half of a surrogate pair, which is no character")
    if not 1 <= request.k <= max_k:
        raise BadRequestError(f"k must be from 1 to {max_k}, found {_short(request.k)}")
    unknown = [lang for lang in request.langs or [] if lang not in languages]
    if unknown:
        raise BadRequestError(
            f"langs has {_short(unknown[0])}, which the index does not; it has {', '.join(languages)}"
        )


def explain(faults: Sequence[Mapping[str, Any]]) -> str:
    """Return one message for the faults that pydantic lists for a request."""
    return "; ".join(dict.fromkeys(_explain(fault) for fault in faults))


def _explain(fault: Mapping[str, Any]) -> str:
    kind, value = fault["type"], fault.get("input")
    field = [str(part) for part in fault["loc"] if part != "body"]
    if kind == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}, expected {EXAMPLE}"
    if not field:
        return f"the body must be a JSON object such as {EXAMPLE}, sent with Content-Type: application/json"
    if kind == "missing":
        return f"{field[0]} is missing"
    if kind == "extra_forbidden":
        return f"unknown field {_short(field[0])}; the fields are {', '.join(SearchRequest.model_fields)}"
    expected = {
        "string_type": "must be a string",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "list_type": "must be a list of language codes, or left out",
        "too_short": "must name a language, or be left out",
    }.get(kind, fault["msg"])
    position = f"[{field[1]}]" if len(field) > 1 else ""
    return f"{field[0]}{position} {expected}, found {_short(value)}"


def _short(value: object) -> str:
    """Return a value for a message, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
