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
        """Return the tables of texts start to stop; rows have a column `truncated` more: whether the encoder read less than the text."""
        part = shard_rows(self._texts, shard)
        truncated, vectors = self._encode(part)
        part = part.append_column("truncated", pa.array(truncated, pa.bool_()))
        return self._tables(part, shard.args["start"], vectors)

    def _encode(self, part: pa.Table) -> tuple[list[bool], list[Float[Tensor, "_ D"]]]:
        """Encode texts, each by its role; return whether each is truncated, and the vectors of each, in the order of the rows."""
        texts = passage_texts(part) if "title" in part.column_names else part["text"].to_pylist()
        if "role" not in part.column_names:
            read = self._encoder.read_passages(texts)
            return read.truncated, self._encoder.encode_passage_rows(read.ids, self._tokens_per_batch)
        roles = part["role"].to_pylist()
        truncated, vectors = [False] * len(texts), [torch.empty(0, 0)] * len(texts)
        encoders = {
            "query": (self._encoder.read_queries, self._encoder.encode_query_rows),
            "passage": (self._encoder.read_passages, self._encoder.encode_passage_rows),
        }
        for role, (read_texts, encode) in encoders.items():
            rows = [row for row, own in enumerate(roles) if own == role]
            read = read_texts([texts[row] for row in rows])
            encoded = encode(read.ids, self._tokens_per_batch)
            for row, cut, each in zip(rows, read.truncated, encoded, strict=True):
                truncated[row], vectors[row] = cut, each
        return truncated, vectors
