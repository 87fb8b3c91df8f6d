"""The score stage of a teacher whose scores are in files."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.workspace import Workspace
from distill.formats.scores import ScoreList, read_scores
from distill.score.settings import ImportedTeacher
from distill.score.teachers.interface import Provenance
from distill.tables import CANDIDATES, PROVENANCE, REJECTED, SCORES, TRUNCATED_PAIRS, TableError

_ROW_GROUP = 5_000


def import_scores(workspace: Workspace, teacher: ImportedTeacher, query_lang: str, passage_lang: str) -> None:
    """Write `scores`, `rejected`, `truncated_pairs` (empty) and `provenance` of a teacher whose scores are in files.

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
        _check_unit(found, teacher)
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


def _check_unit(found: ScoreList, teacher: ImportedTeacher) -> None:
    """Raise a TableError for a log-probability above 0."""
    if teacher.unit == "log_probability" and len(found.scores) and found.scores.max() > 0:
        best = int(found.scores.argmax())
        raise TableError(
            f"{found.source}: score {found.scores[best]:g} of passage {found.passage_ids[best]!r}, but score.teacher.unit is "
            "'log_probability', which is never above 0; set it to what the file holds, 'log_odds' or 'similarity'"
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
    positions = pa.array(np.flatnonzero(missing))
    queries = candidates["query_id"].take(pa.array(owners[missing])).to_pylist()
    reason = f"no score in {', '.join(teacher.files)}"
    return REJECTED.from_rows(
        {"source": "candidates", "line": 0, "id": f"{query_id} {passage_id}", "field": "passage_ids", "reason": reason}
        for query_id, passage_id in zip(queries, flat.take(positions).to_pylist(), strict=True)
    )
