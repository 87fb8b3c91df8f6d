"""Retrieval with a student while it is trained: development queries against a pool of passages in every language.

Every worker encodes its share of the pool; then each has the whole result, so that all decide alike when to stop.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed

from cluster.storage import write_table
from cluster.stored_table import StoredTable
from cluster.workspace import Workspace
from distill.encoders.encoder import Encoder
from distill.measures.metrics import measure
from distill.numerics.best import top_k
from distill.numerics.blocks import maxsim_of_each
from distill.numerics.groups import Groups
from distill.sources.documents import document_ids, judged_unit, passage_qrels
from distill.tables import QRELS, RUN, TableError
from distill.text import passage_texts
from distill.train.settings import DevSettings

_DEPTH = 1000


def write_dev(
    workspace: Workspace,
    settings: DevSettings,
    query_lang: str,
    languages: Sequence[str],
    folder: str,
    *,
    without_own: bool = False,
) -> None:
    """Draw the development set from the stages `sources` and `translate` and write it to `folder`. Memory: the ids of the collection.

    Queries are those of split dev in `query_lang` that have a judgement above 0. Queries and passages are drawn by hashes of their ids. All
    passages of judged documents are in the pool; where documents are judged they are ranked by their best passages.
    """
    qrels, parts = workspace.input("sources", "qrels"), workspace.input("sources", "parts")
    queries = judged_queries(workspace.input("sources", "queries"), qrels, query_lang)
    unit = judged_unit(qrels, parts)
    chosen = _drawn(queries["query_id"].to_pylist(), settings.queries)
    queries = queries.filter(pc.is_in(queries["query_id"], value_set=pa.array(chosen, pa.string())))
    qrels = qrels.filter(pc.is_in(qrels["query_id"], value_set=pa.array(chosen, pa.string())))
    judged = set(passage_qrels(qrels, parts)["passage_id"].to_pylist())
    passages = StoredTable.open(workspace.filesystem, f"{workspace.input_folder('sources')}/passages")
    ids = passages.read(columns=["passage_id"])["passage_id"].to_pylist()
    others = _drawn([i for i in ids if i not in judged], max(0, settings.passages - len(judged)))
    wanted = pa.array(sorted(judged | set(others)), pa.string())
    tables = [passages]
    folder_of_translations = f"{workspace.input_folder('translate')}/translations"
    tables.append(StoredTable.open(workspace.filesystem, folder_of_translations))
    pool = pa.concat_tables([_only(table, wanted, languages) for table in tables])
    ranked = document_ids(pool["passage_id"], parts) if unit == "doc_id" else pool["passage_id"]
    pool = pool.append_column("ranked_id", ranked)
    relevant = qrels["passage_id"].filter(pc.greater(qrels["relevance"], 0)).combine_chunks()
    watched = pool["lang"].filter(pc.is_in(pool["ranked_id"], value_set=relevant))
    lacking = sorted(set(languages) - set(watched.to_pylist()))
    if len(lacking) == len(set(languages)):
        raise TableError(
            f"train.dev: the pool has no relevant passage in {', '.join(lacking) or 'any language'}, so that nothing would be watched; "
            "name languages that the judged passages are in, or set train.dev to null"
        )
    if lacking:
        workspace.note(
            warning=f"train.dev watches nothing in {', '.join(lacking)}: no passage there is relevant to a query"
        )
    queries = queries.select(["query_id", "text"])
    if without_own:
        queries = queries.append_column("left_out", queries["query_id"])
    for name, table in {"queries": queries, "qrels": qrels, "passages": pool}.items():
        write_table(workspace.filesystem, f"{folder}/{name}.parquet", table)


def judged_queries(queries: pa.Table, qrels: pa.Table, query_lang: str) -> pa.Table:
    """Return the queries of split dev in a language that have a judgement above 0; a `TableError` where there are none."""
    queries = queries.filter(pc.and_(pc.equal(queries["split"], "dev"), pc.equal(queries["lang"], query_lang)))
    relevant = qrels.filter(pc.greater(qrels["relevance"], 0))
    queries = queries.filter(pc.is_in(queries["query_id"], value_set=relevant["query_id"].combine_chunks()))
    if not len(queries):
        raise TableError(
            f"train.dev: the source has no judged query of split dev in '{query_lang}'; give it one, or set train.dev to null"
        )
    return queries


def _drawn(ids: Sequence[str], count: int) -> list[str]:
    return sorted(ids, key=lambda text_id: hashlib.sha256(f"dev/{text_id}".encode()).digest())[:count]


def _only(table: StoredTable, ids: pa.Array, languages: Sequence[str]) -> pa.Table:
    """Read the rows of these passages in these languages, one row group after the other."""
    columns = ["passage_id", "lang", "title", "text"]
    parts = [table.read(0, 0, columns)]
    for group in table.groups():
        part = table.read(group.start, group.stop, columns)
        wanted = pc.and_(
            pc.is_in(part["passage_id"], value_set=ids),
            pc.is_in(part["lang"], value_set=pa.array(languages, pa.string())),
        )
        parts.append(part.filter(wanted))
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class DevSet:
    """Queries, their judgements, and passages by language."""

    queries: pa.Table
    qrels: pa.Table
    passages: Mapping[str, pa.Table]

    @classmethod
    def read(cls, filesystem: pafs.FileSystem, folder: str) -> "DevSet":
        """Read the files of `write_dev`."""
        tables = {
            name: pq.read_table(f"{folder}/{name}.parquet", filesystem=filesystem)
            for name in ("queries", "qrels", "passages")
        }
        pool = tables["passages"].sort_by([("lang", "ascending"), ("passage_id", "ascending")])
        languages = pc.unique(pool["lang"]).to_pylist()
        by_language = {lang: pool.filter(pc.equal(pool["lang"], lang)) for lang in languages}
        return cls(tables["queries"].sort_by("query_id"), tables["qrels"], by_language)

    def evaluate(
        self, encoder: Encoder, name: str, tokens_per_batch: int, rank: int = 0, world: int = 1
    ) -> dict[str, float]:
        """Return the measure `name` in every language, the mean over the queries that have a relevant passage there.

        As in the evaluation, a collection is judged by the judgements of what is in it; a language without such a query is left out. In a
        worker group every worker must call it; all get the same. Cost: encoding the pool once, shared by the workers.
        """
        values = {}
        query_ids = self.queries["query_id"].to_pylist()
        left_out = (
            self.queries["left_out"].to_pylist() if "left_out" in self.queries.column_names else [""] * len(query_ids)
        )
        queries = encoder.encode_queries(self.queries["text"].to_pylist())
        for language, passages in self.passages.items():
            judged = self._judged_in(passages)
            measured = pc.unique(judged["query_id"]).sort().to_pylist()
            if not measured:
                continue
            groups = Groups(passages["ranked_id"].to_pylist())
            share = torch.arange(rank, len(passages), world)
            texts = passage_texts(passages.take(share.numpy()))
            scores = maxsim_of_each(queries, encoder.encode_passages(texts, tokens_per_batch))
            best = best_documents([(scores, groups.of[share])], len(groups))
            if world > 1:
                parts: list[Any] = [None] * world
                distributed.all_gather_object(parts, best)
                best = best_documents(parts, len(groups))
            run = _run(query_ids, groups.keys, *best, language, left_out)
            values[language] = float(measure(run, QRELS.check(judged), [name], measured)[name].mean())
        return values

    def _judged_in(self, passages: pa.Table) -> pa.Table:
        """Return the judgements of passages of one language, of the queries that one of them is relevant to."""
        judged = self.qrels.filter(pc.is_in(self.qrels["passage_id"], value_set=pc.unique(passages["ranked_id"])))
        relevant = judged["query_id"].filter(pc.greater(judged["relevance"], 0))
        return judged.filter(pc.is_in(judged["query_id"], value_set=pc.unique(relevant)))


def best_documents(
    parts: Sequence[tuple[Float[Tensor, "Q n"], Int[Tensor, "*rows n"]]], count: int
) -> tuple[Float[Tensor, "Q K"], Int[Tensor, "Q K"]]:
    """Return the scores and numbers of the best documents for each query, from their passages' scores.

    Args:
        parts: scores with the numbers of the documents they are of, of each query's own or one list for all. A document may be in several.
        count: how many documents there are in all.
    """
    queries = len(parts[0][0])
    best = torch.full((queries, count), -torch.inf)
    for scores, numbers in parts:
        best.scatter_reduce_(1, numbers.expand(queries, -1), scores.float(), "amax")
    return top_k(best, _DEPTH)


def _run(
    query_ids: Sequence[str],
    ranked_ids: Sequence[str],
    scores: Float[Tensor, "Q K"],
    positions: Int[Tensor, "Q K"],
    tag: str,
    left_out: Sequence[str],
) -> pa.Table:
    rows = []
    for query_id, values, row, own in zip(query_ids, scores.tolist(), positions.tolist(), left_out, strict=True):
        found = [
            (ranked_ids[position], score) for position, score in zip(row, values, strict=True) if score > -torch.inf
        ]
        kept = [(ranked_id, score) for ranked_id, score in found if ranked_id != own]
        rows += [
            {"query_id": query_id, "passage_id": ranked_id, "rank": rank, "score": score, "tag": tag}
            for rank, (ranked_id, score) in enumerate(kept, 1)
        ]
    return RUN.from_rows(rows)


def best_step(history: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    """Return the step with the highest mean over the languages, the earliest of equals, and that mean."""
    means = dev_means(history)
    step = max(means, key=lambda step: (means[step], -step))
    return step, means[step]


def dev_means(history: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return the mean over the languages of each step, from rows of (step, lang, value)."""
    values: dict[int, list[float]] = {}
    for row in history:
        values.setdefault(row["step"], []).append(row["value"])
    return {step: sum(means) / len(means) for step, means in values.items()}


def is_exhausted(history: Sequence[Mapping[str, Any]], patience: int | None) -> bool:
    """Return whether the last `patience` evaluations brought no new best."""
    means = dev_means(history)
    if patience is None or not means:
        return False
    best, _ = best_step(history)
    return sum(step > best for step in means) >= patience
