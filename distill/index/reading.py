"""An index read from storage: its documents, and its vectors piece by piece, both checked.

Shapes: n documents of a piece, D the size of a vector.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from torch import Tensor

from cluster.errors import UserError
from cluster.storage import list_files
from distill.tables import DOCUMENTS, VECTORS, TableError

READ_DOCUMENTS = 1_024
"""Documents read from a file at once."""


class CorruptIndexError(UserError, ValueError):
    """An index folder cannot be searched. The message names the folder and what is wrong with it."""


def _files(filesystem: pafs.FileSystem, folder: str, table: str) -> list[str]:
    """Return the Parquet files of a table, in the order of their names."""
    files = list_files(filesystem, f"{folder}/{table}", ".parquet")
    if not files:
        raise CorruptIndexError(
            f"{folder}: there is no table '{table}'; run the index stage, or give the folder of one that is finished"
        )
    return files


def read_documents(filesystem: pafs.FileSystem, folder: str) -> pa.Table:
    """Read the table `documents` of an index folder, in the order of positions; a `CorruptIndexError` if it breaks its contract."""
    tables = []
    for file in _files(filesystem, folder, "documents"):
        try:
            with filesystem.open_input_file(file) as stream:
                tables.append(pq.ParquetFile(stream).read())
        except pa.ArrowInvalid as error:
            raise CorruptIndexError(f"{file}: {error}") from error
    return check_documents(pa.concat_tables(tables, promote_options="permissive"), f"{folder}/documents")


def check_documents(documents: pa.Table, source: str) -> pa.Table:
    """Return the documents in the order of their positions; a `CorruptIndexError` if they break their contract or one has no vectors."""
    try:
        documents = DOCUMENTS.check(documents, source).sort_by("position").combine_chunks()
    except TableError as error:
        raise CorruptIndexError(str(error)) from error
    if not len(documents):
        raise CorruptIndexError(f"{source}: there are no documents")
    positions = documents["position"].to_numpy()
    wrong = np.flatnonzero(positions != np.arange(len(documents)))
    if len(wrong):
        raise CorruptIndexError(
            f"{source}: positions must run from 0 to {len(documents) - 1} without gaps, found {positions[wrong[0]]} in row {wrong[0]}"
        )
    empty = np.flatnonzero(documents["tokens"].to_numpy() < 1)
    if len(empty):
        raise CorruptIndexError(
            f"{source}: {len(empty)} documents have no vectors and so no score, the first is {name_of(documents, int(empty[0]))};"
            " index passages with text only"
        )
    return documents


def read_vectors(
    filesystem: pafs.FileSystem, folder: str
) -> Iterator[tuple[str, Int[np.ndarray, " n"], Int[np.ndarray, " n"], Tensor]]:
    """Read the table `vectors` piece by piece: the file, positions, how many numbers each document has, and the numbers of all."""
    for file in _files(filesystem, folder, "vectors"):
        try:
            with filesystem.open_input_file(file) as stream:
                reader = pq.ParquetFile(stream)
                for batch in reader.iter_batches(READ_DOCUMENTS):
                    # This checks the keys of the piece; `ExactIndex.open` checks that every document has one row.
                    table = VECTORS.check(pa.Table.from_batches([batch]), file).combine_chunks()
                    if len(table):
                        lists = table["vectors"].combine_chunks()
                        yield file, table["position"].to_numpy().copy(), _lengths(lists), _flat(lists)
        except (pa.ArrowInvalid, TableError) as error:
            raise CorruptIndexError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error


def _lengths(lists: pa.ListArray) -> Int[np.ndarray, " n"]:
    return np.diff(lists.offsets.to_numpy()).astype(np.int64)


def _flat(lists: pa.ListArray) -> Tensor:
    values = lists.flatten()
    if values.null_count:
        raise TableError("column 'vectors' has nulls inside its lists")
    return torch.from_numpy(np.array(values.to_numpy(zero_copy_only=False)))


def dimension(source: str, numbers: int, tokens: int, documents: pa.Table, position: int) -> int:
    """Return D, from the numbers and tokens of the first document that is read."""
    if numbers == 0 or numbers % tokens:
        raise CorruptIndexError(
            f"{source}: document {name_of(documents, position)} has {tokens} tokens but {numbers} numbers, not a whole vector for each"
        )
    return int(numbers // tokens)


def name_of(documents: pa.Table, position: int) -> str:
    """Return how an error message names a document."""
    return f"'{documents['passage_id'][position]}' ({documents['lang'][position]}, position {position})"
