"""Reported inputs of the sources stage."""

from pathlib import Path

from distill.sources.settings import BeirSource
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
