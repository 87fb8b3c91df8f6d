"""Candidates from files: TREC runs of any retriever, and score files."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.locations import locate
from distill.formats.scores import read_scores
from distill.formats.trec import read_rankings
from distill.select.candidates import Judged, candidate_table
from distill.select.settings import RunSelector, ScoredSelector
from distill.tables import TableError


@dataclass(frozen=True)
class Known:
    """The ids that files may list.

    Attributes:
        passages: ids of the passages that may be candidates.
        unusable: ids of those that may not, though the source has them.
    """

    passages: frozenset[str]
    unusable: frozenset[str] = frozenset()


def candidates_from_run(
    query_ids: Sequence[str], known: Known, judged: Judged, by: RunSelector
) -> tuple[pa.Table, dict[str, int]]:
    """Return the first k usable passages of each query in a run file, and counts of what was left out.

    A query that the run lacks gets an empty list.

    Raises:
        TableError: a passage before the k-th does not exist in the source; the message names three of them.
    """
    rankings = read_rankings(locate(by.path), by.order)
    depth = judged.depth(by.top_k)
    counts: Counter[str] = Counter(
        unknown_queries=len(rankings.keys() - set(query_ids)),
        queries_without_list=len(set(query_ids) - rankings.keys()),
    )
    unknown: set[str] = set()
    lists = [_first(rankings.get(query_id, []), depth, known, unknown, counts) for query_id in query_ids]
    if unknown:
        raise TableError(_unknown_message(by.path, "retrieved", unknown))
    return candidate_table(query_ids, lists, f"run:{by.path}", judged, by.top_k), dict(counts)


def _first(ids: Iterable[str], depth: int, known: Known, unknown: set[str], counts: Counter[str]) -> list[str]:
    """Return the first `depth` usable ids; add those that are unknown to `unknown`, and count those that may not be used."""
    found: list[str] = []
    for passage_id in ids:
        if len(found) == depth:
            break
        if passage_id in known.passages:
            found.append(passage_id)
        elif passage_id in known.unusable:
            counts["unusable_passages"] += 1
        else:
            unknown.add(passage_id)
    return found


def candidates_from_scores(
    query_ids: Sequence[str], known: Known, judged: Judged, by: ScoredSelector
) -> tuple[pa.Table, dict[str, int]]:
    """Return the k passages of highest score in each query's list in score files, and counts of what was left out.

    Equal scores keep the order of the file.
    A query that the files lack gets an empty list.

    Raises:
        TableError: passages do not exist in the source and `by.unknown` is `error`; the message names three of them.
    """
    wanted = set(query_ids)
    selected: dict[str, list[str]] = {}
    counts: Counter[str] = Counter(unknown_queries=0, unknown_passages=0)
    unknown: set[str] = set()
    depth = judged.depth(by.top_k)
    for scored in read_scores(by.files, by.format):
        if scored.query_id not in wanted:
            counts["unknown_queries"] += 1
            continue
        ids = [scored.passage_ids[i] for i in np.argsort(-scored.scores, kind="stable")]
        usable = [passage_id for passage_id in ids if passage_id in known.passages]
        if len(usable) < len(ids):
            _count_others(set(ids) - known.passages, known, unknown, counts)
        selected[scored.query_id] = usable[:depth]
    files = ", ".join(by.files)
    if unknown and by.unknown == "error":
        advice = "; set select.by.unknown to 'leave_out' if the source holds a part of what was scored"
        raise TableError(_unknown_message(files, "listed", unknown) + advice)
    lists = [selected.get(query_id, []) for query_id in query_ids]
    counts["queries_without_list"] = len(wanted - selected.keys())
    return candidate_table(query_ids, lists, f"scored:{files}", judged, by.top_k), dict(counts)


def _count_others(others: set[str], known: Known, unknown: set[str], counts: Counter[str]) -> None:
    nowhere = others - known.unusable
    unknown |= nowhere
    counts["unknown_passages"] += len(nowhere)
    if unusable := len(others) - len(nowhere):
        counts["unusable_passages"] += unusable


def _unknown_message(source: str, how: str, unknown: set[str]) -> str:
    return f"{source}: {len(unknown)} {how} passages do not exist in the source, among them {sorted(unknown)[:3]}"
