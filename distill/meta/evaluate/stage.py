"""The evaluate stage of meta-learning: every test question against the candidates of all languages, or every test pair in all languages."""

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cluster.workspace import Workspace
from distill.meta.evaluate.pairs import compare_pairs
from distill.meta.evaluate.questions import rank_candidates
from distill.meta.settings import Kind, MetaEvaluateSettings
from distill.meta.sources.folds import Fold, source_articles
from distill.tables import STRING, TableError

Reader = Callable[[str, list[str]], pa.Table]
"""Reads columns of a table of a source."""


def evaluate(
    workspace: Workspace,
    settings: MetaEvaluateSettings,
    kind: Kind,
    fold: Fold,
    sources: str,
    encoder: str,
    checkpoint: str,
) -> None:
    """Measure an encoder on the rows that a fold holds out.

    Questions: writes `question_vectors`, `answer_vectors` and `question_precision`, AP at `settings.depth` of every test question over the
    test candidates of all languages in one pool. A test question that no candidate of the pool answers is left out and counted.
    Sentence pairs: writes `pair_similarity`, the similarity of every test pair in every ordered pair of languages.

    Every text is encoded once; memory of the driver is that of the texts, of an actor that of a shard and of a block of candidates.

    Args:
        workspace: with the inputs `sources` and `encoder`.
        settings: languages, depth, batches and actors.
        kind: questions or sentence pairs.
        fold: the fold.
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


def check_evaluation(read: Reader, settings: MetaEvaluateSettings, kind: Kind, fold: Fold, sources: str) -> None:
    """Check that a source holds out something to evaluate in the languages of the settings; no text is read.

    Args:
        read: reads columns of a table of the source.
        settings: languages.
        kind: questions or sentence pairs.
        fold: the fold.
        sources: the name of the source's stage, for messages.

    Raises:
        TableError: nothing is held out, or a language of the settings does not occur.
    """
    if kind == "similarity":
        _tested_pairs(read("sentence_pairs", ["pair_id", "lang", "split"]), settings, fold, sources)
        return
    questions = read("questions", ["question_id", "xling_id", "lang", "article", "split"])
    answers = read("answers", ["answer_id", "lang", "article", "split"])
    _tested_questions(questions, answers, read("answered", ["xling_id", "answer_id"]), settings, fold, sources)


class _Tested(NamedTuple):
    """What a fold holds out: questions that a candidate answers, the pool of candidates, which answers which, and what was left out."""

    questions: pa.Table
    answers: pa.Table
    answered: pa.Table
    unanswered: int


def _tested_questions(
    every: pa.Table, answers: pa.Table, answered: pa.Table, settings: MetaEvaluateSettings, fold: Fold, sources: str
) -> _Tested:
    articles = source_articles(every, answers)
    questions = fold.tested(_of_languages(every, settings, sources), articles).sort_by("question_id")
    answers = fold.tested(_of_languages(answers, settings, sources), articles).sort_by("answer_id")
    answered = answered.filter(pc.is_in(answered["answer_id"], value_set=answers["answer_id"].combine_chunks()))
    known = pc.is_in(questions["xling_id"], value_set=answered["xling_id"].combine_chunks())
    unanswered = len(questions) - (pc.sum(known).as_py() or 0)
    questions = questions.filter(known)
    if not len(questions):
        message = (
            f"{sources}: fold {fold.number} holds out no question that one of its {len(answers)} candidates answers"
        )
        if fold.count is None and pc.unique(every["split"]).to_pylist() == [""]:
            message = f"{sources}: nothing to evaluate: the source has no split of its own; set tasks.folds"
        raise TableError(message)
    return _Tested(questions, answers, answered, unanswered)


def _tested_pairs(every: pa.Table, settings: MetaEvaluateSettings, fold: Fold, sources: str) -> pa.Table:
    chosen = _of_languages(every, settings, sources)
    pairs = fold.tested(chosen, []).sort_by([("pair_id", "ascending"), ("lang", "ascending")])
    if not len(pairs):
        raise TableError(f"{sources}: no sentence pair is held out for the test")
    return pairs


def _evaluate_questions(
    workspace: Workspace, settings: MetaEvaluateSettings, fold: Fold, sources: str, folder: str
) -> None:
    every, answers, answered = (workspace.input(sources, table) for table in ("questions", "answers", "answered"))
    tested = _tested_questions(every, answers, answered, settings, fold, sources)
    if tested.unanswered:
        workspace.note(unanswered_questions=tested.unanswered)
    workspace.note(questions=len(tested.questions), candidates=len(tested.answers))
    rank_candidates(workspace, settings, folder, tested.questions, tested.answers, tested.answered)


def _evaluate_pairs(
    workspace: Workspace, settings: MetaEvaluateSettings, fold: Fold, sources: str, folder: str
) -> None:
    pairs = _tested_pairs(workspace.input(sources, "sentence_pairs"), settings, fold, sources)
    workspace.note(pairs=len(pc.unique(pairs["pair_id"])), languages=sorted(pc.unique(pairs["lang"]).to_pylist()))
    compare_pairs(workspace, settings, folder, pairs)


def _of_languages(table: pa.Table, settings: MetaEvaluateSettings, sources: str) -> pa.Table:
    """Return the rows in the languages of the settings; raise TableError if a language has none."""
    if not settings.languages:
        return table
    known = set(pc.unique(table["lang"]).to_pylist())
    missing = [lang for lang in settings.languages if lang not in known]
    if missing:
        raise TableError(
            f"{sources} has nothing in {', '.join(missing)} (evaluate.languages); it has {', '.join(sorted(known))}"
        )
    return table.filter(pc.is_in(table["lang"], value_set=pa.array(settings.languages, STRING)))
