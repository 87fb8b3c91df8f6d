"""Other tools' training data, through the mix stage."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.locations import SourceError
from distill.formats.read_examples import Layout
from distill.mix.draws import training_order
from distill.mix.settings import MixSettings
from distill.mix.stage import mix
from distill.tables import EXAMPLES
from tests.workspaces import LocalWorkspace


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    """Rows in the format that the file's name says."""
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return str(file)


def run(folder: Path, settings: dict[str, Any], languages: tuple[str, ...] = ("de", "fr")) -> LocalWorkspace:
    """The mix stage with nothing but files to read."""
    workspace = LocalWorkspace(folder, "mix")
    mix(workspace, MixSettings.model_validate(settings), "en", languages, seed=7)
    return workspace


def examples(workspace: LocalWorkspace) -> dict[str, dict[str, Any]]:
    table = EXAMPLES.check(workspace.output("examples"))
    return {row["query_id"]: row for row in table.to_pylist()}


# --- PyLate ----------------------------------------------------------------------------------------------------------

LISTS = [
    {"query_id": 7, "document_ids": ["d1", "d2", "d3"], "scores": [0.5, -1.25, 0.125]},
    {"query_id": 8, "document_ids": ["d3", "d1"], "scores": [3.0, 2.0]},
]
QUERIES = [{"query_id": 7, "text": "bees"}, {"query_id": 8, "text": "bridges"}]
DOCUMENTS = [{"document_id": f"d{i}", "text": f"text {i}"} for i in (1, 2, 3)]


def pylate(folder: Path, ending: str = "parquet", lists: list[dict[str, Any]] = LISTS, **more: Any) -> dict[str, Any]:
    tables = {"train": lists, "queries": QUERIES, "documents": DOCUMENTS}
    files = {name: [write(folder / f"{name}.{ending}", rows)] for name, rows in tables.items()}
    return {"type": "pylate", **files, **more}


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "jsonl.gz"])
def test_pylates_tables_become_examples(tmp_path: Path, ending: str) -> None:
    settings = {"imported": pylate(tmp_path, ending), "n_way": 2, "sampling": "first"}
    workspace = run(tmp_path, settings)
    assert examples(workspace) == {
        "7": {
            "position": training_order(["7", "8"], 7, 0).index("7"),
            "query_id": "7",
            "query": "bees",
            "query_lang": "en",
            "passage_ids": ["d1", "d2"],
            "passages": ["text 1", "text 2"],
            "langs": ["en", "en"],
            "scores": [0.5, -1.25],
        },
        "8": {
            "position": training_order(["7", "8"], 7, 0).index("8"),
            "query_id": "8",
            "query": "bridges",
            "query_lang": "en",
            "passage_ids": ["d3", "d1"],
            "passages": ["text 3", "text 1"],
            "langs": ["en", "en"],
            "scores": [3.0, 2.0],
        },
    }
    assert not len(workspace.output("rejected"))


@pytest.mark.parametrize("spell", [json.dumps, repr], ids=["json", "python"])
def test_lists_may_be_text(tmp_path: Path, spell: Any) -> None:
    lists = [{name: spell(value) if isinstance(value, list) else value for name, value in row.items()} for row in LISTS]
    found = examples(run(tmp_path, {"imported": pylate(tmp_path, lists=lists), "n_way": 2, "sampling": "first"}))
    assert found["7"]["scores"] == [0.5, -1.25]
    assert found["8"]["passage_ids"] == ["d3", "d1"]


def test_languages_are_those_of_the_files(tmp_path: Path) -> None:
    documents = [row | {"lang": lang} for row, lang in zip(DOCUMENTS, ("de", "fr", "zh"), strict=True)]
    settings = pylate(tmp_path, query_lang="pl", lang_field="lang") | {
        "documents": [write(tmp_path / "d.jsonl", documents)]
    }
    found = examples(run(tmp_path, {"imported": settings, "n_way": 2, "sampling": "first"}))
    assert (found["7"]["langs"], found["8"]["langs"], found["8"]["query_lang"]) == (["de", "fr"], ["zh", "de"], "pl")


