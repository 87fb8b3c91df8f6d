"""The tasks stage: support and query sets for meta-learning (MAML-Align, arXiv 2309.08185).

A task depends on its number, the seed, the fold and the ids of the data: not on shards, actors or the order of rows.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Shared, Workspace, row_shards
from distill.meta.settings import Kind, TaskSettings
from distill.meta.sources.folds import Fold, source_articles
from distill.meta.tasks.material import Item, Pairs, Questions, Sizes
from distill.meta.tasks.transfers import LanguageSet, Transfer, phases, transfer_at
from distill.tables import RETRIEVAL_TASKS, SIMILARITY_TASKS, TableError, lookup

Reader = Callable[[str, list[str]], pa.Table]
"""Reads columns of a table of a source."""


def make_tasks(
    workspace: Workspace,
    settings: TaskSettings,
    transfers: Sequence[Transfer],
    fold: Fold,
    seed: int,
    kind: Kind,
    *,
    sources: str = "meta_sources",
    vectors: str | None = None,
) -> None:
    """Write `retrieval_tasks` or `similarity_tasks`: `settings.tasks` of them, made on actors.

    Task t has transfer t modulo their number; of mode `trans`, the transfers of mono_bi take turns in the first half of the tasks, those of
    bi_multi in the second. Retrieval tasks are made of the questions and candidates that the fold does not hold out: those of other
    articles, or, by the source's own split, of `train`. Support pairs are of split `train`, query pairs of `dev`.

    Args:
        workspace: its inputs are `sources` and `vectors`.
        settings: sizes of the sets, negatives, similar or random query sets, shards and actors; its mode and transfers are not read.
        transfers: the languages of the sets; all of one mode.
        fold: the fold; its held-out rows are not read.
        seed: seed of all draws.
        kind: questions or sentence pairs.
        sources: the stage of `distill.meta.sources.stage`.
        vectors: the stage with `question_vectors` and `answer_vectors` by the encoder before training; read if
            `TaskSettings.needs_vectors`.

    Raises:
        TableError: the data lacks a language, or too little of it can fill a transfer; no task is made.
        ValueError: the transfers are of no mode together, or vectors are needed and no stage is named.
    """
    plan = Plan(phases(transfers), fold.number, seed)
    check_tasks(partial(workspace.input, sources), settings, transfers, fold, kind, sources)
    if kind == "retrieval":
        worker, arguments = QuestionTasks, _question_arguments(workspace, settings, fold, sources, vectors)
    else:
        worker, arguments = PairTasks, _pair_arguments(workspace, settings, sources)
    shards = row_shards(settings.tasks, settings.tasks_per_shard)
    workspace.map_shards(shards, worker, {"settings": settings, "plan": plan, **arguments}, settings.pool, "tasks")


def check_tasks(
    read: Reader, settings: TaskSettings, transfers: Sequence[Transfer], fold: Fold, kind: Kind, sources: str
) -> None:
    """Check that a source suffices for the tasks of some transfers.

    Args:
        read: reads columns of a table of the source.
        settings: sizes of the sets.
        transfers: the languages of the sets.
        fold: the fold; its held-out rows do not count.
        kind: questions or sentence pairs.
        sources: the name of the source's stage, for messages.

    Raises:
        TableError: the data lacks a language, or too little of it can fill a transfer.
    """
    if kind == "similarity":
        _check_all(Pairs(read("sentence_pairs", ["pair_id", "lang", "split"])).check, settings, transfers, sources)
        return
    questions = read("questions", ["question_id", "xling_id", "lang", "article", "split"])
    answers = read("answers", ["answer_id", "lang", "article", "split", "text"])
    if fold.count is None and pc.unique(questions["split"]).to_pylist() == [""]:
        raise TableError(f"{sources}: no task can be made: the source has no split of its own; set tasks.folds")
    articles = source_articles(questions, answers)
    answered = read("answered", ["xling_id", "answer_id"])
    material = Questions(fold.trained(questions, articles), fold.trained(answers, articles), answered)
    _check_all(material.check, settings, transfers, f"{sources}, fold {fold.number}")


def _question_arguments(
    workspace: Workspace, settings: TaskSettings, fold: Fold, sources: str, vectors: str | None
) -> dict[str, Any]:
    every, candidates = (workspace.input(sources, table) for table in ("questions", "answers"))
    articles = source_articles(every, candidates)
    questions = fold.trained(every, articles)
    answers = fold.trained(candidates, articles)
    answered = workspace.input(sources, "answered")
    arguments: dict[str, Any] = {"questions": questions, "answers": answers, "answered": answered}
    if not settings.needs_vectors:
        return arguments
    if vectors is None:
        raise ValueError(
            f"query sets '{settings.query_set}' and negatives '{settings.negatives}' need vectors, and no stage with them is named"
        )
    for name, ids in (("question", questions["question_id"]), ("answer", answers["answer_id"])):
        known = workspace.input(vectors, f"{name}_vectors", [f"{name}_id"])
        lookup(known, f"{name}_id", ids.combine_chunks(), f"{vectors}: {name}_vectors")
        stored = StoredTable.open(workspace.filesystem, f"{workspace.input_folder(vectors)}/{name}_vectors")
        arguments[f"{name}_vectors"] = Shared(StoredTable.read, {"self": stored})
    return arguments


def _pair_arguments(workspace: Workspace, settings: TaskSettings, sources: str) -> dict[str, Any]:
    if settings.needs_vectors:
        raise TableError(
            f"sentence pairs have no query sets '{settings.query_set}' with negatives '{settings.negatives}': their scores grade "
            "similarity; set tasks.query_set and tasks.negatives to random"
        )
    return {"pairs": workspace.input(sources, "sentence_pairs")}


def _check_all(
    check: Callable[[Transfer, Sizes], None], settings: TaskSettings, transfers: Sequence[Transfer], where: str
) -> None:
    for transfer in transfers:
        try:
            check(transfer, Sizes(settings.shots, settings.queries))
        except TableError as error:
            raise TableError(f"{where}: {error}") from error


class Plan(NamedTuple):
    """The transfers and seeds that decide a task, besides the data and the sizes of its sets.

    Attributes:
        phases: the transfers in the order in which they take turns; each group has an equal share of the tasks.
        fold: the number of the fold.
        seed: seed of all draws.
    """

    phases: tuple[tuple[Transfer, ...], ...]
    fold: int
    seed: int

    def draft(self, position: int, tasks: int) -> "Draft":
        """Return the beginning of a task: its transfer and its own random numbers."""
        digest = hashlib.sha256(f"{self.seed}/{self.fold}/{position}".encode()).digest()
        transfer = transfer_at(self.phases, position, tasks)
        return Draft(position, transfer, Random(int.from_bytes(digest)))  # noqa: S311 - a seeded draw, not a secret


@dataclass
class Draft:
    """A task that is being made.

    Attributes:
        position: its number.
        transfer: its languages.
        random: its own random numbers.
        items: the items that are drawn so far.
    """

    position: int
    transfer: Transfer
    random: Random
    items: list[Item] = field(default_factory=list)

    def others(self, ids: Sequence[str], count: int) -> list[str]:
        """Return `count` different ids, at random, that the task does not hold yet; there must be as many.

        Cost: if the task holds n of the ids and m are left, n / m + 1 draws each.
        """
        used, drawn = {item.id for item in self.items}, []
        while len(drawn) < count:
            chosen = self.random.choice(ids)
            if chosen not in used:
                used.add(chosen)
                drawn.append(chosen)
        return drawn

    def languages(self, number: int, count: int) -> list[str]:
        """Return the candidate languages of a set of `count` items: all in turn, from a random one on."""
        langs = self.transfer.sets[number].candidate_langs
        start = self.random.randrange(len(langs))
        return [langs[(start + step) % len(langs)] for step in range(count)]


class QuestionTasks:
    """The actor that makes a range of RETRIEVAL_TASKS.

    Args:
        settings: sizes, negatives and query sets.
        plan: transfers and seed.
        questions: QUESTIONS that tasks are made of.
        answers: their ANSWERS.
        answered: ANSWERED, of these or more.
        question_vectors: QUESTION_VECTORS of these or more, if they are needed.
        answer_vectors: ANSWER_VECTORS likewise.
    """

    def __init__(
        self,
        settings: TaskSettings,
        plan: Plan,
        questions: pa.Table,
        answers: pa.Table,
        answered: pa.Table,
        question_vectors: pa.Table | None = None,
        answer_vectors: pa.Table | None = None,
    ) -> None:
        self._settings = settings
        self._sizes = Sizes(settings.shots, settings.queries)
        self._plan = plan
        self._questions, self._answers = questions, answers
        self._material = Questions(questions, answers, answered)
        self._neighbours = None
        if question_vectors is not None and answer_vectors is not None:
            from distill.meta.tasks.likeness import Likeness

            self._neighbours = Likeness(self._material, questions, answers, question_vectors, answer_vectors)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the tasks start to stop."""
        drafts = _drafts(self._plan, self._settings, shard)
        for draft in drafts:
            self._add(draft, 0, draft.others(self._material.usable(draft.transfer.sets[0]), self._sizes.shots))
        near = self._near(drafts)
        for draft in drafts:
            for number, languages in enumerate(draft.transfer.sets[1:], start=1):
                self._add(draft, number, self._query_ids(draft, languages, near))
        return {"retrieval_tasks": self._table(drafts, self._negatives(drafts))}

    def _add(self, draft: Draft, number: int, ids: Sequence[str]) -> None:
        """Add a set of these questions, each with a random candidate that answers it, in the set's candidate languages in turn."""
        versions = self._material.versions[draft.transfer.sets[number].query_lang]
        for xling_id, lang in zip(ids, draft.languages(number, len(ids)), strict=True):
            answer = draft.random.choice(self._material.answers(xling_id, lang))
            draft.items.append(Item(number, xling_id, versions[xling_id], answer, lang))

    def _near(self, drafts: Sequence[Draft]) -> "Near":
        """Return the questions like those of the support sets, for the languages of every query set; nothing if query sets are random."""
        if self._settings.query_set == "random" or self._neighbours is None:
            return {}
        asked: dict[LanguageSet, set[int]] = {}
        most = 0
        for draft in drafts:
            for languages in draft.transfer.sets[1:]:
                asked.setdefault(languages, set()).update(item.first for item in draft.items)
            most = max(most, self._sizes.shots + self._sizes.queries * (len(draft.transfer.sets) - 2))
        depth = self._settings.neighbours + most
        return {languages: self._neighbours.near(sorted(rows), languages, depth) for languages, rows in asked.items()}

    def _query_ids(self, draft: Draft, languages: LanguageSet, near: "Near") -> list[str]:
        """Return the questions of a query set."""
        usable, count = self._material.usable(languages), self._sizes.queries
        if self._settings.query_set == "random":
            return draft.others(usable, count)
        support = [item for item in draft.items if item.number == 0]
        used = {item.id for item in draft.items}
        chosen = []
        if languages.query_lang != draft.transfer.sets[0].query_lang:
            known = frozenset(usable)
            chosen = [item.id for item in support if item.id in known][:count]
        like: set[str] = set()
        for item in support:
            like.update([i for i in near[languages][item.first] if i not in used][: self._settings.neighbours])
        return chosen + draft.random.sample(sorted(like), count - len(chosen))

    def _negatives(self, drafts: Sequence[Draft]) -> list[int]:
        """Return the rows of the candidates that are the triplets' negatives, task by task."""
        items = [(draft, item) for draft in drafts for item in draft.items]
        if self._settings.negatives == "random" or self._neighbours is None:
            return [self._random_negative(draft, item) for draft, item in items]
        return self._neighbours.negatives([item for _, item in items], self._settings.negatives)

    def _random_negative(self, draft: Draft, item: Item) -> int:
        answering = self._material.no_negatives(item.id, item.lang)
        while (row := draft.random.choice(self._material.pools[item.lang])) in answering:
            pass
        return row

    def _table(self, drafts: Sequence[Draft], negatives: Sequence[int]) -> pa.Table:
        items = [item for draft in drafts for item in draft.items]
        columns = {
            **_named(self._questions, [item.first for item in items], question_ids="question_id", question_langs="lang", questions="text"),
            **_named(self._answers, [item.second for item in items], positive_ids="answer_id", positive_langs="lang", positives="text"),
            **_named(self._answers, negatives, negative_ids="answer_id", negatives="text"),
        }  # fmt: skip
        return RETRIEVAL_TASKS.from_rows(_rows(drafts, columns))


