"""The select stage: the passages that the teacher scores for each query."""

from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from cluster.workspace import Workspace, row_shards
from distill.select.bm25 import Bm25Worker
from distill.select.candidates import NOTHING_JUDGED, Judged, Task, judged_passages, passages_in, queries_in
from distill.select.dense import select_dense
from distill.select.files import Known, candidates_from_run, candidates_from_scores
from distill.select.late_interaction import select_late_interaction
from distill.select.passages import source_passages
from distill.select.settings import (
    Bm25Selector,
    DenseSelector,
    LateInteractionSelector,
    RunSelector,
    ScoredSelector,
    SelectSettings,
)


def select(
    workspace: Workspace,
    settings: SelectSettings,
    source_lang: str,
    max_missing: float = 0.0,
    *,
    without_own: bool = False,
) -> None:
    """Write `candidates`: the top k passages for each query of the job, of every split, in the order of query ids.

    Queries and passages are read in `settings.query_lang` and `settings.passage_lang`. A query that lacks a text there is a `TableError`;
    passages that do are left out, up to the share `max_missing`. Passages with the id of a query are left out for it with `without_own`.
    """
    queries = queries_in(workspace, settings.query_lang or source_lang, source_lang)
    judged = judged_passages(workspace, source_lang) if settings.add_judged else NOTHING_JUDGED
    by = settings.by
    if isinstance(by, RunSelector | ScoredSelector):
        query_ids = queries["query_id"].to_pylist()
        _select_from_files(workspace, by, query_ids, Judged(judged, without_own=without_own), source_lang)
        return
    passages = passages_in(workspace, settings.passage_lang or source_lang, source_lang, max_missing)
    task = Task(queries, passages, judged, settings.queries_per_shard, settings.pool, without_own)
    match by:
        case Bm25Selector():
            shards = row_shards(len(queries), settings.queries_per_shard)
            arguments = {
                "queries": queries,
                "passages": passages,
                "judged": judged,
                "by": by,
                "without_own": without_own,
            }
            workspace.map_shards(shards, Bm25Worker, arguments, task.pool, unit="queries")
        case DenseSelector():
            select_dense(workspace, by, task)
        case LateInteractionSelector():
            select_late_interaction(workspace, by, task)
        case _:
            assert_never(by)


def _select_from_files(
    workspace: Workspace, by: RunSelector | ScoredSelector, query_ids: list[str], judged: Judged, source_lang: str
) -> None:
    ids = source_passages(workspace, source_lang, ["passage_id"])["passage_id"].combine_chunks()
    known = Known(frozenset(ids.to_pylist()), _unusable(workspace, ids))
    if isinstance(by, RunSelector):
        candidates, counts = candidates_from_run(query_ids, known, judged, by)
    else:
        candidates, counts = candidates_from_scores(query_ids, known, judged, by)
    workspace.write("candidates", candidates)
    workspace.note(**counts)
    if counts["queries_without_list"]:
        missing = f"{counts['queries_without_list']} of {len(query_ids)} queries have no list in the files"
        workspace.note(warning=f"{missing}, and so no candidates of their own")
    if unusable := counts.get("unusable_passages"):
        workspace.note(
            warning=f"{unusable} passages of the files' lists are left out: the source rejected them or has them in other languages only"
        )


def _unusable(workspace: Workspace, usable: pa.Array) -> frozenset[str]:
    """Return ids that files may list though nothing is selected by them: rejected passages, and those in other languages only."""
    rejected = workspace.input("sources", "rejected", ["id"])["id"]
    parallel = workspace.input("sources", "parallel", ["passage_id"])["passage_id"]
    elsewhere = parallel.filter(pc.invert(pc.is_in(parallel, value_set=usable)))
    return frozenset([*rejected.to_pylist(), *elsewhere.to_pylist()])
