"""The answers of the endpoint, as dataclasses of the standard library: the API sends them, the client returns them."""

from dataclasses import dataclass
from typing import Any, ClassVar

# The attribute docstrings become the descriptions in the API's schema.
_DOCUMENTED: dict[str, Any] = {"use_attribute_docstrings": True}


@dataclass(frozen=True)
class Result:
    """A document that matches the query, by its best passage."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _DOCUMENTED

    rank: int
    """Rank from 1."""
    id: str
    """The passage's id, shared by its language versions."""
    doc_id: str
    """The document that the passage is a part of; the passage's own id where it is one."""
    lang: str
    """Language of this version."""
    title: str
    """Title, empty where there is none."""
    text: str
    """Body."""
    score: float
    """MaxSim: the sum over query vectors of the best cosine in the passage."""


@dataclass(frozen=True)
class SearchResponse:
    """The best documents, each once, best first."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _DOCUMENTED | {
        "json_schema_extra": {
            "examples": [
                {
                    "query": "How do honey bees tell each other where food is?",
                    "results": [
                        {
                            "rank": 1,
                            "id": "nature-01-a",
                            "doc_id": "nature-01-a",
                            "lang": "de",
                            "title": "Der Schwänzeltanz",
                            "text": "Hat eine Sammlerin ...",
                            "score": 24.5,
                        }
                    ],
                    "took_ms": 12.3,
                    "query_truncated": False,
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
    query_truncated: bool
    """Whether the query is longer than the model reads, so that its end was not searched for."""


@dataclass(frozen=True)
class Health:
    """The facts of a running endpoint."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _DOCUMENTED

    status: str
    """`ok`: the index is in memory and the encoder answered."""
    documents: int
    """Documents in the index; one in two languages counts twice."""
    passages: int
    """The passages that they consist of."""
    truncated: dict[str, int]
    """Passages of each language of which the index holds only the beginning, where there are any."""
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
