"""The calibrate stage: the teacher report, ensembles, and the scores that examples are made of.

Reads the raw `scores` of one score stage for each teacher. Nothing is written for students before the report finds the teachers
trustworthy, or the settings allow what it found.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from jaxtyping import Bool, Float

from cluster.workspace import Pool, Shard, StoredTable, Workspace, row_shards
from distill.numerics.ragged import Ragged
from distill.score.lists import (
    BLOCK_PAIRS,
    Judgements,
    ScoreLists,
    block_rows,
    blocks,
    common,
    read_block,
    selector_ranks,
)
from distill.score.report.figures import SAMPLED_PAIRS, Agreement, Examination, report_table
from distill.score.report.page import teacher_page
from distill.score.report.suspicions import refuse_suspicious, suspicions
from distill.score.settings import CalibrationSettings, EnsembleTeacher, ScoreSettings
from distill.tables import CANDIDATES, REJECTED, SCORES, TableError

Method = Literal["z_score", "reciprocal_rank"]

RECIPROCAL_RANK_OFFSET = 60
"""Added to ranks: the constant of reciprocal rank fusion (Cormack et al. 2009)."""

PAGE = "teacher_report.html"
"""The report for people, in the stage's folder."""

_FITTED_QUERIES = 20_000
_PAIRS_PER_SHARD = 2_000_000


def calibrate(workspace: Workspace, settings: ScoreSettings, stages: Sequence[str], source_lang: str) -> None:
    """Write `teacher_report` (and its page), then `scores` and `rejected`: the candidates that not every teacher scored.

    A suspicious teacher is a `SuspiciousTeacherError` unless `settings.check.allow` names what is suspicious; the report is there in
    either case. The scores are `scale * score / temperature`, of the one teacher or of what `combine` makes of several; the temperature
    is recorded in the manifest and in the column `teacher`.

    Args:
        workspace: its inputs are `sources`, `select` and the score stages.
        settings: the teachers, their languages, calibration and limits.
        stages: the score stages, in the order of the teachers.
        source_lang: the language that is read where the settings name none.
    """
    tables = {
        stage: StoredTable.open(workspace.filesystem, f"{workspace.input_folder(stage)}/scores") for stage in stages
    }
    method: Method | None = settings.teacher.method if isinstance(settings.teacher, EnsembleTeacher) else None
    lang = f"{settings.query_lang or source_lang}-{settings.passage_lang or source_lang}"
    examinations, agreements = examine(workspace, tables, lang)
    found = {examination.stage: suspicions(examination, settings.check) for examination in examinations}
    workspace.write("teacher_report", report_table(examinations, agreements))
    _write_page(workspace, teacher_page(examinations, agreements, found, settings.check))
    workspace.note(
        teachers={e.stage: {"teacher": e.teacher, "lang": e.lang, **_rounded(e.facts())} for e in examinations}
    )
    every = [suspicion for stage in stages for suspicion in found[stage]]
    for message in refuse_suspicious(every, settings.check, f"{workspace.uri}/{PAGE}"):
        workspace.note(warning=f"{message} (allowed)")
    temperature = find_temperature(workspace, tables, method, settings.calibration)
    workspace.note(ensemble=method, temperature=temperature, scale=settings.calibration.scale)
    shards = row_shards(max(1, len(tables[stages[0]])), block_rows(tables[stages[0]], _PAIRS_PER_SHARD))
    arguments = {"tables": tables, "method": method, "temperature": temperature, "scale": settings.calibration.scale}
    if len(shards) > 1:
        workspace.map_shards(shards, CalibrateWorker, arguments, Pool(), unit="queries")
        return
    # One shard is done here sooner than an actor starts.
    for name, table in CalibrateWorker(**arguments)(shards[0]).items():
        workspace.write(name, table)


def _write_page(workspace: Workspace, page: str) -> None:
    workspace.filesystem.create_dir(workspace.folder, recursive=True)
    with workspace.filesystem.open_output_stream(f"{workspace.folder}/{PAGE}") as stream:
        stream.write(page.encode())


def _rounded(facts: Mapping[str, float]) -> dict[str, float | int]:
    """Six digits are enough for the manifest; counts are whole."""
    counts = {"queries", "pairs", "judged_queries"}
    return {name: int(value) if name in counts else float(f"{value:.6g}") for name, value in facts.items()}


# --- the report's figures --------------------------------------------------------------------------------------------


