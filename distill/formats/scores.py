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
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from cluster.atomic import open_whole
from cluster.workspace import Workspace
from distill.formats.text import Location, RowError, find_all, locate, read_lines
from distill.score.settings import ImportedTeacher, ScoreFormat
from distill.score.teachers.interface import Provenance
from distill.tables import CANDIDATES, PROVENANCE, REJECTED, SCORES, TRUNCATED_PAIRS, TableError

_ROW_GROUP = 5_000


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
                    message = f"{found.place}: query {found.query_id!r} was in {seen[found.query_id]} before{advice}"
                    raise TableError(message)
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
            message = f"{where}: {line}"
            raise TableError(message)
        yield where, line


def _read_tdist(place: Location) -> Iterator[ScoreList]:
    for where, line in _lines(place):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            message = f"{where}: not JSON ({error}); expected [query, [passage, score], ...]"
            raise TableError(message) from error
        if not isinstance(record, list) or not record:
            message = f"{where}: expected a list [query, [passage, score], ...], found {line[:80]!r}"
            raise TableError(message)
        query_id, *pairs = record
        wrong = next((pair for pair in pairs if not isinstance(pair, list) or len(pair) != 2), None)
        if wrong is not None:
            message = f"{where}: expected [passage, score], found {json.dumps(wrong)[:80]}"
            raise TableError(message)
        ids = [_identifier(passage_id, where, "passage") for passage_id, _ in pairs]
        yield _checked(_identifier(query_id, where, "query"), ids, [score for _, score in pairs], where)


def _identifier(value: object, where: str, what: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.split() == [value]:
        return value
    message = f"{where}: {what} id {json.dumps(value)[:80]}, expected a string without white space or a whole number"
    raise TableError(message)


def _read_trec(place: Location) -> Iterator[ScoreList]:
    query_id, ids, scores, first = "", [], [], ""
    for where, line in _lines(place):
        fields = line.split()
        if len(fields) != 6:
            message = f"{where}: expected 'query Q0 passage rank score tag', found {line[:80]!r}"
            raise TableError(message)
        try:
            score = float(fields[4])
        except ValueError:
            score = math.nan
        if fields[0] != query_id:
            if ids:
                yield _checked(query_id, ids, scores, first)
            query_id, ids, scores, first = fields[0], [], [], where
        if not math.isfinite(score):
            message = f"{where}: score {fields[4]!r} of passage {fields[2]!r}, expected a finite number"
            raise TableError(message)
        ids.append(fields[2])
        scores.append(score)
    if ids:
        yield _checked(query_id, ids, scores, first)


def _checked(query_id: str, ids: list[str], scores: Sequence[object], where: str) -> ScoreList:
    if len(set(ids)) < len(ids):
        twice = next(passage_id for place, passage_id in enumerate(ids) if passage_id in ids[:place])
        message = f"{where}: passage {twice!r} is twice in the list of query {query_id!r}"
        raise TableError(message)
    found = np.array([_number(score) for score in scores], np.float64)
    with np.errstate(over="ignore"):
        values = found.astype(np.float32)
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        message = (
            f"{where}: score {json.dumps(scores[place])} of passage {ids[place]!r}, expected a finite number of 32 bits"
        )
        raise TableError(message)
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


def import_scores(workspace: Workspace, teacher: ImportedTeacher, query_lang: str, passage_lang: str) -> None:
    """Write `scores`, `rejected`, `truncated_pairs` (empty) and `provenance` of a teacher whose scores lie in files.

    The scores are those of the job's candidates, by id; what else the files hold is counted. Candidates without a score are a
    `TableError` that names the first, or go to `rejected` where `teacher.missing` says so.

    Cost: one pass over the files; memory: the tables `candidates` and `scores`.
    """
    candidates = CANDIDATES.check(workspace.input("select", "candidates"), "select").combine_chunks()
    ids = candidates["passage_ids"].combine_chunks()
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(ids).to_numpy(zero_copy_only=False))]).astype(
        np.int64
    )
    flat = pc.list_flatten(ids)
    rows = {query_id: row for row, query_id in enumerate(candidates["query_id"].to_pylist())}
    scores = np.full(int(offsets[-1]), np.nan, np.float32)
    others = 0
    for found in read_scores(teacher.files, teacher.format):
        row = rows.get(found.query_id)
        if row is None:
            others += 1
            continue
        start, stop = int(offsets[row]), int(offsets[row + 1])
        known = dict(zip(found.passage_ids, found.scores.tolist(), strict=True))
        scores[start:stop] = [known.get(i, math.nan) for i in flat.slice(start, stop - start).to_pylist()]
    missing = np.isnan(scores)
    owners = np.repeat(np.arange(len(candidates)), np.diff(offsets))
    if missing.any() and teacher.missing == "error":
        raise TableError(_missing_message(teacher, candidates, flat, owners, missing))
    workspace.write(
        "scores", _scores(candidates, flat, owners, scores, missing, teacher.name), row_group_size=_ROW_GROUP
    )
    workspace.write("rejected", _rejected(candidates, flat, owners, missing, teacher))
    workspace.write("truncated_pairs", TRUNCATED_PAIRS.empty())
    made = Provenance(kind=teacher.type, model=teacher.name, engine="file", truncation="not known")
    row = {"shard": 0, **vars(made), "query_lang": query_lang, "passage_lang": passage_lang}
    workspace.write("provenance", PROVENANCE.from_rows([row]))
    workspace.note(provenance={name: value for name, value in row.items() if name != "shard"}, unused_queries=others)
    if missing.any():
        workspace.note(
            missing=int(missing.sum()),
            warning=f"{int(missing.sum())} of {len(scores)} candidates have no score in the files",
        )


