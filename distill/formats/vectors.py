"""Vectors in Arrow tables: written as flat lists, and read back from storage in blocks.

Shapes: N texts, L vectors of the longest text of a block, D the size of a vector.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cluster.stored_table import StoredTable
from distill.numerics.blocks import blocks_of

BLOCK_VECTORS = 2**18
"""Vectors in memory at once: 128 MiB of 128 float32 numbers."""
BLOCK_ROWS = 65_536
"""Rows of single vectors in memory at once."""


def passage_blocks(
    vectors: StoredTable, dim: int, limit: int | None = None
) -> Iterator[tuple[Int[Tensor, " N"], Float[Tensor, "L N D"]]]:
    """Read a VECTORS table as blocks (`distill.numerics.blocks`) of at most `limit` vectors, each after its rows in the table.

    Rows are read as many at a time as would fit with 128 vectors each. A passage without a vector has one of zeros, and so scores 0.
    """
    limit = BLOCK_VECTORS if limit is None else limit
    rows = max(1, limit // 128)
    for first in range(0, len(vectors), rows):
        column = vectors.read(first, first + rows, ["vectors"])["vectors"].combine_chunks()
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64) // dim
        flat = np.asarray(pc.list_flatten(column)).reshape(-1, dim)
        for positions, block in blocks_of(flat, lengths, limit):
            yield first + positions, block


def vector_blocks(vectors: StoredTable, rows: int | None = None) -> Iterator[tuple[int, Float[np.ndarray, "N D"]]]:
    """Read a PASSAGE_VECTORS table in blocks of `rows`, each after the number of its first row."""
    rows = BLOCK_ROWS if rows is None else rows
    for start in range(0, len(vectors), rows):
        column = vectors.read(start, start + rows, ["vector"])["vector"].combine_chunks()
        flat = np.asarray(pc.list_flatten(column))
        yield start, flat.reshape(len(column), -1)


def flat_lists(vectors: Sequence[Float[Tensor, "_ D"]], dtype: torch.dtype) -> pa.Array:
    """Return the numbers of each text's vectors as one list, in float16 or float32."""
    arrow = {torch.float16: pa.float16(), torch.float32: pa.float32()}[dtype]
    return pa.array([one.to(dtype).numpy().ravel() for one in vectors], pa.list_(arrow))
