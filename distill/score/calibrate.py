"""The calibrate stage: the teacher report, ensembles, and the scores that examples are made of.

Reads the raw `scores` of one score stage for each teacher. Scores for students are written only if the report finds nothing
suspicious, or if the settings allow what it finds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from cluster.atomic import write_bytes
from cluster.settings import PoolSettings
from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Workspace, row_shards
from distill.formats.settings import ScoreUnit
from distill.score.ensemble import Method, combined
from distill.score.lists import (
    BLOCK_PAIRS,
    ScoreLists,
    block_rows,
    blocks,
    common,
    read_block,
    read_judgements,
    same_candidates,
    selector_ranks,
)
from distill.score.report.figures import SAMPLED_PAIRS, Agreement, Examination, report_table
from distill.score.report.page import teacher_page
from distill.score.report.suspicions import refuse_suspicious, suspicions
from distill.score.settings import EnsembleTeacher, ScoreSettings
from distill.score.temperature import find_temperature
from distill.score.units import in_unit
from distill.tables import CANDIDATES, REJECTED, SCORES

PAGE = "teacher_report.html"
"""The report for people, in the stage's folder."""

_PAIRS_PER_SHARD = 2_000_000


def calibrate(workspace: Workspace, settings: ScoreSettings, stages: Sequence[str], source_lang: str) -> None:
    """Write `teacher_report` (and its page), then `scores` and `rejected`: the candidates that not every teacher scored.

    A suspicious teacher is a `SuspiciousTeacherError` unless `settings.check.allow` names what is suspicious; the report is there in
    either case. The scores are `score / temperature`, of the one teacher or of what `combine` makes of several, each in the unit of the
    settings; unit and temperature are recorded in the manifest, the temperature in the column `teacher` too.

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
    page = teacher_page(examinations, agreements, found, settings.check)
    write_bytes(workspace.filesystem, f"{workspace.folder}/{PAGE}", page.encode())
    workspace.note(
        teachers={e.stage: {"teacher": e.teacher, "lang": e.lang, **_rounded(e.facts())} for e in examinations}
    )
    every = [suspicion for stage in stages for suspicion in found[stage]]
    for message in refuse_suspicious(every, settings.check, f"{workspace.location}/{PAGE}"):
        workspace.note(warning=f"{message} (allowed)")
    wanted, held = settings.calibration.unit, dict(zip(stages, settings.units, strict=True))
    temperature = find_temperature(workspace, tables, method, settings.calibration, held)
    [unit] = {"similarity"} if method else {"similarity" if each == "similarity" else wanted for each in held.values()}
    workspace.note(ensemble=method, unit=unit, temperature=temperature)
    shards = row_shards(max(1, len(tables[stages[0]])), block_rows(tables[stages[0]], _PAIRS_PER_SHARD))
    arguments = {"tables": tables, "method": method, "temperature": temperature, "held": held, "unit": wanted}
    if len(shards) > 1:
        workspace.map_shards(shards, CalibrateWorker, arguments, PoolSettings(), unit="queries")
        return
    # One shard is done here sooner than an actor starts.
    for name, table in CalibrateWorker(**arguments)(shards[0]).items():
        workspace.write(name, table)


def _rounded(facts: Mapping[str, float]) -> dict[str, float | int]:
    """Round figures to six digits for the manifest, counts to whole numbers."""
    counts = {"queries", "pairs", "judged_queries"}
    return {name: int(value) if name in counts else float(f"{value:.6g}") for name, value in facts.items()}


def examine(
    workspace: Workspace, tables: dict[str, StoredTable], lang: str
) -> tuple[list[Examination], list[Agreement]]:
    """Compute the figures of every teacher, and of every pair of teachers, in one pass over the tables."""
    judgements = read_judgements(workspace, ("train", "dev"))
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


def _count_rejected(workspace: Workspace, stage: str) -> int:
    """Return the number of pairs that a score stage rejected for want of a score."""
    folder = f"{workspace.input_folder(stage)}/rejected"
    if not _rows(workspace, folder):
        return 0
    return sum(name == "score" for name in workspace.input(stage, "rejected", ["field"])["field"].to_pylist())


def _rows(workspace: Workspace, folder: str) -> int:
    """Return the number of rows of a table that a stage may not have written."""
    there = workspace.filesystem.get_file_info(folder).type == pafs.FileType.Directory
    return len(StoredTable.open(workspace.filesystem, folder)) if there else 0


class CalibrateWorker:
    """The actor that converts, combines and scales the scores of a range of queries."""

    def __init__(
        self,
        tables: dict[str, StoredTable],
        method: Method | None,
        temperature: float,
        held: Mapping[str, ScoreUnit],
        unit: ScoreUnit,
    ) -> None:
        self._tables = tables
        self._held = held
        self._unit: ScoreUnit = unit
        self._method: Method | None = method
        self._temperature = temperature

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the scores of queries start to stop, and the pairs that a teacher did not score."""
        found = in_unit(read_block(self._tables, shard.args["start"], shard.args["stop"]), self._held, self._unit)
        lists = combined(self._method, found)
        rejected = _unscored(found) if self._method else []
        return {"scores": self._table(lists), "rejected": REJECTED.from_rows(rejected)}

    def _table(self, lists: ScoreLists) -> pa.Table:
        whole = self._temperature == 1
        scores = lists.scores if whole else lists.scores.astype(np.float64) / self._temperature
        name = ", ".join(lists.teachers) + ("" if whole else f" / {self._temperature:.6g}")
        offsets = pa.array(lists.lists.offsets, pa.int32())
        columns = {
            "query_id": lists.query_ids,
            "passage_ids": pa.ListArray.from_arrays(offsets, lists.passage_ids),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores.astype(np.float32))),
            "teacher": pa.repeat(pa.scalar(name, pa.string()), len(lists.query_ids)),
        }
        return SCORES.check(pa.table(columns), "calibrate")


def _unscored(found: dict[str, ScoreLists]) -> list[dict[str, object]]:
    """Return a row of REJECTED for each pair that some teachers scored and others did not."""
    if same_candidates(list(found.values())):
        return []
    by_stage = {stage: set(lists.pair_ids(np.ones(len(lists.scores), bool))) for stage, lists in found.items()}
    rows = []
    for pair in sorted(set.union(*by_stage.values())):
        lacking = [stage for stage, pairs in by_stage.items() if pair not in pairs]
        if lacking:
            reason = f"no score of {', '.join(lacking)}; an ensemble takes the candidates that every teacher scored"
            rows.append({"source": "scores", "line": 0, "id": " ".join(pair), "field": "passage_ids", "reason": reason})
    return rows
