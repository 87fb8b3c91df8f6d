"""BEIR folders as a source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from cluster.locations import Location, SourceError, exists, locate
from distill.formats.rows import SPLITS, PassageParser, QueryParser, Record, RowError, Rows
from distill.formats.settings import PassageFields, QueryFields
from distill.formats.text import read_jsonl
from distill.formats.tsv import read_beir_qrels
from distill.sources.intake import Intake
from distill.sources.settings import BeirSource
from distill.tables import STRING

_SPLIT = "split of its qrels"
"""A field that is added to records, named so that no file has it."""


def add_beir(intake: Intake, source: BeirSource, source_lang: str) -> None:
    """Add a BEIR folder: its judged queries, each in the split of the file that judges it, all passages and all judgements.

    Raises:
        SourceError: a file of the layout is missing, or a query is judged in two splits.
    """
    files = beir_files(source.path)
    for file in files.qrels.values():
        intake.add_qrels(file.name, read_beir_qrels(file))
    qrels = intake.qrels.table()
    if not len(qrels):
        raise SourceError(
            f"{source.path}: no judgements; a BEIR folder has qrels/train.tsv, qrels/dev.tsv or qrels/test.tsv"
        )
    fields = PassageFields(id="_id", title="title")
    intake.add_passages(files.passages.name, read_jsonl(files.passages), PassageParser(fields, source_lang))
    splits = _splits(qrels)
    rows = _with_split(intake, read_jsonl(files.queries), splits)
    intake.add_queries(files.queries.name, rows, QueryParser(QueryFields(id="_id", split=_SPLIT), source_lang, "train"))


@dataclass(frozen=True)
class BeirFiles:
    """The files of a BEIR folder.

    Attributes:
        passages: corpus.jsonl, or .jsonl.gz.
        queries: queries.jsonl, likewise.
        qrels: qrels/SPLIT.tsv of the splits that have one.
    """

    passages: Location
    queries: Location
    qrels: Mapping[str, Location]


def beir_files(folder: str) -> BeirFiles:
    """Find the files of a BEIR folder. Raises SourceError where it has no passages or no queries."""
    qrels = {split: _find(folder, f"qrels/{split}.tsv") for split in SPLITS}
    passages, queries = _file(folder, "corpus.jsonl"), _file(folder, "queries.jsonl")
    return BeirFiles(passages, queries, {split: file for split, file in qrels.items() if file is not None})


def _find(folder: str, name: str) -> Location | None:
    locations = (locate(candidate, folder) for candidate in (name, f"{name}.gz"))
    return next(filter(exists, locations), None)


def _file(folder: str, name: str) -> Location:
    file = _find(folder, name)
    if file is None:
        missing = locate(name, folder).name
        raise SourceError(f"{missing}[.gz] does not exist; a BEIR folder has corpus.jsonl and queries.jsonl")
    return file


def _splits(qrels: pa.Table) -> dict[str, str]:
    """Return the split of each judged query: the name of the file with its judgements."""
    splits: dict[str, str] = {}
    first: dict[str, str] = {}
    for table in qrels.to_batches():
        names = table["source"].cast(STRING).to_pylist()
        for query_id, line, name in zip(table["query_id"].to_pylist(), table["line"].to_pylist(), names, strict=True):
            split = name.removesuffix(".gz").removesuffix(".tsv").rpartition("/")[2]
            if splits.setdefault(query_id, split) != split:
                both = f"{first[query_id]} and {name} line {line}"
                raise SourceError(f"query '{query_id}' is judged in two splits: {both}; a query has one split")
            first.setdefault(query_id, f"{name} line {line}")
    return splits


def _with_split(intake: Intake, rows: Rows, splits: dict[str, str]) -> Iterator[tuple[int, Record | RowError]]:
    for line, record in rows:
        if isinstance(record, RowError) or "_id" not in record:
            yield line, record
        elif str(record["_id"]) in splits:
            yield line, {**record, _SPLIT: splits[str(record["_id"])]}
        else:
            intake.count("unused_queries", "without judgements")
