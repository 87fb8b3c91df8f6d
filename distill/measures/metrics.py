"""Measures of a run: plain functions on Arrow tables and arrays.

The measures are those of ir_measures, in its notation (`nDCG@10`, `R@100`, `AP`, `RR@10`; mean average precision is the
mean of `AP`). Gains of nDCG are the grades themselves, discounted by log2(1 + rank), as in trec_eval; every other
measure takes a passage of grade 1 or more for relevant.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from cluster.errors import UserError
from distill.tables import QRELS, RUN


class MetricsError(UserError, ValueError):
    """A run cannot be measured or two cannot be compared. The message names the measure, query or number at fault."""


def ranked(run: pa.Table) -> pa.Table:
    """Return the rows of `run` as trec_eval ranks them: by tag and query, then score descending, then passage id descending.

    The `rank` column is written anew, from 1. trec_eval ignores the ranks of a run file and breaks ties of scores by
    the document id, the larger first (`form_res_rels.c`), so neither row order nor the order in which a system happened
    to list equal scores decides a measure. Cost: one sort.

    Raises:
        MetricsError: a score is not a number, or a document with a better rank in `run` has a lower score.
    """
    run = RUN.check(run)
    if pc.any(pc.is_nan(run["score"])).as_py():
        row = run.filter(pc.is_nan(run["score"])).slice(0, 1).to_pylist()[0]
        raise MetricsError(
            f"run '{row['tag']}': the score of {row['passage_id']!r} for query {row['query_id']!r} is not a number"
        )
    run = run.sort_by(
        [("tag", "ascending"), ("query_id", "ascending"), ("score", "descending"), ("passage_id", "descending")]
    )
    if not len(run):
        return run
    starts = _group_starts(run)
    _check_ranks(run, starts)
    lengths = np.diff(np.append(starts, len(run)))
    ranks = np.arange(len(run)) - np.repeat(starts, lengths) + 1
    return run.set_column(run.schema.get_field_index("rank"), RUN.schema.field("rank"), pa.array(ranks, pa.int32()))


def measure(
    run: pa.Table, qrels: pa.Table, measures: Sequence[str], query_ids: Sequence[str]
) -> dict[str, Float64[np.ndarray, " Q"]]:
    """Return each measure's value for each of `query_ids`, in their order.

    Every query counts: one for which the run holds nothing has the value 0. Ties are broken as `ranked` says, for all
    measures alike: the libraries below ir_measures differ (`nDCG@10` would rank the larger id first, `RR@10` the
    smaller). Grades below 0 count as 0.

    Args:
        run: a run with one tag (RUN). Queries that are not asked for are ignored.
        qrels: judgements (QRELS); the document ids are those of the run.
        measures: names in the notation of ir_measures.
        query_ids: judged queries, each once.

    Raises:
        MetricsError: a measure is unknown, or a query has no judgement, is named twice, or the run has more than one
            tag.
    """
    import ir_measures

    parsed = {name: _parse(name) for name in measures}
    tags = pc.unique(run["tag"]).to_pylist()
    if len(tags) > 1:
        raise MetricsError(f"one run at a time, got the tags {sorted(tags)}")
    position = {query_id: number for number, query_id in enumerate(query_ids)}
    if len(position) < len(query_ids):
        raise MetricsError(f"{len(query_ids) - len(position)} queries are named twice")
    wanted = pa.array(query_ids, pa.string())
    qrels = QRELS.check(qrels)
    qrels = qrels.filter(pc.is_in(qrels["query_id"], value_set=wanted))
    judgements = _by_query(qrels, np.maximum(qrels["relevance"].to_numpy(), 0))
    unjudged = [query_id for query_id in query_ids if query_id not in judgements]
    if unjudged:
        raise MetricsError(f"{len(unjudged)} queries have no judgement, among them {unjudged[:3]}")
    # Minus the rank stands for the score: no two documents of a query tie, so every library below ir_measures keeps
    # this one order.
    order = ranked(run.filter(pc.is_in(run["query_id"], value_set=wanted)))
    scores = _by_query(order, -order["rank"].to_numpy().astype(float))

    # A query that the run lacks keeps its 0.
    values = {each: np.zeros(len(position)) for each in parsed.values()}
    for result in ir_measures.evaluator(list(values), judgements).iter_calc(scores):
        values[result.measure][position[result.query_id]] = result.value
    return {name: values[each] for name, each in parsed.items()}


def _parse(name: str) -> Any:
    import ir_measures

    try:
        parsed = ir_measures.parse_measure(name)
        if ir_measures.DefaultPipeline.supports(parsed):
            return parsed
    except (NameError, ValueError, AssertionError) as error:
        raise MetricsError(
            f"measure {name!r} is not in the notation of ir_measures; write for example nDCG@20, AP, R@100 or RR@10"
        ) from error
    raise MetricsError(
        f"measure {name!r} needs a library that is not installed; the documentation of ir_measures names it"
    )


def _by_query(table: pa.Table, values: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return `{query_id: {passage_id: value}}` with Python numbers, as ir_measures wants."""
    by_query: dict[str, dict[str, Any]] = {}
    for query_id, passage_id, value in zip(
        table["query_id"].to_pylist(), table["passage_id"].to_pylist(), values.tolist(), strict=True
    ):
        by_query.setdefault(query_id, {})[passage_id] = value
    return by_query


def _group_starts(run: pa.Table) -> np.ndarray:
    """Return the rows of a sorted run at which another tag or query begins."""
    changes = np.zeros(len(run), dtype=bool)
    changes[0] = True
    for name in ("tag", "query_id"):
        codes = run[name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
        changes[1:] |= codes[1:] != codes[:-1]
    return np.flatnonzero(changes)


def _check_ranks(run: pa.Table, starts: np.ndarray) -> None:
    """Check that ranks agree with scores; raise MetricsError otherwise, since the two would measure differently."""
    ranks, scores = run["rank"].to_numpy(), run["score"].to_numpy()
    group = np.zeros(len(run), dtype=np.int64)
    group[starts] = 1
    by_rank = np.lexsort((ranks, np.cumsum(group)))
    ordered = scores[by_rank]
    rises = ordered[1:] > ordered[:-1]
    rises[starts[1:] - 1] = False
    if rises.any():
        better, worse = run.take([int(by_rank[i]) for i in (np.argmax(rises), np.argmax(rises) + 1)]).to_pylist()
        raise MetricsError(
            f"run '{better['tag']}', query {better['query_id']!r}: rank {better['rank']} has score "
            f"{better['score']:.6g}, rank {worse['rank']} the larger score {worse['score']:.6g}"
        )
