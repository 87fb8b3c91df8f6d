"""The sources stage, on the bundled corpus, files, BEIR folders, ir_datasets and XQuAD."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.locations import SourceError
from distill.config import load
from distill.formats.settings import PassageFields, QueryFields
from distill.sources.settings import BeirSource, BundledSource, FileSource, IrDatasetsSource, Source
from distill.sources.stage import ingest
from distill.tables import PASSAGES, QRELS, QUERIES, REJECTED, TRANSLATIONS
from tests.workspaces import LocalWorkspace

LANGUAGES = ("de", "fr", "es", "zh", "fa", "ru")
CONTRACTS = {"queries": QUERIES, "passages": PASSAGES, "parallel": TRANSLATIONS, "qrels": QRELS, "rejected": REJECTED}


def run(
    tmp_path: Path, source: Source, languages: tuple[str, ...] = ("de",), source_lang: str = "en", limit: float = 0.0
) -> LocalWorkspace:
    """The stage's workspace, every table of which keeps its contract."""
    workspace = LocalWorkspace(tmp_path, "sources")
    ingest(workspace, source, source_lang, languages, limit)
    for name, contract in CONTRACTS.items():
        contract.check(workspace.output(name))
    return workspace


def rows(workspace: LocalWorkspace, table: str) -> list[dict[str, Any]]:
    return workspace.output(table).to_pylist()


