"""Exact search, against scores worked by hand and against a naive double loop in float64."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import torch

from distill.index import exact as index_module
from distill.index.exact import Document, ExactIndex, Hit, native_dtype
from distill.index.reading import CorruptIndexError
from distill.tables import DOCUMENTS, VECTORS


def documents(tokens: list[int], langs: list[str] | None = None) -> pa.Table:
    langs = langs or ["en"] * len(tokens)
    rows = [
        {
            "position": i,
            "passage_id": f"p{i}",
            "doc_id": f"p{i}",
            "lang": lang,
            "title": f"title {i}",
            "text": f"text {i}",
            "tokens": count,
            "truncated": False,
        }
        for i, (count, lang) in enumerate(zip(tokens, langs, strict=True))
    ]
    return DOCUMENTS.from_rows(rows)


def ragged(count: int, dim: int, seed: int = 0, longest: int = 40) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [torch.nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=1) for n in lengths]


def naive(queries: torch.Tensor, vectors: list[torch.Tensor]) -> torch.Tensor:
    rows = [[(query.double() @ vector.double().T).max(dim=1).values.sum() for vector in vectors] for query in queries]
    return torch.tensor(rows, dtype=torch.float64)


def write(folder: Path, table: pa.Table, vectors: list[np.ndarray], files: int = 1) -> None:
    (folder / "documents").mkdir(parents=True)
    (folder / "vectors").mkdir()
    rows = [{"position": i, "vectors": v.astype(np.float16).reshape(-1)} for i, v in enumerate(vectors)]
    bounds = np.linspace(0, max(len(table), len(rows)), files + 1).astype(int)
    for number, (start, end) in enumerate(itertools.pairwise(bounds)):
        pq.write_table(table.slice(start, end - start), folder / "documents" / f"{number:05d}.parquet")
        pq.write_table(VECTORS.from_rows(rows[start:end]), folder / "vectors" / f"{number:05d}.parquet")


def opened(folder: Path, dtype: torch.dtype | None = None) -> ExactIndex:
    return ExactIndex.open(pafs.LocalFileSystem(), str(folder), dtype)


# Two query vectors, three documents of 1, 2 and 3 vectors. Maxima over each document's vectors:
#   q0 = (1, 0): d0 0.5;  d1 max(1, 0) = 1;      d2 max(-1, -2, 0) = 0
#   q1 = (0, 2): d0 1.0;  d1 max(0, 0.5) = 0.5;  d2 max(0, -2, 6) = 6
HAND_VECTORS = [
    torch.tensor([[0.5, 0.5]]),
    torch.tensor([[1.0, 0.0], [0.0, 0.25]]),
    torch.tensor([[-1.0, 0.0], [-2.0, -1.0], [0.0, 3.0]]),
]
HAND_QUERY = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
HAND_SCORES = [[1.5, 1.5, 6.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_worked_by_hand(dtype: torch.dtype) -> None:
    index = ExactIndex.from_vectors(HAND_VECTORS, documents([1, 2, 3]), dtype)
    assert index.scores(HAND_QUERY).tolist() == HAND_SCORES
    assert index.scores(HAND_QUERY).dtype == torch.float32


def test_padding_never_wins() -> None:
    # Eight and seven vectors share a block. All products are negative: a padding of zeros would win with 0.
    eight, seven = -torch.ones(8, 2), -torch.ones(7, 2)
    index = ExactIndex.from_vectors([eight, seven], documents([8, 7]), torch.float32)
    assert len(index._blocks) == 1
    assert index.scores(torch.ones(1, 3, 2)).tolist() == [[-6.0, -6.0]]


def test_equal_scores_rank_by_position() -> None:
    index = ExactIndex.from_vectors(HAND_VECTORS, documents([1, 2, 3]), torch.float32)
    assert index.search(HAND_QUERY, 3) == [[Hit(2, 6.0), Hit(0, 1.5), Hit(1, 1.5)]]
    assert index.search(HAND_QUERY, 2) == [[Hit(2, 6.0), Hit(0, 1.5)]]


def test_many_ties_at_the_last_place_go_to_the_first_positions() -> None:
    same = [torch.tensor([[1.0, 0.0]])] * 500 + [torch.tensor([[2.0, 0.0]])]
    index = ExactIndex.from_vectors(same, documents([1] * 501), torch.float32)
    assert [hit.position for hit in index.search(torch.tensor([[[1.0, 0.0]]]), 4)[0]] == [500, 0, 1, 2]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_equal_to_a_naive_double_loop(dtype: torch.dtype, tolerance: float) -> None:
    vectors = ragged(120, 16)
    langs = [("de", "en", "fa")[i % 3] for i in range(120)]
    queries = torch.nn.functional.normalize(torch.randn(10, 8, 16, generator=torch.Generator().manual_seed(1)), dim=2)
    index = ExactIndex.from_vectors(vectors, documents([len(v) for v in vectors], langs), dtype)
    expected = naive(queries, vectors)
    torch.testing.assert_close(index.scores(queries).double(), expected, atol=tolerance, rtol=0)
    for hits, row in zip(index.search(queries, 10), expected, strict=True):
        assert [h.score for h in hits] == pytest.approx(row.topk(10).values.tolist(), abs=tolerance)
    if dtype == torch.float32:
        assert [[h.position for h in hits] for hits in index.search(queries, 10)] == expected.topk(10).indices.tolist()


def test_blocks_and_query_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = ragged(60, 8)
    queries = torch.randn(9, 4, 8, generator=torch.Generator().manual_seed(2))
    table = documents([len(v) for v in vectors])
    whole = ExactIndex.from_vectors(vectors, table, torch.float32)
    monkeypatch.setattr(index_module, "BLOCK_VECTORS", 64)
    monkeypatch.setattr(index_module, "QUERY_VECTORS", 8)
    cut = ExactIndex.from_vectors(vectors, table, torch.float32)
    assert len(cut._blocks) > len(whole._blocks)
    torch.testing.assert_close(cut.scores(queries), whole.scores(queries), atol=1e-6, rtol=1e-6)
    assert [[h.position for h in hits] for hits in cut.search(queries, 7)] == [
        [h.position for h in hits] for hits in whole.search(queries, 7)
    ]


def test_padding_stays_below_one_eighth() -> None:
    vectors = ragged(2000, 4, longest=200)
    index = ExactIndex.from_vectors(vectors, documents([len(v) for v in vectors]), torch.float32)
    assert index.vectors == sum(len(v) for v in vectors)
    assert index.vectors <= index.nbytes / 16 <= index.vectors / 0.875


def test_search_in_some_languages() -> None:
    langs = ["de", "en", "de", "fa"]
    index = ExactIndex.from_vectors(
        [torch.tensor([[float(i)]]) for i in range(4)], documents([1] * 4, langs), torch.float32
    )
    query = torch.tensor([[[1.0]]])
    assert index.languages == ("de", "en", "fa")
    assert index.search(query, 10) == [[Hit(3, 3.0), Hit(2, 2.0), Hit(1, 1.0), Hit(0, 0.0)]]
    assert index.search(query, 10, ["de"]) == [[Hit(2, 2.0), Hit(0, 0.0)]]
    assert index.search(query, 1, ["de", "en"]) == [[Hit(2, 2.0)]]
    assert index.search(query, 10, []) == [[]]


@pytest.mark.parametrize(
    ("query", "k", "langs", "message"),
    [
        (torch.ones(1, 1, 1), 0, None, "k must be at least 1, found 0"),
        (torch.ones(1, 1, 1), 1, ["xx"], "no documents in ['xx']; the index has ['en']"),
        (torch.ones(1, 1, 2), 1, None, "queries must have the shape [queries, vectors, 1], found [1, 1, 2]"),
        (torch.full((1, 1, 1), torch.nan), 1, None, "queries hold numbers that are not finite"),
    ],
)
def test_impossible_searches(query: torch.Tensor, k: int, langs: list[str] | None, message: str) -> None:
    index = ExactIndex.from_vectors([torch.ones(1, 1)], documents([1]), torch.float32)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        index.search(query, k, langs)


def test_build_from_memory() -> None:
    index = ExactIndex.build(
        ["a", "b", "b"], HAND_VECTORS, ["en", "en", "fa"], ["A", "B", "B"], ["one", "two", "three"], dtype=torch.float32
    )
    assert index.search(HAND_QUERY, 2) == [[Hit(2, 6.0), Hit(0, 1.5)]]
    assert index.search(HAND_QUERY, 2, ["en"]) == [[Hit(0, 1.5), Hit(1, 1.5)]]
    assert index.document(2) == Document(2, "b", "fa", "B", "three", "b")


def test_documents_rank_by_their_best_passages() -> None:
    """Passages of d1 have scores 6, 5, 5 and 1 in English and 4 in German, those of d2 have 3 and 3, and d3 is one passage."""
    passages = [
        ("d1", "en", 5.0),
        ("d1", "en", 6.0),
        ("d1", "en", 5.0),
        ("d1", "en", 1.0),
        ("d2", "en", 3.0),
        ("d2", "en", 3.0),
    ]
    passages += [("d1", "de", 4.0), ("d3", "de", 2.0)]
    index = ExactIndex.build(
        [f"p{i}" for i in range(8)],
        [torch.tensor([[score]]) for *_, score in passages],
        [lang for _, lang, _ in passages],
        doc_ids=[doc for doc, *_ in passages],
        dtype=torch.float32,
    )
    query = torch.ones(2, 1, 1)
    # d1 in German is another document; the best of equal passages is the first.
    best = [Hit(1, 6.0), Hit(6, 4.0), Hit(4, 3.0), Hit(7, 2.0)]
    for k in (1, 2, 3, 4, 9):
        assert index.search_documents(query, k) == [best[:k]] * 2
    assert index.search_documents(query, 9, ["en"]) == [[best[0], best[2]]] * 2
    assert index.search_documents(query[:0], 9) == []
    assert index.search(query, 3) == [[Hit(1, 6.0), Hit(0, 5.0), Hit(2, 5.0)]] * 2
    assert index.document(4).doc_id == "d2"


@pytest.mark.parametrize("form", [np.asarray, torch.tensor])
def test_build_from_single_vectors(form: Callable) -> None:
    index = ExactIndex.build(["a", "b"], form([[1.0, 0.0], [0.5, 2.0]]), dtype=torch.float32)
    assert (len(index), index.vectors, index.languages) == (2, 2, ("und",))
    assert index.search(torch.tensor([[[1.0, 1.0]]]), 1) == [[Hit(1, 2.5)]]
    assert index.document(1) == Document(1, "b", "und", "", "", "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": ["a"]}, "documents: 2 vectors of documents, but 1 of passage_id, 1 of lang, 1 of title, 1 of text"),
        ({"langs": ["en"]}, "documents: 2 vectors of documents, but 2 of passage_id, 1 of lang, 2 of title, 2 of text"),
        ({"vectors": [torch.ones(1, 2), torch.ones(1, 3)]}, "document 'b' (und, position 1) has 1 tokens of 2 numbers"),
        ({"vectors": [torch.ones(1, 2), torch.ones(0, 2)]}, "1 documents have no vectors and so no score"),
        (
            {"vectors": torch.tensor([[1.0], [torch.inf]])},
            "document 'b' (und, position 1) has vectors that are not finite",
        ),
        ({"ids": ["a", "a"]}, "1 repeated keys, among them (passage_id 'a', lang 'und')"),
        ({"ids": [], "vectors": []}, "there are no documents"),
    ],
)
def test_build_from_what_disagrees(arguments: dict, message: str) -> None:
    with pytest.raises(CorruptIndexError, match=re.escape(message)):
        ExactIndex.build(**{"ids": ["a", "b"], "vectors": torch.ones(2, 1)} | arguments)


def test_document() -> None:
    index = ExactIndex.from_vectors(HAND_VECTORS, documents([1, 2, 3], ["en", "fa", "de"]))
    assert index.document(1) == Document(1, "p1", "fa", "title 1", "text 1", "p1")
    with pytest.raises(IndexError, match="position 3 is not one of the 3 documents"):
        index.document(3)


def test_native_dtype_is_one_that_the_machine_multiplies() -> None:
    assert native_dtype() in {torch.float32, torch.bfloat16}


@pytest.mark.parametrize("files", [1, 3])
def test_open_reads_what_was_written(tmp_path: Path, files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.index.reading.READ_DOCUMENTS", 7)
    vectors = [v.half().float() for v in ragged(50, 8)]
    table = documents([len(v) for v in vectors], ["de", "en"] * 25)
    write(tmp_path / "index", table, [v.numpy() for v in vectors], files)
    index = opened(tmp_path / "index", dtype=torch.float32)
    queries = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(3))
    assert (len(index), index.dim, index.languages) == (50, 8, ("de", "en"))
    torch.testing.assert_close(index.scores(queries).double(), naive(queries, vectors), atol=1e-5, rtol=0)


def test_open_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(CorruptIndexError, match="there is no table 'documents'; run the index stage"):
        opened(tmp_path)
    write(tmp_path / "index", documents([1]), [np.ones((1, 2))])
    (tmp_path / "index/vectors/00000.parquet").unlink()
    with pytest.raises(CorruptIndexError, match="there is no table 'vectors'"):
        opened(tmp_path / "index")


def test_open_a_truncated_file(tmp_path: Path) -> None:
    write(tmp_path / "index", documents([1]), [np.ones((1, 2))])
    file = tmp_path / "index/vectors/00000.parquet"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CorruptIndexError, match=r"vectors/00000.parquet: Parquet magic bytes not found"):
        opened(tmp_path / "index")


@pytest.mark.parametrize(
    ("tokens", "shapes", "message"),
    [
        ([1, 2], [(1, 2), (3, 2)], "document 'p1' (en, position 1) has 2 tokens of 2 numbers but 6 numbers"),
        (
            [3, 1],
            [(1, 2), (1, 2)],
            "document 'p0' (en, position 0) has 3 tokens but 2 numbers, not a whole vector for each",
        ),
        ([1, 1, 1], [(1, 2), (1, 2)], "1 of 3 documents have no row in 'vectors', the first is 'p2' (en, position 2)"),
        ([1], [(1, 2), (1, 2)], "position 1 is not one of the 1 documents"),
        ([1, 0], [(1, 2), (0, 2)], "1 documents have no vectors and so no score, the first is 'p1' (en, position 1)"),
        ([], [(1, 2)], "there are no documents"),
    ],
)
def test_tables_that_disagree(tmp_path: Path, tokens: list[int], shapes: list[tuple[int, int]], message: str) -> None:
    write(tmp_path / "index", documents(tokens), [np.ones(shape) for shape in shapes])
    with pytest.raises(CorruptIndexError) as error:
        opened(tmp_path / "index")
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "index"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite(tmp_path: Path, value: float) -> None:
    vectors = [np.ones((2, 3)), np.ones((4, 3)), np.ones((1, 3))]
    vectors[1][2, 1] = value
    write(tmp_path / "index", documents([2, 4, 1]), vectors)
    with pytest.raises(CorruptIndexError, match=r"document 'p1' \(en, position 1\) has vectors that are not finite"):
        opened(tmp_path / "index")


def test_a_second_row_for_a_document(tmp_path: Path) -> None:
    write(tmp_path / "index", documents([1, 1]), [np.ones((1, 2))] * 2)
    file = tmp_path / "index/vectors/00000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 1), tmp_path / "index/vectors/00001.parquet")
    with pytest.raises(
        CorruptIndexError, match=r"00001.parquet: document 'p0' \(en, position 0\) has a second row in 'vectors'"
    ):
        opened(tmp_path / "index")


def test_positions_with_a_gap() -> None:
    table = documents([1, 1]).set_column(0, "position", pa.array([0, 2], pa.int64()))
    with pytest.raises(CorruptIndexError, match="positions must run from 0 to 1 without gaps, found 2 in row 1"):
        ExactIndex.from_vectors([torch.ones(1, 1)] * 2, table)


def test_documents_that_break_their_contract() -> None:
    with pytest.raises(CorruptIndexError, match="not a 'documents' table: column 'lang' is missing"):
        ExactIndex.from_vectors([torch.ones(1, 1)], documents([1]).drop_columns("lang"))


def test_vectors_of_the_wrong_shape() -> None:
    with pytest.raises(CorruptIndexError, match=r"has 2 tokens of 2 numbers but vectors of shape \[3, 2\]"):
        ExactIndex.from_vectors([torch.ones(3, 2)], documents([2]))
