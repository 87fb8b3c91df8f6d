"""Settings of the index."""

from typing import ClassVar

from pydantic import Field

from cluster.settings import PoolSettings, Settings


class IndexSettings(Settings):
    """The index stage: token vectors of every passage in every language."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool"})
    passages_per_shard: int = Field(default=10_000, ge=1)
    """Passages in a shard, the unit of commit and retry."""
    tokens_per_batch: int = Field(default=16_384, ge=64)
    """Padded tokens in a batch."""
    pool: PoolSettings = PoolSettings()
    """The actors."""
