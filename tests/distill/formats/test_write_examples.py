"""Training examples out of a mix stage, and back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from cluster.stored_table import StoredTable
from distill.formats.scores import read_scores
from distill.formats.write_examples import Numbers, export_examples
from distill.mix.settings import MixSettings
from distill.mix.stage import mix
from distill.sources.settings import FileSource
from distill.sources.stage import ingest
from distill.tables import EXAMPLES, TableError
from tests.workspaces import LocalWorkspace

SCORES = np.random.default_rng(0).normal(0, 5, (6, 3)).astype(np.float32)


def example(position: int, query: str, ids: list[str], langs: list[str], scores: list[float | None]) -> dict[str, Any]:
    return {
        "position": position,
        "query_id": query,
        "query": f"query {query}",
        "query_lang": "en",
        "passage_ids": ids,
        "passages": [f"{i} in\t{lang}\n " for i, lang in zip(ids, langs, strict=True)],
        "langs": langs,
        "scores": scores,
    }


def mixed() -> list[dict[str, Any]]:
    """Three queries in two epochs; q0 finds p1 in two languages."""
    rows = [SCORES[i].tolist() for i in range(6)]
    return [
        example(0, "q0", ["p1", "p2", "p3"], ["de", "zh", "de"], rows[0]),
        example(1, "q1", ["p4", "p1", "p2"], ["de", "de", "de"], rows[1]),
        example(2, "q2", ["p5", "p6", "p7"], ["zh", "zh", "zh"], rows[2]),
        example(3, "q2", ["p7", "p6", "p5"], ["de", "zh", "zh"], rows[2][::-1]),
        example(4, "q0", ["p1", "p8", "p9"], ["zh", "zh", "zh"], rows[4]),
        example(5, "q1", ["p2", "p3", "p4"], ["zh", "de", "de"], rows[5]),
    ]


def one_language() -> list[dict[str, Any]]:
    return [example(i, f"q{i}", [f"p{i}", f"p{i + 1}", "p9"], ["de"] * 3, SCORES[i].tolist()) for i in range(5)]


def stored(folder: Path, rows: list[dict[str, Any]], cut: int = 4) -> StoredTable:
    (folder / "examples").mkdir(parents=True)
    for number, part in enumerate((rows[:cut], rows[cut:])):
        pq.write_table(EXAMPLES.from_rows(part), folder / "examples" / f"{number:05d}.parquet")
    return StoredTable.open(pafs.LocalFileSystem(), str(folder / "examples"))


def imported(folder: Path, imported: dict[str, Any], n_way: int = 3) -> list[dict[str, Any]]:
    workspace = LocalWorkspace(folder, "again")
    settings = {"imported": imported, "n_way": n_way, "sampling": "first"}
    mix(workspace, MixSettings.model_validate(settings), "en", ("de", "zh"), seed=1)
    return workspace.output("examples").to_pylist()


def keyed(rows: list[dict[str, Any]], *names: str) -> dict[str, tuple[Any, ...]]:
    """Rows by their query, without the order of training."""
    return {row["query"]: tuple(row[name] for name in names) for row in rows}


@pytest.fixture(autouse=True, params=[2, 2_000], ids=["blocks", "at_once"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.formats.write_examples._ROWS", request.param)


# --- PyLate ----------------------------------------------------------------------------------------------------------


def test_pylate_and_back(tmp_path: Path) -> None:
    rows = one_language()
    out = tmp_path / "out"
    written = export_examples(stored(tmp_path, rows), "pylate", str(out), mixed=False, positive_first=False)
    # p0 to p5 and p9
    assert written == {"train.parquet": 5, "queries.parquet": 5, "documents.parquet": 7}
    files = {name: [str(out / f"{name}.parquet")] for name in ("train", "queries", "documents")}
    again = imported(tmp_path, {"type": "pylate", **files, "lang_field": "lang"})
    names = ("query_id", "query_lang", "passage_ids", "langs", "scores", "passages")
    assert keyed(again, *names) == keyed(rows, *names)


def grouped(langs: list[str]) -> list[dict[str, Any]]:
    """Examples as `mix.group` makes them: the queries of a group share their passages, and one may stand in a row twice."""
    return [
        example(0, "q0", ["p0", "p1", "p1", "p2"], langs, [4.0, 1.5, 1.5, 0.25]),
        example(1, "q1", ["p1", "p2", "p0", "p1"], langs, [3.0, 0.5, -2.0, 3.0]),
    ]


def test_pylate_of_groups_and_back(tmp_path: Path) -> None:
    """A passage that a row has twice in one language is one candidate of its query; in two languages it is two."""
    for name, langs, mixed_languages, expected in (
        ("one", ["de"] * 4, False, {"p0": 4.0, "p1": 1.5, "p2": 0.25}),
        ("two", ["de", "de", "zh", "de"], True, {"p0@de": 4.0, "p1@de": 1.5, "p1@zh": 1.5, "p2@de": 0.25}),
    ):
        out = tmp_path / name / "out"
        export_examples(
            stored(tmp_path / name, grouped(langs)), "pylate", str(out), mixed=mixed_languages, positive_first=False
        )
        files = {table: [str(out / f"{table}.parquet")] for table in ("train", "queries", "documents")}
        again = imported(tmp_path / name, {"type": "pylate", **files, "lang_field": "lang"})
        assert {row["query_id"] for row in again} == {"q0", "q1"}
        (first,) = [row for row in again if row["query_id"] == "q0"]
        best = sorted(expected.items(), key=lambda pair: -pair[1])[:3]
        assert dict(zip(first["passage_ids"], first["scores"], strict=True)) == dict(best)


def test_sentence_transformers_of_groups_and_back(tmp_path: Path) -> None:
    rows = grouped(["de", "zh", "zh", "de"])
    export_examples(stored(tmp_path, rows), "sentence_transformers", str(tmp_path), mixed=True, positive_first=False)
    files = {"type": "sentence_transformers", "files": [str(tmp_path / "train.parquet")], "passage_lang": "de"}
    again = imported(tmp_path, files, n_way=4)
    assert keyed(again, "scores", "passages") == keyed(rows, "scores", "passages")


def test_plaidx_and_back(tmp_path: Path) -> None:
    """Its three files are a source and score files of ours: numbers stand for passages, and white space is single spaces."""
    rows = one_language()
    export_examples(stored(tmp_path, rows), "plaidx", str(tmp_path / "out"), mixed=False, positive_first=False)
    source = FileSource(passages=(str(tmp_path / "out/collection.tsv"),), queries=(str(tmp_path / "out/queries.tsv"),))
    workspace = LocalWorkspace(tmp_path, "sources")
    ingest(workspace, source, "en", ("de",), 0.0)
    texts = {row["passage_id"]: row["text"] for row in workspace.output("passages").to_pylist()}
    queries = {row["query_id"]: row["text"] for row in workspace.output("queries").to_pylist()}
    lists = {one.query_id: one for one in read_scores([str(tmp_path / "out/triples.jsonl")], "tdist")}
    for row in rows:
        found = lists[row["query_id"]]
        assert queries[row["query_id"]] == row["query"]
        assert [texts[passage_id] for passage_id in found.passage_ids] == [
            " ".join(text.split()) for text in row["passages"]
        ]
        assert found.scores.tolist() == row["scores"]


def test_pylates_documents_are_passages_in_a_language(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_examples(stored(tmp_path, mixed()), "pylate", str(out), mixed=True, positive_first=False)
    train = pq.read_table(out / "train.parquet").to_pylist()
    assert train[0] == {
        "query_id": "q0", "document_ids": ["p1@de", "p2@zh", "p3@de"], "scores": SCORES[0].tolist(),
    }  # fmt: skip
    assert [row["query_id"] for row in train] == ["q0", "q1", "q2", "q2", "q0", "q1"]
    documents = {row["document_id"]: row for row in pq.read_table(out / "documents.parquet").to_pylist()}
    wanted = {
        f"{i}@{lang}": (text, lang)
        for row in mixed()
        for i, lang, text in zip(row["passage_ids"], row["langs"], row["passages"], strict=True)
    }
    assert {name: (row["text"], row["lang"]) for name, row in documents.items()} == wanted
    assert pq.read_metadata(out / "documents.parquet").num_rows == len(wanted)
    assert pq.read_table(out / "queries.parquet")["query_id"].to_pylist() == ["q0", "q1", "q2"]


# --- sentence-transformers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positive", [False, True])
def test_sentence_transformers_and_back(tmp_path: Path, positive: bool) -> None:
    rows = one_language()
    out = tmp_path / "out"
    table = stored(tmp_path, rows)
    written = export_examples(table, "sentence_transformers", str(out), mixed=False, positive_first=positive)
    assert written == {"train.parquet": 5}
    names = ["positive", "negative_1", "negative_2"] if positive else ["document_1", "document_2", "document_3"]
    assert pq.read_schema(out / "train.parquet").names == ["query", *names, "label"]
    again = imported(
        tmp_path, {"type": "sentence_transformers", "files": [str(out / "train.parquet")], "passage_lang": "de"}
    )
    assert keyed(again, "passages", "scores", "langs") == keyed(rows, "passages", "scores", "langs")


def test_examples_without_a_teacher_have_no_label(tmp_path: Path) -> None:
    rows = [row | {"scores": [None] * 3} for row in one_language()]
    table, out = stored(tmp_path, rows), tmp_path / "out"
    export_examples(table, "sentence_transformers", str(out), mixed=False, positive_first=True)
    assert pq.read_schema(out / "train.parquet").names == ["query", "positive", "negative_1", "negative_2"]
    for kind in ("pylate", "plaidx"):
        with pytest.raises(TableError, match=rf"example 0 \(query 'q0'\) has no scores, which the format '{kind}'"):
            export_examples(table, kind, str(tmp_path / kind), mixed=False, positive_first=True)
        assert not list((tmp_path / kind).glob("*.parquet"))


@pytest.mark.parametrize("kind", ["pylate", "sentence_transformers", "plaidx"])
def test_masked_pairs_cannot_be_written(tmp_path: Path, kind: Any) -> None:
    rows = one_language()
    rows[3]["scores"] = [1.0, None, 2.0]
    with pytest.raises(TableError, match=r"example 3 \(query 'q3'\) has 1 of 3 scores missing"):
        export_examples(stored(tmp_path, rows), kind, str(tmp_path / "out"), mixed=False, positive_first=False)


def test_sentence_transformers_reads_the_rows(tmp_path: Path, tiny_bert: Path) -> None:
    """The library's own collator and loss take the columns as they are, in their order."""
    transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    rows = one_language()
    table, out = stored(tmp_path, rows), tmp_path / "out"
    export_examples(table, "sentence_transformers", str(out), mixed=False, positive_first=True)
    backbone = Transformer(str(tiny_bert))
    model = transformers.SentenceTransformer(
        modules=[backbone, Pooling(backbone.get_embedding_dimension())], device="cpu"
    )
    read = pq.read_table(out / "train.parquet")
    texts = [read[name].to_pylist() for name in read.column_names[:-1]]
    assert texts[1] == [row["passages"][0] for row in rows]
    import torch

    features = [model.preprocess(column) for column in texts]
    loss = DistillKLDivLoss(model)(features, torch.tensor(read["label"].to_pylist()))
    assert torch.isfinite(loss)


