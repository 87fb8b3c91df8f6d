"""LAReQA in its official layout (arXiv 2004.05484, google-research-datasets/lareqa): questions, sentences, and which answer which.

A folder holds a file `{language}.json` for every language, of the form of SQuAD 1.1: `data`, a list of articles, each with `title` (not in
all files) and `paragraphs`, each with `context`, `qas` and `sentence_breaks`, the character ranges of its sentences. A sentence is a
candidate, and the one in which an answer starts answers the question. Versions of a question share their id across files.

Titles are those of each language's encyclopedia and files need not hold the same articles (MLQA-R), so articles are identified by their
questions: those that share a question, and those of one title in one file, are one article.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.errors import one_line
from cluster.locations import Location, SourceError, find_all
from distill.formats.rows import Record, RowError, Rows

_FIRST = "en"
"""The language whose titles name articles where it has them."""


@dataclass(frozen=True)
class _Paragraph:
    """One paragraph of one file.

    Attributes:
        line: its number in the file, from 1, which tables give as the line.
        path: its position in the JSON, for messages (`data[0].paragraphs[3]`).
        article: number of its article in the file, from 0.
        number: its number in the article, from 0.
        content: its content in the file.
    """

    line: int
    path: str
    article: int
    number: int
    content: Any

    @property
    def questions(self) -> list[Any]:
        """Its questions; none if the list is missing, which `fault` reports."""
        questions = self.content.get("qas") if isinstance(self.content, dict) else None
        return questions if isinstance(questions, list) else []

    def fault(self) -> RowError | None:
        """Return the fault for which neither its sentences nor its questions can be used, or None."""
        if not isinstance(self.content, dict):
            return RowError(self.path, "no JSON object")
        for field, kind in (("context", str), ("qas", list), ("sentence_breaks", list)):
            if not isinstance(self.content.get(field), kind):
                noun = "text" if kind is str else "list"
                return RowError(f"{self.path}.{field}", f"is missing or no {noun}")
        last = 0
        for number, pair in enumerate(self.content["sentence_breaks"]):
            if not _is_range(pair) or not last <= pair[0] < pair[1] <= len(self.content["context"]):
                field = f"{self.path}.sentence_breaks[{number}]"
                return RowError(field, f"{pair!r}, expected [start, end] after {last}, within the context")
            last = pair[1]
        return None


@dataclass(frozen=True)
class LareqaFile:
    """One language.

    Attributes:
        name: the file's name in messages.
        lang: its language.
        data: its articles.
    """

    name: str
    lang: str
    data: Sequence[Any]

    @classmethod
    def read(cls, file: Location) -> "LareqaFile":
        """Read a file whole (some 2 MB); raise SourceError if it is not of the layout."""
        try:
            with file.filesystem.open_input_stream(file.path) as stream:
                content = json.loads(stream.read())
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError(f"{file.name} cannot be read: {one_line(error)}") from error
        data = content.get("data") if isinstance(content, dict) else None
        articles = isinstance(data, list) and all(
            isinstance(article, dict) and isinstance(article.get("paragraphs"), list) for article in data
        )
        if data is None or not articles:
            raise SourceError(
                f"{file.name} is not of LAReQA's layout: an object with `data`, a list of articles with `paragraphs`"
            )
        return cls(file.name, file.path.rpartition("/")[2].removesuffix(".json"), data)

    def title(self, article: int) -> str:
        """Return the title of an article, or `#` and its number if it has none."""
        title = self.data[article].get("title")
        return title if isinstance(title, str) and title.strip() else f"#{article}"

    def paragraphs(self) -> Iterator[_Paragraph]:
        """Yield all paragraphs, in order."""
        line = 0
        for number, article in enumerate(self.data):
            for position, content in enumerate(article["paragraphs"]):
                line += 1
                yield _Paragraph(line, f"data[{number}].paragraphs[{position}]", number, position, content)

    def ids(self) -> Iterator[tuple[int, str]]:
        """Yield the article and id of every question that has an id."""
        for paragraph in self.paragraphs():
            for question in paragraph.questions:
                if isinstance(question, dict) and isinstance(question.get("id"), str):
                    yield paragraph.article, question["id"]


def read_folder(path: str) -> list[LareqaFile]:
    """Read the files of a folder, one for each language; raise SourceError for a file of another name."""
    files = find_all(path)
    wrong = [file.name for file in files if not file.path.endswith(".json")]
    if wrong:
        raise SourceError(
            f"{wrong[0]} is no file of LAReQA's layout, whose folders hold only {{language}}.json; remove it"
        )
    return [LareqaFile.read(file) for file in files]


def article_names(files: Sequence[LareqaFile]) -> list[list[str]]:
    """Return the name of every article of every file: the same if articles share a question, or their title within a file.

    It is the English title if there is one. Cost: a few steps for each question.
    """
    titles = [[(number, file.title(article)) for article in range(len(file.data))] for number, file in enumerate(files)]
    nodes = {node: index for index, node in enumerate(dict.fromkeys(node for of_file in titles for node in of_file))}
    askers: dict[str, int] = {}
    edges = []
    for of_file, file in zip(titles, files, strict=True):
        for article, question in file.ids():
            node = nodes[of_file[article]]
            edges.append((node, askers.setdefault(question, node)))
    groups = _components(len(nodes), edges)

    def rank(node: tuple[int, str]) -> tuple[bool, bool, str, str]:
        lang = files[node[0]].lang
        return node[1].startswith("#"), lang != _FIRST, lang, node[1]

    names: dict[int, str] = {}
    for node in sorted(nodes, key=rank):
        names.setdefault(groups[nodes[node]], node[1])
    return [[names[groups[nodes[node]]] for node in of_file] for of_file in titles]


def _components(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the number of the connected component of each of `count` nodes."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist()


def disagreements(files: Sequence[LareqaFile]) -> list[str]:
    """Return a sentence for each difference of files in articles, paragraphs or questions; parallel files (XQuAD-R) have none."""
    sentences = []
    for noun, count in (("articles", _articles), ("paragraphs", _paragraphs)):
        counts = {file.lang: count(file) for file in files}
        if len(set(counts.values())) > 1:
            sentences.append(f"{noun} by language: " + ", ".join(f"{lang} {number}" for lang, number in counts.items()))
    asked = {file.lang: {question for _, question in file.ids()} for file in files}
    every = set().union(*asked.values())
    for lang, ids in asked.items():
        missing = sorted(every - ids)
        if missing:
            sentences.append(
                f"{lang} lacks {len(missing)} of {len(every)} questions, among them {', '.join(missing[:3])}"
            )
    return sentences


def _articles(file: LareqaFile) -> int:
    return len(file.data)


def _paragraphs(file: LareqaFile) -> int:
    return sum(1 for _ in file.paragraphs())


def candidate_rows(file: LareqaFile, names: Sequence[str], *, context: bool) -> Rows:
    """Yield a record (id, lang, text, article) for every sentence, and a `RowError` for every paragraph that cannot be used."""
    for paragraph in file.paragraphs():
        if (fault := paragraph.fault()) is not None:
            yield paragraph.line, fault
            continue
        text = paragraph.content["context"]
        for number, (start, end) in enumerate(paragraph.content["sentence_breaks"]):
            sentence = text[start:end]
            record: Record = {
                "id": _candidate_id(file, paragraph, number),
                "lang": file.lang,
                "text": sentence + text if context else sentence,
                "article": names[paragraph.article],
            }
            yield paragraph.line, record


def question_rows(file: LareqaFile, names: Sequence[str]) -> Rows:
    """Yield a record (id, xling_id, lang, text, article) for every question, or a `RowError` if no sentence answers it."""
    for paragraph, question, sentences in _questions(file):
        if isinstance(sentences, RowError):
            yield paragraph.line, sentences
            continue
        record: Record = {
            "id": f"{question['id']}_{file.lang}",
            "xling_id": question["id"],
            "lang": file.lang,
            "text": question["question"],
            "article": names[paragraph.article],
        }
        yield paragraph.line, record


def answer_rows(file: LareqaFile) -> Rows:
    """Yield a record (query, passage, grade) for every question and sentence that answers it."""
    for paragraph, question, sentences in _questions(file):
        for number in [] if isinstance(sentences, RowError) else sentences:
            record: Record = {
                "query": f"{question['id']}_{file.lang}",
                "passage": _candidate_id(file, paragraph, number),
                "grade": 1,
            }
            yield paragraph.line, record


def _questions(file: LareqaFile) -> Iterator[tuple[_Paragraph, Any, list[int] | RowError]]:
    """Yield every question, and the numbers of the sentences that answer it."""
    for paragraph in file.paragraphs():
        fault = paragraph.fault()
        for number, question in enumerate(paragraph.questions):
            path = f"{paragraph.path}.qas[{number}]"
            if fault is None:
                yield paragraph, question, _answering(question, paragraph.content["sentence_breaks"], path)
            else:
                yield paragraph, question, RowError(path, "its paragraph was rejected")


def _answering(question: Any, sentences: Sequence[Sequence[int]], path: str) -> list[int] | RowError:
    """Return the numbers of the sentences in which the question's answers start."""
    if not isinstance(question, dict):
        return RowError(path, "no JSON object")
    for field in ("id", "question"):
        if not isinstance(question.get(field), str) or not question[field].strip():
            return RowError(f"{path}.{field}", "is missing, empty or no text")
    answers = question.get("answers")
    if not isinstance(answers, list) or not answers:
        return RowError(f"{path}.answers", "is missing, empty or no list", question["id"])
    numbers = set()
    for answer in answers:
        start = answer.get("answer_start") if isinstance(answer, dict) else None
        if type(start) is not int:
            return RowError(f"{path}.answers", "an answer without a number `answer_start`", question["id"])
        inside = [number for number, (low, high) in enumerate(sentences) if low <= start < high]
        if not inside:
            return RowError(f"{path}.answers", f"answer_start {start} lies in no sentence", question["id"])
        numbers.update(inside)
    return sorted(numbers)


def _candidate_id(file: LareqaFile, paragraph: _Paragraph, sentence: int) -> str:
    return f"{file.lang}_{paragraph.article}_{paragraph.number}_{sentence}"


def _is_range(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)
