"""The mix stage: n-way training examples from scores and translations (Multilingual Translate-Distill, arXiv 2405.00977).

What an example holds is a pure function of ids and a seed: the passages are drawn at random from the query's candidates, as the released
models were trained, and then the languages. No draw depends on the number of workers or on what was drawn before.
"""

import hashlib
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill.negatives import Choice, TooFewError
from distill.settings.train import MixSettings
from distill.tables import EXAMPLES, REJECTED, SCORES, TableError, lookup
from distill.text import passage_texts, with_text
from distill.workspace import Pool, Shard, Workspace

_EXAMPLES_PER_SHARD = 50_000


def training_order(query_ids: Sequence[str], seed: int, epoch: int, group: int = 1) -> list[str]:
    """The queries of one epoch in training order: sorted by a hash of seed, epoch and id.

    Where they do not fill the last group, the first ones come again at the end.
    """
    order = sorted(query_ids, key=lambda query_id: hashlib.sha256(f"{seed}/{epoch}/{query_id}".encode()).digest())
    missing = -len(order) % group
    return order + [order[i % len(order)] for i in range(missing)]


def draw_passages(count: int, n_way: int, random: Random) -> list[int]:
    """N of `count` candidates without replacement, uniformly: the released models' way (6 of 50)."""
    return random.sample(range(count), n_way)


def draw_languages(strategy: str, n_way: int, languages: Sequence[str], random: Random) -> list[list[str]]:
    """The languages of the examples made from one draw of passages: one list of n for each example.

    - mix_passages: one example, each passage in a language of its own draw;
    - mix_entries: one example, all passages in one drawn language;
    - round_robin: one example for each language;
    - single: one example in the only language (Translate-Distill).
    """
    match strategy:
        case "mix_passages":
            return [[random.choice(languages) for _ in range(n_way)]]
        case "mix_entries":
            return [[random.choice(languages)] * n_way]
        case "round_robin":
            return [[language] * n_way for language in languages]
        case "single":
            return [[languages[0]] * n_way]
        case _:
            message = f"no mixing strategy is called {strategy!r}"
            raise ValueError(message)


def draw_examples(
    query_id: str,
    passage_ids: Sequence[str],
    scores: Sequence[float],
    settings: MixSettings,
    languages: Sequence[str],
    seed: int,
    epoch: int,
    positives: int = 0,
) -> list[dict[str, Any]]:
    """The examples of one query in one epoch: passage ids, languages and scores. A pure function of its arguments.

    Where the first `positives` passages are positives, one of them is drawn and the others of the n are not among them.
    """
    random = Random(f"{seed}/{epoch}/{query_id}")  # noqa: S311 - a seeded draw, not a secret
    first = [random.randrange(positives)] if positives else []
    count = len(passage_ids) - positives
    drawn = draw_passages(min(count, settings.draw_from or count), settings.n_way - len(first), random)
    places = first + [positives + place for place in drawn]
    return [
        {"passage_ids": [passage_ids[i] for i in places], "langs": langs, "scores": [scores[i] for i in places]}
        for langs in draw_languages(settings.strategy, settings.n_way, languages, random)
    ]


