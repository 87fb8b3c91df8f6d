"""Collections whose queries are passages of their own, under the same ids."""

import json
from pathlib import Path

import pytest

from distill.sources.settings import BeirSource, BundledSource, FileSource, IrDatasetsSource, Source
from distill.sources.stage import ingest
from tests.workspaces import LocalWorkspace


def beir(folder: Path, *, drop: bool | None = None) -> BeirSource:
    """Arguments a1 and a2, both of them queries too, and their counter-arguments; a1 is judged to answer itself, too."""
    (folder / "qrels").mkdir(parents=True)
    texts = {"a1": "bees are useful", "b1": "bees sting", "a2": "bridges last", "b2": "bridges fall"}
    corpus = [{"_id": i, "title": "", "text": text} for i, text in texts.items()]
    queries = [{"_id": i, "text": texts[i]} for i in ("a1", "a2")]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\na1\tb1\t1\na1\ta1\t1\na2\tb2\t1\n")
    return BeirSource(path=str(folder), drop_self_matches=drop)


def run(tmp_path: Path, source: Source) -> LocalWorkspace:
    workspace = LocalWorkspace(tmp_path, "sources")
    ingest(workspace, source, "en", ("de",), 0.0)
    return workspace


def pairs(workspace: LocalWorkspace) -> list[tuple[str, str]]:
    return [(row["query_id"], row["passage_id"]) for row in workspace.output("qrels").to_pylist()]


def test_a_judgement_of_a_querys_own_id_is_left_out(tmp_path: Path) -> None:
    workspace = run(tmp_path, beir(tmp_path / "data", drop=True))
    assert pairs(workspace) == [("a1", "b1"), ("a2", "b2")]
    assert workspace.facts == {"left_out_qrels": {"of a query's own id": 1}}
    assert workspace.warnings == []


def test_queries_that_are_passages_are_told_of(tmp_path: Path) -> None:
    workspace = run(tmp_path, beir(tmp_path / "data"))
    assert pairs(workspace) == [("a1", "b1"), ("a1", "a1"), ("a2", "b2")]
    [warning] = workspace.warnings
    assert warning.startswith(
        "2 queries are passages of the same id and text, so each finds itself first; source.drop_"
    )


def test_equal_ids_of_other_texts_say_nothing(tmp_path: Path) -> None:
    source = beir(tmp_path / "data")
    queries = [{"_id": i, "text": "another"} for i in ("a1", "a2")]
    (tmp_path / "data" / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    assert run(tmp_path, source).warnings == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (BeirSource(path="s3://bucket/beir/arguana"), True),
        (BeirSource(path="/data/ArguAna/"), True),
        (BeirSource(path="data/nano-quora"), True),
        (BeirSource(path="/arguana/scifact"), False),
        (BeirSource(path="quorate"), False),
        (BeirSource(path="arguana", drop_self_matches=False), False),
        (IrDatasetsSource(passages={"en": "beir/arguana"}, queries={"test": "beir/arguana"}), True),
        (IrDatasetsSource(passages={"en": "beir/quora"}, queries={"dev": "beir/quora/dev"}), True),
        (IrDatasetsSource(passages={"en": "beir/scifact"}, queries={"test": "beir/scifact/test"}), False),
        (FileSource(root="arguana", passages=("p.tsv",), queries=("q.tsv",)), False),
        (FileSource(passages=("p.tsv",), queries=("q.tsv",), drop_self_matches=True), True),
        (BundledSource(), False),
    ],
)
def test_the_sets_that_need_it_are_known_by_name(source: Source, *, expected: bool) -> None:
    assert source.without_own_ids is expected
