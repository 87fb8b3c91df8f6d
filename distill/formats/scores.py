"""Teacher scores as files: the layout of hltcoe/tdist-msmarco-scores, and TREC runs.

`tdist` is one JSON list a line, `["query", ["passage", score], ["passage", score], ...]`; ids are strings or whole numbers. A query is on
one line. `trec` is a run (`distill.formats.trec`) in which the lines of a query follow one another. Files are read as streams, a query at a
time, and a fault is an error that names file and line. Cost: about a microsecond a pair.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, assert_never

import numpy as np
from jaxtyping import Float

from cluster.atomic import open_whole
from cluster.locations import Location, find_all, locate
from distill.formats.lines import whole_lines
from distill.formats.settings import ScoreFormat
from distill.formats.trec import read_run, read_value, write_run
from distill.formats.values import read_id, read_number
from distill.tables import TableError


class ScoreList(NamedTuple):
    """The scores of one query's passages, in the file's order.

    Attributes:
        query_id: the query.
        passage_ids: its passages, each once.
        scores: their scores, all finite.
        source: file and line, for messages.
    """

    query_id: str
    passage_ids: list[str]
    scores: Float[np.ndarray, " P"]
    source: str


Scored = tuple[str, Sequence[str], Float[np.ndarray, " _"]]
"""A query, its passages and their scores."""


def read_scores(files: Sequence[str], kind: ScoreFormat) -> Iterator[ScoreList]:
    """Yield the queries of score files, or of folders of them, local or s3://, optionally .gz.

    Memory: the lines of one query, and the ids of all.

    Raises:
        TableError: a line of another layout, a passage twice for a query, a query twice, or a score that is no finite number of 32 bits;
            the message names file and line.
    """
    seen: dict[str, str] = {}
    for path in files:
        for location in find_all(path):
            for scored in _read_file(location, kind):
                if scored.query_id in seen:
                    advice = "; sort the run by query" if kind == "trec" else ""
                    raise TableError(
                        f"{scored.source}: query {scored.query_id!r} was in {seen[scored.query_id]} before{advice}"
                    )
                seen[scored.query_id] = scored.source
                yield scored


def _read_file(location: Location, kind: ScoreFormat) -> Iterator[ScoreList]:
    match kind:
        case "tdist":
            return _read_tdist(location)
        case "trec":
            return _read_trec(location)
        case _:
            assert_never(kind)


def _read_tdist(location: Location) -> Iterator[ScoreList]:
    for source, line in whole_lines(location):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{source}: not JSON ({error}); expected [query, [passage, score], ...]") from error
        if not isinstance(record, list) or not record:
            raise TableError(f"{source}: expected a list [query, [passage, score], ...], found {line[:80]!r}")
        query_id, *pairs = record
        wrong = next((pair for pair in pairs if not isinstance(pair, list) or len(pair) != 2), None)
        if wrong is not None:
            raise TableError(f"{source}: expected [passage, score], found {json.dumps(wrong)[:80]}")
        ids = [_identifier(passage_id, source, "passage") for passage_id, _ in pairs]
        yield _checked(_identifier(query_id, source, "query"), ids, [score for _, score in pairs], source)


def _identifier(value: object, source: str, what: str) -> str:
    try:
        return read_id(value)
    except ValueError as error:
        expected = "expected a string without white space or a whole number"
        raise TableError(f"{source}: {what} id {json.dumps(value)[:80]}, {expected}") from error


def _read_trec(location: Location) -> Iterator[ScoreList]:
    for query_id, group in groupby(read_run(location), lambda line: line.query_id):
        lines = list(group)
        yield _checked(
            query_id,
            [line.passage_id for line in lines],
            [read_value(line, "score", line.score, read_number) for line in lines],
            lines[0].source,
        )


def _checked(query_id: str, ids: list[str], scores: Sequence[object], source: str) -> ScoreList:
    if len(set(ids)) < len(ids):
        twice = next(passage_id for number, passage_id in enumerate(ids) if passage_id in ids[:number])
        raise TableError(f"{source}: passage {twice!r} is twice in the list of query {query_id!r}")
    wide = np.array([_number(score) for score in scores], np.float64)
    with np.errstate(over="ignore"):
        values = wide.astype(np.float32)
    if not np.isfinite(values).all():
        number = int(np.flatnonzero(~np.isfinite(values))[0])
        raise TableError(
            f"{source}: score {json.dumps(scores[number])} of passage {ids[number]!r}, expected a finite number of 32 bits"
        )
    return ScoreList(query_id, ids, values, source)


def _number(value: object) -> float:
    """Return a number as a float; NaN for anything else, and infinity for a whole number beyond floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def write_scores(
    path: str,
    kind: ScoreFormat,
    lists: Iterable[Scored],
    tag: str = "polyray",
    *,
    whole_number_ids: bool = False,
) -> tuple[int, int]:
    """Write a score file, local or s3://, compressed where the name ends in .gz; return how many queries and pairs it holds.

    Scores have as many digits as tell them from every other 32-bit number, so reading gives the same ones. TREC runs are sorted by score,
    highest first, equal ones by id; the other layout keeps the given order.

    Args:
        path: the file, which is replaced.
        kind: the layout.
        lists: query, passages and scores.
        tag: the last column of a run.
        whole_number_ids: write ids such as `12` as numbers in `tdist`, for readers that look ids up as numbers.
    """
    location = locate(path)
    match kind:
        case "trec":
            return write_run(location, map(_ranked, lists), tag)
        case "tdist":
            queries = pairs = 0
            with open_whole(location, "gzip" if path.endswith(".gz") else None) as stream:
                for query_id, passage_ids, scores in lists:
                    stream.write(_tdist_line(query_id, passage_ids, scores, whole_number_ids).encode())
                    queries, pairs = queries + 1, pairs + len(passage_ids)
            return queries, pairs
        case _:
            assert_never(kind)


def _ranked(scored: Scored) -> Scored:
    query_id, ids, scores = scored
    order = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))
    return query_id, [ids[i] for i in order], scores[order]


def _tdist_line(query_id: str, ids: Sequence[str], scores: Float[np.ndarray, " P"], numbers: bool) -> str:
    pairs = zip(ids, scores.astype(np.float32), strict=True)
    return f"[{_json_id(query_id, numbers)}{''.join(f', [{_json_id(i, numbers)}, {score!s}]' for i, score in pairs)}]\n"


def _json_id(identifier: str, numbers: bool) -> str:
    whole = numbers and identifier.isascii() and identifier.isdigit() and str(int(identifier)) == identifier
    return identifier if whole else json.dumps(identifier, ensure_ascii=False)