def test_translations_are_mixed_as_ever(tmp_path: Path) -> None:
    translations = {
        lang: [
            write(
                tmp_path / f"{lang}.parquet",
                [{"document_id": f"d{i}", "text": f"{lang} {i}"} for i in (1, 2, 3) if (lang, i) != ("fr", 2)],
            )
        ]
        for lang in ("de", "fr")
    }
    settings = {
        "imported": pylate(tmp_path, translations=translations), "n_way": 2, "sampling": "first", "strategy": "round_robin",
    }  # fmt: skip
    rows = run(tmp_path, settings).output("examples").to_pylist()
    [first] = [row for row in rows if row["query_id"] == "7" and row["langs"] == ["de", "de"]]
    assert (first["passages"], first["passage_ids"]) == (["de 1", "de 3"], ["d1", "d3"])  # d2 is not there in French
    [other] = [row for row in rows if row["query_id"] == "8" and row["langs"] == ["fr", "fr"]]
    assert (other["passages"], other["scores"]) == (["fr 3", "fr 1"], [3.0, 2.0])
    assert len(rows) == 4


def test_rows_that_cannot_be_used_are_rejected_with_their_reasons(tmp_path: Path) -> None:
    lists = [
        *LISTS,
        {"query_id": "a", "document_ids": ["d1", "d2"], "scores": [1.0]},
        {"query_id": "b", "document_ids": ["d1", "d1"], "scores": [1.0, 2.0]},
        {"query_id": "c", "document_ids": "d1, d2", "scores": [1.0, 2.0]},
        {"query_id": "d", "document_ids": ["d1", "d2"], "scores": [1.0, None]},
        {"query_id": "e", "document_ids": ["d1", "d2"], "scores": [1.0, 1e300]},
        {"query_id": "f", "document_ids": ["d1", "d2"], "scores": [1.0, 2.0]},
        {"query_id": "8 9", "document_ids": ["d1", "d2"], "scores": [1.0, 2.0]},
    ]
    settings = pylate(tmp_path, "jsonl", lists)
    workspace = run(tmp_path, {"imported": settings, "n_way": 3})
    rejected = {
        row["id"]: (row["line"], row["field"], row["reason"]) for row in workspace.output("rejected").to_pylist()
    }
    assert rejected == {
        "a": (3, "scores", "1 scores of 2 document_ids"),
        "b": (4, "document_ids", "'d1' is there twice, with scores 1 and 2"),
        "c": (5, "document_ids", "'d1, d2', expected a list, or one in JSON"),
        "d": (6, "scores", "None, expected finite numbers of 32 bits"),
        "e": (7, "scores", "1e+300, expected finite numbers of 32 bits"),
        "": (9, "query_id", "'8 9' holds white space, which TREC files cannot carry in an id"),
        "f": (0, "query_id", "no such query in imported.queries"),
        "8": (0, "passage_ids", "2 candidates with a text in every mixed language, n_way is 3"),
    }


def test_a_document_that_a_row_repeats_counts_once(tmp_path: Path) -> None:
    """As in the examples of a group, whose queries share their passages."""
    lists = [{"query_id": 7, "document_ids": ["d1", "d2", "d1"], "scores": [0.5, -1.25, 0.5]}, LISTS[1]]
    found = examples(run(tmp_path, {"imported": pylate(tmp_path, lists=lists), "n_way": 2, "sampling": "first"}))
    assert (found["7"]["passage_ids"], found["7"]["scores"]) == (["d1", "d2"], [0.5, -1.25])


