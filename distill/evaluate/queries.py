"""The queries of an evaluation: which are judged, and which the student was trained with."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc


def judged_queries(queries: pa.Table, qrels: pa.Table, split: str, lang: str) -> list[str]:
    """Return the ids of the queries of a split in a language that have a judgement, sorted.

    Args:
        queries: QUERIES, or its columns query_id, lang and split.
        qrels: QRELS, or its column query_id.
        split: the split.
        lang: the language.
    """
    asked = _asked(queries, split, lang)
    return sorted(asked.filter(pc.is_in(asked, value_set=pc.unique(qrels["query_id"]))).to_pylist())


def nothing_to_evaluate(queries: pa.Table, qrels: pa.Table, split: str, lang: str) -> str:
    """Return why no query can be evaluated; empty if one can: if it has a judgement with a grade of 1 or more.

    Args:
        queries: QUERIES, or its columns query_id, lang and split.
        qrels: QRELS.
        split: the split to evaluate.
        lang: the language of its queries.
    """
    ids = judged_queries(queries, qrels, split, lang)
    wanted = pa.array(ids, pa.string())
    relevant = pc.and_(pc.is_in(qrels["query_id"], value_set=wanted), pc.greater(qrels["relevance"], 0))
    if pc.any(relevant).as_py():
        return ""
    here = f"split '{split}' and language '{lang}' (evaluate.split, evaluate.query_lang)"
    if ids:
        return f"none of the {len(ids):,} judged queries in {here} has a passage of grade 1 or more"
    judged = queries.filter(pc.is_in(queries["query_id"], value_set=pc.unique(qrels["query_id"])))
    groups = (
        judged.group_by(["split", "lang"])
        .aggregate([([], "count_all")])
        .sort_by([("split", "ascending"), ("lang", "ascending")])
    )
    elsewhere = [
        f"{row['count_all']:,} in split '{row['split']}' and language '{row['lang']}'" for row in groups.to_pylist()
    ]
    asked = f"{len(_asked(queries, split, lang)):,} queries in {here}, none of them judged"
    if not elsewhere:
        return f"{asked}; no query is judged at all"
    return (
        f"{asked}; judged queries: {', '.join(elsewhere)}; a field can give each query its split (query_fields.split)"
    )


def trained_on(evaluated: pa.Table, trained: Iterable[tuple[str, str]], *, same_ids: bool) -> int:
    """Return how many of the evaluated queries (query_id, text) are among those trained with.

    A query is the same if its text is, up to case and white space.

    Args:
        evaluated: the queries that were evaluated.
        trained: id and text of the queries that were trained with.
        same_ids: whether both are of one source, where equal ids are the same query, in another language perhaps.
    """
    ids, texts = set(), set()
    for query_id, text in trained:
        ids.add(query_id)
        texts.add(_folded(text))
    return sum(
        (same_ids and query_id in ids) or _folded(text) in texts
        for query_id, text in zip(evaluated["query_id"].to_pylist(), evaluated["text"].to_pylist(), strict=True)
    )


def _asked(queries: pa.Table, split: str, lang: str) -> pa.ChunkedArray:
    return queries["query_id"].filter(pc.and_(pc.equal(queries["split"], split), pc.equal(queries["lang"], lang)))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
