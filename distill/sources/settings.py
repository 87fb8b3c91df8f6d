"""Settings of the sources stage: where queries, passages and judgements come from."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cluster.settings import Settings
from distill.formats.settings import PassageFields, QueryFields
from distill.settings.base import Language, Split


class CutSettings(Settings):
    """Cutting of long documents into passages.

    A text that is longer than `length` is cut. Its passages get the ids `ID#LANG.N` (`d7#en.1`, `d7#en.2` ...), carry the document's title
    each, and have the document's id as `doc_id`. A document that is in several languages and is cut in one of them is cut apart in all:
    its passages in two languages do not correspond, so they are searched but are no translations of each other.
    """

    length: int = Field(default=150, ge=1)
    """Longest passage in `unit`s, its title not counted."""
    unit: Literal["words", "tokens"] = "words"
    """`words`: runs of letters and digits; a character of Chinese or Japanese counts as half a word, one of Thai, Lao, Khmer or Burmese as
    a third. `tokens`: those of `tokenizer`, special tokens not counted."""
    stride: int | None = Field(default=None, ge=1)
    """Units from the beginning of a passage to that of the next: below `length` passages overlap. If None, `length`."""
    tokenizer: str | None = None
    """Folder or hub id of the model whose tokenizer counts `tokens`, for example the student's; `bundled:student` is the bundled one."""

    @model_validator(mode="after")
    def _agree(self) -> "CutSettings":
        if self.stride is not None and self.stride > self.length:
            raise ValueError(
                f"stride {self.stride} is above length {self.length}: the text between two passages would be lost"
            )
        if (self.unit == "tokens") != (self.tokenizer is not None):
            needed = (
                "tokens are counted by a tokenizer: name it" if self.unit == "tokens" else "words need no tokenizer"
            )
            raise ValueError(f"unit '{self.unit}': {needed} (tokenizer)")
        return self


_OWN_IDS = re.compile(r"(?<![a-z])(arguana|quora)(?![a-z])", re.IGNORECASE)
"""Names of collections whose queries are passages of their own, under the same ids."""


class _Documents(Settings):
    cut: CutSettings | None = None
    """Cutting of long documents into passages; if None, every document is one passage."""
    drop_self_matches: bool | None = None
    """If true, a passage with the id of a query is none for that query: no candidate, no negative, no result, no judgement. For collections
    whose queries are passages of their own (ArguAna, Quora), as BEIR's evaluation leaves them out. If None, true where the BEIR folder's
    name or the ids of ir_datasets say `arguana` or `quora`."""

    @property
    def without_own_ids(self) -> bool:
        """True if a query's own id is left out."""
        if self.drop_self_matches is not None:
            return self.drop_self_matches
        return any(_OWN_IDS.search(name) for name in self._names())

    def _names(self) -> tuple[str, ...]:
        """Return the names that say which collection it is."""
        return ()


class BundledSource(_Documents):
    """The parallel corpus in seven languages that ships with the project: no download."""

    type: Literal["bundled"] = "bundled"


class FileSource(_Documents):
    """Your own files: JSONL, JSONL.gz, TSV (MS MARCO layout) or Parquet, on local disk or s3://."""

    type: Literal["files"] = "files"
    root: str = ""
    """Folder, local or s3://, that relative paths below start from; if empty, the current directory."""
    passages: tuple[str, ...] = Field(min_length=1)
    """Passage files, or folders of them. Rows in other languages than `source_lang` are translations, joined by their ids."""
    queries: tuple[str, ...] = Field(min_length=1)
    """Query files, or folders of them."""
    qrels: tuple[str, ...] = ()
    """TREC qrels files (query, 0, passage or document, grade). Needed for queries that are evaluated; training needs none."""
    passage_fields: PassageFields = PassageFields()
    """Names of the passage fields."""
    query_fields: QueryFields = QueryFields()
    """Names of the query fields."""
    split: Split = "train"
    """The split of every query where `query_fields.split` is None."""
    languages: tuple[Language, ...] = ()
    """Keep only rows in these languages (and `source_lang`); if empty, `languages` of the job."""


class BeirSource(_Documents):
    """A folder in the BEIR layout: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv, each optionally .gz."""

    type: Literal["beir"] = "beir"
    path: str
    """The folder, local or s3://."""

    def _names(self) -> tuple[str, ...]:
        return (PurePosixPath(self.path).name,)


class IrDatasetsSource(_Documents):
    """Data sets of the ir_datasets package, by id."""

    type: Literal["ir_datasets"] = "ir_datasets"
    passages: dict[Language, str] = Field(min_length=1)
    """Language to data-set id, for example `{en: msmarco-passage, zh: neumarco/zh}`. Versions of a passage share its id. Those in languages
    that are none of the job's are documents to search."""
    queries: dict[Split, str] = Field(min_length=1)
    """Split to data-set id, for example `{train: msmarco-passage/train, test: neuclir/1/zh/trec-2022}`. Qrels come along."""
    translated_queries: dict[Language, dict[Split, str]] = Field(default_factory=dict)
    """Language to split to the queries in that language, under the ids of `queries`, for teachers that read them: a data-set id
    (`{zh: {train: mmarco/v2/zh/train}}`) or a query file."""

    def _names(self) -> tuple[str, ...]:
        return (*self.passages.values(), *self.queries.values())


Source = Annotated[BundledSource | FileSource | BeirSource | IrDatasetsSource, Field(discriminator="type")]