# --- PLAID-X ---------------------------------------------------------------------------------------------------------


def test_plaidx_numbers_passages_by_their_lines(tmp_path: Path) -> None:
    rows, out = mixed(), tmp_path / "out"
    written = export_examples(stored(tmp_path, rows), "plaidx", str(out), mixed=True, positive_first=False)
    lines = (out / "collection.tsv").read_text(encoding="utf-8").splitlines()
    collection = [line.split("\t") for line in lines]
    assert [int(pid) for pid, _ in collection] == list(range(len(lines)))
    assert written == {"triples.jsonl": 6, "queries.tsv": 3, "collection.tsv": len(lines)}
    assert (out / "queries.tsv").read_text().splitlines()[0] == "q0\tquery q0"
    for row, line in zip(rows, (out / "triples.jsonl").read_text(encoding="utf-8").splitlines(), strict=True):
        query, *pairs = json.loads(line)
        assert query == row["query_id"]
        assert [collection[pid][1] for pid, _ in pairs] == [" ".join(text.split()) for text in row["passages"]]
        assert [np.float32(score) for _, score in pairs] == [np.float32(score) for score in row["scores"]]
    assert len({text for _, text in collection}) == len(lines)


# --- numbering -------------------------------------------------------------------------------------------------------


def test_keys_are_numbered_in_the_order_in_which_they_are_first_seen() -> None:
    numbers = Numbers()
    assert [part.tolist() for part in numbers(["c", "a", "c", "b"])] == [[0, 1, 0, 2], [True, True, False, True]]
    assert [part.tolist() for part in numbers(["b", "d", "a", "d"])] == [[2, 3, 1, 3], [False, True, False, False]]
    assert [part.tolist() for part in numbers([])] == [[], []]


def test_many_keys_equal_a_dictionary() -> None:
    numbers, known = Numbers(), {}
    random = np.random.default_rng(3)
    for _ in range(30):
        keys = [f"k{i}" for i in random.integers(0, 400, 50)]
        found, fresh = numbers(keys)
        before = set(known)
        assert found.tolist() == [known.setdefault(key, len(known)) for key in keys]
        firsts = [keys.index(key) == place and key not in before for place, key in enumerate(keys)]
        assert fresh.tolist() == firsts


def test_files_go_to_object_stores(tmp_path: Path, s3_bucket: str) -> None:
    out = f"{s3_bucket}/exported"
    table = stored(tmp_path, one_language())
    export_examples(table, "sentence_transformers", out, mixed=False, positive_first=False)
    again = imported(tmp_path, {"type": "sentence_transformers", "files": [f"{out}/train.parquet"]})
    assert keyed(again, "scores") == keyed(one_language(), "scores")
