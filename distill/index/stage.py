"""The index stage: token vectors of every document, from the student."""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor

from cluster.stored_table import StoredTable
from cluster.workspace import Workspace, row_shards
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.encoders.worker import EncodeWorker
from distill.formats.vectors import flat_lists
from distill.index.settings import IndexSettings
from distill.measures.truncation import note_truncated
from distill.sources.documents import document_ids
from distill.tables import DOCUMENTS, VECTORS
from distill.text import with_text


def encode(workspace: Workspace, settings: IndexSettings, train: str, sources: str) -> None:
    """Write `documents` and `vectors`: the passages of stage `sources` and their translations, by the student of stage `train`.

    Shards are ranges of documents sorted by id and language; memory is bounded by a shard. Documents of which the student reads only the
    beginning are counted by language.
    """
    documents = all_documents(workspace, sources)
    shards = row_shards(len(documents), settings.passages_per_shard)
    device = "cuda" if settings.pool.num_gpus else "cpu"
    arguments = {
        "texts": documents,
        "load": partial(fetch_encoder, workspace.filesystem, f"{workspace.input_folder(train)}/checkpoint", device),
        "tables": _tables,
        "tokens_per_batch": settings.tokens_per_batch,
    }
    workspace.map_shards(shards, EncodeWorker, arguments, settings.pool, unit="documents")
    written = StoredTable.open(workspace.filesystem, f"{workspace.folder}/documents")
    note_truncated(workspace, "documents", written.read(columns=["lang", "truncated"]))


def all_documents(workspace: Workspace, sources: str) -> pa.Table:
    """Return every language version of every passage that has a text (passage_id, doc_id, lang, title, text), sorted by id and language.

    A document that was cut in a language is searched in its own words there: translations of its passages into that language, which
    training reads, are left out.
    """
    columns = ["passage_id", "lang", "title", "text"]
    stage, table = ("translate", "translations") if sources == "sources" else (sources, "parallel")
    passages, parts = workspace.input(sources, "passages"), workspace.input(sources, "parts")
    other = with_text(workspace.input(stage, table))
    if stage == "translate":
        other = _without_copies(other, parts)
    documents = pa.concat_tables([passages.select(columns), other.select(columns)]).combine_chunks()
    documents = documents.add_column(1, "doc_id", document_ids(documents["passage_id"], parts))
    return documents.sort_by([("passage_id", "ascending"), ("lang", "ascending")])


def _without_copies(translations: pa.Table, parts: pa.Table) -> pa.Table:
    """Return TRANSLATIONS without passages of a document's version in another language, where the document was cut in this one itself."""
    cut = parts.filter(pc.not_equal(parts["lang"], ""))
    if not len(cut):
        return translations
    rows = pc.index_in(translations["passage_id"], value_set=cut["passage_id"].combine_chunks())
    documents, origins = (cut[name].combine_chunks().take(rows) for name in ("doc_id", "lang"))
    versions = pc.unique(pc.binary_join_element_wise(cut["doc_id"], cut["lang"], "@"))
    has_own = pc.is_in(pc.binary_join_element_wise(documents, translations["lang"], "@"), value_set=versions)
    copied = pc.and_(has_own, pc.not_equal(origins, translations["lang"]))
    return translations.filter(pc.invert(pc.fill_null(copied, fill_value=False)))


def _tables(part: pa.Table, start: int, vectors: Sequence[Float[Tensor, "_ D"]]) -> dict[str, pa.Table]:
    """Return `documents` and `vectors` of documents from position `start` on."""
    positions = pa.array(range(start, start + len(part)), pa.int64())
    tokens = pa.array([len(one) for one in vectors], pa.int32())
    documents = part.add_column(0, "position", positions).append_column("tokens", tokens)
    flat = flat_lists(vectors, torch.float16)
    return {
        "documents": DOCUMENTS.check(documents, "index"),
        "vectors": VECTORS.check(pa.table({"position": positions, "vectors": flat}), "index"),
    }
