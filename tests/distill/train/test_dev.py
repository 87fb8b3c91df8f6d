from pathlib import Path
from threading import Barrier, Thread, current_thread
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
import torch

from distill.encoders.checkpoints import load_encoder
from distill.tables import PARTS, PASSAGES, QRELS, QUERIES, TRANSLATIONS, TableError
from distill.train.dev import DevSet, best_documents, best_step, dev_means, is_exhausted, write_dev
from distill.train.settings import DevSettings
from tests.workspaces import LocalWorkspace

TEXTS = {"p1": "honey bee dance", "p2": "stone bridge river", "p3": "city map light", "p4": "sun angle food"}


def sources(**splits: str) -> dict[str, pa.Table]:
    queries = {"q1": "bee dance", "q2": "bridge", "q3": "map", "q4": "sun"}
    return {
        "queries": QUERIES.from_rows(
            {"query_id": i, "lang": "en", "text": text, "split": splits.get(i, "dev")} for i, text in queries.items()
        ),
        "passages": PASSAGES.from_rows(
            {"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": t} for i, t in TEXTS.items()
        ),
        "parts": PARTS.empty(),
        "qrels": QRELS.from_rows(
            {"query_id": query, "passage_id": passage, "relevance": grade}
            for query, passage, grade in (("q1", "p1", 1), ("q2", "p2", 1), ("q3", "p3", 0), ("q4", "p4", 1))
        ),
    }


def translations() -> dict[str, pa.Table]:
    rows = [
        {
            "passage_id": i,
            "lang": lang,
            "title": "",
            "text": f"{text} {lang}",
            "source_lang": "en",
            "translator": "t",
            "flags": [],
        }
        for lang in ("de", "fr", "ru")
        for i, text in TEXTS.items()
    ]
    return {"translations": TRANSLATIONS.from_rows(rows)}


def workspace(tmp_path: Path, **splits: str) -> LocalWorkspace:
    return LocalWorkspace(tmp_path, "train", {"sources": sources(**splits), "translate": translations()})


def test_the_set_is_of_judged_development_queries_and_their_passages(tmp_path: Path) -> None:
    """q2 is of the test, q3 has no relevant passage."""
    stage = workspace(tmp_path, q2="test")
    write_dev(stage, DevSettings(passages=3), "en", ("de", "fr"), f"{stage.folder}/dev")
    found = DevSet.read(pafs.LocalFileSystem(), f"{stage.folder}/dev")
    assert found.queries["query_id"].to_pylist() == ["q1", "q4"]
    assert set(found.qrels["query_id"].to_pylist()) == {"q1", "q4"}
    assert list(found.passages) == ["de", "fr"]
    for language, passages in found.passages.items():
        ids = passages["passage_id"].to_pylist()
        assert len(ids) == 3
        assert {"p1", "p4"} < set(ids)
        assert passages["text"].to_pylist() == [f"{TEXTS[i]} {language}" for i in ids]


