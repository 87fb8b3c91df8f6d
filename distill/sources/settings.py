"""Settings of the sources stage: where queries, passages and judgements come from."""

from typing import Annotated, Literal

from pydantic import Field

from cluster.settings import Settings
from distill.formats.settings import PassageFields, QueryFields
from distill.settings.base import Language, Split


class BundledSource(Settings):
    """The parallel corpus in seven languages that ships with the project: no download."""

    type: Literal["bundled"] = "bundled"


class FileSource(Settings):
    """Your own files: JSONL, JSONL.gz, TSV (MS MARCO layout) or Parquet, on local disk or s3://."""

    type: Literal["files"] = "files"
    root: str = ""
    """Folder, local or s3://, that relative paths below start from; if empty, the current directory."""
    passages: tuple[str, ...] = Field(min_length=1)
    """Passage files, or folders of them. Rows in other languages than `source_lang` are translations, joined by their ids."""
    queries: tuple[str, ...] = Field(min_length=1)
    """Query files, or folders of them."""
    qrels: tuple[str, ...] = ()
    """TREC qrels files (query, 0, passage, grade). Needed for queries that are evaluated; training needs none."""
    passage_fields: PassageFields = PassageFields()
    """Names of the passage fields."""
    query_fields: QueryFields = QueryFields()
    """Names of the query fields."""
    split: Split = "train"
    """The split of every query where `query_fields.split` is None."""
    languages: tuple[Language, ...] = ()
    """Keep only rows in these languages (and `source_lang`); if empty, `languages` of the job."""


class BeirSource(Settings):
    """A folder in the BEIR layout: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv, each optionally .gz."""

    type: Literal["beir"] = "beir"
    path: str
    """The folder, local or s3://."""


class IrDatasetsSource(Settings):
    """Data sets of the ir_datasets package, by id."""

    type: Literal["ir_datasets"] = "ir_datasets"
    passages: dict[Language, str] = Field(min_length=1)
    """Language to data-set id, for example `{en: msmarco-passage, zh: neumarco/zh}`. Versions of a passage share its id."""
    queries: dict[Split, str] = Field(min_length=1)
    """Split to data-set id, for example `{train: msmarco-passage/train, test: neuclir/1/zh/trec-2022}`. Qrels come along."""
    translated_queries: dict[Language, dict[Split, str]] = Field(default_factory=dict)
    """Language to split to the queries in that language, under the ids of `queries`, for teachers that read them: a data-set id
    (`{zh: {train: mmarco/v2/zh/train}}`) or a query file."""


Source = Annotated[BundledSource | FileSource | BeirSource | IrDatasetsSource, Field(discriminator="type")]