def test_rows_of_one_query_are_joined(tmp_path: Path) -> None:
    lists = [LISTS[0], {"query_id": 7, "document_ids": ["d3"], "scores": [0.125]}, LISTS[1]]
    found = examples(run(tmp_path, {"imported": pylate(tmp_path, lists=lists), "n_way": 2, "sampling": "first"}))
    assert found["7"]["passage_ids"] == ["d1", "d2"]
    contradiction = [*LISTS, {"query_id": 7, "document_ids": ["d2"], "scores": [4.0]}]
    with pytest.raises(SourceError, match=r"query '7' has document 'd2' with scores -1.25 and 4"):
        run(tmp_path, {"imported": pylate(tmp_path, lists=contradiction)})


def test_faults_of_whole_files(tmp_path: Path) -> None:
    settings = pylate(tmp_path)
    twice = write(tmp_path / "twice.parquet", [*DOCUMENTS, DOCUMENTS[0]])
    with pytest.raises(SourceError, match=r"mix.imported.documents: 1 ids .* document.* 'd1'|passage_id 'd1'"):
        run(tmp_path, {"imported": settings | {"documents": [twice]}})
    with pytest.raises(SourceError, match=r"queries.parquet: no column 'document_ids'; it has 'query_id', 'text'"):
        run(tmp_path, {"imported": settings | {"train": settings["queries"]}})
    text = tmp_path / "train.csv"
    text.write_text("query_id")
    with pytest.raises(
        SourceError, match=r"train.csv is of no known format; names end in .parquet, .jsonl or .jsonl.gz"
    ):
        run(tmp_path, {"imported": settings | {"train": [str(text)]}})


def test_a_document_without_a_text_is_left_out_of_the_lists(tmp_path: Path) -> None:
    """d3 is empty and d4 exists nowhere: query 8 is left with one passage, too few for an example of two."""
    lists = [LISTS[0] | {"document_ids": ["d1", "d3", "d2"]}, LISTS[1] | {"document_ids": ["d4", "d1"]}]
    settings = pylate(tmp_path, lists=lists)
    settings["documents"] = [write(tmp_path / "holed.jsonl", [*DOCUMENTS[:2], {"document_id": "d3", "text": "\u200b"}])]
    workspace = LocalWorkspace(tmp_path, "mix")
    mixing = MixSettings.model_validate({"imported": settings, "n_way": 2, "sampling": "first"})
    mix(workspace, mixing, "en", ("de",), seed=7, max_rejected=0.4)
    [found] = examples(workspace).values()
    assert (found["query_id"], found["passage_ids"], found["scores"]) == ("7", ["d1", "d2"], [0.5, 0.125])
    reasons = {
        row["id"]: row["reason"] for row in workspace.output("rejected").to_pylist() if row["field"] == "document_ids"
    }
    assert reasons == {
        "7": "1 of 3 documents have no text in imported.documents: 'd3'",
        "8": "1 of 2 documents have no text in imported.documents: 'd4'",
    }
    message = (
        r"2 of 5 listed documents have no text in mix.imported.documents, more than max_rejected 0.01: 'd3', 'd4';"
    )
    with pytest.raises(SourceError, match=message):
        run(tmp_path, {"imported": settings, "n_way": 2})


# --- sentence-transformers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "passages", "positive"),
    [
        (["query", "positive", "negative"], ("positive", "negative"), True),
        (["label", "query", "negative_2", "positive", "negative_1"], ("positive", "negative_1", "negative_2"), True),
        (["query", *(f"document_{i}" for i in range(12, 0, -1))], tuple(f"document_{i}" for i in range(1, 13)), False),
    ],
)
def test_layouts(columns: list[str], passages: tuple[str, ...], positive: bool) -> None:
    assert Layout.of(columns, "f") == Layout(passages, positive, "label" in columns)


