"""The evaluate stage of meta-learning: every test question against the candidates of all languages, or every test pair in all languages."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Workspace, row_shards, shard_rows
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.formats.vectors import BLOCK_ROWS, BLOCK_VECTORS, passage_blocks
from distill.meta.evaluate.retrieval import average_precision
from distill.meta.settings import Kind, MetaEvaluateSettings
from distill.meta.sources.folds import Fold, source_articles
from distill.meta.tasks.vectors import device_of, encode_texts, size_of
from distill.numerics.blocks import best_by_maxsim, filled, maxsim_of_each
from distill.tables import PAIR_SIMILARITY, QUESTION_PRECISION, STRING, TableError

_MOST_QUESTIONS = 1000
"""Questions that are ranked as one shard."""


def evaluate(
    workspace: Workspace,
    settings: MetaEvaluateSettings,
    kind: Kind,
    fold: Fold,
    sources: str,
    encoder: str,
    checkpoint: str,
) -> None:
    """Measure an encoder on what a fold holds out.

    Questions: writes `question_vectors`, `answer_vectors` and `question_precision`, AP at `settings.depth` of every test question over the
    test candidates of all languages in one pool. A test question that no candidate of the pool answers is left out and counted.
    Sentence pairs: writes `pair_similarity`, the similarity of every test pair in every ordered pair of languages.

    Every text is encoded once; memory of the driver is that of the texts, of an actor that of a shard and of a block of candidates.

    Args:
        workspace: with the inputs `sources` and `encoder`.
        settings: languages, depth, batches and actors.
        kind: questions or sentence pairs.
        fold: what is held out.
        sources: the stage of `distill.meta.sources.stage`.
        encoder: the stage whose checkpoint is measured.
        checkpoint: the checkpoint's folder in that stage (`start`, `checkpoint`).

    Raises:
        TableError: nothing is held out, or a language of the settings does not occur.
    """
    folder = f"{workspace.input_folder(encoder)}/{checkpoint}"
    if kind == "retrieval":
        _evaluate_questions(workspace, settings, fold, sources, folder)
    else:
        _evaluate_pairs(workspace, settings, fold, sources, folder)


# --- questions -------------------------------------------------------------------------------------------------------


def _evaluate_questions(
    workspace: Workspace, settings: MetaEvaluateSettings, fold: Fold, sources: str, folder: str
) -> None:
    every, answers = (workspace.input(sources, table) for table in ("questions", "answers"))
    articles = source_articles(every, answers)
    questions = fold.tested(_of_languages(every, settings, sources), articles).sort_by("question_id")
    answers = fold.tested(_of_languages(answers, settings, sources), articles).sort_by("answer_id")
    answered = workspace.input(sources, "answered")
    answered = answered.filter(pc.is_in(answered["answer_id"], value_set=answers["answer_id"].combine_chunks()))
    known = pc.is_in(questions["xling_id"], value_set=answered["xling_id"].combine_chunks())
    unanswered = len(questions) - (pc.sum(known).as_py() or 0)
    if unanswered:
        workspace.note(unanswered_questions=unanswered)
    questions = questions.filter(known)
    if not len(questions):
        message = (
            f"{sources}: fold {fold.number} holds out no question that one of its {len(answers)} candidates answers"
        )
        if fold.count is None and pc.unique(every["split"]).to_pylist() == [""]:
            message = f"{sources}: nothing to evaluate: the source has no split of its own; set tasks.folds"
        raise TableError(message)
    workspace.note(questions=len(questions), candidates=len(answers))
    first = encode_texts(workspace, settings, folder, questions, answers)
    _rank(workspace, settings, first, questions, answers, answered)


def _rank(
    workspace: Workspace,
    settings: MetaEvaluateSettings,
    first: int,
    questions: pa.Table,
    answers: pa.Table,
    answered: pa.Table,
) -> None:
    places = pc.index_in(answered["answer_id"], value_set=answers["answer_id"].combine_chunks())
    shards = row_shards(len(questions), min(settings.texts_per_shard, _MOST_QUESTIONS))
    arguments = {
        "questions": questions.select(["question_id", "xling_id", "lang"]),
        "answered": pa.table({"xling_id": answered["xling_id"], "place": places}),
        "question_vectors": StoredTable.open(workspace.filesystem, f"{workspace.folder}/question_vectors"),
        "answer_vectors": StoredTable.open(workspace.filesystem, f"{workspace.folder}/answer_vectors"),
        "depth": settings.depth,
        "device": device_of(settings),
    }
    numbered = [Shard(first + shard.index, shard.args) for shard in shards]
    workspace.map_shards(numbered, RankWorker, arguments, settings.pool, "questions")


class RankWorker:
    """Ranks the pool for a range of questions. The rows of the vector tables are those of the questions and of the pool, in order."""

    def __init__(
        self,
        questions: pa.Table,
        answered: pa.Table,
        question_vectors: StoredTable,
        answer_vectors: StoredTable,
        depth: int,
        device: str,
    ) -> None:
        self._questions = questions
        self._answered = _grouped(answered)
        self._question_vectors = question_vectors
        self._answer_vectors = answer_vectors
        self._depth = depth
        self._device = device

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The average precision of questions start to stop."""
        part = shard_rows(self._questions, shard)
        vectors = self._question_vectors.read(shard.args["start"], shard.args["stop"])
        questions, size = _tensors(vectors), size_of(vectors)
        # `passage_blocks` reads as many texts as 128 vectors each would fit.
        limit = 128 * BLOCK_ROWS if questions.shape[1] == 1 else BLOCK_VECTORS
        blocks = passage_blocks(self._answer_vectors, size, limit)
        found = best_by_maxsim(questions.to(self._device), blocks, self._depth)
        values = [
            average_precision(places, self._answered[xling_id], self._depth)
            for places, xling_id in zip(found, part["xling_id"].to_pylist(), strict=True)
        ]
        table = part.append_column("value", pa.array(values, pa.float64()))
        return {"question_precision": QUESTION_PRECISION.check(table)}


