"""TREC runs and judgements: the one reader and the one writer of both.

A run has the lines `query Q0 passage rank score tag`, judgements (qrels) have the lines `query 0 passage grade`; white space separates the
columns, so no id may hold any. Files are local or s3://, compressed where the name ends in .gz, and read as streams.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from cluster.atomic import open_whole
from cluster.locations import Location
from distill.formats.lines import read_lines, whole_lines
from distill.formats.rows import Record, RowError
from distill.formats.settings import RunOrder
from distill.formats.tsv import counted
from distill.formats.values import read_number, read_whole_number, shortened
from distill.tables import TableError

N = TypeVar("N")


class RunLine(NamedTuple):
    """A line of a run; rank and score are as the file has them.

    Attributes:
        query_id: the query.
        passage_id: the retrieved passage.
        rank: its rank.
        score: its score.
        source: file and line, for messages.
    """

    query_id: str
    passage_id: str
    rank: str
    score: str
    source: str


def read_run(location: Location) -> Iterator[RunLine]:
    """Yield the lines of a run in the file's order; memory: one line.

    Raises:
        TableError: a line is not UTF-8 or has not six columns; the message names file and line.
    """
    for source, line in whole_lines(location):
        columns = line.split()
        if len(columns) != 6:
            raise _wrong_line(source, line)
        query_id, _, passage_id, rank, score, _ = columns
        yield RunLine(query_id, passage_id, rank, score, source)


def read_rankings(location: Location, order: RunOrder = "agreed") -> dict[str, list[str]]:
    """Return the passages of each query of a run, best first. The lines of a query may stand anywhere.

    Args:
        location: the run.
        order: `score`: by score, highest first, as trec_eval ranks; equal ones as in the file, and ranks are not read. `rank`: by rank
            alone; scores are not read. `agreed`: by score and, where scores are equal, by rank and then as in the file; ranks must agree
            with the scores, unless all of a query are equal and so say nothing (BEIR writes rank 0 for every passage).

    Memory: ids, ranks and scores of the whole file.

    Raises:
        TableError: a line has not six columns, a rank that is no whole number, a score that is no finite number, a passage that its query
            already has, or ranks that do not order the passages (`rank`) or contradict the scores (`agreed`); the message names file and
            line.
    """
    queries: dict[str, dict[str, tuple[float, int]]] = {}
    for line in read_run(location):
        of_query = queries.setdefault(line.query_id, {})
        if line.passage_id in of_query:
            raise TableError(
                f"{line.source}: passage {line.passage_id!r} is already in the ranking of query {line.query_id!r}"
            )
        score = 0.0 if order == "rank" else read_value(line, "score", line.score, read_number)
        rank = 0 if order == "score" else read_value(line, "rank", line.rank, read_whole_number)
        of_query[line.passage_id] = -score, rank
    return {query_id: _ranked(location, query_id, of_query, order) for query_id, of_query in queries.items()}


def read_value(line: RunLine, what: str, text: str, read: Callable[[str], N]) -> N:
    """Return what `read` makes of a line's rank or score; raise TableError, which names file and line, for its ValueError."""
    try:
        return read(text)
    except ValueError as error:
        raise TableError(f"{line.source}: {what} {shortened(text)} of passage {line.passage_id!r}, {error}") from error


def _ranked(location: Location, query_id: str, places: Mapping[str, tuple[float, int]], order: RunOrder) -> list[str]:
    """Return the passages of a query in order; `places` are their scores, negative, and ranks, 0 for what was not read."""
    ids = sorted(places, key=places.__getitem__)
    all_equal = len({rank for _, rank in places.values()}) == 1
    if order == "score" or (order == "agreed" and all_equal):
        return ids
    for first, second in pairwise(ids):
        (above, rank), (below, next_rank) = places[first], places[second]
        if order == "rank" and rank == next_rank:
            raise TableError(
                f"{_source(location, query_id, second)}: query {query_id!r} has passages {first!r} and {second!r} at rank {rank}; "
                "set select.by.order to 'score'"
            )
        if rank > next_rank:
            raise TableError(
                f"{_source(location, query_id, second)}: query {query_id!r} has passage {second!r} at rank {next_rank} with score "
                f"{-below:g}, and {first!r} at rank {rank} with score {-above:g}; set select.by.order to 'score' or 'rank'"
            )
    return ids


def _source(location: Location, query_id: str, passage_id: str) -> str:
    """Return file and line of a passage, for a message: lines are not kept in memory."""
    lines = (line.source for line in read_run(location) if (line.query_id, line.passage_id) == (query_id, passage_id))
    return next(lines, location.name)


def write_run(
    location: Location, rankings: Iterable[tuple[str, Sequence[str], Float[np.ndarray, " _"]]], tag: str
) -> tuple[int, int]:
    """Write a run and return how many queries and lines it holds.

    Scores have as many digits as tell them from every other 32-bit number, so reading gives the same ones. A file that exists is replaced,
    and only once the new one is whole.

    Args:
        location: the file.
        rankings: query, its passages from rank 1, and their scores.
        tag: the last column.
    """
    queries = lines = 0
    with open_whole(location, _compression(location)) as stream:
        for query_id, passage_ids, scores in rankings:
            rows = zip(passage_ids, scores.astype(np.float32), strict=True)
            text = [
                f"{query_id} Q0 {passage} {rank} {score!s} {tag}\n"
                for rank, (passage, score) in enumerate(rows, start=1)
            ]
            stream.write("".join(text).encode())
            queries, lines = queries + 1, lines + len(text)
    return queries, lines


def read_qrels(location: Location) -> Iterator[tuple[int, Record | RowError]]:
    """Yield line number and a record (query, passage, grade) for each line of judgements, or why it cannot be used.

    The second column, the iteration, is not used. Grades are not read as numbers: `parse_qrel` does that.
    """
    for number, line in read_lines(location):
        columns = line if isinstance(line, RowError) else line.split()
        if isinstance(columns, RowError):
            yield number, columns
        elif len(columns) == 4:
            yield number, {"query": columns[0], "passage": columns[2], "grade": columns[3]}
        else:
            yield number, RowError("", f"{counted(columns, 'column')}, expected 4 (query, 0, passage, grade)")


def write_qrels(location: Location, judgements: Iterable[tuple[str, str, int]]) -> None:
    """Write judgements (query, passage, grade) in the given order, as `write_run` writes runs."""
    with open_whole(location, _compression(location)) as stream:
        for query_id, passage_id, grade in judgements:
            stream.write(f"{query_id} 0 {passage_id} {grade}\n".encode())


def _wrong_line(source: str, line: str) -> TableError:
    return TableError(f"{source}: expected 'query Q0 passage rank score tag', found {line[:80]!r}")


def _compression(location: Location) -> str | None:
    return "gzip" if location.path.endswith(".gz") else None
