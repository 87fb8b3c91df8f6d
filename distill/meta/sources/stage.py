"""The sources stage of meta-learning: parallel questions and their answers, or parallel sentence pairs with graded scores."""

from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import SourceError
from cluster.workspace import Workspace
from distill.formats.rows import Rejects, RowError
from distill.meta.settings import BundledQuestions, LareqaQuestions, MetaSource, QuestionFiles, SentencePairFiles
from distill.meta.sources.questions import QuestionIntake, read_bundled, read_files, read_lareqa
from distill.meta.sources.sentence_pairs import read_sentence_pairs
from distill.sources.checks import Known, check_unique, check_versions, known_judgements, origin
from distill.tables import ANSWERED, ANSWERS, QUESTIONS


def ingest(workspace: Workspace, source: MetaSource, max_rejected: float) -> None:
    """Read a source: questions into `questions`, `answers` and `answered`, sentence pairs into `sentence_pairs`; and `rejected`.

    A row that cannot be used goes to `rejected` with the reason, and so does a question that no candidate answers.

    Cost: one pass over the files on one core; memory: the tables.

    Args:
        workspace: the stage.
        source: the source.
        max_rejected: largest share of a file's rows that may be rejected.

    Raises:
        SourceError: more rows of a file are rejected, an id occurs twice, a question occurs twice in one language, versions or answers of
            a question are of different articles or splits (training would then read what is tested), or a judgement is of a question or
            candidate that does not exist.
    """
    rejects = Rejects(max_rejected)
    match source:
        case SentencePairFiles():
            workspace.write("sentence_pairs", read_sentence_pairs(workspace, source, rejects))
        case BundledQuestions():
            _write_questions(workspace, read_bundled(rejects))
        case LareqaQuestions():
            _write_questions(workspace, read_lareqa(workspace, source, rejects))
        case QuestionFiles():
            _write_questions(workspace, read_files(source, rejects))
        case _:
            assert_never(source)
    workspace.write("rejected", rejects.table())


def _write_questions(workspace: Workspace, intake: QuestionIntake) -> None:
    questions, answers = intake.question_table(), intake.answer_table()
    for table, key, noun in (
        (questions, ("question_id",), "question"),
        (questions, ("xling_id", "lang"), "version of a question"),
        (answers, ("answer_id",), "candidate"),
    ):
        check_unique(table, key, noun)
    for column in ("article", "split"):
        check_versions(questions, "xling_id", column, "question")
    links = _links(intake, questions, answers)
    _check_answers(links)
    questions = _answered_questions(intake.rejects, questions, links)
    if not len(questions):
        raise SourceError("the source has no question that a candidate answers")
    order = [("xling_id", "ascending"), ("lang", "ascending")]
    workspace.write("questions", QUESTIONS.check(questions.select(QUESTIONS.schema.names), "sources").sort_by(order))
    answers = ANSWERS.check(answers.select(ANSWERS.schema.names), "sources").sort_by("answer_id")
    workspace.write("answers", answers)
    pairs = links.group_by(["xling_id", "answer_id"]).aggregate([])
    order = [("xling_id", "ascending"), ("answer_id", "ascending")]
    workspace.write("answered", ANSWERED.check(pairs, "sources").sort_by(order))
    workspace.note(
        languages=sorted(pc.unique(questions["lang"]).to_pylist()),
        articles=len(pc.unique(questions["article"])),
        questions=len(pc.unique(questions["xling_id"])),
    )


def _links(intake: QuestionIntake, questions: pa.Table, answers: pa.Table) -> pa.Table:
    """Return xling_id and answer_id of judgements above 0 of known questions and candidates, with article and split of both."""
    qrels = intake.qrel_table()
    check_unique(qrels, ("query_id", "passage_id"), "judgement")
    qrels = qrels.filter(pc.greater(qrels["relevance"], 0))
    rejected = [row["id"] for row in intake.rejects.rows if row["id"]]
    known = [
        Known("query_id", "question", questions["question_id"].combine_chunks(), rejected),
        Known("passage_id", "candidate", answers["answer_id"].combine_chunks(), rejected),
    ]
    qrels = known_judgements(qrels, known, intake.rejects).kept
    asked = questions.take(pc.index_in(qrels["query_id"], value_set=questions["question_id"].combine_chunks()))
    given = answers.take(pc.index_in(qrels["passage_id"], value_set=answers["answer_id"].combine_chunks()))
    return pa.table(
        {
            "xling_id": asked["xling_id"],
            "answer_id": given["answer_id"],
            **{f"asked_{column}": asked[column] for column in ("article", "split")},
            **{f"given_{column}": given[column] for column in ("article", "split")},
            **{name: qrels[name] for name in ("line", "source")},
        }
    )


def _check_answers(links: pa.Table) -> None:
    """Check that answers are of the article and split of their question: folds and splits must keep them together."""
    for column in ("article", "split"):
        differing = links.filter(pc.not_equal(links[f"asked_{column}"], links[f"given_{column}"]))
        if len(differing):
            row = differing.slice(0, 1).to_pylist()[0]
            raise SourceError(
                f"{len(differing)} answers are of another {column} than their question, among them '{row['answer_id']}' "
                f"('{row[f'given_{column}']}') of question '{row['xling_id']}' ('{row[f'asked_{column}']}'; {origin(row)})"
            )


def _answered_questions(rejects: Rejects, questions: pa.Table, links: pa.Table) -> pa.Table:
    """Return the questions that a candidate answers; reject the others."""
    known = pc.is_in(questions["xling_id"], value_set=links["xling_id"].combine_chunks())
    before = len(rejects.rows)
    unanswered = questions.filter(pc.invert(known)).to_pylist()
    for row in unanswered:
        rejects.add(row["source"], row["line"], RowError("", "no candidate answers the question", row["question_id"]))
    if unanswered:
        rejects.check(unanswered[0]["source"], len(questions), before)
    return questions.filter(known)