def write(path: Path, *records: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def files(root: Path, **changes: Any) -> FileSource:
    """A small parallel collection: p1 and p2 in English and German, p1 in Greek; q1 in English and German, q2 in English."""
    write(
        root / "passages.jsonl",
        {"id": "p1", "lang": "en", "title": "T1", "text": "one"},
        {"id": "p1", "lang": "de", "title": "T1de", "text": "eins"},
        {"id": "p2", "lang": "en", "title": "T2", "text": "two"},
        {"id": "p2", "lang": "de", "title": "T2de", "text": "zwei"},
        {"id": "p1", "lang": "el", "title": "T1el", "text": "ένα"},
    )
    write(
        root / "queries.jsonl",
        {"id": "q1", "lang": "en", "text": "one?", "split": "train"},
        {"id": "q1", "lang": "de", "text": "eins?", "split": "train"},
        {"id": "q2", "lang": "en", "text": "two?", "split": "test"},
    )
    (root / "all.qrels").write_text("q1 0 p1 1\nq2 0 p2 1\nq2 0 p1 0\n")
    settings: dict[str, Any] = {
        "root": str(root),
        "passages": ("passages.jsonl",),
        "queries": ("queries.jsonl",),
        "qrels": ("all.qrels",),
        "passage_fields": PassageFields(title="title", lang="lang"),
        "query_fields": QueryFields(lang="lang", split="split"),
    }
    return FileSource(**(settings | changes))


# --- bundled -------------------------------------------------------------------------------------------------------


def test_bundled(tmp_path: Path) -> None:
    workspace = run(tmp_path, BundledSource(), LANGUAGES)
    assert [len(workspace.output(table)) for table in CONTRACTS] == [2160, 240, 1440, 734, 0]
    assert set(workspace.output("passages")["lang"].to_pylist()) == {"en"}
    parallel = workspace.output("parallel")
    assert Counter(parallel["lang"].to_pylist()) == dict.fromkeys(LANGUAGES, 240)
    assert set(parallel["translator"].to_pylist()) == {"bundled"}
    assert set(parallel["source_lang"].to_pylist()) == {"en"}
    bee = next(row for row in rows(workspace, "parallel") if (row["passage_id"], row["lang"]) == ("nature-01-a", "de"))
    assert bee["title"] == "Der Schwänzeltanz der Honigbienen"
    assert {"query_id": "nature-01-b.keyword", "passage_id": "nature-01-b", "relevance": 3} in rows(workspace, "qrels")
    english = [row["split"] for row in rows(workspace, "queries") if row["lang"] == "en"]
    assert Counter(english) == {"train": 480, "dev": 60, "test": 180}


def test_bundled_in_fewer_languages_counts_the_others(tmp_path: Path) -> None:
    workspace = run(tmp_path, BundledSource(), ("de",))
    assert len(workspace.output("parallel")) == 240
    left_out = dict.fromkeys(("es", "fa", "fr", "ru", "zh"), 240)
    assert workspace.facts == {"skipped_passages": left_out, "skipped_queries": left_out}


# --- files ---------------------------------------------------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    workspace = run(tmp_path, files(tmp_path / "data"))
    assert rows(workspace, "queries") == [
        {"query_id": "q1", "lang": "en", "text": "one?", "split": "train"},
        {"query_id": "q1", "lang": "de", "text": "eins?", "split": "train"},
        {"query_id": "q2", "lang": "en", "text": "two?", "split": "test"},
    ]
    assert rows(workspace, "passages") == [
        {"passage_id": "p1", "doc_id": "p1", "lang": "en", "title": "T1", "text": "one"},
        {"passage_id": "p2", "doc_id": "p2", "lang": "en", "title": "T2", "text": "two"},
    ]
    name = str(tmp_path / "data" / "passages.jsonl")
    common = {"source_lang": "en", "lang": "de", "translator": name, "flags": []}
    assert rows(workspace, "parallel") == [
        {"passage_id": "p1", "title": "T1de", "text": "eins", **common},
        {"passage_id": "p2", "title": "T2de", "text": "zwei", **common},
    ]
    assert rows(workspace, "qrels") == [
        {"query_id": "q1", "passage_id": "p1", "relevance": 1},
        {"query_id": "q2", "passage_id": "p2", "relevance": 1},
        {"query_id": "q2", "passage_id": "p1", "relevance": 0},
    ]
    assert rows(workspace, "rejected") == []
    assert workspace.facts == {"skipped_passages": {"el": 1}}


def test_files_in_the_languages_of_the_source(tmp_path: Path) -> None:
    workspace = run(tmp_path, files(tmp_path / "data", languages=("el",)))
    assert [(row["passage_id"], row["lang"]) for row in rows(workspace, "parallel")] == [("p1", "el")]
    assert workspace.facts == {"skipped_passages": {"de": 2}, "skipped_queries": {"de": 1}}


def test_several_formats_make_one_collection(tmp_path: Path) -> None:
    (tmp_path / "en.tsv").write_text("1\tone\n2\ttwo\tTitle\n")
    pq.write_table(pa.table({"id": [3, 4], "text": ["three", "four"]}), tmp_path / "more.parquet")
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(b"10\tone?\n11\tthree?\n"))
    (tmp_path / "qrels.train.tsv").write_text("10\t0\t1\t1\n11\t0\t3\t1\n")
    source = FileSource(
        root=str(tmp_path), passages=("en.tsv", "more.parquet"), queries=("train.tsv.gz",), qrels=("qrels.train.tsv",)
    )
    workspace = run(tmp_path, source)
    assert [(row["passage_id"], row["title"], row["text"]) for row in rows(workspace, "passages")] == [
        ("1", "", "one"),
        ("2", "Title", "two"),
        ("3", "", "three"),
        ("4", "", "four"),
    ]
    assert [(row["query_id"], row["split"]) for row in rows(workspace, "queries")] == [("10", "train"), ("11", "train")]


def test_a_collection_may_lack_the_source_language(tmp_path: Path) -> None:
    """As NeuCLIR does: English queries, documents in other languages only."""
    source = files(tmp_path / "data")
    write(
        tmp_path / "data" / "passages.jsonl", *({"id": p, "lang": "de", "title": "", "text": "x"} for p in ("p1", "p2"))
    )
    workspace = run(tmp_path, source)
    assert rows(workspace, "passages") == []
    assert [row["passage_id"] for row in rows(workspace, "parallel")] == ["p1", "p2"]


def test_bad_rows_are_rejected_and_so_are_their_judgements(tmp_path: Path) -> None:
    source = files(tmp_path / "data")
    write(
        tmp_path / "data" / "passages.jsonl",
        {"id": "p1", "lang": "en", "title": "", "text": ""},
        {"id": "p2", "lang": "en", "title": "", "text": "two"},
    )
    workspace = run(tmp_path, source, limit=0.5)
    assert [row["passage_id"] for row in rows(workspace, "passages")] == ["p2"]
    assert rows(workspace, "qrels") == [{"query_id": "q2", "passage_id": "p2", "relevance": 1}]
    folder = tmp_path / "data"
    fault = "'p1' was rejected, so its judgement is too"
    assert rows(workspace, "rejected") == [
        {"source": f"{folder}/passages.jsonl", "line": 1, "id": "p1", "field": "text", "reason": "is empty"},
        {"source": f"{folder}/all.qrels", "line": 1, "id": "q1", "field": "passage", "reason": fault},
        {"source": f"{folder}/all.qrels", "line": 3, "id": "q2", "field": "passage", "reason": fault},
    ]