def test_a_limited_number_of_queries_is_drawn_the_same_every_time(tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        stage = workspace(tmp_path / name)
        write_dev(stage, DevSettings(queries=2, passages=1), "en", ("de",), f"{stage.folder}/dev")
        drawn.append(DevSet.read(pafs.LocalFileSystem(), f"{stage.folder}/dev").queries["query_id"].to_pylist())
    assert len(drawn[0]) == 2
    assert drawn[0] == drawn[1]


def test_a_source_without_development_queries_is_refused(tmp_path: Path) -> None:
    stage = workspace(tmp_path, q1="train", q2="train", q4="test")
    with pytest.raises(TableError, match=r"train\.dev: the source has no judged query of split dev in 'en'"):
        write_dev(stage, DevSettings(), "en", ("de",), f"{stage.folder}/dev")


def test_the_measure_is_of_the_students_ranking(tmp_path: Path, tiny_student: Path) -> None:
    """Against scores computed one by one; nDCG@20 of one relevant passage at rank r is 1 / log2(r + 1)."""
    stage = workspace(tmp_path)
    write_dev(stage, DevSettings(), "en", ("de", "fr"), f"{stage.folder}/dev")
    dev = DevSet.read(pafs.LocalFileSystem(), f"{stage.folder}/dev")
    encoder = load_encoder(tiny_student)
    found = dev.evaluate(encoder, "nDCG@20", 1000)
    for language in ("de", "fr"):
        values = []
        for query_id, text, relevant in (("q1", "bee dance", "p1"), ("q2", "bridge", "p2"), ("q4", "sun", "p4")):
            assert query_id in dev.queries["query_id"].to_pylist()
            [query] = encoder.encode_queries([text])
            scores = {
                i: (query @ encoder.encode_passages([f"{t} {language}"])[0].T).amax(1).sum().item()
                for i, t in TEXTS.items()
            }
            rank = 1 + sum(score > scores[relevant] for score in scores.values())
            values.append(1 / torch.log2(torch.tensor(rank + 1.0)).item())
        assert found[language] == pytest.approx(sum(values) / 3, abs=1e-6)
    assert found["de"] != found["fr"] or found["de"] < 1


def test_a_querys_own_passage_is_none_of_its_results(tmp_path: Path, tiny_student: Path) -> None:
    """The query p1 is the passage p1, which scores higher than p4, which answers it: without p1 that is found one rank higher."""
    tables, encoder = sources(), load_encoder(tiny_student)
    [query], words = encoder.encode_queries(["bee"]), ["bee", "stone", "bridge", "map"]
    scores = [(query @ vectors.T).amax(1).sum().item() for vectors in encoder.encode_passages(words)]
    low, *_, high = [word for _, word in sorted(zip(scores, words, strict=True))]
    texts = {"p1": high, "p2": "stone bridge", "p4": low}
    passages = [{"passage_id": i, "doc_id": i, "lang": "en", "title": "", "text": text} for i, text in texts.items()]
    tables["passages"] = PASSAGES.from_rows(passages)
    tables["queries"] = QUERIES.from_rows([{"query_id": "p1", "lang": "en", "text": "bee", "split": "dev"}])
    tables["qrels"] = QRELS.from_rows([{"query_id": "p1", "passage_id": "p4", "relevance": 1}])
    found = {}
    for own in (True, False):
        stage = LocalWorkspace(tmp_path, f"train_{own}", {"sources": tables, "translate": translations()})
        write_dev(stage, DevSettings(), "en", ("en",), f"{stage.folder}/dev", without_own=own)
        dev = DevSet.read(pafs.LocalFileSystem(), f"{stage.folder}/dev")
        found[own] = 1 / dev.evaluate(encoder, "RR@10", 1000)["en"]
    assert found[False] - found[True] == pytest.approx(1)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_passages_that_tie_at_the_depth_are_the_same_for_any_number_of_workers(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """All four passages are one text. p1 and p2 are kept; of these p2, relevant to q2, has the larger id and ranks first."""
    tables = {name: sources()[name] for name in ("queries", "qrels")}
    same = {f"p{i}": "honey" for i in range(1, 5)}
    passages = PASSAGES.from_rows(
        {"passage_id": i, "doc_id": i, "lang": "de", "title": "", "text": t} for i, t in same.items()
    )
    passages = passages.append_column("ranked_id", passages["passage_id"])
    dev = DevSet(tables["queries"].slice(1, 1), tables["qrels"].slice(1, 1), {"de": passages})
    encoder = load_encoder(tiny_student)
    barrier, sent = Barrier(workers), [None] * workers

    def gather(parts: list, own: Any) -> None:
        sent[int(current_thread().name)] = own
        barrier.wait(60)
        parts[:] = sent

    monkeypatch.setattr("distill.train.dev._DEPTH", 2)
    monkeypatch.setattr("distill.train.dev.distributed.all_gather_object", gather)
    found = {}
    threads = [
        Thread(target=lambda r=r: found.update({r: dev.evaluate(encoder, "RR@20", 1000, r, workers)}), name=str(r))
        for r in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {r: {"de": 1.0} for r in range(workers)}


def history(*means: float) -> list[dict[str, Any]]:
    return [
        {"step": 10 * i, "lang": lang, "value": mean + d}
        for i, mean in enumerate(means, 1)
        for lang, d in (("de", 0.1), ("fr", -0.1))
    ]


def test_the_best_is_the_earliest_of_the_highest_means() -> None:
    found = history(0.3, 0.5, 0.4, 0.5)
    assert dev_means(found) == pytest.approx({10: 0.3, 20: 0.5, 30: 0.4, 40: 0.5})
    assert best_step(history(0.25, 0.5, 0.25, 0.5))[0] == 20


def test_patience_counts_evaluations_after_the_best() -> None:
    assert not is_exhausted([], 1)
    assert not is_exhausted(history(0.25, 0.5, 0.25), 2)
    assert is_exhausted(history(0.25, 0.5, 0.25, 0.375), 2)
    assert not is_exhausted(history(0.25, 0.5, 0.25, 0.75), 2)
    assert not is_exhausted(history(0.5, 0.25, 0.25), None)


def test_documents_rank_by_their_best_passages(tmp_path: Path, tiny_student: Path) -> None:
    """p1 and p2 are parts of d1, which is judged: both are in the pool, and the list holds d1 once."""
    tables = sources()
    tables["parts"] = PARTS.from_rows({"passage_id": i, "doc_id": "d1", "lang": ""} for i in ("p1", "p2"))
    tables["qrels"] = QRELS.from_rows([{"query_id": "q1", "passage_id": "d1", "relevance": 1}])
    stage = LocalWorkspace(tmp_path, "train", {"sources": tables, "translate": translations()})
    write_dev(stage, DevSettings(passages=3), "en", ("de",), f"{stage.folder}/dev")
    dev = DevSet.read(pafs.LocalFileSystem(), f"{stage.folder}/dev")
    pool = dev.passages["de"]
    assert {"p1", "p2"} <= set(pool["passage_id"].to_pylist())
    assert pool["ranked_id"].to_pylist()[:2] == ["d1", "d1"]
    encoder = load_encoder(tiny_student)
    [query] = encoder.encode_queries(["bee dance"])
    scores = [(query @ v.T).amax(1).sum().item() for v in encoder.encode_passages(pool["text"].to_pylist())]
    rank = 1 + sum(score > max(scores[:2]) for score in scores[2:])
    assert dev.evaluate(encoder, "RR@10", 64) == {"de": pytest.approx(1 / rank)}


def test_a_document_whose_passages_are_on_several_workers_has_its_best_score() -> None:
    """Shares of two workers, cut at the depth: documents 0, 1 and 2; document 1 is on both."""
    one = best_documents([(torch.tensor([[1.0, 5.0]]), torch.tensor([0, 1]))], 3)
    other = best_documents([(torch.tensor([[7.0, 2.0]]), torch.tensor([1, 2]))], 3)
    values, numbers = best_documents([one, other], 3)
    assert numbers.tolist() == [[1, 2, 0]]
    assert values.tolist() == [[7.0, 2.0, 1.0]]


def test_a_pool_without_passages_is_refused_and_a_lacking_language_is_said(tmp_path: Path) -> None:
    stage = workspace(tmp_path / "some")
    write_dev(stage, DevSettings(), "en", ("de", "pl"), f"{stage.folder}/dev")
    assert stage.warnings == ["train.dev watches nothing in pl: no passage there is relevant to a query"]
    for number, languages in enumerate([("pl", "cs"), ()]):
        stage = workspace(tmp_path / str(number))
        with pytest.raises(
            TableError, match=r"train\.dev: the pool has no relevant passage in (cs, pl|any language), so that nothing"
        ):
            write_dev(stage, DevSettings(), "en", languages, f"{stage.folder}/dev")


def test_languages_of_their_own_passages_are_judged_by_them(tmp_path: Path, tiny_student: Path) -> None:
    """p1 is in German alone, the others in French alone: q1 is a query of the German pool, q2 and q4 are those of the French one."""
    rows = translations()["translations"].to_pylist()
    kept = [row for row in rows if (row["passage_id"] == "p1") == (row["lang"] == "de") and row["lang"] != "ru"]
    inputs = {"sources": sources(), "translate": {"translations": TRANSLATIONS.from_rows(kept)}}
    stage = LocalWorkspace(tmp_path, "train", inputs)
    write_dev(stage, DevSettings(), "en", ("de", "fr"), f"{stage.folder}/dev")
    dev = DevSet.read(pafs.LocalFileSystem(), f"{stage.folder}/dev")
    found = dev.evaluate(load_encoder(tiny_student), "R@1000", 1000)
    assert found == {"de": 1.0, "fr": 1.0}
    only = [row for row in kept if row["lang"] == "fr"]
    stage = LocalWorkspace(
        tmp_path / "fr", "train", inputs | {"translate": {"translations": TRANSLATIONS.from_rows(only)}}
    )
    write_dev(stage, DevSettings(), "en", ("de", "fr"), f"{stage.folder}/dev")
    assert stage.warnings == ["train.dev watches nothing in de: no passage there is relevant to a query"]
    assert dev.passages["fr"]["passage_id"].to_pylist() == ["p2", "p3", "p4"]
