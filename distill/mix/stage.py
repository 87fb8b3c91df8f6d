"""The mix stage: n-way training examples from scores and translations (Multilingual Translate-Distill, arXiv 2405.00977).

What an example holds is a pure function of ids and a seed (`distill.mix.draws`).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.settings import PoolSettings
from cluster.workspace import Shard, Workspace
from distill.formats.read_examples import LISTS, read_examples
from distill.formats.settings import ImportedExamples
from distill.mix.draws import Turn, draw_examples, draw_languages, share_passages, training_order
from distill.mix.negatives import Choice, TooFewError
from distill.mix.settings import MixSettings
from distill.mix.texts import Texts
from distill.select.passages import with_translated
from distill.sources.documents import training_qrels
from distill.tables import CANDIDATES, EXAMPLES, REJECTED, SCORES, TableError, lookup
from distill.text import with_text

_EXAMPLES_PER_SHARD = 50_000
_QUERIES_AT_ONCE = 20_000


class Material(NamedTuple):
    """Queries, candidates and texts that examples are drawn from.

    Attributes:
        queries: QUERIES in the language in which the student reads them, a row for each that examples are made of.
        lists: for each of them query_id, passage_ids, scores (NaN where no teacher scored) and positives: how many of the first
            passages are positives.
        passages: PASSAGES, of which passage_id, lang, title and text are read.
        translations: the same in other languages.
        languages: the languages to draw from; if empty, each passage is read in its own.
    """

    queries: pa.Table
    lists: pa.Table
    passages: pa.Table
    translations: pa.Table
    languages: tuple[str, ...]


def mix(
    workspace: Workspace,
    settings: MixSettings,
    source_lang: str,
    languages: Sequence[str],
    seed: int,
    scores_stage: str | None = "score",
    *,
    without_own: bool = False,
    max_rejected: float = 0.01,
) -> None:
    """Write `examples` and `rejected`: training queries that examples cannot be made of.

    Rejected are queries with too few candidates that exist in every mixed language and may be drawn, and those without a text in
    `settings.query_lang`. Judgements are read where `settings.negatives` needs positives; with `settings.imported` nothing but its files
    is read. The texts of all passages in the mixed languages go into the object store once (for MS MARCO about 3 GB a language).

    Args:
        workspace: its inputs are `sources`, `translate` and the stage with the candidates; no inputs where examples are imported.
        settings: the stage's settings.
        source_lang: the language of the queries where the settings name none, and of the passages of `sources`.
        languages: the languages to draw from.
        seed: seed of all draws.
        scores_stage: the stage whose scores are used; if None, there is no teacher, candidates are those of `select` and examples have
            nulls for scores.
        without_own: leave the passage with a query's own id, which another query of a group may have drawn, out of its scores.
        max_rejected: the share of imported candidates that may lack a text.
    """
    if settings.imported is not None:
        material, rejected = _imported_material(settings, settings.imported, source_lang, languages, max_rejected)
    else:
        material, rejected = _own_material(workspace, settings, source_lang, languages, scores_stage)
    workspace.write("rejected", rejected)
    if not len(material.lists):
        raise TableError(
            f"no training query has {settings.n_way} candidates with texts in {', '.join(languages)}: see table rejected"
        )
    if settings.queries is not None and len(material.lists) > settings.queries:
        workspace.note(queries_not_drawn=len(material.lists) - settings.queries)
        material = material._replace(lists=_drawn(material.lists, settings.queries, seed))
    repeat = len(draw_languages(settings.strategy, 1, languages, Random(0))) if material.languages else 1  # noqa: S311
    size = max(1, _EXAMPLES_PER_SHARD // (repeat * settings.group)) * settings.group
    length = len(material.lists) + -len(material.lists) % settings.group
    ranges = ((epoch, start) for epoch in range(settings.epochs) for start in range(0, length, size))
    shards = [
        Shard(i, {"epoch": epoch, "start": start, "stop": start + size}) for i, (epoch, start) in enumerate(ranges)
    ]
    arguments = {"settings": settings, "seed": seed, "without_own": without_own, **material._asdict()}
    workspace.map_shards(shards, MixWorker, arguments, PoolSettings(), unit="examples")


def _drawn(lists: pa.Table, count: int, seed: int) -> pa.Table:
    """Return the lists of `count` queries, drawn by a hash of seed and id, in their order."""
    ids = lists["query_id"].to_pylist()
    chosen = sorted(ids, key=lambda query_id: hashlib.sha256(f"{seed}/queries/{query_id}".encode()).digest())[:count]
    return lists.filter(pc.is_in(lists["query_id"], value_set=pa.array(chosen, pa.string())))


def _imported_material(
    settings: MixSettings, imported: ImportedExamples, source_lang: str, languages: Sequence[str], max_rejected: float
) -> tuple[Material, pa.Table]:
    """Return the queries and passages of other tools' files, and the rejected rows."""
    tables = read_examples(imported, source_lang, max_rejected)
    mixed = tuple(languages) if settings.translates_imported else ()
    texts = Texts(tables.passages, tables.translations, mixed)
    lists, rejected, _ = usable_lists(tables.lists, texts, Choice(settings, {}))
    return Material(tables.queries, lists, tables.passages, tables.translations, mixed), pa.concat_tables(
        [tables.rejected, rejected]
    )