def examine(
    workspace: Workspace, tables: dict[str, StoredTable], lang: str
) -> tuple[list[Examination], list[Agreement]]:
    """The figures of every teacher, and of every pair of teachers, in one pass over the tables."""
    judgements = _judgements(workspace, ("train", "dev"))
    candidates = StoredTable.open(workspace.filesystem, f"{workspace.input_folder('select')}/candidates")
    examinations = {
        stage: Examination(
            stage, lang, _count_rejected(workspace, stage), _rows(workspace, f"{workspace.input_folder(stage)}/truncated_pairs")
        )
        for stage in tables
    }  # fmt: skip
    names = list(tables)
    agreements = [Agreement(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    first = next(iter(tables.values()))
    step = max(1, len(first) * BLOCK_PAIRS // (block_rows(first) * SAMPLED_PAIRS))
    for start, found in blocks(tables):
        rows = len(next(iter(found.values())).query_ids)
        part = CANDIDATES.check(candidates.read(start, start + rows), "select")
        sampled = (np.arange(start, start + rows) % step) == 0
        for stage, lists in found.items():
            relevant, judged = judgements.relevant(lists)
            examinations[stage].add(lists, selector_ranks(lists, part), relevant, judged, sampled)
        aligned = common(found) if agreements else found
        for agreement in agreements:
            one, other = aligned[agreement.stage], aligned[agreement.other]
            agreement.add(one.lists, one.scores, other.scores)
    return list(examinations.values()), agreements


def _judgements(workspace: Workspace, splits: Sequence[str]) -> Judgements:
    """Relevant passages of queries in these splits. Test judgements are for the evaluation alone."""
    queries = workspace.input("sources", "queries", ["query_id", "split"])
    return Judgements.of(workspace.input("sources", "qrels"), queries, splits)


def _count_rejected(workspace: Workspace, stage: str) -> int:
    """Pairs that a score stage rejected for want of a score."""
    folder = f"{workspace.input_folder(stage)}/rejected"
    if not _rows(workspace, folder):
        return 0
    return sum(name == "score" for name in workspace.input(stage, "rejected", ["field"])["field"].to_pylist())


def _rows(workspace: Workspace, folder: str) -> int:
    """Rows of a table that a stage may not have written."""
    there = workspace.filesystem.get_file_info(folder).type == pafs.FileType.Directory
    return len(StoredTable.open(workspace.filesystem, folder)) if there else 0


# --- ensembles -------------------------------------------------------------------------------------------------------


def combine(method: Method, lists: Ragged, scores: Sequence[Float[np.ndarray, " P"]]) -> Float[np.ndarray, " P"]:
    """One score for each candidate, from those of several teachers for the same lists.

    - z_score: the mean of the teachers' scores after each query's are shifted to mean 0 and scaled to (population) standard deviation 1.
      A teacher that gives all of a query's candidates the same score, or has only one, contributes 0.
    - reciprocal_rank: the sum of 1 / (60 + rank) (Cormack et al. 2009); candidates that a teacher scores alike
      have the mean of their ranks.
    """
    if method == "z_score":
        return np.mean([lists.z_scores(one) for one in scores], axis=0)
    return np.sum([1 / (RECIPROCAL_RANK_OFFSET + lists.ranks(one)[0]) for one in scores], axis=0)


def combined(method: Method | None, found: dict[str, ScoreLists]) -> ScoreLists:
    """The scores of the one teacher, or of an ensemble for the candidates that every teacher scored."""
    first = next(iter(found.values()))
    if method is None:
        return first
    aligned = common(found)
    base = next(iter(aligned.values()))
    scores = combine(method, base.lists, [lists.scores for lists in aligned.values()])
    names = f"{method}({', '.join(name for lists in found.values() for name in lists.teachers)})"
    return ScoreLists(base.query_ids, base.passage_ids, base.lists, scores, (names,) if first.teachers else ())


# --- temperature -----------------------------------------------------------------------------------------------------


def find_temperature(
    workspace: Workspace, tables: dict[str, StoredTable], method: Method | None, settings: CalibrationSettings
) -> float:
    """The temperature that the settings give, or the one that fits the judged queries of their split.

    At most 20,000 evenly spaced queries are looked at.
    """
    if settings.temperature != "fit":
        return settings.temperature
    judgements = _judgements(workspace, (settings.split,))
    step = max(1, -(-len(pc.unique(judgements.query_ids)) // _FITTED_QUERIES))
    parts: list[tuple[Ragged, Float[np.ndarray, " P"], Bool[np.ndarray, " P"]]] = []
    seen = 0
    for _, found in blocks(tables):
        lists = combined(method, found)
        relevant, _ = judgements.relevant(lists)
        shares = lists.lists.means(relevant)
        usable = (shares > 0) & (shares < 1)
        chosen = usable & ((seen + np.cumsum(usable) - 1) % step == 0)
        seen += int(usable.sum())
        if chosen.any():
            kept = chosen[lists.lists.owners]
            full = Ragged(np.concatenate([[0], np.cumsum(lists.lists.lengths[chosen])]))
            parts.append((full, lists.scores[kept].astype(np.float64), relevant[kept]))
    if not parts:
        message = (
            f"score.calibration.temperature 'fit' finds no {settings.split} query with a judged and another passage among its candidates; "
            "give a number, or another score.calibration.split"
        )
        raise TableError(message)
    lengths = np.concatenate([lists.lengths for lists, _, _ in parts])
    scores = np.concatenate([part for _, part, _ in parts])
    relevant = np.concatenate([part for _, _, part in parts])
    return fit_temperature(Ragged(np.concatenate([[0], np.cumsum(lengths)])), scores, relevant)


def fit_temperature(lists: Ragged, scores: Float[np.ndarray, " P"], relevant: Bool[np.ndarray, " P"]) -> float:
    """The temperature T that maximises the likelihood of the relevant candidates under softmax(score / T) over each list.

    With b = 1 / T a list's log-likelihood, the mean over its relevant candidates of `b * score - log sum exp(b * scores)`, is concave in b;
    its derivative is their mean score minus the softmax's. The root of the sum over lists is found by Brent's method. Temperature scaling
    is of Guo et al. (arXiv 1706.04599).

    There is no such T where relevant candidates score no better than others on average (the best T is infinite) or where they are the
    best everywhere (it is 0): a `TableError` that says which.
    """
    from scipy.optimize import brentq

    high = lists.largest(scores)
    judged = float((lists.sums(scores * relevant) / lists.sums(relevant)).sum())

    def slope(inverse: float) -> float:
        weights = np.exp(inverse * (scores - high[lists.owners]))
        return judged - float((lists.sums(weights * scores) / lists.sums(weights)).sum())

    if slope(0.0) <= 0:
        message = (
            "score.calibration.temperature 'fit': the judged passages score no better than the other candidates on average, so that no "
            "temperature fits; look at the teacher report, or give a number"
        )
        raise TableError(message)
    upper = 1.0 / max(float(np.std(scores)), 1e-12)
    for _ in range(60):
        if slope(upper) < 0:
            root = brentq(slope, 0.0, upper, xtol=1e-12 * upper)
            return 1.0 / float(root)  # pyright: ignore[reportArgumentType]
        upper *= 2
    message = (
        "score.calibration.temperature 'fit': the judged passage is the best candidate of every query, so that the smallest temperature "
        "fits best; give a number"
    )
    raise TableError(message)


# --- the scores ------------------------------------------------------------------------------------------------------


class CalibrateWorker:
    """Combines and scales a range of queries."""

    def __init__(self, tables: dict[str, StoredTable], method: Method | None, temperature: float, scale: float) -> None:
        self._tables = tables
        self._method: Method | None = method
        self._temperature = temperature
        self._scale = scale

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The scores of queries start to stop, and the pairs that a teacher did not score."""
        found = read_block(self._tables, shard.args["start"], shard.args["stop"])
        lists = combined(self._method, found)
        rejected = _unscored(found) if self._method else []
        return {"scores": self._table(lists), "rejected": REJECTED.from_rows(rejected)}

    def _table(self, lists: ScoreLists) -> pa.Table:
        factor = self._scale / self._temperature
        scores = lists.scores if factor == 1 else lists.scores.astype(np.float64) * factor
        suffix = "" if self._temperature == 1 else f" / {self._temperature:.6g}"
        suffix += "" if self._scale == 1 else f" * {self._scale:g}"
        name = ", ".join(lists.teachers) + suffix
        offsets = pa.array(lists.lists.offsets, pa.int32())
        columns = {
            "query_id": lists.query_ids,
            "passage_ids": pa.ListArray.from_arrays(offsets, lists.passage_ids),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores.astype(np.float32))),
            "teacher": pa.repeat(pa.scalar(name, pa.string()), len(lists.query_ids)),
        }
        return SCORES.check(pa.table(columns), "calibrate")


def _unscored(found: dict[str, ScoreLists]) -> list[dict[str, object]]:
    """A row of REJECTED for each pair that some teachers scored and others did not."""
    first, *others = found.values()
    same = all(
        np.array_equal(first.lists.offsets, other.lists.offsets) and first.passage_ids.equals(other.passage_ids)
        for other in others
    )
    if same:
        return []
    by_stage = {stage: set(lists.pair_ids(np.ones(len(lists.scores), bool))) for stage, lists in found.items()}
    rows = []
    for pair in sorted(set.union(*by_stage.values())):
        lacking = [stage for stage, pairs in by_stage.items() if pair not in pairs]
        if lacking:
            reason = f"no score of {', '.join(lacking)}; an ensemble takes the candidates that every teacher scored"
            rows.append({"source": "scores", "line": 0, "id": " ".join(pair), "field": "passage_ids", "reason": reason})
    return rows
