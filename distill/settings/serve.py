"""Settings of the search endpoint."""

from pydantic import Field

from cluster.settings import Settings


class ServeSettings(Settings):
    """The search endpoint."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` opens it to the network."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    replicas: int = Field(default=1, ge=1)
    """Copies of the encoder and of the index."""
    max_k: int = Field(default=1000, ge=1)
    """Most results that a request may ask for."""
    max_query_characters: int = Field(default=4096, ge=1)
    """Longest query that a request may send."""
    max_batch_size: int = Field(default=32, ge=1)
    """Queries encoded at once."""
    batch_wait_s: float = Field(default=0.005, ge=0)
    """Seconds that a query waits for others to be encoded with it."""