def _tensors(vectors: pa.Table) -> Float[Tensor, "Q T D"]:
    flat = torch.from_numpy(pc.list_flatten(vectors["vectors"]).to_numpy().copy())
    rows = flat.reshape(-1, size_of(vectors))
    return filled(rows.split(vectors["count"].to_pylist()))


def _grouped(answered: pa.Table) -> Mapping[str, np.ndarray]:
    groups = answered.group_by("xling_id").aggregate([("place", "list")])
    lists = (np.array(places, dtype=np.int64) for places in groups["place_list"].to_pylist())
    return dict(zip(groups["xling_id"].to_pylist(), lists, strict=True))


# --- sentence pairs --------------------------------------------------------------------------------------------------


def _evaluate_pairs(
    workspace: Workspace, settings: MetaEvaluateSettings, fold: Fold, sources: str, folder: str
) -> None:
    every = _of_languages(workspace.input(sources, "sentence_pairs"), settings, sources)
    pairs = fold.tested(every, []).sort_by([("pair_id", "ascending"), ("lang", "ascending")])
    if not len(pairs):
        raise TableError(f"{sources}: no sentence pair is held out for the test")
    workspace.note(pairs=len(pc.unique(pairs["pair_id"])), languages=sorted(pc.unique(pairs["lang"]).to_pylist()))
    shards = _pair_shards(pairs, settings.texts_per_shard)
    arguments = {"pairs": pairs, "filesystem": workspace.filesystem, "checkpoint": folder, "settings": settings}
    workspace.map_shards(shards, PairWorker, arguments, settings.pool, "pairs")


def _pair_shards(pairs: pa.Table, size: int) -> list[Shard]:
    """Shards of `size` texts or a few more: the versions of a pair stay together. The rows are sorted by pair."""
    ids = np.asarray(pairs["pair_id"].to_pylist(), dtype=object)
    ends = [*(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    shards, start = [], 0
    for end in ends:
        if 2 * (end - start) >= size or end == len(ids):
            shards.append(Shard(len(shards), {"start": start, "stop": end}))
            start = end
    return shards


class PairWorker:
    """Compares the sentences of a range of pairs across languages."""

    def __init__(
        self, pairs: pa.Table, filesystem: pafs.FileSystem, checkpoint: str, settings: MetaEvaluateSettings
    ) -> None:
        self._pairs = pairs
        self._tokens = settings.tokens_per_batch
        self._encoder = fetch_encoder(filesystem, checkpoint, device_of(settings))

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The similarity of pairs start to stop, in every ordered pair of the languages that each has."""
        part = shard_rows(self._pairs, shard)
        texts = [*part["first"].to_pylist(), *part["second"].to_pylist()]
        vectors = self._encoder.encode_passages(texts, self._tokens)
        firsts, seconds = vectors[: len(part)], vectors[len(part) :]
        rows = part.select(["pair_id", "lang", "score"]).to_pylist()
        places: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(row["pair_id"], []).append(place)
        found = []
        for pair_id, versions in places.items():
            values = similarities([firsts[place] for place in versions], [seconds[place] for place in versions])
            for (one, other), value in zip(product(versions, versions), values.ravel().tolist(), strict=True):
                langs = {"first_lang": rows[one]["lang"], "second_lang": rows[other]["lang"]}
                found.append({"pair_id": pair_id, **langs, "value": value, "score": rows[one]["score"]})
        return {"pair_similarity": PAIR_SIMILARITY.from_rows(found)}


def similarities(
    firsts: Sequence[Float[Tensor, "_ D"]], seconds: Sequence[Float[Tensor, "_ D"]]
) -> Float64[np.ndarray, "M N"]:
    """How alike each of M texts is to each of N: the cosine of one vector each, and between -1 and 1 for late interaction too.

    Late interaction is divided by the number of the first text's vectors. A text without a vector (of punctuation only) has 0.
    """
    ones, others = ([functional.normalize(one.double(), dim=-1) for one in side] for side in (firsts, seconds))
    counts = torch.tensor([len(one) for one in ones])
    values = maxsim_of_each(filled(ones), others) / counts.clamp(min=1)[:, None]
    return values.masked_fill(values.isneginf(), 0.0).numpy()


def _of_languages(table: pa.Table, settings: MetaEvaluateSettings, sources: str) -> pa.Table:
    if not settings.languages:
        return table
    known = set(pc.unique(table["lang"]).to_pylist())
    missing = [lang for lang in settings.languages if lang not in known]
    if missing:
        raise TableError(
            f"{sources} has nothing in {', '.join(missing)} (evaluate.languages); it has {', '.join(sorted(known))}"
        )
    return table.filter(pc.is_in(table["lang"], value_set=pa.array(settings.languages, STRING)))
