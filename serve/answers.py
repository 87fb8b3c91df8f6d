"""The answers of the endpoint, as dataclasses of the standard library: the API sends them, the client returns them."""

from dataclasses import dataclass
from typing import Any, ClassVar

# The attribute docstrings become the descriptions in the API's schema.
_DOCUMENTED: dict[str, Any] = {"use_attribute_docstrings": True}


@dataclass(frozen=True)
class Result:
    """A document that matches the query."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _DOCUMENTED

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


@dataclass(frozen=True)
class SearchResponse:
    """The best documents, best first."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _DOCUMENTED | {
        "json_schema_extra": {
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
        }
    }

    query: str
    """The query, as it was sent."""
    results: list[Result]
    """The documents."""
    took_ms: float
    """Time from the request's arrival at the replica to its answer, in milliseconds."""


@dataclass(frozen=True)
class Health:
    """The facts of a running endpoint."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _DOCUMENTED

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
    """Location that the encoder was read from."""
    index: str
    """Location that the index was read from."""
    max_k: int
    """Most results that a request may ask for."""
    max_query_characters: int
    """Longest query."""
