"""The passages of a job that a teacher may score: those with a text in the source language."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cluster.workspace import Workspace
from distill.sources.documents import document_ids
from distill.tables import PASSAGES
from distill.text import with_text


def source_passages(workspace: Workspace, source_lang: str, columns: Sequence[str] = PASSAGES.schema.names) -> pa.Table:
    """Return columns of PASSAGES: the source's own passages, then those that were translated into the source language.

    The latter are there with `translate.elsewhere: translate`; a stage that does not read the translations gets the former alone.
    """
    passages = PASSAGES.check(workspace.input("sources", "passages"), "sources")
    if not workspace.reads("translate"):
        return passages.select(columns)
    translations = workspace.input("translate", "translations")
    return with_translated(workspace, passages, translations, source_lang).select(columns)


def with_translated(workspace: Workspace, passages: pa.Table, translations: pa.Table, source_lang: str) -> pa.Table:
    """Return PASSAGES with, after them, the rows of `translations` that are in the source language and have a text."""
    made = with_text(translations.filter(pc.equal(translations["lang"], source_lang)))
    if not len(made):
        return passages
    parts = workspace.input("sources", "parts")
    made = made.append_column("doc_id", document_ids(made["passage_id"], parts))
    return PASSAGES.check(pa.concat_tables([passages, made.select(PASSAGES.schema.names).cast(PASSAGES.schema)]))
