"""Readers of file formats: rows, rejected rows and errors."""

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from cluster.locations import Location, SourceError, find_all, locate
from distill.formats.rows import (
    PASSAGE_ROWS,
    QREL_ROWS,
    PassageParser,
    QueryParser,
    Rejects,
    RowError,
    batches,
    parse_qrel,
)
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.text import FORMATS, read_passages, read_queries
from distill.formats.tsv import read_beir_qrels


def place(path: Path) -> Location:
    return locate(str(path))


def jsonl(path: Path, *rows: object) -> Location:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return place(path)


def passages(
    file: Location, fields: PassageFields | None = None, limit: float = 1.0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The passages of a file and its rejected rows."""
    rejects = Rejects(limit)
    rows, parse = read_passages(file, fields or PassageFields(), "en")
    tables = list(batches(file.name, rows, parse, PASSAGE_ROWS, rejects))
    return [row for table in tables for row in table.to_pylist()], rejects.rows


def test_jsonl_reads_named_fields(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "p.jsonl", {"pid": "a", "body": "Text", "head": "Title", "doc": "d", "code": "de", "more": 1}
    )
    rows, rejected = passages(file, PassageFields(id="pid", text="body", title="head", doc_id="doc", lang="code"))
    assert rows == [
        {
            "passage_id": "a",
            "doc_id": "d",
            "lang": "de",
            "title": "Title",
            "text": "Text",
            "line": 1,
            "source": str(tmp_path / "p.jsonl"),
        }
    ]
    assert rejected == []


def test_jsonl_defaults(tmp_path: Path) -> None:
    """The passage is its own document, in the source language, without a title even where a field is called so."""
    rows, _ = passages(jsonl(tmp_path / "p.jsonl", {"id": "a", "text": "Text", "title": "Title"}))
    assert (rows[0]["doc_id"], rows[0]["lang"], rows[0]["title"]) == ("a", "en", "")


def test_bad_lines_are_rejected_with_line_field_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    lines = [
        '{"id": "a", "text": "good"}',
        '{"id": "b", "text": ',
        '["c", "text"]',
        '{"id": "d", "text": 7}',
        '{"id": "", "text": "x"}',
        '{"id": "f", "text": " \\t"}',
        '{"id": 1.5, "text": "x"}',
        '{"id": null, "text": "x"}',
        '{"id": true, "text": "x"}',
        '{"id": "has space", "text": "x"}',
        '{"id": "k", "text": "half \\ud83d"}',
        '{"id": "l", "text": null}',
        '{"id": "m", "text": "good"}',
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    rows, rejected = passages(place(file))
    assert [(row["passage_id"], row["line"]) for row in rows] == [("a", 1), ("m", 13)]
    assert [(row["line"], row["id"], row["field"], row["reason"]) for row in rejected] == [
        (2, "", "", "not JSON: Expecting value at column 21"),
        (3, "", "", "a list, expected a JSON object"),
        (4, "d", "text", "a number, expected a string"),
        (5, "", "id", "is empty"),
        (6, "f", "text", "is empty"),
        (7, "", "id", "a number, expected a string or a whole number"),
        (8, "", "id", "null, expected a string or a whole number"),
        (9, "", "id", "a truth value, expected a string or a whole number"),
        (10, "", "id", "'has space' holds white space, which TREC files cannot carry in an id"),
        (11, "k", "text", "not Unicode: half a surrogate pair at character 6"),
        (12, "l", "text", "null, expected a string"),
    ]
    assert {row["source"] for row in rejected} == {str(file)}


def test_absurdly_nested_json_is_a_bad_line(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("[" * 100_000 + "\n")
    _, rejected = passages(place(file))
    assert rejected[0]["reason"].startswith("not JSON: ")


def test_lines_end_at_newlines_only_and_blank_ones_are_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    # A byte-order mark, Windows line ends, and U+2028 and U+0085 inside a string, at which str.splitlines would cut.
    file.write_bytes('\ufeff{"id": "a", "text": "x\u2028y\u0085z"}\r\n\r\n  \n{"id": "b", "text": "w"}'.encode())
    rows, rejected = passages(place(file))
    assert [(row["passage_id"], row["text"], row["line"]) for row in rows] == [
        ("a", "x\u2028y\u0085z", 1),
        ("b", "w", 4),
    ]
    assert rejected == []


def test_a_line_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'{"id": "a", "text": "caf\xe9"}\n{"id": "b", "text": "x"}\n')
    rows, rejected = passages(place(file))
    assert [row["passage_id"] for row in rows] == ["b"]
    assert (rejected[0]["line"], rejected[0]["reason"]) == (1, "not UTF-8: byte 25 of the line is 0xe9")


def test_text_is_nfc_and_ids_are_untouched(tmp_path: Path) -> None:
    decomposed = "Scho\u0308n"
    file = jsonl(tmp_path / "p.jsonl", {"id": decomposed, "text": decomposed, "title": decomposed})
    rows, _ = passages(file, PassageFields(title="title"))
    assert (rows[0]["text"], rows[0]["title"], rows[0]["passage_id"]) == ("Sch\u00f6n", "Sch\u00f6n", decomposed)


def test_whole_numbers_become_ids(tmp_path: Path) -> None:
    rows, _ = passages(jsonl(tmp_path / "p.jsonl", {"id": 7, "text": "x"}))
    assert rows[0]["passage_id"] == "7"


def test_a_title_alone_is_a_passage_and_null_is_no_title(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "p.jsonl",
        {"id": "a", "text": "", "title": "Title"},
        {"id": "b", "text": "Text", "title": None},
        {"id": "c", "text": "", "title": None},
    )
    rows, rejected = passages(file, PassageFields(title="title"))
    assert [(row["passage_id"], row["title"], row["text"]) for row in rows] == [("a", "Title", ""), ("b", "", "Text")]
    assert [(row["id"], row["reason"]) for row in rejected] == [("c", "is empty")]


def test_a_missing_field_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "p.jsonl", {"id": "a", "text": "x"}, {"id": "b", "body": "x"})
    with pytest.raises(SourceError, match=r"p\.jsonl line 2: no field 'text'; it has 'id', 'body'$"):
        passages(file)


def test_gz_is_decompressed_members_and_all(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"id": "a", "text": "x"}\n') + gzip.compress(b'{"id": "b", "text": "y"}\n'))
    rows, _ = passages(place(file))
    assert [(row["passage_id"], row["line"]) for row in rows] == [("a", 1), ("b", 2)]


def test_truncated_gz_is_an_error_and_not_a_shorter_file(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"id": "a", "text": "x"}\n')[:-4])
    with pytest.raises(SourceError, match=r"p\.jsonl\.gz cannot be read: Truncated compressed stream"):
        passages(place(file))


def test_gz_that_is_none_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl.gz"
    file.write_bytes(b'{"id": "a", "text": "x"}\n')
    with pytest.raises(SourceError, match=r"p\.jsonl\.gz cannot be read: "):
        passages(place(file))


def test_tsv_has_two_columns_or_three(tmp_path: Path) -> None:
    file = tmp_path / "collection.tsv"
    file.write_text('0\tThe "presence" of\n1\tBody\tTitle\n2\n3\ta\tb\tc\n', encoding="utf-8")
    rows, rejected = passages(place(file), PassageFields(id="renamed", title="head"))
    assert [(row["passage_id"], row["text"], row["title"]) for row in rows] == [
        ("0", 'The "presence" of', ""),
        ("1", "Body", "Title"),
    ]
    assert [(row["line"], row["reason"]) for row in rejected] == [
        (3, "1 column, expected 2 (id, text) or 3 (id, text, title) separated by tabs"),
        (4, "4 columns, expected 2 (id, text) or 3 (id, text, title) separated by tabs"),
    ]


def test_tsv_queries_have_two_columns(tmp_path: Path) -> None:
    file = tmp_path / "queries.tsv.gz"
    file.write_bytes(gzip.compress(b"q1\twhat is x\nq2\twhat\tis y\n"))
    rows, parse = read_queries(place(file), QueryFields(), "en", "dev")
    first, second = rows
    assert not isinstance(first[1], RowError)
    assert parse(first[1]) == ("q1", "en", "what is x", "dev")
    assert isinstance(second[1], RowError)
    assert second[1].reason == "3 columns, expected 2 (id, text) separated by tabs"


def test_tsv_has_no_language_field(tmp_path: Path) -> None:
    file = tmp_path / "p.tsv"
    file.write_text("a\tx\n")
    with pytest.raises(SourceError, match=r"p\.tsv: no field 'code' \(lang\): TSV has id, text and title"):
        passages(place(file), PassageFields(lang="code"))


def test_parquet_reads_columns_and_numbers_rows(tmp_path: Path) -> None:
    table = pa.table({"pid": [1, 2, None], "text": ["x", "", "z"], "lang": ["de", "de", "ru"], "vector": [[1.0]] * 3})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=1)
    rows, rejected = passages(place(tmp_path / "p.parquet"), PassageFields(id="pid", lang="lang"))
    assert [(row["passage_id"], row["lang"], row["text"], row["line"]) for row in rows] == [("1", "de", "x", 1)]
    assert [(row["line"], row["id"], row["field"]) for row in rejected] == [(2, "2", "text"), (3, "", "pid")]


def test_parquet_without_a_column_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "body": ["x"]}), tmp_path / "p.parquet")
    with pytest.raises(SourceError, match=r"p\.parquet: no column 'text'; it has 'id', 'body'$"):
        passages(place(tmp_path / "p.parquet"))


def test_parquet_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_text("id,text\n")
    with pytest.raises(SourceError, match=r"p\.parquet cannot be read: "):
        passages(place(tmp_path / "p.parquet"))


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.int8(), pa.decimal128(25, 2), pa.dictionary(pa.int32(), pa.string()), pa.large_string()]
)
def test_parquet_ids_and_texts_of_any_type_that_holds_them_exactly(tmp_path: Path, kind: pa.DataType) -> None:
    """pandas stores whole numbers as floats where a row has none."""
    ids = pa.array(["1", "2"] if pa.types.is_dictionary(kind) or kind == pa.large_string() else [1, 2]).cast(kind)
    texts = pa.array(["x", "y"]).cast(pa.dictionary(pa.int32(), pa.string()))
    pq.write_table(pa.table({"id": ids, "text": texts}), tmp_path / "p.parquet")
    rows, rejected = passages(place(tmp_path / "p.parquet"))
    assert ([(row["passage_id"], row["text"]) for row in rows], rejected) == ([("1", "x"), ("2", "y")], [])


def test_a_partition_is_a_field_of_its_files(tmp_path: Path) -> None:
    """Language folders as pandas and Spark write them; a value that contradicts its folder is rejected."""
    pq.write_to_dataset(pa.table({"id": [1, 2], "text": ["eins", "zwei"], "lang": ["de", "fr"]}), tmp_path, ["lang"])
    (tmp_path / "lang=ru").mkdir()
    jsonl(tmp_path / "lang=ru/p.jsonl", {"id": 3, "text": "три"}, {"id": 4, "text": "x", "lang": "zh"}, ["y"])
    (tmp_path / "lang=es").mkdir()
    (tmp_path / "lang=es/p.tsv").write_text("id\ttext\n5\tcinco\n")
    found, reasons = [], []
    for file in find_all(str(tmp_path)):
        rows, rejected = passages(file, PassageFields(lang="lang", tsv="header"))
        found += [(row["passage_id"], row["lang"], row["text"]) for row in rows]
        reasons += [(row["line"], row["field"], row["reason"]) for row in rejected]
    assert sorted(found) == [("1", "de", "eins"), ("2", "fr", "zwei"), ("3", "ru", "три"), ("5", "es", "cinco")]
    assert reasons == [(2, "lang", "'zh', but its folder says 'ru'"), (3, "", "a list, expected a JSON object")]


def test_a_field_that_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "id": "b", "text": "x"}\n{"id": "c", "text": "x"}\n')
    rows, rejected = passages(place(tmp_path / "p.jsonl"))
    assert [row["passage_id"] for row in rows] == ["c"]
    assert rejected[0]["reason"] == "not JSON: the field 'id' is there twice"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=["id", "text", "text"]), tmp_path / "p.parquet")
    with pytest.raises(SourceError, match=r"p\.parquet: the column 'text' is there 2 times"):
        passages(place(tmp_path / "p.parquet"))


def test_a_field_named_with_a_byte_order_mark_is_shown_as_such(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no field 'id'; it has '\\ufeffid', 'text'$"):
        passages(jsonl(tmp_path / "p.jsonl", {"\ufeffid": "a", "text": "x"}))


@pytest.mark.parametrize("text", ["\u200b\u200c\ufeff", "\u00ad", "\u3164 \u2060", "\x00\x07"])
def test_a_text_of_which_nothing_can_be_seen_is_empty(tmp_path: Path, text: str) -> None:
    _, rejected = passages(jsonl(tmp_path / "p.jsonl", {"id": "a", "text": text}))
    assert [(row["id"], row["reason"]) for row in rejected] == [("a", "is empty")]
    rows, parse = read_queries(jsonl(tmp_path / "q.jsonl", {"id": "q", "text": text}), QueryFields(), "en", "train")
    [(_, record)] = rows
    assert not isinstance(record, RowError)
    with pytest.raises(RowError, match="is empty"):
        parse(record)


def test_formats_agree(tmp_path: Path) -> None:
    """One collection in every format gives one table."""
    rows = [{"id": f"p{n}", "text": f"Text ü {n}", "title": f"Title {n}"} for n in range(40)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    columns = "".join(f"{row['id']}\t{row['text']}\t{row['title']}\n" for row in rows)
    (tmp_path / "p.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "p.tsv").write_text(columns, encoding="utf-8")
    (tmp_path / "p.tsv.gz").write_bytes(gzip.compress(columns.encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    found = []
    for suffix in FORMATS:
        read, rejected = passages(place(tmp_path / f"p{suffix}"), PassageFields(title="title"))
        assert rejected == []
        found.append([{name: value for name, value in row.items() if name != "source"} for row in read])
    assert len(found[0]) == 40
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("header", ["query-id\tcorpus-id\tscore\n", ""])
def test_beir_qrels_with_and_without_header(tmp_path: Path, header: str) -> None:
    file = tmp_path / "test.tsv"
    file.write_text(f"{header}q1\tp1\t1\nq1\tp2\tx\n")
    rejects = Rejects(1.0)
    rows = read_beir_qrels(place(file))
    tables = list(batches("x", rows, parse_qrel, QREL_ROWS, rejects))
    assert [(row["query_id"], row["passage_id"], row["relevance"]) for row in tables[0].to_pylist()] == [
        ("q1", "p1", 1)
    ]
    assert [row["reason"] for row in rejects.rows] == ["'x', expected a whole number"]


@pytest.mark.parametrize(
    ("first", "rejected"),
    [
        ("query-id\tcorpus-id\tscore\n", []),
        ("q\td\tRelevance\n", []),
        ("q0\tp0\t1.0\n", ["'1.0', expected a whole number"]),
        ("q0\tp0\thigh\n", ["'high', expected a whole number"]),
        ("q0\tp0\t2\n", []),
    ],
)
def test_a_first_line_of_beir_qrels_is_a_header_by_its_name_alone(
    tmp_path: Path, first: str, rejected: list[str]
) -> None:
    file = tmp_path / "test.tsv"
    file.write_text(f"{first}q1\tp1\t1\n")
    rejects = Rejects(1.0)
    tables = list(batches("x", read_beir_qrels(place(file)), parse_qrel, QREL_ROWS, rejects))
    assert tables[0]["query_id"].to_pylist() == (["q0", "q1"] if "\t2" in first else ["q1"])
    assert [row["reason"] for row in rejects.rows] == rejected


@pytest.mark.parametrize("text", ["\u200b\u200c\ufeff", "\u00a0", "\u00ad\u2060", "\x00", "\u115f\ufe0f", ""])
def test_a_text_that_cannot_be_seen_is_empty(text: str) -> None:
    with pytest.raises(RowError, match="is empty"):
        PassageParser(PassageFields(), "en")({"id": "p", "text": text})
    with pytest.raises(RowError, match="is empty"):
        QueryParser(QueryFields(), "en", "train")({"id": "q", "text": text})
    seen = f"{text}a{text}"
    assert PassageParser(PassageFields(), "en")({"id": "p", "text": seen}).text == seen


# --- limits and batches --------------------------------------------------------------------------------------------


def test_share_of_rejected_rows_is_limited_per_file(tmp_path: Path) -> None:
    rows = [{"id": f"p{n}", "text": "x"} for n in range(8)]
    file = jsonl(tmp_path / "p.jsonl", *rows, {"id": "", "text": "x"}, ["y"])
    assert len(passages(file, limit=0.2)[1]) == 2  # exactly the limit
    message = (
        r"p\.jsonl: 2 of 10 rows rejected, more than max_rejected 0.1: line 9: id is empty; line 10: a list, expected"
    )
    with pytest.raises(SourceError, match=message):
        passages(file, limit=0.1)


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.formats.rows.BATCH_ROWS", 4)
    file = jsonl(tmp_path / "p.jsonl", *({"id": f"p{n}", "text": "x"} for n in range(10)))
    rows, parse = read_passages(file, PassageFields(), "en")
    tables = list(batches("x", rows, parse, PASSAGE_ROWS, Rejects(0.0)))
    assert [len(table) for table in tables] == [4, 4, 2]
    assert [row["line"] for table in tables for row in table.to_pylist()] == list(range(1, 11))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bytes], None]]:
    """A real S3 server over HTTP with a bucket `library`; calling it puts an object."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("s3")
    client.create_bucket(Bucket="library")
    yield lambda key, data: client.put_object(Bucket="library", Key=key, Body=data)
    client.close()
    server.stop()


def test_s3_reads_what_disk_reads(s3: Callable[[str, bytes], None], tmp_path: Path) -> None:
    data = gzip.compress(b"".join(b'{"id": "p%d", "text": "Text"}\n' % n for n in range(20_000)) + b"broken\n")
    s3("sets/my set/p.jsonl.gz", data)
    s3("sets/my set/q.tsv", b"q1\twhat\n")
    (tmp_path / "p.jsonl.gz").write_bytes(data)
    (far,) = find_all("my set/p.jsonl.gz", "s3://library/sets/")
    assert far.name == "s3://library/sets/my set/p.jsonl.gz"
    rows, rejected = passages(far)
    expected, _ = passages(place(tmp_path / "p.jsonl.gz"))
    assert len(rows) == 20_000
    assert [{**row, "source": ""} for row in rows] == [{**row, "source": ""} for row in expected]
    assert [(row["source"], row["line"]) for row in rejected] == [(far.name, 20_001)]
    assert locate(far.uri).path == far.path == "library/sets/my set/p.jsonl.gz"
    folder = find_all("s3://library/sets/my set")
    assert [file.name for file in folder] == [far.name, "s3://library/sets/my set/q.tsv"]


def test_s3_credentials_and_options_stay_out_of_messages(
    s3: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3("p.tsv", b"1\tone\n")
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    root = f"s3://key:secret@library?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    (file,) = find_all("p.tsv", root)
    assert file.name == "s3://library/p.tsv"
    assert file.uri == f"s3://key:secret@library/p.tsv{root.removeprefix('s3://key:secret@library')}"
    assert [row["text"] for row in passages(file)[0]] == ["one"]
    with pytest.raises(SourceError, match=r"^s3://library/none\.tsv does not exist"):
        find_all("none.tsv", root)


def test_s3_without_the_object_or_the_bucket_is_an_error(s3: Callable[[str, bytes], None]) -> None:
    with pytest.raises(SourceError, match=r"^s3://library/none\.jsonl does not exist; "):
        find_all("s3://library/none.jsonl")
    with pytest.raises(SourceError, match=r"^s3://nowhere-at-all/none\.jsonl"):
        find_all("s3://nowhere-at-all/none.jsonl")


def test_an_unknown_format_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n")
    message = r"p\.csv is of no known format; names end in \.jsonl, \.jsonl\.gz, \.tsv, \.tsv\.gz or \.parquet$"
    with pytest.raises(SourceError, match=message):
        read_passages(place(tmp_path / "p.csv"), PassageFields(), "en")
    with pytest.raises(SourceError, match=message):
        read_queries(place(tmp_path / "p.csv"), QueryFields(), "en", "train")
