"""Documents and the passages that they consist of: what a judgement is of, and which passages stand for a judged document.

A passage without a row in the table `parts` is a document of its own. No id is that of a document of several passages and of a passage, so
an id says which of the two it is.
"""

import math
from collections.abc import Hashable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import SourceError
from cluster.workspace import Workspace
from distill.sources.checks import origin
from distill.tables import PARTS, QRELS, STRING


def parts_of(tables: Sequence[pa.Table], cut: pa.Table | None = None) -> pa.Table:
    """Return PARTS of passages (PASSAGE_ROWS) whose versions agree on their document.

    Args:
        tables: the passages.
        cut: passage_id and lang of those that were cut from documents.

    Raises:
        SourceError: a passage has the id of a document that another passage is a part of.
    """
    columns = ["passage_id", "doc_id", "line", "source"]
    rows = pa.concat_tables([table.select(columns) for table in tables])
    parts = rows.filter(pc.not_equal(rows["passage_id"], rows["doc_id"]))
    documents = pc.unique(parts["doc_id"])
    both = rows.filter(pc.is_in(rows["passage_id"], value_set=documents))
    if len(both):
        passage = both.slice(0, 1).to_pylist()[0]
        part = parts.filter(pc.equal(parts["doc_id"], passage["passage_id"])).slice(0, 1).to_pylist()[0]
        raise SourceError(
            f"{origin(passage)}: '{passage['passage_id']}' is a passage, and a document of which '{part['passage_id']}' is a part "
            f"({origin(part)}); judgements could mean either: give the passage another id"
        )
    parts = parts.group_by(["passage_id", "doc_id"], use_threads=False).aggregate([])
    langs = pa.nulls(len(parts), STRING)
    if cut is not None:
        rows = pc.index_in(parts["passage_id"], value_set=cut["passage_id"].combine_chunks())
        langs = cut["lang"].combine_chunks().take(rows.combine_chunks())
    return PARTS.check(parts.append_column("lang", pc.fill_null(langs, "")), "sources")


def check_one_level(qrels: pa.Table, parts: pa.Table) -> None:
    """Check that judgements are all of passages or all of documents; raise SourceError, which names one of each.

    Args:
        qrels: judgements (QREL_ROWS).
        parts: PARTS of the collection.
    """
    of_parts = qrels.filter(pc.is_in(qrels["passage_id"], value_set=parts["passage_id"].combine_chunks()))
    of_documents = qrels.filter(pc.is_in(qrels["passage_id"], value_set=parts["doc_id"].combine_chunks()))
    if len(of_parts) and len(of_documents):
        part, document = (rows.slice(0, 1).to_pylist()[0] for rows in (of_parts, of_documents))
        raise SourceError(
            f"{len(of_documents)} judgements are of documents, '{document['passage_id']}' ({origin(document)}), and {len(of_parts)} of "
            f"parts of documents, '{part['passage_id']}' ({origin(part)}); judge either documents or passages"
        )


def judged_unit(qrels: pa.Table, parts: pa.Table) -> str:
    """Return what is judged and therefore ranked, as the column that names it: `passage_id` or `doc_id`.

    Documents are, unless a part of a document is judged.
    """
    of_parts = pc.is_in(qrels["passage_id"], value_set=parts["passage_id"].combine_chunks())
    return "passage_id" if pc.any(of_parts, min_count=0).as_py() else "doc_id"


def judged_documents(documents: pa.Table, unit: str) -> pa.Table:
    """Return `documents` with the ids of what is judged as `passage_id`: where documents are, that of each passage's own.

    Args:
        documents: columns passage_id, doc_id and others.
        unit: what `judged_unit` says.
    """
    return documents.set_column(documents.schema.get_field_index("passage_id"), "passage_id", documents[unit])


def ranked_documents(documents: pa.Table, qrels: pa.Table) -> pa.Table:
    """Return what runs rank (passage_id, lang), each once: the passages of an index, or where documents are judged the documents.

    Args:
        documents: columns passage_id, doc_id and lang of an index.
        qrels: all judgements of the collection, as `judged_unit` takes them.
    """
    parts = documents.filter(pc.not_equal(documents["passage_id"], documents["doc_id"]))
    judged = judged_documents(documents, judged_unit(qrels, parts))
    return judged.group_by(["passage_id", "lang"], use_threads=False).aggregate([])


def document_ids(passage_ids: pa.Array | pa.ChunkedArray, parts: pa.Table) -> pa.Array | pa.ChunkedArray:
    """Return the document of each passage. Cost: a hash table of `parts`."""
    if not len(parts):
        return passage_ids
    rows = pc.index_in(passage_ids, value_set=parts["passage_id"].combine_chunks())
    return pc.coalesce(parts["doc_id"].combine_chunks().take(rows), passage_ids)


def passage_qrels(qrels: pa.Table, parts: pa.Table) -> pa.Table:
    """Return judgements by passage: a document's judgement as one of each of its passages, with its grade.

    Which of a relevant document's passages are relevant nobody judged: who needs one takes the best-scored (`best_of_documents`).

    Args:
        qrels: QRELS, of passages or documents.
        parts: PARTS of the collection.
    """
    is_document = pc.is_in(qrels["passage_id"], value_set=parts["doc_id"].combine_chunks())
    whole = qrels.filter(is_document)
    if not len(whole):
        return qrels
    names = parts.select(["passage_id", "doc_id"]).rename_columns(["part", "passage_id"])
    joined = whole.join(names, "passage_id", join_type="inner")
    expanded = pa.table(
        {"query_id": joined["query_id"], "passage_id": joined["part"], "relevance": joined["relevance"]},
        schema=QRELS.schema,
    )
    return QRELS.check(pa.concat_tables([qrels.filter(pc.invert(is_document)).cast(QRELS.schema), expanded]))


def training_qrels(workspace: Workspace) -> tuple[pa.Table, pa.Table]:
    """Return the judgements of the stage `sources` by passage, and the PARTS of the documents that are judged."""
    qrels, parts = workspace.input("sources", "qrels"), workspace.input("sources", "parts")
    judged = pc.is_in(parts["doc_id"], value_set=pc.unique(qrels["passage_id"]))
    return passage_qrels(qrels, parts), parts.filter(judged)


def best_of_documents(documents: Sequence[Hashable], scores: Sequence[float]) -> list[int]:
    """Return the position of the best-scored passage of each document, the first of equals, in order; a NaN is the lowest score."""
    best: dict[Hashable, int] = {}
    for position, document in enumerate(documents):
        before = best.setdefault(document, position)
        if scores[position] > scores[before] or (math.isnan(scores[before]) and not math.isnan(scores[position])):
            best[document] = position
    return sorted(best.values())