def test_too_many_bad_rows_are_an_error(tmp_path: Path) -> None:
    source = files(tmp_path / "data")
    with (tmp_path / "data" / "passages.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(
        SourceError, match=r"passages\.jsonl: 1 of 6 rows rejected, more than max_rejected 0\.1: line 6: "
    ):
        run(tmp_path, source, limit=0.1)


def test_another_spelling_of_a_language_is_told_of(tmp_path: Path) -> None:
    source = files(tmp_path / "data")
    with (tmp_path / "data" / "passages.jsonl").open("a") as file:
        file.write(
            '{"id": "p3", "lang": "DE", "title": "", "text": "x"}\n{"id": "p4", "lang": "en-GB", "title": "", "text": "x"}\n'
        )
    assert run(tmp_path, source).warnings == [
        "1 passages in 'DE' are skipped: the job has 'de', and codes must be spelled alike",
        "1 passages in 'en-GB' are skipped: the job has 'en', and codes must be spelled alike",
    ]


def test_queries_without_a_text_in_the_source_language_are_told_of(tmp_path: Path) -> None:
    source = files(tmp_path / "data")
    with (tmp_path / "data" / "queries.jsonl").open("a") as file:
        file.write('{"id": "q3", "lang": "de", "text": "zwei?", "split": "train"}\n')
    workspace = run(tmp_path, source)
    assert workspace.facts["queries_elsewhere"] == {"de": 1}
    [warning] = workspace.warnings
    assert warning.startswith("1 queries have no text in 'en' (de 1): the student is not trained on them, and")


