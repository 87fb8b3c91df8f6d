"""The texts that the tests of the endpoint search, and the endpoint itself."""

import socket
from dataclasses import dataclass

from distill.settings.serve import ServeSettings

TEXTS = [
    ("bees", "en", "The waggle dance", "A honey bee tells her sisters where food is"),
    ("bees", "de", "Der Schwänzeltanz", "Eine Biene sagt ihren Schwestern wo Futter ist"),
    ("bees", "fa", "رقص زنبور", "زنبور عسل جای غذا را به خواهرانش نشان می‌دهد"),
    (
        "tags",
        "en",
        "<script>document.title = 'owned'</script>",
        "The <b>tag</b> & its <img src=x onerror=alert(1)> friends",
    ),
    ("untitled", "de", "", "Ein Text ohne Titel"),
    ("untitled#2", "de", "", "Ein Text ohne Titel und sein zweiter Teil"),
]


def document_of(passage_id: str) -> str:
    """The document of a passage of TEXTS: the second part of "untitled" is no document of its own."""
    return passage_id.partition("#")[0]


DOCUMENT_COUNT = len({(document_of(passage_id), lang) for passage_id, lang, *_ in TEXTS})


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint, and the URIs that it was made of."""

    url: str
    checkpoint: str
    index: str
    settings: ServeSettings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
