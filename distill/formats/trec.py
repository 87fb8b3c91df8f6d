"""TREC runs and judgements: the one reader and the one writer of both.

A run has the lines `query Q0 passage rank score tag`, judgements (qrels) have the lines `query 0 passage grade`; white space separates the
columns, so no id may hold any. Files are local or s3://, compressed where the name ends in .gz, and read as streams.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cluster.atomic import open_whole
from cluster.locations import Location
from distill.formats.rows import WHOLE_NUMBER, Record, RowError
from distill.formats.text import counted, read_lines, whole_lines
from distill.tables import TableError


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


def read_rankings(location: Location) -> dict[str, list[str]]:
    """Return the passages of each query of a run, by rank and, where ranks are equal, by id.

    Scores are not read, and the lines of a query may stand anywhere. Memory: the ids of the whole file.

    Raises:
        TableError: a line has not six columns, a rank that is no whole number, or a passage that its query already has.
    """
    ranks: dict[str, dict[str, int]] = {}
    for line in read_run(location):
        of_query = ranks.setdefault(line.query_id, {})
        if not WHOLE_NUMBER.fullmatch(line.rank):
            raise TableError(
                f"{line.source}: rank {line.rank!r} of passage {line.passage_id!r}, expected a whole number"
            )
        if line.passage_id in of_query:
            raise TableError(
                f"{line.source}: passage {line.passage_id!r} is already in the ranking of query {line.query_id!r}"
            )
        of_query[line.passage_id] = int(line.rank)
    return {
        query: sorted(of_query, key=lambda passage: (of_query[passage], passage)) for query, of_query in ranks.items()
    }


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
