"""The select stage: the passages that the teacher scores for each query."""

from typing import assert_never

from cluster.workspace import Workspace, row_shards
from distill.select.bm25 import Bm25Worker
from distill.select.candidates import NOTHING_JUDGED, Judged, Task, judged_passages, passages_in, queries_in
from distill.select.dense import select_dense
from distill.select.files import candidates_from_run, candidates_from_scores
from distill.select.late_interaction import select_late_interaction
from distill.select.settings import (
    Bm25Selector,
    DenseSelector,
    LateInteractionSelector,
    RunSelector,
    ScoredSelector,
    SelectSettings,
)


def select(workspace: Workspace, settings: SelectSettings, source_lang: str) -> None:
    """Write `candidates`: the top k passages for each query of the job, of every split, in the order of query ids.

    Queries and passages are read in `settings.query_lang` and `settings.passage_lang`; one that lacks a text there is a `TableError`.
    """
    queries = queries_in(workspace, settings.query_lang or source_lang, source_lang)
    judged = judged_passages(workspace) if settings.add_judged else NOTHING_JUDGED
    by = settings.by
    if isinstance(by, RunSelector | ScoredSelector):
        _select_from_files(workspace, by, queries["query_id"].to_pylist(), Judged(judged))
        return
    passages = passages_in(workspace, settings.passage_lang or source_lang, source_lang)
    task = Task(queries, passages, judged, settings.queries_per_shard, settings.pool)
    match by:
        case Bm25Selector():
            shards = row_shards(len(queries), settings.queries_per_shard)
            arguments = {"queries": queries, "passages": passages, "judged": judged, "by": by}
            workspace.map_shards(shards, Bm25Worker, arguments, task.pool, unit="queries")
        case DenseSelector():
            select_dense(workspace, by, task)
        case LateInteractionSelector():
            select_late_interaction(workspace, by, task)
        case _:
            assert_never(by)


def _select_from_files(
    workspace: Workspace, by: RunSelector | ScoredSelector, query_ids: list[str], judged: Judged
) -> None:
    passages = workspace.input("sources", "passages", ["passage_id"])
    if isinstance(by, RunSelector):
        candidates, counts = candidates_from_run(query_ids, passages, judged, by)
    else:
        candidates, counts = candidates_from_scores(query_ids, passages, judged, by)
    workspace.write("candidates", candidates)
    workspace.note(**counts)
    if counts["queries_without_list"]:
        missing = f"{counts['queries_without_list']} of {len(query_ids)} queries have no list in the files"
        workspace.note(warning=f"{missing}, and so no candidates of their own")
