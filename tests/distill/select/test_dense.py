import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoConfig

from cluster.stored_table import StoredTable
from distill.encoders.checkpoints.pooled import load_pooled
from distill.encoders.settings import PooledEncoder
from distill.formats.vectors import vector_blocks
from distill.models.locate import ModelError
from distill.select.dense import load_faiss
from distill.select.settings import DenseSelector, SelectSettings
from distill.select.stage import select
from distill.tables import PASSAGE_INDEX, PASSAGE_VECTORS, PASSAGES, QUERIES
from tests.workspaces import LocalWorkspace

WORDS = ["bee", "honey", "river", "bridge", "stone", "city", "map", "light", "wave", "sound", "sun", "flower"]
TEXTS = {f"p{i:02d}": " ".join(np.random.default_rng(i).choice(WORDS, 2 + i % 7)) for i in range(60)}
ASKED = {f"q{i}": f"{WORDS[i]} {WORDS[-i]}" for i in range(1, 8)}


def sources() -> dict:
    passages = [
        {"passage_id": i, "doc_id": i, "lang": "en", "title": "t" if i == "p03" else "", "text": text}
        for i, text in reversed(TEXTS.items())
    ]
    queries = [{"query_id": q, "lang": "en", "text": text, "split": "train"} for q, text in ASKED.items()]
    return {"sources": {"passages": PASSAGES.from_rows(passages), "queries": QUERIES.from_rows(queries)}}


def run(
    folder: Path, encoder: PooledEncoder, top_k: int = 5, factory: str | None = None, nprobe: int = 64
) -> LocalWorkspace:
    workspace = LocalWorkspace(folder, "select", sources())
    by = DenseSelector(encoder=encoder, top_k=top_k, factory=factory, nprobe=nprobe, passages_per_shard=25)
    select(workspace, SelectSettings(by=by, queries_per_shard=3), "en")
    return workspace


def found(workspace: LocalWorkspace) -> dict[str, list[str]]:
    return {row["query_id"]: row["passage_ids"] for row in workspace.output("candidates").to_pylist()}


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> PooledEncoder:
    return PooledEncoder(model=str(tiny_bert), query_prefix="sun ", passage_prefix="map ")


@pytest.fixture(scope="module")
def expected(encoder: PooledEncoder) -> dict[str, list[str]]:
    """By hand: prefixes, titles, inner products, ids in order."""
    model = load_pooled(PooledEncoder(model=encoder.model), "float32", "cpu", "select.by.encoder")
    texts = [f"map {'t ' if i == 'p03' else ''}{text}" for i, text in TEXTS.items()]
    passages = torch.cat(model.encode_passages(texts)).numpy()
    queries = torch.cat(model.encode_passages([f"sun {text}" for text in ASKED.values()])).numpy()
    order = np.argsort(-(queries @ passages.T), axis=1, kind="stable")
    return {q: [list(TEXTS)[i] for i in row] for q, row in zip(ASKED, order, strict=True)}


def test_exact_search_equals_brute_force(
    tmp_path: Path, encoder: PooledEncoder, expected: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.numerics.blocks._SIMILARITIES", 30)
    monkeypatch.setattr("distill.formats.vectors.BLOCK_ROWS", 13)
    workspace = run(tmp_path, encoder)
    assert found(workspace) == {q: ids[:5] for q, ids in expected.items()}
    assert workspace.computed == [0, 1, 2, 4, 5, 6]
    vectors = PASSAGE_VECTORS.check(workspace.output("passage_vectors"))
    assert vectors["passage_id"].to_pylist() == sorted(TEXTS)
    assert set(workspace.output("candidates")["selector"].to_pylist()) == {f"dense:{encoder.model}"}


def test_more_candidates_than_passages(tmp_path: Path, encoder: PooledEncoder, expected: dict) -> None:
    assert found(run(tmp_path, encoder, top_k=100)) == expected


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
def test_a_faiss_index_that_looks_everywhere_is_exact(
    tmp_path: Path, encoder: PooledEncoder, expected: dict, factory: str
) -> None:
    pytest.importorskip("faiss")
    workspace = run(tmp_path, encoder, factory=factory, nprobe=4)
    assert found(workspace) == {q: ids[:5] for q, ids in expected.items()}
    assert PASSAGE_INDEX.check(workspace.output("passage_index")).to_pylist() == [
        {"file": "passages.faiss", "factory": factory, "vectors": 60}
    ]
    assert workspace.computed == [0, 1, 2, 3, 4, 5, 6]


def test_nprobe_reaches_the_index(tmp_path: Path, encoder: PooledEncoder) -> None:
    """One of four lists holds fewer than sixty passages; all four hold all."""
    pytest.importorskip("faiss")
    one = found(run(tmp_path / "one", encoder, top_k=60, factory="IVF4,Flat", nprobe=1))
    every = found(run(tmp_path / "all", encoder, top_k=60, factory="IVF4,Flat", nprobe=4))
    assert all(0 < len(ids) < 60 for ids in one.values())
    assert all(len(ids) == 60 for ids in every.values())


@pytest.mark.parametrize(
    ("factory", "reason"), [("Nonsense", "could not parse"), ("IVF4096,Flat", "Number of training points")]
)
def test_a_factory_that_faiss_refuses_is_named(
    tmp_path: Path, encoder: PooledEncoder, factory: str, reason: str
) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(
        ModelError, match=rf"select.by.factory '{factory}' for 60 training vectors of 32 numbers: .*{reason}"
    ):
        run(tmp_path, encoder, factory=factory)


def test_training_vectors_are_evenly_spaced(
    tmp_path: Path, encoder: PooledEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 of 60: every ninth one, across blocks of 13."""
    faiss = pytest.importorskip("faiss")
    trained = []
    factory = faiss.index_factory

    def spy(*arguments: object) -> object:
        index = factory(*arguments)
        train = index.train
        index.train = lambda sample: (trained.append(sample.copy()), train(sample))
        return index

    monkeypatch.setattr(faiss, "index_factory", spy)
    monkeypatch.setattr("distill.formats.vectors.BLOCK_ROWS", 13)
    workspace = LocalWorkspace(tmp_path, "select", sources())
    select(workspace, SelectSettings(by=DenseSelector(encoder=encoder, factory="Flat", training_vectors=7)), "en")
    stored = StoredTable.open(workspace.filesystem, f"{workspace.folder}/passage_vectors")
    every = np.concatenate([block for _, block in vector_blocks(stored)])
    assert np.array_equal(trained[0], every[::9])


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModelError, match=r"pip install 'polyray\[cpu\]'"):
        load_faiss()


def test_vectors_are_those_of_the_encoders_own_folder(tmp_path: Path, tiny_bert: Path) -> None:
    """A checkpoint that pools the first token and has a Dense after it, by sentence-transformers."""
    size = int(AutoConfig.from_pretrained(tiny_bert).hidden_size)
    torch.manual_seed(5)
    modules = [Transformer(str(tiny_bert)), Pooling(size, pooling_mode="cls"), Dense(size, 12), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    workspace = run(tmp_path / "work", PooledEncoder(model=str(tmp_path / "model")))
    vectors = {row["passage_id"]: row["vector"] for row in workspace.output("passage_vectors").to_pylist()}
    texts = [("t " if i == "p03" else "") + text for i, text in TEXTS.items()]
    assert np.allclose([vectors[i] for i in TEXTS], theirs.encode(texts), atol=1e-5)
