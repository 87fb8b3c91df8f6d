"""Training examples as other tools' files: PyLate's three tables, the columns of sentence-transformers, PLAID-X's triples and collection.

The table EXAMPLES is read and written a block of rows at a time. Formats that name passages by id need each once: a version of a passage in
one language is a document of its own, and 16 bytes are kept in memory for each distinct one.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int

from cluster.atomic import open_whole
from cluster.locations import Location, locate
from cluster.stored_table import StoredTable
from distill.tables import EXAMPLES, TableError

Format = Literal["pylate", "sentence_transformers", "plaidx"]

_ROWS = 2_000
"""Examples in memory at once."""

_COLUMNS = tuple(column.name for column in EXAMPLES.columns)


def export_examples(table: StoredTable, kind: Format, out: str, *, mixed: bool, positive_first: bool) -> dict[str, int]:
    """Write the examples as files in the folder `out`, local or s3://, and give the number of rows in each.

    - `pylate`: train.parquet (query_id, document_ids, scores), queries.parquet (query_id, text), documents.parquet (document_id, text,
      lang). An example is a row, so a query has one for each epoch.
    - `sentence_transformers`: train.parquet, an example a row: query; positive, negative_1 ... or document_1 ...; label, the list of
      scores, unless there are none.
    - `plaidx`: triples.jsonl, an example a line `["query", [pid, score], ...]`; queries.tsv; collection.tsv, whose line numbers from 0
      are the pids. White space in texts becomes single spaces.

    Args:
        table: the EXAMPLES table.
        kind: the format.
        out: the folder; files that are there are replaced, each once it is whole.
        mixed: whether passages occur in several languages. Document ids are then `passage@lang`, otherwise passage ids.
        positive_first: whether the first passage of every example is a positive.

    Scores that are only partly there (`mix.missing: mask`) are a `TableError`: these formats have no way to say so.
    """
    match kind:
        case "pylate":
            return _write_pylate(table, out, mixed=mixed)
        case "sentence_transformers":
            return _write_sentence_transformers(table, out, positive_first=positive_first)
        case "plaidx":
            return _write_plaidx(table, out)
        case _:
            assert_never(kind)


def _write_pylate(table: StoredTable, out: str, *, mixed: bool) -> dict[str, int]:
    train = pa.schema(
        [("query_id", pa.string()), ("document_ids", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))]
    )
    queries = pa.schema([("query_id", pa.string()), ("text", pa.string())])
    documents = pa.schema([("document_id", pa.string()), ("text", pa.string()), ("lang", pa.string())])
    known_queries, known_documents = Numbers(), Numbers()
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_parquet(locate(f"{name}.parquet", out), schema))
            for name, schema in (("train", train), ("queries", queries), ("documents", documents))
        }
        for rows in _blocks(table):
            _check_scored(rows, "pylate", none_at_all=False)
            ids = [_document_ids(row, mixed) for row in rows]
            files["train"].write(
                {
                    "query_id": [row["query_id"] for row in rows],
                    "document_ids": ids,
                    "scores": [row["scores"] for row in rows],
                }
            )
            query_ids = [row["query_id"] for row in rows]
            _, fresh = known_queries(query_ids)
            chosen = [row for row, new in zip(rows, fresh.tolist(), strict=True) if new]
            files["queries"].write(
                {"query_id": [row["query_id"] for row in chosen], "text": [row["query"] for row in chosen]}
            )
            flat = [document_id for row in ids for document_id in row]
            _, fresh = known_documents(flat)
            texts, langs = _flat(rows, "passages"), _flat(rows, "langs")
            kept = np.flatnonzero(fresh).tolist()
            files["documents"].write(
                {
                    "document_id": [flat[i] for i in kept],
                    "text": [texts[i] for i in kept],
                    "lang": [langs[i] for i in kept],
                }
            )
        return {f"{name}.parquet": file.rows for name, file in files.items()}


def _write_sentence_transformers(table: StoredTable, out: str, *, positive_first: bool) -> dict[str, int]:
    first = next(_blocks(table))[0]
    count, scored = len(first["passages"]), first["scores"][0] is not None
    names = [f"document_{i}" for i in range(1, count + 1)]
    if positive_first:
        names = ["positive", *(f"negative_{i}" for i in range(1, count))]
    label = [("label", pa.list_(pa.float32()))] if scored else []
    schema = pa.schema([("query", pa.string()), *((name, pa.string()) for name in names), *label])
    with _parquet(locate("train.parquet", out), schema) as file:
        for rows in _blocks(table):
            _check_scored(rows, "sentence_transformers", none_at_all=not scored)
            columns: dict[str, list[Any]] = {"query": [row["query"] for row in rows]}
            for index, name in enumerate(names):
                columns[name] = [row["passages"][index] for row in rows]
            if scored:
                columns["label"] = [row["scores"] for row in rows]
            file.write(columns)
        return {"train.parquet": file.rows}


def _write_plaidx(table: StoredTable, out: str) -> dict[str, int]:
    known_queries, known_documents = Numbers(), Numbers()
    names = ("triples.jsonl", "queries.tsv", "collection.tsv")
    counts: dict[str, int] = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context(open_whole(locate(name, out))) for name in names}

        def write(name: str, lines: Sequence[str]) -> None:
            files[name].write("".join(lines).encode())
            counts[name] += len(lines)

        for rows in _blocks(table):
            _check_scored(rows, "plaidx", none_at_all=False)
            flat = [document_id for row in rows for document_id in _document_ids(row, mixed=True)]
            texts = _flat(rows, "passages")
            pids, fresh = known_documents(flat)
            kept = np.flatnonzero(fresh).tolist()
            write("collection.tsv", [f"{pids[i]}\t{_one_line(texts[i])}\n" for i in kept])
            _, fresh = known_queries([row["query_id"] for row in rows])
            chosen = [row for row, new in zip(rows, fresh.tolist(), strict=True) if new]
            write("queries.tsv", [f"{row['query_id']}\t{_one_line(row['query'])}\n" for row in chosen])
            numbers = iter(pids.tolist())
            write("triples.jsonl", [_triples(row, [next(numbers) for _ in row["scores"]]) for row in rows])
    return counts


def _triples(row: Mapping[str, Any], pids: Sequence[int]) -> str:
    # As many digits as tell a score from every other 32-bit number.
    digits = [str(np.float32(score)) for score in row["scores"]]
    pairs = "".join(f", [{pid}, {score}]" for pid, score in zip(pids, digits, strict=True))
    return f"[{json.dumps(row['query_id'], ensure_ascii=False)}{pairs}]\n"


class Numbers:
    """Numbers keys from 0 in the order in which they are first seen. Keeps a hash of 64 bits and the number of each.

    Two of n keys have one hash with a probability of about n^2 / 2^65: 2 in 10^5 for the 26 million passages of MS MARCO in three
    languages. Cost of a call: sorting its keys, and a copy of what is known.
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.uint64)
        self._numbers = np.empty(0, np.int64)

    def __call__(self, keys: Sequence[str]) -> tuple[Int[np.ndarray, " K"], Bool[np.ndarray, " K"]]:
        """Return the number of each key, and true where it is seen for the first time."""
        digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
        hashes = np.frombuffer(digests, np.uint64)
        unique, firsts, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        positions = np.searchsorted(self._hashes, unique)
        known = np.zeros(len(unique), bool)
        inside = positions < len(self._hashes)
        known[inside] = self._hashes[positions[inside]] == unique[inside]
        numbers = np.empty(len(unique), np.int64)
        numbers[known] = self._numbers[positions[known]]
        new = np.flatnonzero(~known)
        order = new[np.argsort(firsts[new])]
        numbers[order] = len(self._hashes) + np.arange(len(order))
        self._hashes = np.insert(self._hashes, positions[new], unique[new])
        self._numbers = np.insert(self._numbers, positions[new], numbers[new])
        fresh = np.zeros(len(keys), bool)
        fresh[firsts[new]] = True
        return numbers[inverse], fresh


