from pathlib import Path

import pyarrow as pa
import pytest
import torch

from distill.encoders.checkpoints import load_encoder
from distill.index.exact import ExactIndex
from distill.index.settings import IndexSettings
from distill.index.stage import all_documents, encode
from distill.tables import PARTS, PASSAGES, TRANSLATIONS
from tests.workspaces import LocalWorkspace

TEXTS = {"p1": ("bee", "honey dance"), "p2": ("", "stone bridge river"), "p3": ("", "city map light")}


def inputs() -> dict[str, dict[str, pa.Table]]:
    """Three passages, the last first, and translations to German, of which one says nothing."""
    passages = [
        {"passage_id": i, "doc_id": i, "lang": "en", "title": title, "text": text}
        for i, (title, text) in reversed(TEXTS.items())
    ]
    translations = [
        {
            "passage_id": i,
            "source_lang": "en",
            "lang": "de",
            "title": "",
            "text": text,
            "translator": "t",
            "flags": flags,
        }
        for i, text, flags in (("p1", "sun flower", []), ("p2", "", ["empty"]), ("p3", "wave sound", ["copied"]))
    ]
    tables = {"sources": {"passages": PASSAGES.from_rows(passages), "parts": PARTS.empty()}}
    return {**tables, "translate": {"translations": TRANSLATIONS.from_rows(translations)}}


def test_documents_are_every_version_that_has_a_text(tmp_path: Path) -> None:
    documents = all_documents(LocalWorkspace(tmp_path, "index", inputs()), "sources")
    pairs = zip(documents["passage_id"].to_pylist(), documents["lang"].to_pylist(), strict=True)
    assert list(pairs) == [("p1", "de"), ("p1", "en"), ("p2", "en"), ("p3", "de"), ("p3", "en")]


def test_the_index_holds_the_students_vectors(tmp_path: Path, tiny_student: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "checkpoint").symlink_to(tiny_student)
    workspace = LocalWorkspace(tmp_path, "index", {**inputs(), "train": {}})
    encode(workspace, IndexSettings(passages_per_shard=2), "train", "sources")
    assert workspace.computed == [0, 1, 2]
    documents, vectors = workspace.output("documents"), workspace.output("vectors")
    assert documents["position"].to_pylist() == vectors["position"].to_pylist() == [0, 1, 2, 3, 4]
    encoder = load_encoder(tiny_student)
    texts = ["sun flower", "bee honey dance", "stone bridge river", "wave sound", "city map light"]
    for row, stored, expected in zip(
        documents.to_pylist(), vectors["vectors"].to_pylist(), encoder.encode_passages(texts), strict=True
    ):
        assert row["tokens"] == len(expected)
        torch.testing.assert_close(torch.tensor(stored).view(expected.shape), expected, atol=1e-3, rtol=0)
    index = ExactIndex.open(workspace.filesystem, workspace.folder, torch.float32)
    [[best]] = index.search(encoder.encode_queries(["stone bridge river"]), 1, ["en"])
    scores = index.scores(encoder.encode_queries(["stone bridge river"]))[0]
    assert best.score == pytest.approx(max(scores[[1, 2, 4]].tolist()))
    assert index.document(2).text == "stone bridge river"


def test_a_document_is_searched_in_its_own_words(tmp_path: Path) -> None:
    """d was cut in English and German: translations of its passages are for training. e has passages of its own ids."""
    passages = [
        {"passage_id": i, "doc_id": i[0], "lang": "en", "title": "", "text": i}
        for i in ("d#en.1", "d#en.2", "e1", "e2")
    ]
    parts = [("d#en.1", "en"), ("d#en.2", "en"), ("d#de.1", "de"), ("e1", ""), ("e2", ""), ("e3", "")]
    translations = [
        ("d#en.1", "en", "de"), ("d#en.2", "en", "de"), ("d#de.1", "de", "de"), ("d#de.1", "de", "en"), ("d#en.1", "en", "fr"),
        ("e1", "en", "de"), ("e3", "de", "de"),
    ]  # fmt: skip
    tables = {
        "sources": {
            "passages": PASSAGES.from_rows(passages),
            "parts": PARTS.from_rows({"passage_id": i, "doc_id": i[0], "lang": lang} for i, lang in parts),
        },
        "translate": {
            "translations": TRANSLATIONS.from_rows(
                {"passage_id": i, "source_lang": s, "lang": t, "title": "", "text": i, "translator": "x", "flags": []}
                for i, s, t in translations
            )
        },
    }
    documents = all_documents(LocalWorkspace(tmp_path, "index", tables), "sources")
    found = [(row["passage_id"], row["doc_id"], row["lang"]) for row in documents.to_pylist()]
    assert found == [
        ("d#de.1", "d", "de"), ("d#en.1", "d", "en"), ("d#en.1", "d", "fr"), ("d#en.2", "d", "en"),
        ("e1", "e", "de"), ("e1", "e", "en"), ("e2", "e", "en"), ("e3", "e", "de"),
    ]  # fmt: skip


def test_documents_that_are_longer_than_the_student_reads_are_counted(tmp_path: Path, tiny_student: Path) -> None:
    """The student reads 32 tokens: [CLS], a marker, 29 words and [SEP]; a title counts."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "checkpoint").symlink_to(tiny_student)
    texts = {"p1": ("", "bee " * 29), "p2": ("", "bee " * 30), "p3": ("sun", "bee " * 29), "p4": ("sun " * 40, "")}
    tables = inputs()
    tables["sources"]["passages"] = PASSAGES.from_rows(
        {"passage_id": i, "doc_id": i, "lang": "en", "title": title.strip(), "text": text.strip()}
        for i, (title, text) in texts.items()
    )
    workspace = LocalWorkspace(tmp_path, "index", {**tables, "train": {}})
    encode(workspace, IndexSettings(passages_per_shard=2), "train", "sources")
    cut = {(row["passage_id"], row["lang"]): row["truncated"] for row in workspace.output("documents").to_pylist()}
    assert {key for key, is_cut in cut.items() if is_cut} == {("p2", "en"), ("p3", "en"), ("p4", "en")}
    assert workspace.facts == {"truncated_documents": {"en": 3}}
    [warning] = workspace.warnings
    assert warning == (
        "the student reads only the beginning of some documents: en 3 of 4 (75.0%); "
        "cut documents (source.cut) or raise student.passage_tokens"
    )
