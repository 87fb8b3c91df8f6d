"""Reported inputs of the sources stage."""

from pathlib import Path

from distill.formats.settings import QueryFields
from distill.sources.settings import BeirSource, FileSource
from distill.sources.stage import ingest
from tests.cases import case
from tests.workspaces import LocalWorkspace


def test_a_beir_folder_with_a_judgement_of_a_document_that_the_corpus_lacks(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "sources")
    source = BeirSource(path=str(case("02-beir-dangling-qrel") / "arguana"))
    ingest(workspace, source, "en", ("de",), 0.05)
    assert len(workspace.output("qrels")) == 30
    (left_out,) = workspace.output("rejected").to_pylist()
    assert (left_out["line"], left_out["field"]) == (32, "passage")
    assert "test-free-speech-debate-yfsdfkhbwu-con03b" in left_out["reason"]


def test_a_text_of_invisible_characters_is_rejected(tmp_path: Path) -> None:
    data = case("10-strange-characters") / "data"
    source = FileSource(
        root=str(data),
        passages=("p.jsonl",),
        queries=("q.jsonl",),
        qrels=("t.qrels",),
        query_fields=QueryFields(split="split"),
    )
    workspace = LocalWorkspace(tmp_path, "sources")
    ingest(workspace, source, "en", ("de",), 0.5)
    texts = [*workspace.output("passages")["text"].to_pylist(), *workspace.output("queries")["text"].to_pylist()]
    assert not [text for text in texts if not text.strip("\u200b\u200c\ufeff \n\t")]