class PairTasks:
    """The actor that makes a range of SIMILARITY_TASKS of SENTENCE_PAIRS."""

    def __init__(self, settings: TaskSettings, plan: Plan, pairs: pa.Table) -> None:
        self._settings = settings
        self._plan = plan
        self._pairs = pairs
        self._material = Pairs(pairs)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the tasks start to stop."""
        drafts = _drafts(self._plan, self._settings, shard)
        for draft in drafts:
            for number in range(len(draft.transfer.sets)):
                self._add(draft, number)
        items = [item for draft in drafts for item in draft.items]
        columns = {
            **_named(self._pairs, [item.first for item in items], pair_ids="pair_id", first_langs="lang", firsts="first", scores="score"),
            **_named(self._pairs, [item.second for item in items], second_langs="lang", seconds="second"),
        }  # fmt: skip
        return {"similarity_tasks": SIMILARITY_TASKS.from_rows(_rows(drafts, columns))}

    def _add(self, draft: Draft, number: int) -> None:
        count = Sizes(self._settings.shots, self._settings.queries).of(number)
        languages = draft.transfer.sets[number]
        rows = self._material.rows[self._material.split(number)]
        ids = draft.others(self._material.usable(languages, number), count)
        for pair_id, lang in zip(ids, draft.languages(number, count), strict=True):
            draft.items.append(Item(number, pair_id, rows[languages.query_lang][pair_id], rows[lang][pair_id], lang))


Near = Mapping[LanguageSet, Mapping[int, Sequence[str]]]


def _drafts(plan: Plan, settings: TaskSettings, shard: Shard) -> list[Draft]:
    stop = min(shard.args["stop"], settings.tasks)
    return [plan.draft(position, settings.tasks) for position in range(shard.args["start"], stop)]


def _named(table: pa.Table, rows: Sequence[int], **columns: str) -> dict[str, list[Any]]:
    """Return columns of some rows, by new names."""
    positions = pa.array(rows, pa.int64())
    return {name: table[column].take(positions).to_pylist() for name, column in columns.items()}


def _rows(drafts: Sequence[Draft], columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return a row for each task, of columns that hold all tasks' items one after the other."""
    rows, start = [], 0
    for draft in drafts:
        stop = start + len(draft.items)
        rows.append(
            {
                "position": draft.position,
                "transfer": str(draft.transfer),
                "sets": [item.number for item in draft.items],
                **{name: values[start:stop] for name, values in columns.items()},
            }
        )
        start = stop
    return rows
