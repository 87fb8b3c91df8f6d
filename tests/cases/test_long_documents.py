"""Documents cut into passages and judged by document, and texts that a student reads the beginning of."""

import json
from pathlib import Path

import pyarrow as pa

from distill.encoders.checkpoints import load_encoder
from distill.formats.settings import PassageFields
from distill.index.settings import IndexSettings
from distill.index.stage import encode
from distill.models.locate import BUNDLED_STUDENT, locate
from distill.sources.settings import CutSettings, FileSource
from distill.sources.stage import ingest
from distill.tables import PARTS, PASSAGES, TRANSLATIONS
from tests.cases import case
from tests.workspaces import LocalWorkspace

FILLER = "The committee met again and talked about the budget of the town. " * 40
ANSWER = "The stone bridge over the river was built in 1672."


def test_passages_judged_by_document_are_read(tmp_path: Path) -> None:
    case("21-long-documents")
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        {"id": f"d{i}_{k}", "doc": f"d{i}", "text": f"part {k} of document {i}"} for i in range(20) for k in range(3)
    ]
    (data / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "q.tsv").write_text("q1\tone\n")
    (data / "t.qrels").write_text("q1 0 d3 1\n")
    fields = PassageFields(doc_id="doc")
    source = FileSource(
        root=str(data), passages=("p.jsonl",), queries=("q.tsv",), qrels=("t.qrels",), passage_fields=fields
    )
    workspace = LocalWorkspace(tmp_path, "sources")
    ingest(workspace, source, "en", ("de",), 0.01)
    assert workspace.output("qrels").to_pylist() == [{"query_id": "q1", "passage_id": "d3", "relevance": 1}]
    assert len(workspace.output("parts")) == 60
    assert workspace.facts["judged"] == "documents"


def test_an_answer_behind_the_last_token_is_said_to_be_unread_and_found_once_the_text_is_cut(tmp_path: Path) -> None:
    case("21-long-documents")
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "checkpoint").symlink_to(locate(BUNDLED_STUDENT))
    texts = {"d1": FILLER + ANSWER, "d2": FILLER}
    passages = [{"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": text} for i, text in texts.items()]
    before = {
        "sources": {"passages": PASSAGES.from_rows(passages), "parts": PARTS.empty()},
        "translate": {"translations": TRANSLATIONS.empty()},
        "train": dict[str, pa.Table](),
    }
    workspace = LocalWorkspace(tmp_path, "index", before)
    encode(workspace, IndexSettings(), "train", "sources")
    # The two have the same vectors: their difference is behind what the student reads, and that is said.
    one, other = workspace.output("vectors")["vectors"].to_pylist()
    assert one == other
    assert workspace.facts["truncated_documents"] == {"en": 2}
    assert "en 2 of 2 (100.0%)" in workspace.warnings[0]

    data = tmp_path / "data"
    data.mkdir()
    (data / "p.jsonl").write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in texts.items()))
    (data / "q.tsv").write_text("q1\tWhen was the stone bridge built?\n")
    sources = LocalWorkspace(tmp_path, "cut_sources")
    source = FileSource(
        root=str(data), passages=("p.jsonl",), queries=("q.tsv",), cut=CutSettings(length=100, stride=50)
    )
    ingest(sources, source, "en", (), 0.0)
    encoder = load_encoder(locate(BUNDLED_STUDENT))
    [query] = encoder.encode_queries(["When was the stone bridge built?"])
    best: dict[str, float] = {}
    rows = sources.output("passages").to_pylist()
    for row, vectors in zip(rows, encoder.encode_passages([row["text"] for row in rows]), strict=True):
        score = float((query @ vectors.T).amax(1).sum())
        best[row["doc_id"]] = max(score, best.get(row["doc_id"], score))
    assert best["d1"] > best["d2"]
    assert not any(encoder.read_passages([row["text"] for row in rows]).truncated)
