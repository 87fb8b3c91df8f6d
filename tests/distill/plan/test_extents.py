"""The extent of sources that no stage has read yet."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.locations import SourceError, locate
from distill.plan.extents import count_rows, extent
from distill.sources.settings import BeirSource, BundledSource, CutSettings, FileSource, IrDatasetsSource


def test_the_bundled_corpus() -> None:
    found = extent(BundledSource(), "en", ("de", "zh"))
    assert found is not None
    assert found.passages == {"en": 240, "de": 240, "zh": 240}
    assert found.queries_in("en") == 720
    assert found.queries_in("de") == 240  # questions alone exist in every language
    assert sum(found.queries_in("en", split) for split in ("train", "dev", "test")) == 720
    assert found.queries_in("en", "test") == 180
    assert (len(found.query_texts), len(found.passage_texts)) == (720, 240)
    assert found.exact


def test_files_small_enough_are_counted_to_the_row(tmp_path: Path) -> None:
    rows = [{"id": f"p{i}", "text": f"text {i}", "lang": lang} for i in range(3) for lang in ("en", "de", "fr")]
    with gzip.open(tmp_path / "passages.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "queries.tsv").write_text("q1\tone\nq2\ttwo")  # without a line break at the end
    source = FileSource(
        root=str(tmp_path),
        passages=("passages.jsonl.gz",),
        queries=("queries.tsv",),
        passage_fields={"id": "id", "text": "text", "lang": "lang"},  # pyright: ignore[reportArgumentType]
    )
    found = extent(source, "en", ("de",))
    assert found is not None
    assert found.passages == {"en": 3, "de": 3}  # fr is no language of the job
    assert found.queries == {("en", "train"): 2}
    assert found.passage_texts == ["text 0", "text 1", "text 2"]
    assert found.exact


def test_long_files_are_counted_by_their_beginning(tmp_path: Path) -> None:
    line = f"{'x' * 999}\n"
    (tmp_path / "a.jsonl").write_text(line * 4000)
    assert count_rows(locate(str(tmp_path / "a.jsonl"))) == (round(1048 * 4_000_000 / (1 << 20)), False)
    texts = (f"{i:0100x}" for i in range(60_000))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", compresslevel=1) as file:
        file.writelines(f"{text}\n" for text in texts)
    rows, exact = count_rows(locate(str(tmp_path / "b.jsonl.gz")))
    assert exact or rows == pytest.approx(60_000, rel=0.1)
    with gzip.open(tmp_path / "c.jsonl.gz", "wb") as file:
        file.write(
            b"y" * 199 + b"\n" + (b"y" * 199 + b"\n") * 199_999
        )  # forty megabytes, of which sixteen are unpacked
    rows, exact = count_rows(locate(str(tmp_path / "c.jsonl.gz")))
    assert not exact
    assert rows == pytest.approx(200_000, rel=0.01)
    pq.write_table(pa.table({"id": ["a"] * 77}), tmp_path / "d.parquet")
    assert count_rows(locate(str(tmp_path / "d.parquet"))) == (77, True)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"plain text")
    with pytest.raises(SourceError, match=r"a\.jsonl\.gz cannot be read: .*incorrect header"):
        count_rows(locate(str(tmp_path / "a.jsonl.gz")))


def test_beir_counts_judged_queries_by_split(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "title": "T", "text": "x"}) + "\n" for i in range(5))
    )
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps({"_id": f"q{i}", "text": "y"}) + "\n" for i in range(4)))
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq0\td1\t1\nq1\td0\t1\n")
    (tmp_path / "qrels/train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td0\t1\n")
    found = extent(BeirSource(path=str(tmp_path)), "en", ())
    assert found is not None
    assert found.passages == {"en": 5}
    assert found.queries == {("en", "test"): 2, ("en", "train"): 1}
    assert found.passage_texts == ["T x"] * 5


def test_ir_datasets_says_how_large_its_data_sets_are() -> None:
    passages = {"en": "msmarco-passage", "zh": "neumarco/zh"}
    found = extent(
        IrDatasetsSource(passages=passages, queries={"train": "msmarco-passage/train/judged"}), "en", ("zh",)
    )
    assert found is not None
    assert found.passages == {"en": 8_841_823, "zh": 8_841_823}
    assert found.queries_in("en", "train") == 502_939
    assert not found.passage_texts


def test_documents_to_be_cut_are_not_counted() -> None:
    assert extent(BundledSource(cut=CutSettings()), "en", ("de",)) is None
