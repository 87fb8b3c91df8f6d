import pyarrow as pa
import pyarrow.compute as pc
import pytest

from distill.meta.tasks.material import Pairs, Questions, Sizes
from distill.meta.tasks.transfers import LanguageSet, Transfer
from distill.tables import TableError
from tests.parallel_sources import parallel_pairs, parallel_questions

SIZES = Sizes(2, 3)


def without(table: pa.Table, column: str, *values: str) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table[column], value_set=pa.array(values))))


def material(**changed: pa.Table) -> Questions:
    return Questions(**{**parallel_questions(articles=1), **changed})


def fault(material: Questions | Pairs, transfer: str, sizes: Sizes = SIZES) -> str:
    with pytest.raises(TableError) as error:
        material.check(Transfer.parse(transfer), sizes)
    return str(error.value)


def test_answers_and_pools_are_by_id() -> None:
    tables = parallel_questions(articles=1)
    ids = tables["answers"]["answer_id"].to_pylist()
    found = material()
    assert [ids[row] for row in found.answers("q01", "de")] == ["a00_de", "a01_de"]
    assert [ids[row] for row in found.answers("q02", "fr")] == ["a02_fr"]
    assert found.answers("q02", "ru") == ()
    # what answers nothing is no negative: negatives answer other questions
    assert [ids[row] for row in found.pools["fr"]] == ["a00_fr", "a01_fr", "a02_fr", "a03_fr", "a04_fr"]


def test_a_set_holds_questions_with_answers_in_all_its_languages() -> None:
    tables = parallel_questions(articles=1)
    found = material(
        questions=without(tables["questions"], "question_id", "q00_de", "q04_fr"),
        answers=without(tables["answers"], "answer_id", "a00_fr", "a02_fr", "a03_en"),
    )
    assert found.usable(LanguageSet("de", ("de",))) == ["q01", "q02", "q03", "q04"]
    assert found.usable(LanguageSet("en", ("en",))) == ["q00", "q01", "q02", "q04"]
    # q01 is answered by a01_fr too
    assert found.usable(LanguageSet("de", ("fr",))) == ["q01", "q03", "q04"]
    assert found.usable(LanguageSet("fr", ("de", "en", "fr"))) == ["q01"]


def twin(answers: pa.Table, copy: str, original: str) -> pa.Table:
    """The candidates, one with another's text."""
    rows = answers.to_pylist()
    (text,) = (row["text"] for row in rows if row["answer_id"] == original)
    return pa.Table.from_pylist(
        [row | ({"text": text} if row["answer_id"] == copy else {}) for row in rows], schema=answers.schema
    )


def test_the_text_of_an_answer_is_no_negative_under_another_id() -> None:
    """A triplet of two equal candidates would teach nothing, and as the hardest negative it would always be chosen."""
    tables = parallel_questions(articles=1)
    ids = tables["answers"]["answer_id"].to_pylist()
    found = material(answers=twin(tables["answers"], "a02_de", "a00_de"))
    assert [ids[row] for row in found.no_negatives("q00", "de")] == ["a00_de", "a02_de"]
    assert [ids[row] for row in found.no_negatives("q02", "de")] == ["a00_de", "a02_de"]
    assert [ids[row] for row in found.no_negatives("q00", "fr")] == ["a00_fr"]
    assert [ids[row] for row in found.answers("q00", "de")] == ["a00_de"]
    kept = pa.array(["a00_de", "a02_de"])
    answers = twin(tables["answers"], "a02_de", "a00_de").filter(
        pc.is_in(tables["answers"]["answer_id"], value_set=kept)
    )
    assert material(answers=answers).usable(LanguageSet("de", ("de",))) == []


def test_a_question_that_all_candidates_answer_has_no_negative() -> None:
    tables = parallel_questions(articles=1)
    kept = pa.array(["a00_fr", "a01_fr", "a02_de", "a03_de", "a04_de"])
    answers = tables["answers"].filter(pc.is_in(tables["answers"]["answer_id"], value_set=kept))
    found = material(answers=answers)
    assert found.usable(LanguageSet("de", ("fr",))) == ["q00"]
    message = fault(found, "de_fr-de_fr,de")
    assert "needs 2 training questions in 'de' with candidates in 'fr' that answer them" in message
    assert ", and in 'fr' candidates of other questions as negatives; there are 1." in message


def test_two_versions_in_a_language_are_refused() -> None:
    table = parallel_questions(articles=1)["questions"]
    rows = table.to_pylist()
    rows[0]["question_id"] = "again"
    again = pa.concat_tables([table, pa.Table.from_pylist(rows[:1], table.schema)])
    with pytest.raises(TableError, match=r"questions 'q00_de' and 'again' are both 'q00' in 'de'; keep one of them"):
        material(questions=again)


def test_what_is_missing_is_named() -> None:
    found = material()
    assert fault(found, "de_de-de_ru").startswith(
        "transfer 'de_de-de_ru' needs 'ru', and no training candidate is in that language; there are de, en, fr"
    )
    assert "needs 'ru', and no training question is in that language" in fault(found, "ru_ru-ru_de")
    # 2 of the support set, 3 of each query set, all different
    assert fault(found, "de_de-de_fr-de_fr,de,en").startswith(
        "transfer 'de_de-de_fr-de_fr,de,en': a task with its set 'de_fr,de,en' needs 8 training questions in 'de' with candidates in "
        "'fr' and 'de' and 'en' that answer them; there are 5. Lower tasks.shots or tasks.queries"
    )
    found.check(Transfer.parse("de_de-de_fr"), SIZES)
    assert "needs 6 training questions" in fault(found, "de_de-de_fr", Sizes(3, 3))


def test_a_set_must_have_room_for_all_its_languages() -> None:
    message = "set 'de_fr,de,en' has 3 candidate languages, and tasks.queries is 2; raise it to 3"
    assert message in fault(material(), "de_de-de_fr-de_fr,de,en", Sizes(1, 2))


def test_pairs_are_of_their_split_and_of_all_languages_of_a_set() -> None:
    table = parallel_pairs(pairs=3)
    table = table.filter(pc.invert(pc.and_(pc.equal(table["pair_id"], "dev/1"), pc.equal(table["lang"], "fr"))))
    found = Pairs(table)
    assert found.usable(LanguageSet("de", ("fr",)), 0) == ["train/0", "train/1", "train/2"]
    assert found.usable(LanguageSet("de", ("fr",)), 1) == ["dev/0", "dev/2"]
    assert found.usable(LanguageSet("de", ("en", "fr")), 2) == ["dev/0", "dev/2"]
    assert found.usable(LanguageSet("en", ("de",)), 1) == ["dev/0", "dev/1", "dev/2"]


def test_missing_pairs_are_named() -> None:
    found = Pairs(parallel_pairs(pairs=5))
    found.check(Transfer.parse("de_de-de_fr"), Sizes(5, 5))
    assert "needs 6 training pairs of split train in 'de' and 'de'; there are 5" in fault(
        found, "de_de-de_fr", Sizes(6, 1)
    )
    # both query sets are of split dev
    assert "'de_fr,de,en' needs 6 training pairs of split dev in 'de' and 'fr' and 'de' and 'en'; there are 5" in fault(
        found, "de_de-de_fr-de_fr,de,en", Sizes(5, 3)
    )
    assert "no training pair of split train is in that language; there are de, en, fr" in fault(found, "ru_ru-ru_de")