def share_passages(
    examples: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, float]], query_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Give each example of a group the passages of all of them, with its own query's scores: in-batch distillation.

    A passage that was drawn twice is there twice, perhaps in two languages. `scores` maps, for each query, every passage to the
    teacher's score; a missing one is a `TableError` that names the pair.
    """
    passage_ids = [passage_id for example in examples for passage_id in example["passage_ids"]]
    langs = [lang for example in examples for lang in example["langs"]]
    for known, query_id in zip(scores, query_ids, strict=True):
        lost = [passage_id for passage_id in passage_ids if passage_id not in known]
        if lost:
            message = (
                f"mix.group needs teacher scores of every pair in a group, but query {query_id!r} has none for passage {lost[0]!r}; "
                "raise select.by.top_k to the size of the collection, or set mix.group to 1"
            )
            raise TableError(message)
    return [{"passage_ids": passage_ids, "langs": langs, "scores": [known[i] for i in passage_ids]} for known in scores]


class Texts:
    """The text of every passage in every mixed language.

    Args:
        passages: the PASSAGES table.
        translations: the TRANSLATIONS table.
        languages: the mixed languages.

    Cost: four bytes a passage and language beside the tables themselves.
    """

    def __init__(self, passages: pa.Table, translations: pa.Table, languages: Sequence[str]) -> None:
        columns = ["passage_id", "lang", "title", "text"]
        self._texts = pa.concat_tables([passages.select(columns), translations.select(columns)]).combine_chunks()
        self._ids = passages["passage_id"].combine_chunks()
        places = pc.index_in(self._texts["passage_id"], value_set=self._ids)
        self._rows = {}
        for language in languages:
            rows = np.full(len(self._ids), -1, dtype=np.int64)
            here = np.flatnonzero(pc.equal(self._texts["lang"], language).to_numpy())
            where = places.take(pa.array(here))
            known = np.asarray(pc.is_valid(where))
            rows[np.asarray(where.drop_null()).astype(np.int64)] = here[known]
            self._rows[language] = rows

    def complete(self, passage_ids: Sequence[str]) -> list[bool]:
        """For each passage, whether it has a text in every language."""
        places = np.asarray(self._places(passage_ids))
        return np.logical_and.reduce([rows[places] >= 0 for rows in self._rows.values()]).tolist()

    def read(self, passage_ids: Sequence[str], languages: Sequence[str]) -> list[str]:
        """Title and body of each passage in its language. A missing one is a `TableError` that names it."""
        places = self._places(passage_ids)
        rows = [int(self._rows[language][place]) for place, language in zip(places, languages, strict=True)]
        for row, passage_id, language in zip(rows, passage_ids, languages, strict=True):
            if row < 0:
                message = f"passage {passage_id!r} has no text in {language!r}"
                raise TableError(message)
        return passage_texts(self._texts.take(pa.array(rows)))

    def _places(self, passage_ids: Sequence[str]) -> list[int]:
        places = pc.index_in(pa.array(passage_ids, pa.string()), value_set=self._ids)
        if places.null_count:
            lost = [i for i, place in zip(passage_ids, places.to_pylist(), strict=True) if place is None]
            message = f"{len(lost)} scored passages do not exist in the source, among them {lost[:3]}"
            raise TableError(message)
        return places.to_pylist()


def mix(
    workspace: Workspace,
    settings: MixSettings,
    source_lang: str,
    languages: Sequence[str],
    seed: int,
    scores_stage: str = "score",
) -> None:
    """Write `examples` and `rejected`: training queries with too few candidates that exist in every mixed language and may be drawn.

    The scores are those of `scores_stage`; judgements are read where `settings.negatives` asks for positives.
    Reads the texts of all passages in the mixed languages into the object store once (for MS MARCO about 3 GB a language).
    """
    queries = workspace.input("sources", "queries")
    wanted = pc.and_(pc.equal(queries["split"], "train"), pc.equal(queries["lang"], source_lang))
    queries = queries.filter(wanted).sort_by("query_id")
    passages = workspace.input("sources", "passages")
    translations = workspace.input("translate", "translations")
    translations = with_text(translations.filter(pc.is_in(translations["lang"], pa.array(languages, pa.string()))))
    scores = SCORES.check(workspace.input(scores_stage, "scores"), scores_stage)
    choice = Choice(settings, _grades(workspace, queries) if settings.negatives else {})
    usable, rejected, left_out = usable_scores(queries, scores, Texts(passages, translations, languages), choice)
    if choice.dropped:
        workspace.note(negatives_dropped=dict(choice.dropped))
    workspace.write("rejected", rejected)
    if not len(usable):
        message = f"no training query has {settings.n_way} candidates with texts in {', '.join(languages)}: see table rejected"
        raise TableError(message)
    if left_out:
        workspace.note(
            candidates_left_out=left_out, warning=f"{left_out} candidates lack a translation and were not drawn"
        )
    repeat = len(draw_languages(settings.strategy, 1, languages, Random(0)))  # noqa: S311
    size = max(1, _EXAMPLES_PER_SHARD // (repeat * settings.group)) * settings.group
    length = len(usable) + -len(usable) % settings.group
    ranges = ((epoch, start) for epoch in range(settings.epochs) for start in range(0, length, size))
    shards = [
        Shard(i, {"epoch": epoch, "start": start, "stop": start + size}) for i, (epoch, start) in enumerate(ranges)
    ]
    arguments = {
        "settings": settings, "languages": tuple(languages), "seed": seed,
        "queries": queries, "scores": usable, "passages": passages, "translations": translations,
    }  # fmt: skip
    workspace.map_shards(shards, MixWorker, arguments, Pool(), unit="examples")


def _grades(workspace: Workspace, queries: pa.Table) -> dict[str, dict[str, int]]:
    """The passages that are judged relevant to these queries, and their grades."""
    qrels = workspace.input("sources", "qrels")
    kept = pc.and_(pc.greater(qrels["relevance"], 0), pc.is_in(qrels["query_id"], queries["query_id"].combine_chunks()))
    found: dict[str, dict[str, int]] = {}
    for row in qrels.filter(kept).to_pylist():
        found.setdefault(row["query_id"], {})[row["passage_id"]] = row["relevance"]
    return found


def usable_scores(queries: pa.Table, scores: pa.Table, texts: Texts, choice: Choice) -> tuple[pa.Table, pa.Table, int]:
    """What examples are drawn from, the queries that have too little of it, and how many candidates lack a language.

    The first is the training queries' SCORES without candidates that lack a language or may not be drawn, and with a column `positives`:
    how many of a row's first candidates are its positives.
    """
    scores = lookup(scores, "query_id", queries["query_id"].combine_chunks(), "training queries without scores")
    rows, positives, rejected, left_out = [], [], [], 0
    for row in scores.to_pylist():
        complete = texts.complete(row["passage_ids"]) if row["passage_ids"] else []
        whole = [place for place, has_texts in enumerate(complete) if has_texts]
        left_out += len(complete) - len(whole)
        try:
            first, kept = choice(row["query_id"], row["passage_ids"], row["scores"], whole)
        except TooFewError as error:
            rejected.append(
                {"source": "scores", "line": 0, "id": row["query_id"], "field": "passage_ids", "reason": str(error)}
            )
            continue
        rows.append(row | {name: [row[name][place] for place in kept] for name in ("passage_ids", "scores")})
        positives.append(first)
    usable = SCORES.from_rows(rows).append_column("positives", pa.array(positives, pa.int32()))
    return usable, REJECTED.from_rows(rejected), left_out


class MixWorker:
    """Makes the examples of a range of an epoch's training order."""

    def __init__(
        self,
        settings: MixSettings,
        languages: Sequence[str],
        seed: int,
        queries: pa.Table,
        scores: pa.Table,
        passages: pa.Table,
        translations: pa.Table,
    ) -> None:
        self._settings = settings
        self._languages = languages
        self._seed = seed
        self._queries = queries
        self._scores = scores
        self._query_ids = scores["query_id"].to_pylist()
        self._texts = Texts(passages, translations, languages)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The examples at places start to stop of the epoch."""
        epoch, start, stop = shard.args["epoch"], shard.args["start"], shard.args["stop"]
        order = training_order(self._query_ids, self._seed, epoch, self._settings.group)
        ids = order[start:stop]
        queries = lookup(self._queries, "query_id", ids, "mix").to_pylist()
        scores = lookup(self._scores, "query_id", ids, "mix").to_pylist()
        examples = [
            draw_examples(
                row["query_id"],
                row["passage_ids"],
                row["scores"],
                self._settings,
                self._languages,
                self._seed,
                epoch,
                row["positives"],
            )
            for row in scores
        ]
        if self._settings.group > 1:
            examples = self._grouped(examples, scores)
        drawn = [(query, example) for query, made in zip(queries, examples, strict=True) for example in made]
        repeat = len(drawn) // len(ids)
        first = (epoch * len(order) + start) * repeat
        return {"examples": self._table(drawn, first)}

    def _grouped(
        self, examples: list[list[dict[str, Any]]], scores: list[dict[str, Any]]
    ) -> list[list[dict[str, Any]]]:
        """Join consecutive queries in groups, which no shard cuts."""
        size = self._settings.group
        joined = []
        for first in range(0, len(examples), size):
            rows = scores[first : first + size]
            known = [dict(zip(row["passage_ids"], row["scores"], strict=True)) for row in rows]
            shared = share_passages(
                [made[0] for made in examples[first : first + size]], known, [row["query_id"] for row in rows]
            )
            joined += [[example] for example in shared]
        return joined

    def _table(self, drawn: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], first: int) -> pa.Table:
        passage_ids = [i for _, example in drawn for i in example["passage_ids"]]
        langs = [lang for _, example in drawn for lang in example["langs"]]
        texts = iter(self._texts.read(passage_ids, langs))
        return EXAMPLES.from_rows(
            {
                "position": first + place,
                "query_id": query["query_id"],
                "query": query["text"],
                "query_lang": query["lang"],
                "passages": [next(texts) for _ in example["passage_ids"]],
                **example,
            }
            for place, (query, example) in enumerate(drawn)
        )
