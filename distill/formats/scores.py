"""Teacher scores as files, in and out: the layout of hltcoe/tdist-msmarco-scores, and TREC runs.

`tdist` is one JSON list a line, `["query", ["passage", score], ["passage", score], ...]`; ids are strings or whole numbers. A query is on
one line. `trec` is `query Q0 passage rank score tag`; a query's lines follow one another. Files are read as streams, a query at a time,
and a fault is an error that names file and line. Cost: about a microsecond a pair.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, assert_never

import numpy as np
from jaxtyping import Float

from cluster.atomic import open_whole
from cluster.locations import Location, find_all, locate
from distill.formats.rows import RowError
from distill.formats.settings import ScoreFormat
from distill.formats.text import read_lines
from distill.tables import TableError


class ScoreList(NamedTuple):
    """The scores of one query's passages, in the file's order.

    Attributes:
        query_id: the query.
        passage_ids: its passages, each once.
        scores: their scores, all finite.
        place: file and line, for messages.
    """

    query_id: str
    passage_ids: list[str]
    scores: Float[np.ndarray, " P"]
    place: str


# --- reading ---------------------------------------------------------------------------------------------------------


def read_scores(files: Sequence[str], kind: ScoreFormat) -> Iterator[ScoreList]:
    """The queries of score files, or of folders of them, local or s3://, optionally .gz.

    A `TableError` names file and line: a line of another layout, a passage twice for a query, a query twice, a score that is no finite
    number of 32 bits. Memory: a line, and the queries' ids.
    """
    seen: dict[str, str] = {}
    for path in files:
        for place in find_all(path):
            for found in _read_file(place, kind):
                if found.query_id in seen:
                    advice = "; sort the run by query" if kind == "trec" else ""
                    raise TableError(
                        f"{found.place}: query {found.query_id!r} was in {seen[found.query_id]} before{advice}"
                    )
                seen[found.query_id] = found.place
                yield found


def _read_file(place: Location, kind: ScoreFormat) -> Iterator[ScoreList]:
    match kind:
        case "tdist":
            return _read_tdist(place)
        case "trec":
            return _read_trec(place)
        case _:
            assert_never(kind)


def _lines(place: Location) -> Iterator[tuple[str, str]]:
    """The lines of a file, each after its place."""
    for number, line in read_lines(place):
        where = f"{place.name} line {number}"
        if isinstance(line, RowError):
            raise TableError(f"{where}: {line}")
        yield where, line


def _read_tdist(place: Location) -> Iterator[ScoreList]:
    for where, line in _lines(place):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{where}: not JSON ({error}); expected [query, [passage, score], ...]") from error
        if not isinstance(record, list) or not record:
            raise TableError(f"{where}: expected a list [query, [passage, score], ...], found {line[:80]!r}")
        query_id, *pairs = record
        wrong = next((pair for pair in pairs if not isinstance(pair, list) or len(pair) != 2), None)
        if wrong is not None:
            raise TableError(f"{where}: expected [passage, score], found {json.dumps(wrong)[:80]}")
        ids = [_identifier(passage_id, where, "passage") for passage_id, _ in pairs]
        yield _checked(_identifier(query_id, where, "query"), ids, [score for _, score in pairs], where)


def _identifier(value: object, where: str, what: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.split() == [value]:
        return value
    raise TableError(
        f"{where}: {what} id {json.dumps(value)[:80]}, expected a string without white space or a whole number"
    )


def _read_trec(place: Location) -> Iterator[ScoreList]:
    query_id, ids, scores, first = "", [], [], ""
    for where, line in _lines(place):
        fields = line.split()
        if len(fields) != 6:
            raise TableError(f"{where}: expected 'query Q0 passage rank score tag', found {line[:80]!r}")
        try:
            score = float(fields[4])
        except ValueError:
            score = math.nan
        if fields[0] != query_id:
            if ids:
                yield _checked(query_id, ids, scores, first)
            query_id, ids, scores, first = fields[0], [], [], where
        if not math.isfinite(score):
            raise TableError(f"{where}: score {fields[4]!r} of passage {fields[2]!r}, expected a finite number")
        ids.append(fields[2])
        scores.append(score)
    if ids:
        yield _checked(query_id, ids, scores, first)


def _checked(query_id: str, ids: list[str], scores: Sequence[object], where: str) -> ScoreList:
    if len(set(ids)) < len(ids):
        twice = next(passage_id for place, passage_id in enumerate(ids) if passage_id in ids[:place])
        raise TableError(f"{where}: passage {twice!r} is twice in the list of query {query_id!r}")
    found = np.array([_number(score) for score in scores], np.float64)
    with np.errstate(over="ignore"):
        values = found.astype(np.float32)
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise TableError(
            f"{where}: score {json.dumps(scores[place])} of passage {ids[place]!r}, expected a finite number of 32 bits"
        )
    return ScoreList(query_id, ids, values, where)


def _number(value: object) -> float:
    """A number as a float; NaN for anything else, and infinity for a whole number beyond floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


# --- writing ---------------------------------------------------------------------------------------------------------


def write_scores(
    path: str,
    kind: ScoreFormat,
    lists: Iterable[tuple[str, Sequence[str], Float[np.ndarray, " P"]]],
    tag: str = "polyray",
    *,
    whole_number_ids: bool = False,
) -> tuple[int, int]:
    """Write a score file, local or s3://, compressed where the name ends in .gz; returns how many queries and pairs it holds.

    Scores are written with as many digits as tell them from every other 32-bit number, so reading gives the same ones. TREC runs are
    sorted by score, highest first, equal ones by id; the other layout keeps the given order.

    Args:
        path: the file, which is replaced.
        kind: the layout.
        lists: query, passages and scores.
        tag: the last column of a run.
        whole_number_ids: write ids such as `12` as numbers in `tdist`, for readers that look ids up as numbers.
    """
    queries = pairs = 0
    with open_whole(locate(path), "gzip" if path.endswith(".gz") else None) as stream:
        for query_id, passage_ids, scores in lists:
            digits = [str(score) for score in scores.astype(np.float32)]
            stream.write(_text(kind, query_id, passage_ids, scores, digits, tag, whole_number_ids).encode())
            queries, pairs = queries + 1, pairs + len(digits)
    return queries, pairs


def _text(
    kind: ScoreFormat,
    query_id: str,
    ids: Sequence[str],
    scores: Float[np.ndarray, " P"],
    digits: Sequence[str],
    tag: str,
    numbers: bool,
) -> str:
    """A query's lines."""
    match kind:
        case "tdist":
            spelled = [_json_id(i, numbers) for i in ids]
            pairs = "".join(f", [{i}, {score}]" for i, score in zip(spelled, digits, strict=True))
            return f"[{_json_id(query_id, numbers)}{pairs}]\n"
        case "trec":
            order = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))
            return "".join(
                f"{query_id} Q0 {ids[i]} {rank} {digits[i]} {tag}\n" for rank, i in enumerate(order, start=1)
            )
        case _:
            assert_never(kind)


def _json_id(identifier: str, numbers: bool) -> str:
    whole = numbers and identifier.isascii() and identifier.isdigit() and str(int(identifier)) == identifier
    return identifier if whole else json.dumps(identifier, ensure_ascii=False)


# --- as a teacher ----------------------------------------------------------------------------------------------------