def _blocks(table: StoredTable) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(table), _ROWS):
        yield table.read(start, start + _ROWS, _COLUMNS).to_pylist()


def _document_ids(row: Mapping[str, Any], mixed: bool) -> list[str]:
    if not mixed:
        return row["passage_ids"]
    return [f"{passage_id}@{lang}" for passage_id, lang in zip(row["passage_ids"], row["langs"], strict=True)]


def _flat(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    return [value for row in rows for value in row[column]]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _check_scored(rows: Sequence[Mapping[str, Any]], kind: str, *, none_at_all: bool) -> None:
    for row in rows:
        missing = sum(score is None for score in row["scores"])
        if missing and not (none_at_all and missing == len(row["scores"])):
            what = "no scores" if missing == len(row["scores"]) else f"{missing} of {len(row['scores'])} scores missing"
            raise TableError(
                f"example {row['position']} (query {row['query_id']!r}) has {what}, which the format '{kind}' cannot say; "
                "make the examples with a teacher and mix.missing 'error'"
            )


class _ParquetFile:
    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self.rows = 0

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        batch = pa.table(dict(columns), schema=self._writer.schema)
        if len(batch):
            self._writer.write_table(batch)
        self.rows += len(batch)


@contextmanager
def _parquet(location: Location, schema: pa.Schema) -> Iterator[_ParquetFile]:
    with open_whole(location) as stream, pq.ParquetWriter(stream, schema) as writer:
        yield _ParquetFile(writer)
