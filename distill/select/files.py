"""Candidates from files: TREC runs of any retriever, and score files."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import locate
from distill.formats.scores import read_scores
from distill.formats.trec import read_rankings
from distill.select.candidates import Judged, candidate_table
from distill.select.settings import RunSelector, ScoredSelector
from distill.tables import TableError


def candidates_from_run(
    query_ids: Sequence[str], passages: pa.Table, judged: Judged, by: RunSelector
) -> tuple[pa.Table, dict[str, int]]:
    """Return the first k passages of each query in a run file, and counts of queries that one of the two lacks.

    A query that the run lacks gets an empty list.

    Raises:
        TableError: a passage does not exist in the source; the message names three of them.
    """
    rankings = read_rankings(locate(by.path), by.order)
    lists = [rankings.get(query_id, [])[: by.top_k] for query_id in query_ids]
    unknown = _unknown({passage_id for ids in lists for passage_id in ids}, passages)
    if unknown:
        raise TableError(_unknown_message(by.path, "retrieved", unknown))
    counts = {
        "unknown_queries": len(rankings.keys() - set(query_ids)),
        "queries_without_list": len(set(query_ids) - rankings.keys()),
    }
    return candidate_table(query_ids, lists, f"run:{by.path}", judged), counts


def candidates_from_scores(
    query_ids: Sequence[str], passages: pa.Table, judged: Judged, by: ScoredSelector
) -> tuple[pa.Table, dict[str, int]]:
    """Return the k passages of highest score in each query's list in score files, and counts of what was left out.

    Equal scores keep the order of the file.
    A query that the files lack gets an empty list.

    Raises:
        TableError: passages do not exist in the source and `by.unknown` is `error`; the message names three of them.
    """
    wanted = set(query_ids)
    selected: dict[str, list[str]] = {}
    counts = {"unknown_queries": 0, "unknown_passages": 0}
    known = set(passages["passage_id"].to_pylist())
    unknown: set[str] = set()
    for scored in read_scores(by.files, by.format):
        if scored.query_id not in wanted:
            counts["unknown_queries"] += 1
            continue
        ids = [scored.passage_ids[i] for i in np.argsort(-scored.scores, kind="stable")]
        usable = [passage_id for passage_id in ids if passage_id in known]
        if len(usable) < len(ids):
            unknown.update(set(ids) - known)
            counts["unknown_passages"] += len(ids) - len(usable)
        selected[scored.query_id] = usable[: by.top_k]
    files = ", ".join(by.files)
    if unknown and by.unknown == "error":
        advice = "; set select.by.unknown to 'leave_out' if the source holds a part of what was scored"
        raise TableError(_unknown_message(files, "listed", unknown) + advice)
    lists = [selected.get(query_id, []) for query_id in query_ids]
    counts["queries_without_list"] = len(wanted - selected.keys())
    return candidate_table(query_ids, lists, f"scored:{files}", judged), counts


def _unknown(ids: set[str], passages: pa.Table) -> set[str]:
    wanted = pa.array(sorted(ids), pa.string())
    known = pc.is_in(wanted, value_set=passages["passage_id"].combine_chunks())
    return set(wanted.filter(pc.invert(known)).to_pylist())


def _unknown_message(source: str, how: str, unknown: set[str]) -> str:
    return f"{source}: {len(unknown)} {how} passages do not exist in the source, among them {sorted(unknown)[:3]}"
