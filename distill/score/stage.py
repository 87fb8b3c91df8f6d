"""The score stage: a teacher reads the candidates of every query."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Shared, Workspace, planned_shards, row_shards
from distill.score.ids import SortedIds, sorted_ids
from distill.score.imported import import_scores
from distill.score.settings import ImportedTeacher, ModelTeacher, ScoreSettings, SingleTeacher
from distill.score.teachers import load_teacher
from distill.tables import CANDIDATES, PROVENANCE, REJECTED, SCORES, TRUNCATED_PAIRS, TableError, duplicates, lookup
from distill.text import passage_texts, with_text


def score(workspace: Workspace, settings: ScoreSettings, teacher: SingleTeacher, source_lang: str) -> None:
    """Write `scores`, one row a query, `truncated_pairs`, `provenance`, and `rejected`: the pairs whose score is not a number.

    A shard is a range of the candidates' rows, so its content depends neither on the number of actors nor on their order. Queries and
    passages are in memory once on each machine; candidates and scores are read and written by the shard, so no process's memory
    depends on the number of pairs.
    """
    candidates = StoredTable.open(workspace.filesystem, f"{workspace.input_folder('select')}/candidates")
    _check_unique(candidates)
    query_lang, passage_lang = settings.query_lang or source_lang, settings.passage_lang or source_lang
    if isinstance(teacher, ImportedTeacher):
        import_scores(workspace, teacher, query_lang, passage_lang)
        return
    queries = workspace.input("sources", "queries")
    passages = {**_passages(workspace, passage_lang, source_lang), "lang": passage_lang}
    arguments = {
        "settings": settings,
        "teacher": teacher,
        "languages": (query_lang, passage_lang),
        "candidates": candidates,
        "queries": queries.filter(pc.equal(queries["lang"], query_lang)),
        "passages": Shared(read_passages, passages),
        "index": Shared(read_index, passages),
        "translated": passage_lang != source_lang,
    }
    actors = settings.pool
    if settings.queries_per_shard:
        shards = row_shards(len(candidates), settings.queries_per_shard)
    else:
        seconds = settings.shard_seconds
        shards = planned_shards(workspace, len(candidates), seconds, ScoreWorker, arguments, actors, "queries")
    workspace.map_shards(shards, ScoreWorker, arguments, actors, unit="queries")
    workspace.note(provenance=_one_provenance(workspace.output("provenance")))


def _check_unique(candidates: StoredTable) -> None:
    repeated = duplicates(candidates.read(columns=["query_id"]), ("query_id",))
    if repeated:
        shown = ", ".join(f"(query_id {values[0]!r})" for values in repeated[:3])
        raise TableError(f"select: not a 'candidates' table: {len(repeated)} repeated keys, among them {shown}")


def _passages(workspace: Workspace, lang: str, source_lang: str) -> dict[str, StoredTable | None]:
    """Return the tables with the passages in a language; those of the source language may be translations too (`translate.elsewhere`)."""

    def table(stage: str, name: str, *, wanted: bool) -> StoredTable | None:
        folder = f"{workspace.input_folder(stage)}/{name}" if wanted else ""
        return StoredTable.open(workspace.filesystem, folder) if wanted else None

    own = table("sources", "passages", wanted=lang == source_lang)
    return {
        "own": own,
        "translations": table("translate", "translations", wanted=own is None or workspace.reads("translate")),
    }


def read_passages(own: StoredTable | None, translations: StoredTable | None, lang: str) -> pa.Table:
    """Return title and text of the passages in one language, of those that have any."""
    return _in_language(own, translations, lang, ["title", "text"])


def read_index(own: StoredTable | None, translations: StoredTable | None, lang: str) -> pa.Table:
    """Return where in `read_passages` each id is."""
    return sorted_ids(_in_language(own, translations, lang, ["passage_id"])["passage_id"])


def _in_language(own: StoredTable | None, translations: StoredTable | None, lang: str, columns: list[str]) -> pa.Table:
    found = [] if own is None else [own.read(columns=["lang", *columns])]
    found += [] if translations is None else [with_text(translations.read(columns=["lang", *columns, "flags"]))]
    rows = [table.filter(pc.equal(table["lang"], lang)).select(columns) for table in found]
    return pa.concat_tables(rows)


def _one_provenance(rows: pa.Table) -> dict[str, str]:
    """Return the provenance that all shards have written. Nodes with different versions would mix scores that do not compare."""
    found = rows.drop_columns(["shard"]).group_by(rows.column_names[1:]).aggregate([]).to_pylist()
    if len(found) > 1:
        differing = sorted(name for name in found[0] if len({row[name] for row in found}) > 1)
        values = "; ".join(f"{name} {sorted({row[name] for row in found})}" for name in differing)
        raise TableError(
            f"score: shards were scored by different teachers: {values}; install the same versions on every node and score again"
        )
    return found[0] if found else {}


class ScoreWorker:
    """Scores a range of queries with a teacher that is loaded once. Its rows, in the sense of `SeparableWorker`, are pairs."""

    def __init__(
        self,
        settings: ScoreSettings,
        teacher: ModelTeacher,
        languages: tuple[str, str],
        candidates: StoredTable,
        queries: pa.Table,
        passages: pa.Table,
        index: pa.Table,
        translated: bool = False,
    ) -> None:
        self._languages = languages
        self._candidates = candidates
        self._queries = queries
        self._passages = passages
        self._index = SortedIds(index, "passage_id")
        self._partial = translated and len(index) > 0
        device = "cuda" if settings.pool.num_gpus else "cpu"
        self._teacher = load_teacher(teacher, settings.dtype, settings.tokens_per_batch, device)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the scores of the shard's queries."""
        return self.without_rows(shard, {})

    def row_ids(self, shard: Shard) -> list[str]:
        """`query passage` of every pair."""
        return [f"{query_id} {passage_id}" for query_id, ids in self._read(shard) for passage_id in ids]

    def try_rows(self, shard: Shard, start: int, stop: int) -> None:
        """Score pairs start to stop."""
        pairs = [(query_id, i) for query_id, ids in self._read(shard) for i in ids][start:stop]
        without = self._without_text(pairs)
        self._score([pair for pair in pairs if pair not in without])

    def without_rows(self, shard: Shard, lost: Mapping[int, str]) -> dict[str, pa.Table]:
        """Return the shard's tables; the pairs in `lost` and those whose score is not a number are in `rejected`."""
        part = self._read(shard)
        every = [(query_id, passage_id) for query_id, ids in part for passage_id in ids]
        without = self._without_text(every)
        pairs = [pair for position, pair in enumerate(every) if position not in lost and pair not in without]
        found, cut = self._score(pairs)
        values = dict(zip(pairs, found, strict=True))
        reasons = {every[position]: reason for position, reason in lost.items()}
        reasons |= dict.fromkeys(without, f"the passage has no text in '{self._languages[1]}' (score.passage_lang)")
        reasons |= {pair: f"the teacher gave {value}" for pair, value in values.items() if not math.isfinite(value)}
        rows = [(query_id, [i for i in ids if (query_id, i) not in reasons]) for query_id, ids in part]
        name = self._teacher.provenance.name
        languages = dict(zip(("query_lang", "passage_lang"), self._languages, strict=True))
        return {
            "scores": SCORES.from_rows(
                {"query_id": q, "passage_ids": ids, "scores": [values[q, i] for i in ids], "teacher": name}
                for q, ids in rows
            ),
            "truncated_pairs": TRUNCATED_PAIRS.from_rows(
                {"query_id": q, "passage_id": i} for (q, i), short in zip(pairs, cut, strict=True) if short
            ),
            "rejected": REJECTED.from_rows(
                {"source": "candidates", "line": 0, "id": f"{q} {i}", "field": "score", "reason": reasons[q, i]}
                for q, i in every
                if (q, i) in reasons
            ),
            "provenance": PROVENANCE.from_rows(
                [{"shard": shard.index, **asdict(self._teacher.provenance), **languages}]
            ),
        }

    def _without_text(self, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return the pairs whose passage has no translation to read; none where the teacher reads the source's own passages."""
        if not self._partial or not pairs:
            return set()
        known = self._index.known([passage_id for _, passage_id in pairs]).tolist()
        return {pair for pair, there in zip(pairs, known, strict=True) if not there}

    def _read(self, shard: Shard) -> list[tuple[str, list[str]]]:
        part = CANDIDATES.check(self._candidates.read(shard.args["start"], shard.args["stop"]), "select")
        lists = part["passage_ids"].to_pylist()
        for query_id, ids in zip(part["query_id"].to_pylist(), lists, strict=True):
            if len(set(ids)) < len(ids):
                twice = next(i for i in ids if ids.count(i) > 1)
                raise TableError(f"select: passage {twice!r} is twice among the candidates of query {query_id!r}")
        return list(zip(part["query_id"].to_pylist(), lists, strict=True))

    def _score(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[float], list[bool]]:
        if not pairs:
            return [], []
        query_ids = list(dict.fromkeys(query_id for query_id, _ in pairs))
        passage_ids = list(dict.fromkeys(passage_id for _, passage_id in pairs))
        what = f"candidates, in {self._languages[0]}"
        queries = lookup(self._queries, "query_id", query_ids, what)["text"].to_pylist()
        positions = self._index.find(passage_ids, f"candidates, in {self._languages[1]}")
        passages = passage_texts(self._passages.take(pa.array(positions)))
        query_places = {query_id: i for i, query_id in enumerate(query_ids)}
        passage_places = {passage_id: i for i, passage_id in enumerate(passage_ids)}
        asked = [(query_places[query_id], passage_places[passage_id]) for query_id, passage_id in pairs]
        scored = self._teacher.score(queries, passages, asked)
        return scored.scores.tolist(), scored.truncated.tolist()
