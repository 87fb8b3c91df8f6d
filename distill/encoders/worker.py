"""The actors' side of every stage that encodes: a range of texts to tables of their vectors."""

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from cluster.workspace import Shard, shard_rows
from distill.encoders.encoder import Encoder
from distill.text import passage_texts

Tables = Callable[[pa.Table, int, Sequence[Float[Tensor, "_ D"]]], Mapping[str, pa.Table]]
"""Makes the tables of some rows, of the position of the first one and of the vectors of each."""


class EncodeWorker:
    """Encode ranges of texts with an encoder that is loaded once.

    Args:
        texts: the texts by row: `text`, with `title` where passages have one, and with `role` (`query` or `passage`) where some are
            queries. Without `role` all are passages.
        load: loads the encoder; importable.
        tables: makes the tables of a shard; importable, and a pure function.
        tokens_per_batch: padded tokens in a batch, at most.
    """

    def __init__(self, texts: pa.Table, load: Callable[[], Encoder], tables: Tables, tokens_per_batch: int) -> None:
        self._texts = texts
        self._tables = tables
        self._tokens_per_batch = tokens_per_batch
        self._encoder = load()

    def __call__(self, shard: Shard) -> Mapping[str, pa.Table]:
        """Return the tables of texts start to stop."""
        part = shard_rows(self._texts, shard)
        return self._tables(part, shard.args["start"], self._vectors(part))

    def _vectors(self, part: pa.Table) -> list[Float[Tensor, "_ D"]]:
        """Encode texts, each by its role, and return the vectors of each in the order of the rows."""
        texts = passage_texts(part) if "title" in part.column_names else part["text"].to_pylist()
        if "role" not in part.column_names:
            return self._encoder.encode_passages(texts, self._tokens_per_batch)
        roles = part["role"].to_pylist()
        vectors = [torch.empty(0, 0)] * len(texts)
        encoders = {"query": self._encoder.encode_each_query, "passage": self._encoder.encode_passages}
        for role, encode in encoders.items():
            rows = [row for row, own in enumerate(roles) if own == role]
            for row, encoded in zip(rows, encode([texts[row] for row in rows], self._tokens_per_batch), strict=True):
                vectors[row] = encoded
        return vectors