def _missing_message(
    teacher: ImportedTeacher, candidates: pa.Table, flat: pa.Array, owners: np.ndarray, missing: np.ndarray
) -> str:
    shown = np.flatnonzero(missing)[:3]
    pairs = ", ".join(
        f"query {candidates['query_id'][int(owners[i])].as_py()!r} passage {flat[int(i)].as_py()!r}" for i in shown
    )
    queries = len(np.unique(owners[missing]))
    return (
        f"{', '.join(teacher.files)}: {int(missing.sum())} of {len(flat)} candidates, of {queries} of {len(candidates)} queries, have no"
        f" score, the first: {pairs}; take the candidates from the same files (select.by.type 'scored'), or set missing to 'reject'"
    )


def _scores(
    candidates: pa.Table, flat: pa.Array, owners: np.ndarray, scores: np.ndarray, missing: np.ndarray, name: str
) -> pa.Table:
    lengths = np.bincount(owners[~missing], minlength=len(candidates))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns = {
        "query_id": candidates["query_id"],
        "passage_ids": pa.ListArray.from_arrays(offsets, flat.filter(pa.array(~missing))),
        "scores": pa.ListArray.from_arrays(offsets, pa.array(scores[~missing])),
        "teacher": pa.repeat(pa.scalar(name, pa.string()), len(candidates)),
    }
    return SCORES.check(pa.table(columns), "score")


def _rejected(
    candidates: pa.Table, flat: pa.Array, owners: np.ndarray, missing: np.ndarray, teacher: ImportedTeacher
) -> pa.Table:
    places = pa.array(np.flatnonzero(missing))
    queries = candidates["query_id"].take(pa.array(owners[missing])).to_pylist()
    reason = f"no score in {', '.join(teacher.files)}"
    return REJECTED.from_rows(
        {"source": "candidates", "line": 0, "id": f"{query_id} {passage_id}", "field": "passage_ids", "reason": reason}
        for query_id, passage_id in zip(queries, flat.take(places).to_pylist(), strict=True)
    )
