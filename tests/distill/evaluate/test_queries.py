"""Which queries are judged, why none may be, and which were trained with."""

import pyarrow as pa

from distill.evaluate.queries import judged_queries, nothing_to_evaluate, trained_on
from distill.tables import QRELS, QUERIES


def queries(*rows: tuple[str, str, str]) -> pa.Table:
    return QUERIES.from_rows({"query_id": i, "lang": lang, "text": i, "split": split} for i, lang, split in rows)


def qrels(**grades: int) -> pa.Table:
    return QRELS.from_rows({"query_id": i, "passage_id": "p", "relevance": grade} for i, grade in grades.items())


HELD = queries(("b", "en", "test"), ("a", "en", "test"), ("a", "de", "test"), ("c", "en", "train"), ("d", "en", "test"))


def test_judged_queries() -> None:
    assert judged_queries(HELD, qrels(b=1, a=0, c=1), "test", "en") == ["a", "b"]
    assert judged_queries(HELD, qrels(b=1, a=0, c=1), "test", "de") == ["a"]
    assert judged_queries(HELD, QRELS.empty(), "test", "en") == []


def test_why_nothing_can_be_evaluated() -> None:
    here = "(evaluate.split, evaluate.query_lang)"
    assert nothing_to_evaluate(HELD, qrels(a=0, b=1), "test", "en") == ""
    assert nothing_to_evaluate(HELD, QRELS.empty(), "test", "en") == (
        f"3 queries in split 'test' and language 'en' {here}, none of them judged; no query is judged at all"
    )
    assert nothing_to_evaluate(HELD, qrels(a=1, b=1, c=1), "dev", "en") == (
        f"0 queries in split 'dev' and language 'en' {here}, none of them judged; judged queries: 1 in split 'test' and language 'de', "
        "2 in split 'test' and language 'en', 1 in split 'train' and language 'en'; a field can give each query its split "
        "(query_fields.split)"
    )
    assert nothing_to_evaluate(HELD, qrels(a=0, b=-1, c=1), "test", "en") == (
        f"none of the 2 judged queries in split 'test' and language 'en' {here} has a passage of grade 1 or more"
    )


def test_queries_that_were_trained_with() -> None:
    evaluated = pa.table({"query_id": ["q1", "q2", "q3"], "text": ["How do  Bees\tfind food?", "Stein", "bridge"]})
    trained = [("t1", "how do bees find food?"), ("q2", "stone")]
    # q2 is the same query in another language, if the ids are of one source.
    assert trained_on(evaluated, trained, same_ids=True) == 2
    assert trained_on(evaluated, trained, same_ids=False) == 1
    assert trained_on(evaluated, [], same_ids=True) == 0
