"""The sources stage of meta-learning: parallel questions and their answers, or parallel sentence pairs with graded scores."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never

import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import Location, SourceError, exists, locate
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
from distill.formats.text import read_jsonl
from distill.formats.trec import read_qrels
from distill.meta.settings import BundledQuestions, LareqaQuestions, MetaSource, QuestionFiles, SentencePairFiles
from distill.meta.sources import lareqa
from distill.settings.base import LANGUAGE_PATTERN
from distill.sources import corpus
from distill.sources.checks import check_unique, check_versions, known_judgements, origin
from distill.tables import ANSWERED, ANSWERS, QUESTIONS, SENTENCE_PAIRS, STRING
from distill.text import passage_text


def ingest(workspace: Workspace, source: MetaSource, max_rejected: float) -> None:
    """Read a source: questions into `questions`, `answers` and `answered`, sentence pairs into `sentence_pairs`; and `rejected`.

    A row that cannot be used goes to `rejected` with the reason, and so does a question that no candidate answers. A file with a larger
    share of them than `max_rejected` is a `SourceError`, and so are: an id twice, a question twice in one language, a question whose
    versions or answers are of different articles or splits (what is tested would be learnt from), and a judgement of what exists nowhere.

    Cost: one pass over the files on one core; memory: the tables.
    """
    rejects = Rejects(max_rejected)
    match source:
        case SentencePairFiles():
            workspace.write("sentence_pairs", _sentence_pairs(source, rejects))
        case BundledQuestions():
            _write_questions(workspace, _bundled(rejects))
        case LareqaQuestions():
            _write_questions(workspace, _lareqa(workspace, source, rejects))
        case QuestionFiles():
            _write_questions(workspace, _files(source, rejects))
        case _:
            assert_never(source)
    workspace.write("rejected", rejects.table())


# --- rows ------------------------------------------------------------------------------------------------------------


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


class SentencePair(NamedTuple):
    """A row of `sentence_pairs`."""

    pair_id: str
    lang: str
    first: str
    second: str
    score: float
    split: str


_QUESTION_ROWS = pa.schema([*((name, STRING) for name in Question._fields), *ORIGIN])
_ANSWER_ROWS = pa.schema([*((name, STRING) for name in Answer._fields), *ORIGIN])
_PAIR_ROWS = pa.schema([*((column.name, column.type) for column in SENTENCE_PAIRS.columns), *ORIGIN])


@dataclass(frozen=True)
class _Names:
    """The fields of a record; an empty `split` stands for none."""

    id: str
    text: str
    split: str = ""

    def question(self, record: Record) -> Question:
        """A question, or a `RowError` or `MissingFieldError`."""
        question_id = identifier(record, self.id)
        xling_id = identifier(record, "xling_id", question_id)
        return Question(question_id, xling_id, *self._rest(record, question_id))

    def answer(self, record: Record) -> Answer:
        """A candidate, or a `RowError` or `MissingFieldError`."""
        answer_id = identifier(record, self.id)
        return Answer(answer_id, *self._rest(record, answer_id))

    def _rest(self, record: Record, row_id: str) -> tuple[str, str, str, str]:
        text = content(record, self.text, row_id)
        if not text.strip():
            raise RowError(self.text, "is empty", row_id)
        split = content(record, self.split, row_id) if self.split else ""
        if self.split and split not in SPLITS:
            raise RowError(self.split, f"'{split}', expected {', '.join(SPLITS)}", row_id)
        return _language(record, row_id), text, _article(record, row_id), split


_PLAIN = _Names("id", "text")


def _language(record: Record, row_id: str) -> str:
    lang = content(record, "lang", row_id)
    if not re.fullmatch(LANGUAGE_PATTERN, lang):
        raise RowError("lang", f"'{lang}' is no language code (en, zh, pt-BR)", row_id)
    return lang


def _article(record: Record, row_id: str) -> str:
    if type(record.get("article")) is int:
        return str(record["article"])
    article = content(record, "article", row_id)
    if not article.strip():
        raise RowError("article", "is empty", row_id)
    return article


# --- questions -------------------------------------------------------------------------------------------------------


@dataclass
class _Intake:
    """What has been read of a source of questions."""

    rejects: Rejects
    questions: list[pa.Table] = field(default_factory=list)
    answers: list[pa.Table] = field(default_factory=list)
    qrels: list[pa.Table] = field(default_factory=list)

    def add_questions(self, name: str, rows: Rows, names: _Names = _PLAIN) -> None:
        """Take the questions of one file."""
        self.questions.extend(batches(name, rows, names.question, _QUESTION_ROWS, self.rejects))

    def add_answers(self, name: str, rows: Rows, names: _Names = _PLAIN) -> None:
        """Take the candidates of one file."""
        self.answers.extend(batches(name, rows, names.answer, _ANSWER_ROWS, self.rejects))

    def add_qrels(self, name: str, rows: Rows) -> None:
        """Take the judgements of one file: which candidate answers which version of a question."""
        self.qrels.extend(batches(name, rows, parse_qrel, QREL_ROWS, self.rejects))


def _bundled(rejects: Rejects) -> _Intake:
    intake = _Intake(rejects)
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


def _lareqa(workspace: Workspace, source: LareqaQuestions, rejects: Rejects) -> _Intake:
    intake, files = _Intake(rejects), lareqa.read_folder(source.path)
    for number, sentence in enumerate(lareqa.disagreements(files)):
        workspace.note(**{f"disagreement_{number}": sentence}, warning=f"the files of {source.path} differ: {sentence}")
    for file, names in zip(files, lareqa.article_names(files), strict=True):
        intake.add_questions(file.name, lareqa.question_rows(file, names))
        intake.add_answers(file.name, lareqa.candidate_rows(file, names, context=source.context))
        intake.add_qrels(file.name, lareqa.answer_rows(file))
    return intake


def _files(source: QuestionFiles, rejects: Rejects) -> _Intake:
    intake, split = _Intake(rejects), source.split_field or ""
    questions, candidates, qrels = (_file(path) for path in (source.questions, source.candidates, source.qrels))
    intake.add_questions(questions.name, _jsonl(questions), _Names("query_id", "text", split))
    intake.add_answers(candidates.name, _jsonl(candidates), _Names("cand_id", "sentence", split))
    intake.add_qrels(qrels.name, read_qrels(qrels))
    return intake


def _file(path: str) -> Location:
    """The file at `path`, looked for before anything is read."""
    place = locate(path)
    if not exists(place):
        raise SourceError(f"{place.name} does not exist")
    return place


def _jsonl(place: Location) -> Rows:
    if not place.path.removesuffix(".gz").endswith(".jsonl"):
        raise SourceError(f"{place.name} is of no known format; names end in .jsonl or .jsonl.gz")
    return read_jsonl(place)


def _write_questions(workspace: Workspace, intake: _Intake) -> None:
    questions = pa.concat_tables([_QUESTION_ROWS.empty_table(), *intake.questions])
    answers = pa.concat_tables([_ANSWER_ROWS.empty_table(), *intake.answers])
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


def _links(intake: _Intake, questions: pa.Table, answers: pa.Table) -> pa.Table:
    """Judgements above 0 of known questions and candidates: their xling_id and answer_id, and article and split of both."""
    qrels = pa.concat_tables([QREL_ROWS.empty_table(), *intake.qrels])
    check_unique(qrels, ("query_id", "passage_id"), "judgement")
    qrels = qrels.filter(pc.greater(qrels["relevance"], 0))
    rejected = [row["id"] for row in intake.rejects.rows if row["id"]]
    for column, known, noun in (
        ("query_id", questions["question_id"], "question"),
        ("passage_id", answers["answer_id"], "candidate"),
    ):
        qrels, _ = known_judgements(qrels, column, noun, known.combine_chunks(), intake.rejects, rejected)
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
    """Refuse an answer of another article or split than its question: folds and splits would tear them apart."""
    for column in ("article", "split"):
        torn = links.filter(pc.not_equal(links[f"asked_{column}"], links[f"given_{column}"]))
        if len(torn):
            row = torn.slice(0, 1).to_pylist()[0]
            raise SourceError(
                f"{len(torn)} answers are of another {column} than their question, among them '{row['answer_id']}' "
                f"('{row[f'given_{column}']}') of question '{row['xling_id']}' ('{row[f'asked_{column}']}'; {origin(row)})"
            )


def _answered_questions(rejects: Rejects, questions: pa.Table, links: pa.Table) -> pa.Table:
    known = pc.is_in(questions["xling_id"], value_set=links["xling_id"].combine_chunks())
    before = len(rejects.rows)
    lost = questions.filter(pc.invert(known)).to_pylist()
    for row in lost:
        rejects.add(row["source"], row["line"], RowError("", "no candidate answers the question", row["question_id"]))
    if lost:
        rejects.check(lost[0]["source"], len(questions), before)
    return questions.filter(known)


# --- sentence pairs --------------------------------------------------------------------------------------------------


def _sentence_pairs(source: SentencePairFiles, rejects: Rejects) -> pa.Table:
    places = {split: _file(path) for split, path in zip(SPLITS, (source.train, source.dev, source.test), strict=True)}
    tables = []
    for split, place in places.items():
        parse = _PairParser(split, source.max_score)
        found = list(batches(place.name, _versions(_jsonl(place), place.name), parse, _PAIR_ROWS, rejects))
        if not found:
            raise SourceError(f"{place.name} holds no sentence pair")
        tables.extend(found)
    pairs = pa.concat_tables(tables)
    check_unique(pairs, ("pair_id", "lang"), "sentence pair")
    order = [("pair_id", "ascending"), ("lang", "ascending")]
    return SENTENCE_PAIRS.check(pairs.select(SENTENCE_PAIRS.schema.names), "sources").sort_by(order)


def _versions(rows: Rows, name: str) -> Iterator[tuple[int, Record | RowError]]:
    """A record (id, score, lang, s1, s2) for each language of each row."""
    for line, record in rows:
        if isinstance(record, RowError):
            yield line, record
            continue
        missing = [key for key in ("id", "score", "s1", "s2") if key not in record]
        if missing:
            raise SourceError(
                f"{name} line {line}: no field '{missing[0]}'; it has {', '.join(map(repr, record)) or 'none'}"
            )
        wrong = [key for key in ("s1", "s2") if not isinstance(record[key], dict) or not record[key]]
        if wrong:
            yield line, RowError(wrong[0], "expected an object of sentences by language", _shown(record["id"]))
            continue
        for lang in dict.fromkeys([*record["s1"], *record["s2"]]):
            sides: dict[str, Any] = {key: record[key][lang] for key in ("s1", "s2") if lang in record[key]}
            yield line, {"id": record["id"], "score": record["score"], "lang": lang, **sides}


def _shown(row_id: object) -> str:
    return str(row_id) if isinstance(row_id, (str, int)) else ""


@dataclass(frozen=True)
class _PairParser:
    split: str
    max_score: float

    def __call__(self, record: Record) -> SentencePair:
        row_id = identifier(record, "id")
        lang = _language(record, row_id)
        first, second = (self._sentence(record, key, lang, row_id) for key in ("s1", "s2"))
        score = record["score"]
        if type(score) not in {int, float} or not 0 <= score <= self.max_score:
            reason = f"{score!r}, expected a number from 0 to {self.max_score:g} (source.max_score)"
            raise RowError("score", reason, row_id)
        return SentencePair(f"{self.split}/{row_id}", lang, first, second, score / self.max_score, self.split)

    @staticmethod
    def _sentence(record: Record, key: str, lang: str, row_id: str) -> str:
        if key not in record:
            raise RowError(key, f"has no sentence in {lang}, which the other side has", row_id)
        text = content(record, key, row_id)
        if not text.strip():
            raise RowError(key, f"is empty in {lang}", row_id)
        return text
