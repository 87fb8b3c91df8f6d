"""Questions, their candidates and which answers which, read from the bundled corpus, LAReQA or your own files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from cluster.workspace import Workspace
from distill.formats.rows import (
    ORIGIN,
    QREL_ROWS,
    SPLITS,
    Record,
    Rejects,
    RowError,
    Rows,
    batches,
    content,
    identifier,
    parse_qrel,
)
from distill.formats.trec import read_qrels
from distill.meta.settings import LareqaQuestions, QuestionFiles
from distill.meta.sources import lareqa
from distill.meta.sources.fields import existing_file, filled_text, jsonl_rows, language
from distill.sources import corpus
from distill.tables import STRING
from distill.text import passage_text


class Question(NamedTuple):
    """A row of `questions`."""

    question_id: str
    xling_id: str
    lang: str
    text: str
    article: str
    split: str


class Answer(NamedTuple):
    """A row of `answers`."""

    answer_id: str
    lang: str
    text: str
    article: str
    split: str


_QUESTION_ROWS = pa.schema([*((name, STRING) for name in Question._fields), *ORIGIN])
_ANSWER_ROWS = pa.schema([*((name, STRING) for name in Answer._fields), *ORIGIN])


@dataclass(frozen=True)
class _Names:
    """Names of a record's fields. If `split` is empty, rows have no split."""

    id: str
    text: str
    split: str = ""

    def question(self, record: Record) -> Question:
        """Return a record as a question; raise RowError or MissingFieldError."""
        question_id = identifier(record, self.id)
        xling_id = identifier(record, "xling_id", question_id)
        return Question(question_id, xling_id, *self._rest(record, question_id))

    def answer(self, record: Record) -> Answer:
        """Return a record as a candidate; raise RowError or MissingFieldError."""
        answer_id = identifier(record, self.id)
        return Answer(answer_id, *self._rest(record, answer_id))

    def _rest(self, record: Record, row_id: str) -> tuple[str, str, str, str]:
        text = filled_text(record, self.text, row_id)
        split = content(record, self.split, row_id) if self.split else ""
        if self.split and split not in SPLITS:
            raise RowError(self.split, f"'{split}', expected {', '.join(SPLITS)}", row_id)
        return language(record, row_id), text, _article_of(record, row_id), split


_PLAIN = _Names("id", "text")


def _article_of(record: Record, row_id: str) -> str:
    if type(record.get("article")) is int:
        return str(record["article"])
    return filled_text(record, "article", row_id)


@dataclass
class QuestionIntake:
    """The rows that were read of a source of questions.

    Attributes:
        rejects: the rows that could not be used.
        questions: tables of questions (with `source` and `line`), one or more a file.
        answers: tables of candidates, likewise.
        qrels: tables of judgements (QREL_ROWS).
    """

    rejects: Rejects
    questions: list[pa.Table] = field(default_factory=list)
    answers: list[pa.Table] = field(default_factory=list)
    qrels: list[pa.Table] = field(default_factory=list)

    def question_table(self) -> pa.Table:
        """Return all questions."""
        return pa.concat_tables([_QUESTION_ROWS.empty_table(), *self.questions])

    def answer_table(self) -> pa.Table:
        """Return all candidates."""
        return pa.concat_tables([_ANSWER_ROWS.empty_table(), *self.answers])

    def qrel_table(self) -> pa.Table:
        """Return all judgements."""
        return pa.concat_tables([QREL_ROWS.empty_table(), *self.qrels])

    def add_questions(self, name: str, rows: Rows, names: _Names = _PLAIN) -> None:
        """Add the questions of one file."""
        self.questions.extend(batches(name, rows, names.question, _QUESTION_ROWS, self.rejects))

    def add_answers(self, name: str, rows: Rows, names: _Names = _PLAIN) -> None:
        """Add the candidates of one file."""
        self.answers.extend(batches(name, rows, names.answer, _ANSWER_ROWS, self.rejects))

    def add_qrels(self, name: str, rows: Rows) -> None:
        """Add the judgements of one file: which candidate answers which version of a question."""
        self.qrels.extend(batches(name, rows, parse_qrel, QREL_ROWS, self.rejects))


def read_bundled(rejects: Rejects) -> QuestionIntake:
    """Read the questions of the bundled corpus; a cluster of four passages is an article."""
    intake = QuestionIntake(rejects)
    clusters = {row["id"]: row["cluster"] for row in corpus.rows()}

    def questions() -> Iterator[tuple[int, Record]]:
        for line, query in corpus.queries():
            passage, _, kind = query["id"].rpartition(".")
            if kind == "question":
                row_id = f"{query['id']}_{query['lang']}"
                yield line, {**query, "id": row_id, "xling_id": query["id"], "article": clusters[passage]}

    def answers() -> Iterator[tuple[int, Record]]:
        for line, passage in corpus.passages():
            text, article = passage_text(passage["title"], passage["text"]), clusters[passage["id"]]
            yield (
                line,
                {"id": f"{passage['id']}_{passage['lang']}", "lang": passage["lang"], "text": text, "article": article},
            )

    def judged() -> Iterator[tuple[int, Record]]:
        for line, qrel in corpus.qrels():
            if qrel["query"].endswith(".question"):
                query = f"{qrel['query']}_{corpus.LANGUAGES[0]}"
                for lang in corpus.LANGUAGES:
                    yield line, {"query": query, "passage": f"{qrel['passage']}_{lang}", "grade": qrel["grade"]}

    intake.add_questions("bundled", questions())
    intake.add_answers("bundled", answers())
    intake.add_qrels("bundled", judged())
    return intake


def read_lareqa(workspace: Workspace, source: LareqaQuestions, rejects: Rejects) -> QuestionIntake:
    """Read a folder in the layout of LAReQA; files that differ in articles, paragraphs or questions are a warning."""
    intake, files = QuestionIntake(rejects), lareqa.read_folder(source.path)
    for number, sentence in enumerate(lareqa.disagreements(files)):
        workspace.note(**{f"disagreement_{number}": sentence}, warning=f"the files of {source.path} differ: {sentence}")
    for file, names in zip(files, lareqa.article_names(files), strict=True):
        intake.add_questions(file.name, lareqa.question_rows(file, names))
        intake.add_answers(file.name, lareqa.candidate_rows(file, names, context=source.context))
        intake.add_qrels(file.name, lareqa.answer_rows(file))
    return intake


def read_files(source: QuestionFiles, rejects: Rejects) -> QuestionIntake:
    """Read questions and candidates from JSONL files and judgements from TREC qrels."""
    intake, split = QuestionIntake(rejects), source.split_field or ""
    questions, candidates, qrels = (existing_file(path) for path in (source.questions, source.candidates, source.qrels))
    intake.add_questions(questions.name, jsonl_rows(questions), _Names("query_id", "text", split))
    intake.add_answers(candidates.name, jsonl_rows(candidates), _Names("cand_id", "sentence", split))
    intake.add_qrels(qrels.name, read_qrels(qrels))
    return intake
