"""Settings of file formats: the names of fields, and the layouts of scores and training examples."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cluster.settings import Settings
from distill.settings.base import Language

TsvLayout = Literal["msmarco", "header", "quoted"]
"""Layouts of TSV files, see `Fields.tsv`."""


class Fields(Settings):
    """The parts that the fields of passages and of queries share."""

    tsv: TsvLayout = "msmarco"
    """Layout of TSV files. `msmarco`: id and text, and of passages optionally title, without a header; a first line that reads like one is
    refused. `header`: the first line names the columns, and the settings here say which is which, as in JSONL. `quoted`: the same with
    the quotes of CSV, as in DPR's psgs_w100.tsv (columns id, text and title)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that every record must have."""
        return tuple(name for name in self.model_dump(exclude={"tsv"}).values() if name is not None)


class PassageFields(Fields):
    """Names of the fields of a passage in JSONL and Parquet files, and in TSV files with a header."""

    id: str = "id"
    """Field with the passage id."""
    text: str = "text"
    """Field with the body."""
    title: str | None = None
    """Field with the title; if None, passages have no titles."""
    doc_id: str | None = None
    """Field with the document id; if None, the passage's own id."""
    lang: str | None = None
    """Field with the language code; if None, every passage is in `source_lang`."""


class QueryFields(Fields):
    """Names of the fields of a query in JSONL and Parquet files, and in TSV files with a header."""

    id: str = "id"
    """Field with the query id."""
    text: str = "text"
    """Field with the query's text."""
    lang: str | None = None
    """Field with the language code; if None, every query is in `source_lang`."""
    split: str | None = None
    """Field with `train`, `dev` or `test`; if None, every query is in `split`."""


ScoreFormat = Literal["tdist", "trec"]
"""Layouts of score files: that of hltcoe/tdist-msmarco-scores, and TREC runs."""

ScoreUnit = Literal["log_odds", "log_probability", "similarity"]
"""Units of scores: log p/(1-p) and log p of the probability p that a passage is relevant, and what is neither (cosines, MaxSim, BM25)."""


RunOrder = Literal["agreed", "score", "rank"]
"""What orders the passages of a run, see `distill.formats.trec.read_rankings`."""


class PylateExamples(Settings):
    """The three tables of PyLate's knowledge distillation, as Parquet or JSONL (optionally .gz), local or s3://."""

    type: Literal["pylate"] = "pylate"
    train: tuple[str, ...] = Field(min_length=1)
    """Files, or folders of them, with the columns query_id, document_ids and scores. Lists may be text in JSON. Several rows of a query are
    joined; a document counts once, and its scores must be equal."""
    queries: tuple[str, ...] = Field(min_length=1)
    """The same with query_id and text."""
    documents: tuple[str, ...] = Field(min_length=1)
    """The same with document_id and text."""
    translations: dict[Language, tuple[str, ...]] = Field(default_factory=dict)
    """Language to files with document_id and text: the same documents in other languages. Where there are any, `mix.strategy` draws the
    languages; without, documents are read as they are."""
    query_lang: Language | None = None
    """Language of the queries; if None, `source_lang`."""
    passage_lang: Language | None = None
    """Language of the documents; if None, `source_lang`."""
    lang_field: str | None = None
    """Column of the documents with their language, where they are in several; if None, all are in `passage_lang`."""

    @model_validator(mode="after")
    def _one_way_to_languages(self) -> "PylateExamples":
        if self.translations and self.lang_field:
            raise ValueError(
                "translations and lang_field: documents are either in a language each, or the same in several"
            )
        return self


class SentenceTransformersExamples(Settings):
    """Examples in the columns of sentence-transformers, as Parquet or JSONL (optionally .gz), local or s3://.

    The columns are `query`; then either `positive` with `negative` or `negative_1` to `negative_N`, or `document_1` to `document_N`; and
    perhaps `label`: a list of N scores, or of N - 1 margins of the first passage to the others (a single number for two passages), which
    are read as scores with the first one at 0. Scores matter up to a constant in every loss that reads them.
    """

    type: Literal["sentence_transformers"] = "sentence_transformers"
    files: tuple[str, ...] = Field(min_length=1)
    """Files, or folders of them. A row is one query with its passages."""
    query_lang: Language | None = None
    """Language of the queries; if None, `source_lang`."""
    passage_lang: Language | None = None
    """Language of the passages; if None, `source_lang`."""


ImportedExamples = Annotated[PylateExamples | SentenceTransformersExamples, Field(discriminator="type")]
