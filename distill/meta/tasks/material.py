"""The material that meta-tasks are drawn from: the questions, candidates and sentence pairs of a fold, by language."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from distill.meta.tasks.transfers import LanguageSet, Transfer, lacking_room
from distill.tables import TableError


class Sizes(NamedTuple):
    """Triplets, or sentence pairs, of a support set and of a query set."""

    shots: int
    queries: int

    def of(self, number: int) -> int:
        """Return the size of the set with that number; set 0 is the support set."""
        return self.queries if number else self.shots


class Item(NamedTuple):
    """A triplet without its negative, or a sentence pair.

    Attributes:
        number: the number of its set.
        id: the question's or pair's id, the same in all languages.
        first: the row of the question, or of the pair in the first sentence's language.
        second: the row of the candidate that answers it, or of the pair in the second sentence's language.
        lang: the language of the candidate, or of the second sentence.
    """

    number: int
    id: str
    first: int
    second: int
    lang: str


class Questions:
    """Questions and candidates, which are rows of two tables, and the candidates that answer each question.

    Args:
        questions: QUESTIONS, of which question_id, xling_id and lang are read.
        answers: ANSWERS, of which answer_id, lang and text are read.
        answered: ANSWERED; rows about other questions or candidates are ignored.

    Attributes:
        versions: language -> xling_id -> the question's row.
        pools: language -> the candidates that answer a question, by id.

    Of the order of the tables' rows depend only the numbers of the rows. Memory: some hundred bytes a row.

    Raises:
        TableError: a question has two versions in one language.
    """

    def __init__(self, questions: pa.Table, answers: pa.Table, answered: pa.Table) -> None:
        self.versions = _versions(questions)
        known = {xling_id for rows in self.versions.values() for xling_id in rows}
        ids, langs = answers["answer_id"].to_pylist(), answers["lang"].to_pylist()
        rows = {answer_id: row for row, answer_id in enumerate(ids)}
        self._languages = frozenset(langs)
        self._answers: dict[str, dict[str, list[int]]] = {}
        pools: dict[str, set[str]] = {}
        pairs = zip(answered["xling_id"].to_pylist(), answered["answer_id"].to_pylist(), strict=True)
        for xling_id, answer_id in sorted(pairs):
            if xling_id in known and answer_id in rows:
                lang = langs[rows[answer_id]]
                self._answers.setdefault(xling_id, {}).setdefault(lang, []).append(rows[answer_id])
                pools.setdefault(lang, set()).add(answer_id)
        self.pools = {lang: [rows[answer_id] for answer_id in sorted(ids)] for lang, ids in pools.items()}
        self._texts = answers["text"].to_pylist()
        self._same: dict[tuple[str, str], list[int]] = {}
        for lang, pool in self.pools.items():
            for row in pool:
                self._same.setdefault((lang, self._texts[row]), []).append(row)
        self._usable: dict[LanguageSet, list[str]] = {}

    def no_negatives(self, xling_id: str, lang: str) -> Sequence[int]:
        """Return the rows of the candidates in a language that are no negatives of a question: its answers, and others of the same text."""
        answers = self.answers(xling_id, lang)
        return list(dict.fromkeys(row for answer in answers for row in self._same[lang, self._texts[answer]]))

    def answers(self, xling_id: str, lang: str) -> Sequence[int]:
        """Return the rows of the candidates in a language that answer a question, sorted by id."""
        return self._answers.get(xling_id, {}).get(lang, ())

    def usable(self, languages: LanguageSet) -> list[str]:
        """Return the questions that a set may hold, sorted by xling_id.

        They have a version in the question language and, in every candidate language, a candidate that answers them and one that does not.
        """
        if languages not in self._usable:
            wanted = languages.candidate_langs
            self._usable[languages] = [
                xling_id
                for xling_id in self._answerable(languages)
                if all(len(self.no_negatives(xling_id, lang)) < len(self.pools[lang]) for lang in wanted)
            ]
        return self._usable[languages]

    def _answerable(self, languages: LanguageSet) -> list[str]:
        versions = self.versions.get(languages.query_lang, {})
        return sorted(i for i in versions if all(self.answers(i, lang) for lang in languages.candidate_langs))

    def check(self, transfer: Transfer, sizes: Sizes) -> None:
        """Check that the material suffices for a task of a transfer.

        Raises:
            TableError: names the transfer, the language and what is missing.
        """
        _check_room(transfer, sizes)
        for language_set in transfer.sets:
            _known(transfer, language_set.query_lang, self.versions, "question")
            for lang in language_set.candidate_langs:
                _known(transfer, lang, self._languages, "candidate")
        needed = 0
        for number, language_set in enumerate(transfer.sets):
            needed += sizes.of(number)
            answerable, usable = self._answerable(language_set), self.usable(language_set)
            asked, read = language_set.query_lang, _list(language_set.candidate_langs)
            what = f"questions in '{asked}' with candidates in {read} that answer them"
            if len(answerable) < needed:
                raise _too_few(transfer, number, needed, len(answerable), what)
            if len(usable) < needed:
                what += f", and in {read} candidates of other questions as negatives"
                raise _too_few(transfer, number, needed, len(usable), what)


class Pairs:
    """Sentence pairs in several languages, of the splits that support and query sets are drawn from.

    Args:
        pairs: SENTENCE_PAIRS, of which pair_id, lang and split are read.

    Attributes:
        rows: split -> language -> pair_id -> row.
    """

    SPLITS: tuple[str, ...] = ("train", "dev")
    """The splits of support and of query pairs."""

    def __init__(self, pairs: pa.Table) -> None:
        self.rows: dict[str, dict[str, dict[str, int]]] = {split: {} for split in self.SPLITS}
        columns = (pairs[name].to_pylist() for name in ("split", "lang", "pair_id"))
        for row, (split, lang, pair_id) in enumerate(zip(*columns, strict=True)):
            if split in self.rows:
                self.rows[split].setdefault(lang, {})[pair_id] = row
        self._usable: dict[tuple[LanguageSet, str], list[str]] = {}

    def usable(self, languages: LanguageSet, number: int) -> list[str]:
        """Return the pairs that a set may hold, sorted by id: those of its split in all its languages."""
        split = self.split(number)
        if (languages, split) not in self._usable:
            wanted = [self.rows[split].get(lang, {}) for lang in (languages.query_lang, *languages.candidate_langs)]
            self._usable[languages, split] = sorted(set(wanted[0]).intersection(*wanted[1:]))
        return self._usable[languages, split]

    def split(self, number: int) -> str:
        """Return the split of a task's set."""
        return self.SPLITS[min(number, 1)]

    def check(self, transfer: Transfer, sizes: Sizes) -> None:
        """Check that the material suffices for a task of a transfer.

        Raises:
            TableError: names the transfer, the language and what is missing.
        """
        _check_room(transfer, sizes)
        needed = dict.fromkeys(self.SPLITS, 0)
        for number, language_set in enumerate(transfer.sets):
            split = self.split(number)
            for lang in (language_set.query_lang, *language_set.candidate_langs):
                _known(transfer, lang, self.rows[split], f"pair of split {split}")
            needed[split] += sizes.of(number)
            count = len(self.usable(language_set, number))
            if count < needed[split]:
                languages = _list((language_set.query_lang, *language_set.candidate_langs))
                raise _too_few(transfer, number, needed[split], count, f"pairs of split {split} in {languages}")


