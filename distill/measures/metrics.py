"""Measures of a run: plain functions on Arrow tables and arrays.

The measures are those of ir_measures, in its notation (`nDCG@10`, `R@100`, `AP`, `RR@10`; mean average precision is the
mean of `AP`). Gains of nDCG are the grades themselves, discounted by log2(1 + rank), as in trec_eval; every other
measure takes a passage of grade 1 or more for relevant.
"""

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from cluster.errors import UserError, one_line
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
    smaller). Grades below 0 gain nothing; to measures that tell judged from unjudged passages (`Bpref`, `infAP`) they are unjudged, as in
    trec_eval.

    Args:
        run: a run with one tag (RUN). Queries that are not asked for are ignored.
        qrels: judgements (QRELS); the document ids are those of the run.
        measures: names in the notation of ir_measures.
        query_ids: judged queries, each once.

    Raises:
        MetricsError: a measure cannot be computed (`check_measures`), or a query has no judgement, is named twice, or the
            run has more than one tag.
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
    judgements = _by_query(qrels, qrels["relevance"].to_numpy())
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


def check_measures(names: Sequence[str]) -> None:
    """Check that every measure can be computed, by computing it on two small rankings.

    Raises:
        MetricsError: a name is not in the notation of ir_measures, needs a library that is missing, or has no value for every query. The
            message says which, why, and what works.
    """
    for name in names:
        _parse(name)


_WORKS = "nDCG@20, AP, AP@100, R@1000, RR@10, P@10, Success@5, Rprec, Bpref and Judged@10 work, for example"
_MISSING = re.compile(r"invalid param (\w+)=<object object.*")
_LARGEST = 2**31 - 1
"""Largest integer that the C code below ir_measures takes."""
_UNUSABLE = {
    "gdeval": "gdeval computes it, a Perl script that takes numbers for ids and rounds values to five digits",
    "accuracy": "it has no value for a query without a relevant and another judged passage in its ranking",
}
_SMALL_QRELS = {"graded": {"a": 2, "b": 0, "c": 1}, "missed": {"d": 1}, "found": {"a": 1}}
_SMALL_RUN = {"graded": {"x": -1.0, "a": -2.0, "b": -3.0}, "missed": {"a": -1.0}, "found": {"a": -1.0}}


@cache
def _parse(name: str) -> Any:
    """Return a measure that can be computed. Raises MetricsError, see `check_measures`."""
    import ir_measures

    try:
        parsed = ir_measures.parse_measure(name)
    except (NameError, ValueError, AssertionError, TypeError, SyntaxError) as error:
        raise MetricsError(f"measure {name!r} is not in the notation of ir_measures; {_WORKS}") from error
    if why := _fault(parsed):
        raise MetricsError(f"measure {name!r} cannot be computed: {why}; {_WORKS}")
    return parsed


def _fault(measure: Any) -> str:
    """Return why a measure cannot be computed, empty if it can.

    What would end the process in the C code of trec_eval (a cut-off of 0) is known by its parameters; the rest is tried.
    """
    import ir_measures
    from ir_measures.measures.base import MeanAgg

    for parameter in ("cutoff", "rel"):
        value = measure.params.get(parameter, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
            return f"its {parameter} is {value}, expected a whole number from 1 to {_LARGEST}"
    gains = measure.params.get("gains", {})
    if not isinstance(gains, dict) or not all(
        isinstance(gain, int) and 0 <= gain <= _LARGEST for gain in gains.values()
    ):
        return f"its gains are {gains}, expected whole numbers from 0 to {_LARGEST} by grade"
    if not isinstance(measure.aggregator(), MeanAgg):
        return "it counts passages or queries and has no mean"
    try:
        available = [each for each in ir_measures.DefaultPipeline.providers if each.is_available()]
        provider = next((each.NAME for each in available if each.supports(measure)), None)
        if provider is None:
            return "it needs a library that is not installed; the documentation of ir_measures names it"
        if provider in _UNUSABLE:
            return _UNUSABLE[provider]
        results = list(ir_measures.evaluator([measure], _SMALL_QRELS).iter_calc(_SMALL_RUN))
    except (ArithmeticError, AssertionError, LookupError, OSError, TypeError, ValueError) as error:
        return _MISSING.sub(r"\1 is missing", one_line(error))
    values = {result.query_id: result.value for result in results}
    if values.keys() != _SMALL_QRELS.keys() or not all(math.isfinite(value) for value in values.values()):
        return "it has no value for some queries"
    return ""


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
