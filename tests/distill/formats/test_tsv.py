"""TSV files: the MS MARCO layout, files with a header, BEIR judgements."""

from pathlib import Path
from typing import Any

import pytest

from cluster.locations import Location, SourceError, locate
from distill.formats.rows import PASSAGE_ROWS, QREL_ROWS, QUERY_ROWS, Rejects, batches, parse_qrel
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.text import read_passages, read_queries
from distill.formats.tsv import read_beir_qrels

DPR = 'id\ttext\ttitle\n1\t"Aaron, a ""quoted"" word"\tAaron\n2\tplain\t"a\tb"\n3\t"never closed\tAaron\n4\t"odd "quote"\tAaron\n'


def file(path: Path, text: str) -> Location:
    path.write_text(text, encoding="utf-8", newline="")
    return locate(str(path))


def passages(location: Location, fields: PassageFields) -> tuple[list[tuple[str, ...]], list[tuple[int, str]]]:
    rejects = Rejects(1.0)
    rows, parse = read_passages(location, fields, "en")
    tables = batches(location.name, rows, parse, PASSAGE_ROWS, rejects)
    found = [
        (row["passage_id"], row["lang"], row["title"], row["text"]) for table in tables for row in table.to_pylist()
    ]
    return found, [(row["line"], row["reason"]) for row in rejects.rows]


def queries(location: Location, fields: QueryFields) -> list[dict[str, Any]]:
    rows, parse = read_queries(location, fields, "en", "train")
    return [row for table in batches("q", rows, parse, QUERY_ROWS, Rejects(1.0)) for row in table.to_pylist()]


@pytest.mark.parametrize(
    "header", ["id\ttext\ttitle", "pid\tpassage", "DocID\tBody\tTitle", '"id"\t"text"', "doc_id\tcontents"]
)
def test_a_header_of_passages_is_refused(tmp_path: Path, header: str) -> None:
    location = file(tmp_path / "p.tsv", f"{header}\n1\tone\n")
    with pytest.raises(SourceError, match=r"p\.tsv line 1 is a header \(.*\): set passage_fields\.tsv of the source"):
        passages(location, PassageFields())


@pytest.mark.parametrize("header", ["qid\tquery", "id\ttext", "query_id\tquestion"])
def test_a_header_of_queries_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(SourceError, match=r"q\.tsv line 1 is a header \(.*\): set query_fields\.tsv of the source"):
        queries(file(tmp_path / "q.tsv", f"{header}\n1\tone\n"), QueryFields())


def test_rows_that_are_no_header_are_rows(tmp_path: Path) -> None:
    location = file(tmp_path / "p.tsv", "id\tthe text of a passage\n1\ttext\n")
    assert passages(location, PassageFields())[0] == [
        ("id", "en", "", "the text of a passage"),
        ("1", "en", "", "text"),
    ]


def test_a_header_among_rows_is_rejected(tmp_path: Path) -> None:
    """Files with a header, joined by `cat` after one without."""
    found, rejected = passages(file(tmp_path / "p.tsv", "1\tone\nid\ttext\n2\ttwo\n"), PassageFields())
    assert [row[0] for row in found] == ["1", "2"]
    assert rejected == [(2, "a header (id, text) among the rows")]


def test_a_header_names_the_columns(tmp_path: Path) -> None:
    text = "lang\tbody\tpid\nde\teins\t1\nfr\t\t2\nlang\tbody\tpid\nde\t3\n"
    found, rejected = passages(
        file(tmp_path / "p.tsv", text), PassageFields(tsv="header", id="pid", text="body", lang="lang")
    )
    assert found == [("1", "de", "", "eins")]
    assert rejected == [
        (3, "is empty"),
        (4, "a header (lang, body, pid) among the rows"),
        (5, "2 columns, the first line names 3"),
    ]
    [query] = queries(
        file(tmp_path / "q.tsv", "qid\tquery\n1\twho is aaron\n"), QueryFields(tsv="header", id="qid", text="query")
    )
    assert (query["query_id"], query["text"], query["line"]) == ("1", "who is aaron", 2)


def test_the_layout_of_dpr(tmp_path: Path) -> None:
    found, rejected = passages(
        file(tmp_path / "psgs_w100.tsv", DPR.replace("a\tb", "a b")), PassageFields(tsv="quoted", title="title")
    )
    assert found == [("1", "en", "Aaron", 'Aaron, a "quoted" word'), ("2", "en", "a b", "plain")]
    reason = (
        'column 2 begins with a double quote, but does not end on this line as CSV has it ("...", with "" for a quote)'
    )
    assert rejected == [(4, reason), (5, reason)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\tone\n2\ttwo\n", r"p\.tsv line 2: no field 'id'; it has '1', 'one'$"),
        ("id\tid\n", r"p\.tsv: its first line names the columns 'id', 'id'; each needs a name of its own$"),
        ("id\t\n", r"p\.tsv: its first line names the columns 'id', ''; each needs a name of its own$"),
        ('id\t"text\n', r"p\.tsv: its first line, the header, column 2 begins with a double quote"),
    ],
)
def test_faulty_headers(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        passages(file(tmp_path / "p.tsv", text), PassageFields(tsv="quoted"))


def test_a_line_break_inside_a_passage(tmp_path: Path) -> None:
    """Its second half has no id, and is rejected with its line. What is known of a half with a tab is nothing."""
    found, rejected = passages(file(tmp_path / "p.tsv", "1\tThe SIM\n card\n2\ttwo\n"), PassageFields())
    assert [row[0] for row in found] == ["1", "2"]
    assert rejected == [(2, "1 column, expected 2 (id, text) or 3 (id, text, title) separated by tabs")]


def test_a_carriage_return_is_text_unless_a_column_follows(tmp_path: Path) -> None:
    found, rejected = passages(file(tmp_path / "p.tsv", "1\tone\rmore\n2\ttwo\r3\tthree\n"), PassageFields())
    assert found == [("1", "en", "", "one\rmore")]
    assert rejected == [(2, "a carriage return with another column after it: two rows in one line?")]


@pytest.mark.parametrize("header", ["query-id\tcorpus-id\tscore\n", "query_id\tdoc_id\trelevance\n", ""])
def test_a_header_of_beir_judgements_is_known_by_its_names(tmp_path: Path, header: str) -> None:
    """A first row with a faulty grade is no header: it is rejected."""
    rejects = Rejects(1.0)
    rows = read_beir_qrels(file(tmp_path / "test.tsv", f"{header}q1\tp1\t1.0\nq1\tp2\t2\n"))
    tables = list(batches("x", rows, parse_qrel, QREL_ROWS, rejects))
    assert [(row["passage_id"], row["relevance"]) for row in tables[0].to_pylist()] == [("p2", 2)]
    assert [(row["line"], row["reason"]) for row in rejects.rows] == [
        (1 + bool(header), "'1.0', expected a whole number")
    ]