@pytest.mark.parametrize(
    "columns",
    [
        ["query", "positive"],
        ["query", "document_1", "document_3"],
        ["anchor", "positive", "negative"],
        ["query", "positive", "negative", "id"],
        ["query", "positive", "document_1"],
    ],
)
def test_other_columns_are_refused(columns: list[str]) -> None:
    with pytest.raises(SourceError, match=r"^f: columns .*; expected query, then positive and negative"):
        Layout.of(columns, "f")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("label", "scores"),
    [([2.0, 0.5, 1.0], [2.0, 0.5, 1.0]), ([1.5, 1.0], [0.0, -1.5, -1.0]), ("[2, 0.5, 1]", [2.0, 0.5, 1.0])],
    ids=["scores", "margins", "text"],
)
def test_columns_of_sentence_transformers(tmp_path: Path, ending: str, label: Any, scores: list[float]) -> None:
    rows = [{"query": "q", "document_1": "a", "document_2": "b", "document_3": "c", "label": label}]
    files = [write(tmp_path / f"train.{ending}", rows)]
    settings = {
        "imported": {"type": "sentence_transformers", "files": files, "passage_lang": "de"}, "n_way": 3, "sampling": "first",
    }  # fmt: skip
    [row] = run(tmp_path, settings).output("examples").to_pylist()
    assert row == {
        "position": 0,
        "query_id": "0",
        "query": "q",
        "query_lang": "en",
        "passage_ids": ["0.1", "0.2", "0.3"],
        "passages": ["a", "b", "c"],
        "langs": ["de", "de", "de"],
        "scores": scores,
    }


def test_one_margin_for_two_passages(tmp_path: Path) -> None:
    files = [write(tmp_path / "t.jsonl", [{"query": "q", "positive": "a", "negative": "b", "label": 0.75}])]
    settings = {"imported": {"type": "sentence_transformers", "files": files}, "n_way": 2}
    [row] = run(tmp_path, settings).output("examples").to_pylist()
    assert (row["passages"], row["scores"]) == (["a", "b"], [0.0, -0.75])


def test_positives_stay_first_and_negatives_are_drawn(tmp_path: Path) -> None:
    row = {"query": "q", "positive": "p", **{f"negative_{i}": f"n{i}" for i in range(1, 8)}}
    files = [write(tmp_path / "t.parquet", [row])]
    settings = {"imported": {"type": "sentence_transformers", "files": files}, "n_way": 4, "epochs": 20}
    rows = run(tmp_path, settings).output("examples").to_pylist()
    assert {row["passages"][0] for row in rows} == {"p"}
    assert {text for row in rows for text in row["passages"][1:]} == {f"n{i}" for i in range(1, 8)}
    assert {str(row["scores"]) for row in rows} == {"[None, None, None, None]"}
    pairs = run(tmp_path / "pairs", settings | {"n_way": 2, "sampling": "pairs", "epochs": 7})
    assert sorted(row["passages"][1] for row in pairs.output("examples").to_pylist()) == [f"n{i}" for i in range(1, 8)]


def test_labels_that_fit_no_passages_are_rejected(tmp_path: Path) -> None:
    good = {"query": "q", "positive": "a", "negative": "b", "label": [1.0, 0.0]}
    files = [write(tmp_path / "t.jsonl", [good, good | {"label": [1.0, 2.0, 3.0]}, good | {"query": " "}])]
    workspace = run(tmp_path, {"imported": {"type": "sentence_transformers", "files": files}, "n_way": 2})
    assert [(row["line"], row["field"], row["reason"]) for row in workspace.output("rejected").to_pylist()] == [
        (2, "label", "3 numbers for 2 passages, expected 2 or, as margins, 1"),
        (3, "query", "is empty"),
    ]
    assert len(workspace.output("examples")) == 1


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"negatives": {}}, "negatives with imported"),
        ({"strategy": "round_robin"}, "only `imported.translations` give passages in several languages"),
    ],
)
def test_what_does_not_go_with_imported_examples(settings: dict[str, Any], fault: str) -> None:
    imported = {"type": "sentence_transformers", "files": ["x.jsonl"]}
    with pytest.raises(ValueError, match=fault):
        MixSettings.model_validate({"imported": imported, **settings})