def _own_material(
    workspace: Workspace,
    settings: MixSettings,
    source_lang: str,
    languages: Sequence[str],
    scores_stage: str | None,
) -> tuple[Material, pa.Table]:
    """Return the job's own queries, passages and scores, and the rejected queries."""
    queries, unreadable = _training_queries(workspace, settings, source_lang)
    translations = workspace.input("translate", "translations")
    passages = with_translated(workspace, workspace.input("sources", "passages"), translations, source_lang)
    wanted = pa.array([lang for lang in languages if lang != source_lang], pa.string())
    translations = with_text(translations.filter(pc.is_in(translations["lang"], wanted)))
    lists = _scored(workspace, scores_stage) if scores_stage else _unscored(workspace)
    lists = lookup(lists, "query_id", queries["query_id"].combine_chunks(), "training queries without candidates")
    grades, documents = _grades(workspace, queries) if settings.negatives else ({}, {})
    choice = Choice(settings, grades, documents)
    usable, rejected, left_out = usable_lists(lists, Texts(passages, translations, languages), choice)
    if choice.dropped:
        workspace.note(negatives_dropped=dict(choice.dropped))
    if left_out:
        workspace.note(
            candidates_left_out=left_out, warning=f"{left_out} candidates lack a translation and were not drawn"
        )
    return Material(queries, usable, passages, translations, tuple(languages)), pa.concat_tables([unreadable, rejected])


def _training_queries(workspace: Workspace, settings: MixSettings, source_lang: str) -> tuple[pa.Table, pa.Table]:
    """Return the training queries with a text in the source language, as the student reads them, and as REJECTED those it cannot read."""
    queries = workspace.input("sources", "queries")
    queries = queries.filter(pc.equal(queries["split"], "train"))
    wanted = queries.filter(pc.equal(queries["lang"], source_lang)).sort_by("query_id")
    lang = settings.query_lang or source_lang
    read = queries.filter(pc.equal(queries["lang"], lang))
    known = pc.is_in(wanted["query_id"], value_set=read["query_id"].combine_chunks())
    ids = wanted["query_id"].filter(known).combine_chunks()
    reason = f"no text in '{lang}', the language of mix.query_lang"
    lost = wanted["query_id"].filter(pc.invert(known)).to_pylist()
    rejected = REJECTED.from_rows(
        {"source": "queries", "line": 0, "id": query_id, "field": "text", "reason": reason} for query_id in lost
    )
    return lookup(read, "query_id", ids, "sources"), rejected


def _scored(workspace: Workspace, stage: str) -> pa.Table:
    return SCORES.check(workspace.input(stage, "scores"), stage).select(["query_id", "passage_ids", "scores"])


def _unscored(workspace: Workspace) -> pa.Table:
    """Return the candidates of the selector with a NaN for every score."""
    candidates = CANDIDATES.check(workspace.input("select", "candidates"), "select").combine_chunks()
    ids = candidates["passage_ids"].combine_chunks()
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(ids).to_numpy(zero_copy_only=False))])
    nothing = pa.array(np.full(int(offsets[-1]), math.nan, np.float32))
    scores = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), nothing)
    return candidates.select(["query_id", "passage_ids"]).append_column("scores", scores)


