from pathlib import Path

import pytest
import torch
from torch.nn import functional

from distill.encoders.checkpoints import load_encoder
from distill.meta.settings import MetaEvaluateSettings
from distill.meta.tasks.vectors import encode_source, encode_texts, mean_direction, read_vectors, size_of
from distill.tables import QUESTION_VECTORS, TableError
from tests.distill.meta.samples import questions, save_single_vector
from tests.workspaces import LocalWorkspace

SETTINGS = MetaEvaluateSettings(texts_per_shard=10)


@pytest.fixture(scope="module")
def single(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    save_single_vector(tiny_bert, folder / "start")
    return folder


def encoded(tmp_path: Path, checkpoint: Path) -> LocalWorkspace:
    workspace = LocalWorkspace(tmp_path, "vectors", {"meta_sources": questions()})
    workspace._inputs["meta_start"] = str(checkpoint.parent)
    encode_source(workspace, SETTINGS, "meta_sources", "meta_start")
    return workspace


def test_vectors_are_the_encoders_in_the_order_of_the_source(tmp_path: Path, single: Path) -> None:
    workspace = encoded(tmp_path, single / "start")
    encoder = load_encoder(single / "start")
    source = questions()
    ids, vectors = read_vectors(workspace.output("question_vectors"))
    assert ids == source["questions"]["question_id"].to_pylist()
    torch.testing.assert_close(vectors, encoder.encode_queries(source["questions"]["text"].to_pylist())[:, 0])
    ids, vectors = read_vectors(workspace.output("answer_vectors"))
    assert ids == source["answers"]["answer_id"].to_pylist()
    expected = encoder.encode_passages(source["answers"]["text"].to_pylist())
    torch.testing.assert_close(vectors, torch.cat(expected))
    # 24 questions and 36 candidates in shards of 10: one holds some of both.
    assert workspace.computed == [0, 1, 2, 3, 4, 5]


def test_late_interaction_is_pooled_to_its_normalised_mean(tmp_path: Path, tiny_student: Path) -> None:
    (tmp_path / "meta_start").mkdir()
    (tmp_path / "meta_start" / "start").symlink_to(tiny_student)
    workspace = encoded(tmp_path, tmp_path / "meta_start" / "start")
    texts = questions()["answers"]["text"].to_pylist()
    expected = [functional.normalize(v.mean(0), dim=0) for v in load_encoder(tiny_student).encode_passages(texts)]
    torch.testing.assert_close(read_vectors(workspace.output("answer_vectors"))[1], torch.stack(expected))


def test_kept_vectors_of_late_interaction(tmp_path: Path, tiny_student: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "evaluate")
    source = questions()
    count = encode_texts(workspace, SETTINGS, str(tiny_student), source["questions"], source["answers"])
    assert count == 6
    rows = workspace.output("question_vectors")
    assert set(rows["count"].to_pylist()) == {8}
    assert size_of(rows) == 16
    expected = load_encoder(tiny_student).encode_queries(source["questions"]["text"].to_pylist())
    found = torch.tensor(rows["vectors"].to_pylist()).view(-1, 8, 16)
    torch.testing.assert_close(found, expected)
    with pytest.raises(TableError, match=r"question_id 'x0-0-de' has 8 vectors; neighbours need one each"):
        read_vectors(rows)


def test_small_batches_of_questions_change_nothing(single: Path, tiny_student: Path) -> None:
    texts = questions()["questions"]["text"].to_pylist()
    for folder in (single / "start", tiny_student):
        encoder = load_encoder(folder)
        whole = encoder.encode_each_query(texts, 10_000)
        for one, other in zip(encoder.encode_each_query(texts, 8), whole, strict=True):
            torch.testing.assert_close(one, other)


def test_the_direction_of_no_vectors_is_none() -> None:
    """A candidate of punctuation only keeps no vector; its mean must not be 0 by 0."""
    assert mean_direction(torch.zeros(0, 3)).tolist() == [0, 0, 0]
    assert mean_direction(torch.tensor([[3.0, 0], [0, 4]])).tolist() == pytest.approx([0.6, 0.8])


def test_tables_without_vectors() -> None:
    with pytest.raises(TableError, match="no vector among 0 rows of question_id"):
        size_of(QUESTION_VECTORS.empty())
