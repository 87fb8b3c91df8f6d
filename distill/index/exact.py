"""Exact late-interaction search.

Shapes: Q queries, T vectors of a query, N documents, L vectors of the longest document of a block, D the size of a vector.

Every document is scored: no clustering, no quantisation, no candidates that could be missed. Documents are sorted by language and length
and cut into blocks of nearly equal length, so that a block is one matrix product and one maximum. The cost is Q*T*D multiply-adds for
each token vector of the collection; `benchmarks/exact_search.md` says what that takes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.index.reading import CorruptIndexError, check_documents, dimension, name_of, read_documents, read_vectors
from distill.numerics.best import top_k
from distill.numerics.blocks import block_maxsim, repeat_first
from distill.numerics.groups import Groups
from distill.tables import DOCUMENTS

BLOCK_VECTORS = 32_768
"""Document vectors in one matrix product: enough to keep the arithmetic units busy, few enough for the product to stay in cache."""
QUERY_VECTORS = 256
"""Query vectors in one matrix product (8 queries of 32)."""
SHORTEST = 0.875
"""A block's shortest document has at least this share of its longest one's vectors; the rest is padding."""


class Hit(NamedTuple):
    """A document that a search returns: its position in the index and its score."""

    position: int
    score: float


class Document(NamedTuple):
    """A document of an index, without its vectors."""

    position: int
    passage_id: str
    lang: str
    title: str
    text: str
    doc_id: str


def native_dtype(device: str | torch.device = "cpu") -> torch.dtype:
    """Return the type to multiply in: bfloat16 where the hardware multiplies it natively, float32 elsewhere.

    On x86 that takes AVX512-BF16 or AMX, and on ARM the BF16 extension; without them bfloat16 is emulated and slower than float32.
    """
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # torch before 2.9 cannot tell; float32 is right everywhere.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if native else torch.float32


@dataclass(frozen=True)
class _Block:
    """Documents of one language and of like lengths, whose vectors lie together, all first vectors before all second ones.

    Attributes:
        lang: their language.
        positions: their positions in the index.
        rows: their rows in the store, `length` times their number.
        length: vectors of the longest one; shorter ones repeat their first vector.
    """

    lang: str
    positions: Int[Tensor, " n"]
    rows: slice
    length: int


class ExactIndex:
    r"""Exact MaxSim over a collection: :math:`s(q, d) = \sum_t \max_l \langle q_t, d_l \rangle`.

    In float32 scores are those of the stored vectors to about 1e-6. In bfloat16 both factors and each product are rounded to 8 bits:
    for unit vectors a product is off by at most 1.2 %, and errors of a sum partly cancel; the benchmark measures them.
    Sums over query vectors are float32 always. Equal scores rank by position, so the same search gives the same list.

    Memory: the vectors in `dtype` (2 or 4 bytes for each number) with at most one eighth of padding, and the documents' texts.

    Args:
        documents: a DOCUMENTS table ordered by position.
        dim: D.
        dtype: the type to multiply in. If None, `native_dtype(device)`.
        device: the device that holds the vectors.

    Attributes:
        counts: the number of documents in each language.
    """

    def __init__(
        self, documents: pa.Table, dim: int, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.documents = documents
        self.dim = dim
        self.dtype = dtype or native_dtype(device)
        self.device = torch.device(device)
        tokens = documents["tokens"].to_numpy().astype(np.int64)
        langs = documents["lang"].combine_chunks().dictionary_encode()
        names = langs.dictionary.to_pylist()
        self._codes = torch.from_numpy(langs.indices.to_numpy().astype(np.int64))
        counts = torch.bincount(self._codes, minlength=len(names)).tolist()
        self.counts: dict[str, int] = dict(sorted(zip(names, counts, strict=True)))
        self._tokens = torch.from_numpy(tokens)
        self._first = torch.empty(len(documents), dtype=torch.long)
        self._stride = torch.empty(len(documents), dtype=torch.long)
        self._blocks = list(self._cut(tokens, names))
        self._store = torch.empty(
            self._blocks[-1].rows.stop if self._blocks else 0, dim, dtype=self.dtype, device=self.device
        )

    def __len__(self) -> int:
        """Return N, the number of documents."""
        return len(self.documents)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of its documents, sorted."""
        return tuple(self.counts)

    @property
    def vectors(self) -> int:
        """Number of token vectors, without padding."""
        return int(self._tokens.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the stored vectors, with padding."""
        return self._store.nbytes

    @classmethod
    def open(
        cls,
        filesystem: pafs.FileSystem,
        folder: str,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> "ExactIndex":
        """Read the `documents` and `vectors` tables of an index stage's folder.

        Vectors are read a thousand documents at a time, so that memory holds little more than the index itself.

        Raises:
            CorruptIndexError: a table is missing, the tables disagree, a document has no vectors, or a number is not finite.
        """
        documents = read_documents(filesystem, folder)
        tokens = documents["tokens"].to_numpy().astype(np.int64)
        index: ExactIndex | None = None
        seen = torch.zeros(len(documents), dtype=torch.bool)
        for source, positions, lengths, values in read_vectors(filesystem, folder):
            bad = np.flatnonzero((positions < 0) | (positions >= len(documents)))
            if len(bad):
                raise CorruptIndexError(
                    f"{source}: position {positions[bad[0]]} is not one of the {len(documents)} documents"
                )
            if index is None:
                dim = dimension(source, int(lengths[0]), int(tokens[positions[0]]), documents, int(positions[0]))
                index = cls(documents, dim, dtype, device)
            bad = np.flatnonzero(lengths != tokens[positions] * index.dim)
            if len(bad):
                position = int(positions[bad[0]])
                raise CorruptIndexError(
                    f"{source}: document {name_of(documents, position)} has {tokens[position]} tokens of {index.dim} numbers"
                    f" but {lengths[bad[0]]} numbers"
                )
            where = torch.from_numpy(positions)
            if bool(seen[where].any()):
                position = int(where[seen[where]][0])
                raise CorruptIndexError(
                    f"{source}: document {name_of(documents, position)} has a second row in 'vectors'"
                )
            index._fill(source, where, values.view(-1, index.dim))
            seen[where] = True
        if index is None or not bool(seen.all()):
            lost = int((~seen).sum())
            first = int((~seen).nonzero()[0])
            raise CorruptIndexError(
                f"{folder}: {lost} of {len(documents)} documents have no row in 'vectors', the first is {name_of(documents, first)}"
            )
        index._pad()
        return index

    @classmethod
    def build(
        cls,
        ids: Sequence[str],
        vectors: Iterable[Float[Tensor, "_ D"] | Float[Tensor, " D"] | np.ndarray],
        langs: Sequence[str] | None = None,
        titles: Sequence[str] | None = None,
        texts: Sequence[str] | None = None,
        *,
        doc_ids: Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> "ExactIndex":
        """Build an index in memory, without storage.

        Args:
            ids: of the documents; the versions of a document in several languages share one.
            vectors: of each document, as `encode_passages` of an encoder gives them; one dimension is a single vector.
            langs: the language of each document. If None, `und` (undetermined).
            titles: of each document. If None, empty.
            texts: of each document. If None, empty.
            doc_ids: the longer text that each is a passage of. If None, each is a document of its own.
            dtype: the type to multiply in. If None, `native_dtype(device)`.
            device: the device that holds the vectors.

        Raises:
            CorruptIndexError: the arguments have different lengths, a document is given twice in a language or has no vectors, or a
                number is not finite.
        """
        every = [torch.atleast_2d(torch.as_tensor(one)) for one in vectors]
        columns = {
            "passage_id": list(ids),
            "lang": ["und"] * len(ids) if langs is None else list(langs),
            "title": [""] * len(ids) if titles is None else list(titles),
            "text": [""] * len(ids) if texts is None else list(texts),
            "tokens": [len(one) for one in every],
        }
        columns |= {} if doc_ids is None else {"doc_id": list(doc_ids)}
        counts = {name: len(column) for name, column in columns.items()}
        if len(set(counts.values())) > 1:
            raise CorruptIndexError(
                f"documents: {counts.pop('tokens')} vectors of documents, but "
                + ", ".join(f"{count} of {name}" for name, count in counts.items())
            )
        columns = {
            "position": range(len(ids)),
            "doc_id": columns["passage_id"],
            "truncated": [False] * len(ids),
        } | columns
        arrays = [pa.array(columns[field.name], field.type) for field in DOCUMENTS.schema]
        return cls.from_vectors(every, pa.table(arrays, DOCUMENTS.schema.names), dtype, device)

    @classmethod
    def from_vectors(
        cls,
        vectors: Sequence[Float[Tensor, "_ D"]],
        documents: pa.Table,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> "ExactIndex":
        """Build an index in memory from a DOCUMENTS table and one tensor for each of its rows, in the order of its positions.

        Raises:
            CorruptIndexError: the table and the vectors disagree, a document has no vectors, or a number is not finite.
        """
        documents = check_documents(documents, "documents")
        if len(vectors) != len(documents):
            raise CorruptIndexError(f"documents: {len(documents)} documents but vectors of {len(vectors)}")
        for row, (vector, tokens) in enumerate(zip(vectors, documents["tokens"].to_pylist(), strict=True)):
            if vector.shape != (tokens, vectors[0].shape[1]):
                raise CorruptIndexError(
                    f"documents: document {name_of(documents, row)} has {tokens} tokens of {vectors[0].shape[1]} numbers"
                    f" but vectors of shape {list(vector.shape)}"
                )
        index = cls(documents, vectors[0].shape[1], dtype, device)
        index._fill("documents", torch.arange(len(documents)), torch.cat(list(vectors)))
        index._pad()
        return index

    def document(self, position: int) -> Document:
        """Return the document at a position; an `IndexError` if there is none."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is not one of the {len(self)} documents")
        return Document(position, *(self.documents[name][position].as_py() for name in Document._fields[1:]))

    def scores(self, queries: Float[Tensor, "Q T D"]) -> Float[Tensor, "Q N"]:
        """Return the score of every document for every query, in float32 on the CPU. Memory: nothing else grows with Q times N."""
        self._check_queries(queries)
        step = max(1, QUERY_VECTORS // queries.shape[1])
        chunks = [self._score(chunk, self._blocks) for chunk in queries.split(step)]
        return torch.cat(chunks) if chunks else torch.empty(0, len(self))

    def search(self, queries: Float[Tensor, "Q T D"], k: int, langs: Sequence[str] | None = None) -> list[list[Hit]]:
        """Return the k best documents for each query, best first, equal scores by position; all documents where there are fewer.

        Queries are scored a few at a time, so memory does not grow with Q.

        Args:
            queries: their vectors, as `encode_queries` of an encoder gives them.
            k: documents for each query, at least 1.
            langs: the languages to search; the cost is only their share. If None, all.

        Raises:
            ValueError: k is below 1, a language is unknown, or the queries have another shape or numbers that are not finite.
        """
        return [_hits(*top_k(scores, k)) for scores in self._searched(queries, k, langs)]

    def search_documents(
        self, queries: Float[Tensor, "Q T D"], k: int, langs: Sequence[str] | None = None
    ) -> list[list[Hit]]:
        """Return the best passage of each of the k best documents for each query, as `search` does passages (MaxP).

        A document is the passages of one `doc_id` in one language, and its score that of its best passage. Passages are joined before the
        list is cut, so k documents come out unless fewer exist.
        """
        found = []
        for scores in self._searched(queries, k, langs):
            values, numbers = self._groups.top_k(scores, k)
            found.append(_hits(values, self._groups.best_passages(scores, values, numbers)))
        return found

    @cached_property
    def _groups(self) -> Groups[tuple[str, str]]:
        keys = zip(self.documents["doc_id"].to_pylist(), self.documents["lang"].to_pylist(), strict=True)
        return Groups(list(keys))

    def _searched(
        self, queries: Float[Tensor, "Q T D"], k: int, langs: Sequence[str] | None
    ) -> Iterator[Float[Tensor, "1 N"]]:
        """Yield the scores of each query, minus infinity in languages that are not searched; raise ValueError as `search` says."""
        self._check_queries(queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        wanted = set(self.languages if langs is None else langs)
        if wanted - set(self.languages):
            raise ValueError(
                f"no documents in {sorted(wanted - set(self.languages))}; the index has {list(self.languages)}"
            )
        blocks = [block for block in self._blocks if block.lang in wanted]
        step = max(1, QUERY_VECTORS // queries.shape[1])
        for chunk in queries.split(step) if len(queries) else ():
            yield from (row[None] for row in self._score(chunk, blocks))

    def _check_queries(self, queries: Tensor) -> None:
        if queries.ndim != 3 or queries.shape[2] != self.dim or queries.shape[1] == 0:
            raise ValueError(f"queries must have the shape [queries, vectors, {self.dim}], found {list(queries.shape)}")
        if not bool(torch.isfinite(queries).all()):
            raise ValueError("queries hold numbers that are not finite")

    def _score(self, queries: Float[Tensor, "q T D"], blocks: Sequence[_Block]) -> Float[Tensor, "q N"]:
        """Return the scores of documents in the blocks; minus infinity for others."""
        queries = queries.to(self.device, self.dtype)
        scores = torch.full((len(queries), len(self)), -torch.inf)
        for block in blocks:
            scores[:, block.positions] = block_maxsim(queries, self._vectors(block)).cpu()
        return scores

    def _vectors(self, block: _Block) -> Float[Tensor, "L n D"]:
        return self._store[block.rows].view(block.length, -1, self.dim)

    def _cut(self, tokens: Int[np.ndarray, " N"], names: Sequence[str]) -> Iterator[_Block]:
        """Cut the documents into blocks and lay out the store."""
        codes = self._codes.numpy()
        order = np.lexsort((-tokens, codes))  # stable: positions ascend among equals
        start, row = 0, 0
        while start < len(order):
            longest, code = int(tokens[order[start]]), int(codes[order[start]])
            window = order[start : start + max(1, BLOCK_VECTORS // longest)]
            fits = (codes[window] == code) & (tokens[window] >= SHORTEST * longest)
            count = len(window) if fits.all() else int(np.argmin(fits))
            positions = torch.from_numpy(window[:count])
            block = _Block(names[code], positions, slice(row, row + longest * count), longest)
            self._first[positions] = row + torch.arange(count)
            self._stride[positions] = count
            start, row = start + count, block.rows.stop
            yield block

    def _fill(self, source: str, positions: Int[Tensor, " n"], values: Float[Tensor, "m D"]) -> None:
        """Store the vectors of some documents, which lie one document after the other."""
        lengths = self._tokens[positions]
        owner = torch.repeat_interleave(torch.arange(len(positions)), lengths)
        finite = torch.isfinite(values).all(1)
        if not bool(finite.all()):
            position = int(positions[owner[(~finite).nonzero()[0, 0]]])
            raise CorruptIndexError(
                f"{source}: document {name_of(self.documents, position)} has vectors that are not finite"
            )
        step = torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
        rows = self._first[positions][owner] + step * self._stride[positions][owner]
        self._store[rows.to(self.device)] = values.to(self.device, self.dtype)

    def _pad(self) -> None:
        """Repeat the first vector of documents that are shorter than their block."""
        for block in self._blocks:
            repeat_first(self._vectors(block), self._tokens[block.positions])


def _hits(scores: Float[Tensor, "1 K"], positions: Int[Tensor, "1 K"]) -> list[Hit]:
    """Return the hits of one query; what is in no language that was searched is left out."""
    pairs = zip(positions[0].tolist(), scores[0].tolist(), strict=True)
    return [Hit(position, score) for position, score in pairs if score > -torch.inf]