def _grades(workspace: Workspace, queries: pa.Table) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Return the passages that are judged relevant to each of these queries, with their grades, and the documents of parts."""
    qrels, parts = training_qrels(workspace)
    kept = pc.and_(pc.greater(qrels["relevance"], 0), pc.is_in(qrels["query_id"], queries["query_id"].combine_chunks()))
    grades: dict[str, dict[str, int]] = {}
    for row in qrels.filter(kept).to_pylist():
        grades.setdefault(row["query_id"], {})[row["passage_id"]] = row["relevance"]
    return grades, dict(zip(parts["passage_id"].to_pylist(), parts["doc_id"].to_pylist(), strict=True))


def usable_lists(lists: pa.Table, texts: Texts, choice: Choice) -> tuple[pa.Table, pa.Table, int]:
    """Return the lists that examples are drawn from, the queries that have too few candidates, and how many candidates lack a language.

    The first is `lists` (query_id, passage_ids, scores, and positives where they are known) without candidates that lack a language or may
    not be drawn, as LISTS; the second REJECTED. Memory: beside the tables, some thousands of queries as Python objects.
    """
    parts, rejected, left_out = [], [], 0
    for start in range(0, len(lists), _QUERIES_AT_ONCE):
        rows = []
        for row in lists.slice(start, _QUERIES_AT_ONCE).to_pylist():
            complete = texts.complete(row["passage_ids"]) if row["passage_ids"] else []
            whole = [position for position, has_texts in enumerate(complete) if has_texts]
            left_out += len(complete) - len(whole)
            known = row.get("positives", 0)
            try:
                first, kept = choice(row["query_id"], row["passage_ids"], row["scores"], whole, known)
            except TooFewError as error:
                rejected.append(
                    {"source": "scores", "line": 0, "id": row["query_id"], "field": "passage_ids", "reason": str(error)}
                )
                continue
            chosen = {name: [row[name][position] for position in kept] for name in ("passage_ids", "scores")}
            rows.append({"query_id": row["query_id"], **chosen, "positives": first})
        parts.append(pa.Table.from_pylist(rows, LISTS))
    return pa.concat_tables(parts) if parts else LISTS.empty_table(), REJECTED.from_rows(rejected), left_out


class MixWorker:
    """A worker that draws the examples of a range of an epoch's training order, from `mix`'s settings and seed and a `Material`."""

    def __init__(
        self,
        settings: MixSettings,
        seed: int,
        queries: pa.Table,
        lists: pa.Table,
        passages: pa.Table,
        translations: pa.Table,
        languages: tuple[str, ...],
        *,
        without_own: bool = False,
    ) -> None:
        self._settings = settings
        self._without_own = without_own
        self._languages = languages
        self._seed = seed
        self._queries = queries
        self._lists = lists
        self._query_ids = lists["query_id"].to_pylist()
        self._texts = Texts(passages, translations, languages)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the examples at positions start to stop of the epoch."""
        epoch, start, stop = shard.args["epoch"], shard.args["start"], shard.args["stop"]
        order = training_order(self._query_ids, self._seed, epoch, self._settings.group)
        ids = order[start:stop]
        queries = lookup(self._queries, "query_id", ids, "mix").to_pylist()
        lists = lookup(self._lists, "query_id", ids, "mix").to_pylist()
        examples = self._draw_all(lists, epoch, start, len(order))
        if self._settings.group > 1:
            examples = self._grouped(examples, lists)
        drawn = [(query, example) for query, made in zip(queries, examples, strict=True) for example in made]
        repeat = len(drawn) // len(ids)
        first = (epoch * len(order) + start) * repeat
        return {"examples": self._table(drawn, first)}

    def _draw_all(
        self, lists: Sequence[Mapping[str, Any]], epoch: int, start: int, length: int
    ) -> list[list[dict[str, Any]]]:
        """Draw the examples of consecutive queries. What the earlier ones of its group have drawn, a query does not draw again."""
        examples, taken = [], set[str]()
        for position, row in enumerate(lists, start=start):
            if position % self._settings.group == 0:
                taken = set()
            made = self._draw(row, Turn(epoch, position, length, taken))
            taken.update(made[0]["passage_ids"])
            examples.append(made)
        return examples

    def _draw(self, row: Mapping[str, Any], turn: Turn) -> list[dict[str, Any]]:
        made = draw_examples(
            row["query_id"],
            row["passage_ids"],
            row["scores"],
            self._settings,
            self._languages,
            self._seed,
            turn,
            row["positives"],
        )
        if not self._languages:
            made = [example | {"langs": self._texts.own_languages(example["passage_ids"])} for example in made]
        return made

    def _grouped(self, examples: list[list[dict[str, Any]]], lists: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Join consecutive queries in groups, which no shard cuts."""
        size = self._settings.group
        joined = []
        for first in range(0, len(examples), size):
            rows = lists[first : first + size]
            known = [dict(zip(row["passage_ids"], row["scores"], strict=True)) for row in rows]
            drawn = [made[0] for made in examples[first : first + size]]
            query_ids = [row["query_id"] for row in rows]
            missing = self._settings.missing
            shared = share_passages(drawn, known, query_ids, missing, without_own=self._without_own)
            joined += [[example] for example in shared]
        return joined

    def _table(self, drawn: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], first: int) -> pa.Table:
        passage_ids = [i for _, example in drawn for i in example["passage_ids"]]
        langs = [lang for _, example in drawn for lang in example["langs"]]
        texts = iter(self._texts.read(passage_ids, langs))
        return EXAMPLES.from_rows(
            {
                "position": first + index,
                "query_id": query["query_id"],
                "query": query["text"],
                "query_lang": query["lang"],
                "passages": [next(texts) for _ in example["passage_ids"]],
                **example,
                "scores": [None if math.isnan(score) else score for score in example["scores"]],
            }
            for index, (query, example) in enumerate(drawn)
        )