def _versions(questions: pa.Table) -> dict[str, dict[str, int]]:
    versions: dict[str, dict[str, int]] = {}
    xling_ids, langs = questions["xling_id"].to_pylist(), questions["lang"].to_pylist()
    for row, (xling_id, lang) in enumerate(zip(xling_ids, langs, strict=True)):
        first = versions.setdefault(lang, {}).setdefault(xling_id, row)
        if first != row:
            ids = [questions["question_id"][i].as_py() for i in (first, row)]
            raise TableError(f"questions {ids[0]!r} and {ids[1]!r} are both {xling_id!r} in '{lang}'; keep one of them")
    return versions


def _known(transfer: Transfer, lang: str, languages: Iterable[str], what: str) -> None:
    names = sorted(languages)
    if lang not in names:
        known = ", ".join(names) or "none"
        raise TableError(
            f"transfer '{transfer}' needs '{lang}', and no training {what} is in that language; there are {known}"
        )


def _check_room(transfer: Transfer, sizes: Sizes) -> None:
    if fault := lacking_room(transfer, sizes.shots, sizes.queries):
        raise TableError(fault)


def _too_few(transfer: Transfer, number: int, needed: int, count: int, what: str) -> TableError:
    return TableError(
        f"transfer '{transfer}': a task with its set '{transfer.sets[number]}' needs {needed} training {what}; there are {count}. "
        "Lower tasks.shots or tasks.queries, take other languages, or add data"
    )


def _list(languages: Sequence[str]) -> str:
    return " and ".join(f"'{lang}'" for lang in languages)
