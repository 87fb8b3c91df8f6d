"""Requests and responses of the endpoint."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from cluster.errors import UserError

MAX_BODY = 64 * 1024
"""Largest request body in bytes."""
EXAMPLE = '{"query": "...", "k": 10}'


class SearchRequest(BaseModel):
    """A query. Types are exact: a string is no number, and true is no 1."""

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


class Result(BaseModel):
    """A found document."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    rank: int
    """Rank from 1."""
    id: str
    """The passage's id, shared by its language versions."""
    lang: str
    """Language of this version."""
    title: str
    """Title, empty where there is none."""
    text: str
    """Body."""
    score: float
    """MaxSim: the sum over query vectors of the best cosine in the document."""


class SearchResponse(BaseModel):
    """The best documents, best first."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "query": "How do honey bees tell each other where food is?",
                    "results": [
                        {
                            "rank": 1,
                            "id": "nature-01-a",
                            "lang": "de",
                            "title": "Der Schwänzeltanz",
                            "text": "Hat eine Sammlerin ...",
                            "score": 24.5,
                        }
                    ],
                    "took_ms": 12.3,
                }
            ]
        },
    )

    query: str
    """The query, as it was sent."""
    results: list[Result]
    """The documents."""
    took_ms: float
    """Time from the request's arrival at the replica to its answer, in milliseconds."""


class Health(BaseModel):
    """What is being served."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: str
    """`ok`: the index is in memory and the encoder answered."""
    documents: int
    """Documents in the index; a passage in two languages counts twice."""
    vectors: int
    """Their token vectors."""
    dim: int
    """Size of a vector."""
    languages: dict[str, int]
    """Documents of each language."""
    model: str
    """Where the encoder was read from."""
    index: str
    """Where the index was read from."""
    max_k: int
    """Most results that a request may ask for."""
    max_query_characters: int
    """Longest query."""


class Error(BaseModel):
    """Why a request was refused."""

    error: str


class ServeError(UserError, RuntimeError):
    """The endpoint cannot start. The message is one line that says what to do."""


class BadRequestError(ValueError):
    """A request that cannot be answered, with its message."""


def check(request: SearchRequest, languages: Sequence[str], max_k: int, max_query_characters: int) -> None:
    """Refuse, with a `BadRequestError`, what the types alone do not."""
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
    """The faults that the types found, as one message."""
    return "; ".join(dict.fromkeys(_explain(fault) for fault in faults))


def _explain(fault: Mapping[str, Any]) -> str:
    kind, value = fault["type"], fault.get("input")
    place = [str(part) for part in fault["loc"] if part != "body"]
    if kind == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}, expected {EXAMPLE}"
    if not place:
        return f"the body must be a JSON object such as {EXAMPLE}, sent with Content-Type: application/json"
    if kind == "missing":
        return f"{place[0]} is missing"
    if kind == "extra_forbidden":
        return f"unknown field {_short(place[0])}; the fields are {', '.join(SearchRequest.model_fields)}"
    expected = {
        "string_type": "must be a string",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "list_type": "must be a list of language codes, or left out",
        "too_short": "must name a language, or be left out",
    }.get(kind, fault["msg"])
    index = f"[{place[1]}]" if len(place) > 1 else ""
    return f"{place[0]}{index} {expected}, found {_short(value)}"


def _short(value: object) -> str:
    """A value in a message, whatever its size."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
