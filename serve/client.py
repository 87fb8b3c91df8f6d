"""A client of the endpoint that needs the standard library alone.

client = SearchClient("http://127.0.0.1:8000")
for result in client.search("How do bees find food?", k=3, langs=["de"]).results:
    print(result.score, result.lang, result.title)
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from serve.answers import Health, Result, SearchResponse


class SearchError(RuntimeError):
    """The endpoint refused a request, failed, or did not answer.

    Attributes:
        status: the HTTP status, None where there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SearchClient:
    """A client of one endpoint.

    Args:
        url: the endpoint's URL, as the serve job prints it.
        timeout_s: longest wait for an answer, in seconds; default 30.

    Raises:
        ValueError: the URL does not begin with http:// or https://.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url '{url}' must begin with http:// or https://")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    def search(self, query: str, k: int = 10, langs: Sequence[str] | None = None) -> SearchResponse:
        """Return the `k` best documents, in any language or in `langs`.

        Raises:
            SearchError: the endpoint refused the request, failed, or did not answer; the message says why.
        """
        body = {"query": query, "k": k} | ({"langs": list(langs)} if langs is not None else {})
        answer = self._known(SearchResponse, self._ask("/search", body))
        answer["results"] = [Result(**self._known(Result, result)) for result in answer["results"]]
        return SearchResponse(**answer)

    def health(self) -> Health:
        """Return the facts of what the endpoint serves.

        Raises:
            SearchError: the endpoint failed or did not answer.
        """
        return Health(**self._known(Health, self._ask("/health")))

    def _known(self, kind: type, answer: Any) -> dict[str, Any]:
        """Return the fields of an answer that `kind` has; a later version of the endpoint may send more."""
        names = [field.name for field in fields(kind)]
        missing = [name for name in names if not isinstance(answer, dict) or name not in answer]
        if missing:
            raise SearchError(f"{self._url} is no Polyray endpoint: its answer has no {', '.join(missing)}")
        return {name: answer[name] for name in names}

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310
                return json.load(response)
        except ValueError as error:
            raise SearchError(f"{self._url} is no Polyray endpoint: its answer is not JSON") from error
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