def test_judgements_of_skipped_languages_are_counted(tmp_path: Path) -> None:
    source = files(tmp_path / "data")
    with (tmp_path / "data" / "passages.jsonl").open("a") as file:
        file.write('{"id": "p3", "lang": "el", "title": "", "text": "x"}\n')
    with (tmp_path / "data" / "all.qrels").open("a") as file:
        file.write("q1 0 p3 1\n")
    workspace = run(tmp_path, source)
    assert len(rows(workspace, "qrels")) == 3
    assert workspace.facts == {"skipped_passages": {"el": 2}, "skipped_qrels": {"passage in a skipped language": 1}}


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (
            "passages.jsonl",
            '{"id": "p1", "lang": "de", "title": "", "text": "x"}',
            (
                r"^passage more than once: passage_id 'p1' lang 'de' in \S+passages\.jsonl line 2 and \S+passages\.jsonl line 6;"
                " ids must be unique$"
            ),
        ),
        (
            "queries.jsonl",
            '{"id": "q2", "lang": "en", "text": "x", "split": "test"}',
            r"^query more than once: query_id 'q2' lang 'en' in \S+queries\.jsonl line 3 and \S+queries\.jsonl line 4;",
        ),
        (
            "queries.jsonl",
            '{"id": "q2", "lang": "de", "text": "x", "split": "dev"}',
            (
                r"^1 queries have versions of different splits, among them 'q2': 'test' in en \(\S+queries\.jsonl line 3\),"
                r" 'dev' in de \(\S+queries\.jsonl line 4\)$"
            ),
        ),
        (
            "all.qrels",
            "q1 0 p1 2",
            r"^judgement more than once: query_id 'q1' passage_id 'p1' in \S+all\.qrels line 1 and \S+all\.qrels line 4;",
        ),
        (
            "all.qrels",
            "q9 0 p1 1\nq9 0 p2 1\nq8 0 p1 1",
            (
                r"^\S+all\.qrels: 3 of 6 judgements are of queries or passages that exist nowhere, more than max_rejected 0\.0:"
                r" query 'q9' \(line 4\), query 'q9' \(line 5\), query 'q8' \(line 6\);"
            ),
        ),
        (
            "all.qrels",
            "q1 0 x1 1\nq1 0 x2 1\nq1 0 x3 1\nq1 0 x4 1",
            r"4 of 7 judgements are .*: passage 'x1' \(line 4\), passage 'x2' \(line 5\), passage 'x3' \(line 6\);",
        ),
    ],
)
def test_contradictions_are_errors_that_name_lines(tmp_path: Path, file: str, line: str, message: str) -> None:
    source = files(tmp_path / "data")
    with (tmp_path / "data" / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(SourceError, match=message):
        run(tmp_path, source)


def test_a_duplicate_across_files_names_both(tmp_path: Path) -> None:
    source = files(tmp_path / "data", passages=("passages.jsonl", "more.jsonl"))
    write(tmp_path / "data" / "more.jsonl", {"id": "p2", "lang": "en", "title": "", "text": "again"})
    with pytest.raises(SourceError, match=r"passages\.jsonl line 3 and \S+more\.jsonl line 1"):
        run(tmp_path, source)


def test_wrong_languages_are_an_error_that_lists_those_found(tmp_path: Path) -> None:
    message = (
        r"^no passages in fr, it; the source has them in: de \(2\), el \(1\), en \(2\); set source_lang and languages$"
    )
    with pytest.raises(SourceError, match=message):
        run(tmp_path, files(tmp_path / "data"), ("fr",), source_lang="it")


def test_every_format_is_checked_before_any_file_is_read(tmp_path: Path) -> None:
    source = files(tmp_path / "data", queries=("queries.jsonl", "more.csv"))
    (tmp_path / "data" / "more.csv").touch()
    (tmp_path / "data" / "passages.jsonl").write_text("not read\n")
    with pytest.raises(SourceError, match=r"more\.csv is of no known format"):
        run(tmp_path, source)


def test_every_path_is_checked_before_any_file_is_read(tmp_path: Path) -> None:
    source = files(tmp_path / "data", qrels=("none.qrels",))
    (tmp_path / "data" / "passages.jsonl").write_text("not read\n")
    with pytest.raises(SourceError, match=r"none\.qrels does not exist"):
        run(tmp_path, source)


# --- BEIR ----------------------------------------------------------------------------------------------------------


def beir(root: Path) -> BeirSource:
    root.mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}", "metadata": {}} for n in range(3)]
    (root / "corpus.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in corpus).encode()))
    write(root / "queries.jsonl", *({"_id": f"q{n}", "text": f"query {n}"} for n in range(4)))
    (root / "qrels").mkdir()
    (root / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq0\td1\t2\n")
    (root / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td2\t1\nq3\td2\t0\n")
    return BeirSource(path=str(root))


def test_beir(tmp_path: Path) -> None:
    workspace = run(tmp_path, beir(tmp_path / "scifact"))
    assert rows(workspace, "passages")[1] == {
        "passage_id": "d1",
        "doc_id": "d1",
        "lang": "en",
        "title": "T1",
        "text": "text 1",
    }
    assert [(row["query_id"], row["split"], row["text"]) for row in rows(workspace, "queries")] == [
        ("q0", "train", "query 0"),
        ("q2", "test", "query 2"),
        ("q3", "test", "query 3"),
    ]
    assert [tuple(row.values()) for row in rows(workspace, "qrels")] == [
        ("q0", "d0", 1),
        ("q0", "d1", 2),
        ("q2", "d2", 1),
        ("q3", "d2", 0),
    ]
    assert workspace.facts == {"unused_queries": {"without judgements": 1}}


def test_beir_judgement_of_a_document_that_does_not_exist_is_left_out(tmp_path: Path) -> None:
    """As in ArguAna, where one of 1,406 judgements is of a document that the corpus lacks."""
    source = beir(tmp_path / "arguana")
    with (tmp_path / "arguana" / "qrels" / "test.tsv").open("a") as file:
        file.write("q3\td9\t1\n")
    workspace = run(tmp_path, source, limit=0.4)
    assert len(rows(workspace, "qrels")) == 4
    assert [(row["line"], row["field"], row["reason"]) for row in rows(workspace, "rejected")] == [
        (4, "passage", "'d9' exists nowhere, so its judgement is left out")
    ]
    assert workspace.warnings == [
        "1 of 5 judgements are of queries or passages that exist nowhere and are left out: see table rejected"
    ]


def test_beir_query_in_two_splits_is_an_error(tmp_path: Path) -> None:
    source = beir(tmp_path / "scifact")
    with (tmp_path / "scifact" / "qrels" / "test.tsv").open("a") as file:
        file.write("q0\td2\t1\n")
    message = r"^query 'q0' is judged in two splits: \S+qrels/train\.tsv line 2 and \S+qrels/test\.tsv line 4;"
    with pytest.raises(SourceError, match=message):
        run(tmp_path, source)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (("corpus.jsonl.gz",), r"scifact/corpus\.jsonl\[\.gz\] does not exist; a BEIR folder has"),
        (("queries.jsonl",), r"scifact/queries\.jsonl\[\.gz\] does not exist; a BEIR folder has"),
        (("qrels/train.tsv", "qrels/test.tsv"), r"scifact: no judgements; a BEIR folder has qrels/train\.tsv"),
    ],
)
def test_beir_folder_without_a_file_is_an_error(tmp_path: Path, missing: tuple[str, ...], message: str) -> None:
    source = beir(tmp_path / "scifact")
    for name in missing:
        (tmp_path / "scifact" / name).unlink()
    with pytest.raises(SourceError, match=message):
        run(tmp_path, source)


# --- ir_datasets ---------------------------------------------------------------------------------------------------


class News(NamedTuple):
    doc_id: str
    title: str
    text: str


class Claim(NamedTuple):
    doc_id: str
    claim: str
    origin: str

    def default_text(self) -> str:
        return f"{self.claim} ({self.origin})"


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Registers data sets of real ir_datasets parts on local files, under `polyray-test/...`."""
    import ir_datasets

    registered: list[str] = []

    def add(name: str, *parts: object) -> None:
        ir_datasets.registry.register(f"polyray-test/{name}", ir_datasets.Dataset(*parts))
        registered.append(f"polyray-test/{name}")

    yield add
    for name in registered:
        del ir_datasets.registry._registered[name]


def local(path: Path, text: str) -> object:
    from ir_datasets.util import LocalDownload

    path.write_text(text, encoding="utf-8")
    return LocalDownload(path)


def test_ir_datasets_parallel_collection(tmp_path: Path, register: Callable[..., None]) -> None:
    """The shape of msmarco-passage with neumarco: ids shared by language versions, queries and qrels by split."""
    from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries

    english = TsvDocs(local(tmp_path / "en.tsv", "0\tone\n1\ttwo\n"), lang="en")
    chinese = TsvDocs(local(tmp_path / "zh.tsv", "0\t一\n1\t二\n"), lang="zh")
    queries = TsvQueries(local(tmp_path / "q.tsv", "7\twhich one\n"), lang="en")
    qrels = TrecQrels(local(tmp_path / "q.qrels", "7 0 1 1\n"), {})
    register("marco", english)
    register("zh", chinese)
    register("zh/train", chinese, queries, qrels)
    source = IrDatasetsSource(
        passages={"en": "polyray-test/marco", "zh": "polyray-test/zh"}, queries={"train": "polyray-test/zh/train"}
    )
    workspace = run(tmp_path, source, ("zh",))
    assert [(row["passage_id"], row["text"]) for row in rows(workspace, "passages")] == [("0", "one"), ("1", "two")]
    assert [
        (row["passage_id"], row["lang"], row["text"], row["translator"]) for row in rows(workspace, "parallel")
    ] == [
        ("0", "zh", "一", "ir_datasets:polyray-test/zh"),
        ("1", "zh", "二", "ir_datasets:polyray-test/zh"),
    ]
    assert rows(workspace, "queries") == [{"query_id": "7", "lang": "en", "text": "which one", "split": "train"}]
    assert rows(workspace, "qrels") == [{"query_id": "7", "passage_id": "1", "relevance": 1}]


def test_ir_datasets_keep_every_language_that_they_name(tmp_path: Path, register: Callable[..., None]) -> None:
    """The shape of NeuCLIR: two of three collections, each document in one language, judged together; none is in the source language."""
    from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries

    for lang in ("zh", "ko"):
        register(lang, TsvDocs(local(tmp_path / f"{lang}.tsv", f"{lang}1\ttext\n{lang}2\ttext\n"), lang=lang))
    judged = "1 0 zh1 3\n1 0 ko2 1\n1 0 ru9 3\n"
    queries = TsvQueries(local(tmp_path / "q.tsv", "1\tbees\n"), lang="en")
    register("multi", queries, TrecQrels(local(tmp_path / "q.qrels", judged), {}))
    source = IrDatasetsSource(
        passages={"zh": "polyray-test/zh", "ko": "polyray-test/ko"}, queries={"test": "polyray-test/multi"}
    )
    workspace = run(tmp_path, source, ("zh",), limit=0.4)
    assert [(row["passage_id"], row["lang"]) for row in rows(workspace, "parallel")] == [
        ("zh1", "zh"), ("zh2", "zh"), ("ko1", "ko"), ("ko2", "ko"),
    ]  # fmt: skip
    assert [row["passage_id"] for row in rows(workspace, "qrels")] == ["zh1", "ko2"]
    assert len(workspace.warnings) == 1
    with pytest.raises(SourceError, match=r"1 of 3 judgements are .*: passage 'ru9' \(line 3\); .* raise max_rejected"):
        run(tmp_path, source, ("zh",), limit=0.3)


def test_ir_datasets_translated_queries(tmp_path: Path, register: Callable[..., None]) -> None:
    """From another data set or from a file, under the ids of the queries."""
    from ir_datasets.formats import TsvDocs, TsvQueries

    docs = TsvDocs(local(tmp_path / "en.tsv", "0\tone\n"), lang="en")
    register("marco", docs, TsvQueries(local(tmp_path / "en.q", "7\twhich one\n"), lang="en"))
    register("mmarco", TsvQueries(local(tmp_path / "zh.q", "7\t哪一个\n"), lang="zh"))
    (tmp_path / "fa.tsv").write_text("7\tکدام\n", encoding="utf-8")
    source = IrDatasetsSource(
        passages={"en": "polyray-test/marco"},
        queries={"train": "polyray-test/marco"},
        translated_queries={"zh": {"train": "polyray-test/mmarco"}, "fa": {"train": str(tmp_path / "fa.tsv")}},
    )
    workspace = run(tmp_path, source, ("zh", "fa"))
    assert sorted((row["query_id"], row["lang"], row["text"], row["split"]) for row in rows(workspace, "queries")) == [
        ("7", "en", "which one", "train"), ("7", "fa", "کدام", "train"), ("7", "zh", "哪一个", "train"),
    ]  # fmt: skip


TOPICS = """<top>
<num> Number: 12
<title> bee dances
<desc> Description:
How do bees tell direction?
<narr> Narrative:
Not used.
</top>
"""


def test_ir_datasets_topics_and_titles(tmp_path: Path, register: Callable[..., None]) -> None:
    """The shape of neuclir: titled documents without a source-language version, TREC topics, two languages."""
    from ir_datasets.formats import TrecQrels, TrecQueries, TsvDocs

    persian = TsvDocs(local(tmp_path / "fa.tsv", "f1\tعنوان\tمتن\nf2\t\tمتن\n"), doc_cls=cast("Any", News))
    claims = TsvDocs(local(tmp_path / "ru.tsv", "r1\tпчёлы\tнаука\n"), doc_cls=cast("Any", Claim))
    topics = TrecQueries(local(tmp_path / "topics.txt", TOPICS))
    qrels = TrecQrels(local(tmp_path / "q.qrels", "12 0 f1 3\n12 0 r1 0\n"), {})
    register("fa", persian)
    register("ru", claims)
    register("multi", topics, qrels)
    source = IrDatasetsSource(
        passages={"fa": "polyray-test/fa", "ru": "polyray-test/ru"}, queries={"test": "polyray-test/multi"}
    )
    workspace = run(tmp_path, source, ("fa", "ru"))
    assert rows(workspace, "passages") == []
    assert [(row["passage_id"], row["lang"], row["title"], row["text"]) for row in rows(workspace, "parallel")] == [
        ("f1", "fa", "عنوان", "متن"),
        ("f2", "fa", "", "متن"),
        ("r1", "ru", "", "пчёлы (наука)"),
    ]
    assert rows(workspace, "queries") == [
        {"query_id": "12", "lang": "en", "text": "bee dances How do bees tell direction?", "split": "test"}
    ]


@pytest.mark.parametrize(
    ("passages", "queries", "message"),
    [
        (
            "polyray-test/none",
            "polyray-test/docs",
            r"^ir_datasets has no data set 'polyray-test/none'; https://ir-datasets",
        ),
        ("polyray-test/docs", "polyray-test/docs", r"^ir_datasets:polyray-test/docs has no queries; "),
        (
            "polyray-test/broken",
            "polyray-test/queries",
            r"^ir_datasets:polyray-test/broken: expected 2 fields, got 1; ",
        ),
        (
            "polyray-test/lost",
            "polyray-test/queries",
            r"^ir_datasets:polyray-test/lost: .*lost\.tsv; ir_datasets downloads",
        ),
    ],
)
def test_ir_datasets_errors(
    tmp_path: Path, register: Callable[..., None], passages: str, queries: str, message: str
) -> None:
    from ir_datasets.formats import TsvDocs, TsvQueries
    from ir_datasets.util import LocalDownload

    register("docs", TsvDocs(local(tmp_path / "en.tsv", "0\tone\n")))
    register("broken", TsvDocs(local(tmp_path / "broken.tsv", "0\n")))
    register("lost", TsvDocs(LocalDownload(tmp_path / "lost.tsv")))
    register("queries", TsvQueries(local(tmp_path / "q.tsv", "7\tone\n")))
    with pytest.raises(SourceError, match=message):
        run(tmp_path, IrDatasetsSource(passages={"en": passages}, queries={"train": queries}))


@pytest.mark.parametrize("name", ["msmarco-passage", "neumarco/zh", "mmarco/v2/de", "neuclir/1/fa"])
def test_ir_datasets_knows_the_collections_of_the_papers(name: str) -> None:
    from distill.sources.ir_datasets import load_ir_dataset

    assert load_ir_dataset(name, "docs").has("docs")


def test_ir_datasets_missing_package_says_how_to_install(tmp_path: Path) -> None:
    """In a Python that cannot import it: an isolated module of that name that raises what a missing one raises."""
    (tmp_path / "ir_datasets.py").write_text("raise ModuleNotFoundError(\"No module named 'ir_datasets'\")\n")
    program = (
        "from distill.sources.ir_datasets import load_ir_dataset\n"
        "try: load_ir_dataset('msmarco-passage', 'docs')\n"
        "except ValueError as error: print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == (
        "ir_datasets:msmarco-passage needs the ir_datasets package: "
        "pip install 'polyray[irds]', in a checkout pip install -e '.[irds]'\n"
    )


# --- XQuAD ---------------------------------------------------------------------------------------------------------

XQUAD = os.environ.get("POLYRAY_XQUAD")
CONFIG = Path(__file__).parents[3] / "jobs" / "configs" / "xquad.yaml"


@pytest.mark.skipif(XQUAD is None, reason="set POLYRAY_XQUAD to a folder with XQuAD as passages, queries and qrels")
def test_xquad(tmp_path: Path) -> None:
    config = load([CONFIG], ["--source.root", str(XQUAD)])
    workspace = run(tmp_path, config.source, config.languages, config.source_lang, config.max_rejected)
    assert len(workspace.output("passages")) == 240
    languages = dict.fromkeys(("de", "es", "ru", "zh", "ar"), 240)
    assert Counter(workspace.output("parallel")["lang"].to_pylist()) == languages
    queries = workspace.output("queries")
    for lang in ("en", *config.languages):
        splits = queries.filter(pc.equal(queries["lang"], lang))["split"].to_pylist()
        assert Counter(splits) == {"train": 734, "dev": 138, "test": 318}
    assert len(workspace.output("qrels")) == 1190
    assert rows(workspace, "rejected") == []
    assert set(workspace.facts["skipped_passages"]) == {"el", "hi", "ro", "th", "tr", "vi"}


def test_xquad_configuration_says_what_is_missing(tmp_path: Path) -> None:
    config = load([CONFIG], ["--source.root", str(tmp_path)])
    with pytest.raises(SourceError, match=r"passages\.jsonl\.gz does not exist; relative paths start from "):
        run(tmp_path, config.source, config.languages)


def test_a_file_without_rows_is_told(tmp_path: Path) -> None:
    source = files(tmp_path)
    (tmp_path / "more.jsonl").write_text("\n \n")
    (tmp_path / "empty.jsonl").touch()
    changed = source.model_copy(
        update={"passages": (*source.passages, "more.jsonl"), "queries": (*source.queries, "empty.jsonl")}
    )
    workspace = run(tmp_path, changed)
    assert [warning for warning in workspace.warnings if "no rows" in warning] == [
        f"{tmp_path}/more.jsonl holds no rows",
        f"{tmp_path}/empty.jsonl holds no rows",
    ]
