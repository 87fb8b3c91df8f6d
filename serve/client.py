"""A client of the endpoint, on the standard library alone.

client = SearchClient("http://127.0.0.1:8000")
for result in client.search("How do bees find food?", k=3, langs=["de"]).results:
    print(result.score, result.lang, result.title)
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from serve.api import Health, SearchResponse


class SearchError(RuntimeError):
    """The endpoint refused a request, failed, or did not answer.

    Attributes:
        status: the HTTP status, None where there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SearchClient:
    """Asks one endpoint.

    Args:
        url: where it is, as `jobs/serve.py` prints it.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url '{url}' must begin with http:// or https://")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    def search(self, query: str, k: int = 10, langs: Sequence[str] | None = None) -> SearchResponse:
        """The k best documents, in any language or in `langs`. What the endpoint refuses is a `SearchError` with its message."""
        body = {"query": query, "k": k} | ({"langs": list(langs)} if langs is not None else {})
        return SearchResponse.model_validate(self._ask("/search", body))

    def health(self) -> Health:
        """What the endpoint serves."""
        return Health.model_validate(self._ask("/health"))

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise SearchError(_message(error), error.code) from error
        except (urllib.error.URLError, TimeoutError) as error:
            raise SearchError(f"{self._url} does not answer: {getattr(error, 'reason', error)}") from error


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode("utf-8", "replace")
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}: {text[:200]}"
