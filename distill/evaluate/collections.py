"""Collections of an evaluation: which documents each of them holds, and which judgements hold there.

A collection is one language (every document in that language), `mixed` (every passage once, the languages dealt round) or `pooled` (every
document, in whatever language). A run's tag is `{system}-{collection}`.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from distill.tables import QRELS, TableError

MIXED = "mixed"
POOLED = "pooled"


def collections(documents: pa.Table, languages: Sequence[str]) -> dict[str, list[int]]:
    """Return the documents of every collection, by their position in `documents`.

    `mixed` takes the passages that exist in all of `languages`, each in one of them; without such passages there is no mixed collection.
    """
    langs = documents["lang"].to_pylist()
    ids = documents["passage_id"].to_pylist()
    positions: dict[str, list[int]] = {lang: [] for lang in sorted(set(langs))}
    for position, lang in enumerate(langs):
        positions[lang].append(position)
    if parallel := sorted(_in_all(documents, languages)):
        assigned = mixed_assignment(parallel, languages)
        positions[MIXED] = [
            position for position, (i, lang) in enumerate(zip(ids, langs, strict=True)) if assigned.get(i) == lang
        ]
    positions[POOLED] = list(range(len(ids)))
    return positions


def mixed_assignment(passage_ids: Sequence[str], languages: Sequence[str]) -> dict[str, str]:
    """Return the language of each passage in the mixed collection: the sorted ids dealt round the languages.

    The numbers of passages differ by one at most, neighbours in the order of ids (parts of one document, siblings) get
    different languages where there are two or more, and nothing depends on the order of the arguments' rows or on a
    seed.

    Raises:
        ValueError: an id occurs twice, or there is no language.
    """
    if not languages:
        raise ValueError("a mixed collection needs one language or more, got none")
    assignment = {
        passage_id: languages[number % len(languages)] for number, passage_id in enumerate(sorted(passage_ids))
    }
    if len(assignment) < len(passage_ids):
        raise ValueError(f"{len(passage_ids) - len(assignment)} passage ids occur twice")
    return assignment


def ordered(names: Iterable[str], source_lang: str, languages: Sequence[str]) -> list[str]:
    """Return collections in the order of tables: the source language, `languages`, other languages, mixed, pooled."""
    first = [source_lang, *languages]

    def place(name: str) -> tuple[int, int, str]:
        if name in first:
            return 0, first.index(name), name
        return (MIXED, POOLED).index(name) + 2 if name in (MIXED, POOLED) else 1, 0, name

    return sorted(set(names), key=place)


def target_languages(names: Iterable[str], source_lang: str, languages: Sequence[str]) -> list[str]:
    """Return the collections among `names` that are one language other than the source language, in the order of tables."""
    apart = {source_lang, MIXED, POOLED}
    return ordered((name for name in names if name not in apart), source_lang, languages)


def split_tag(tag: str, collections: Sequence[str]) -> tuple[str, str]:
    """Split a tag into system and collection. A language code may hold hyphens (`pt-BR`), the name of a system may not.

    Raises:
        TableError: the tag has no system, or a collection that is not among `collections`.
    """
    system, _, collection = tag.partition("-")
    if not system or collection not in collections:
        raise TableError(
            f"retrieve: tag {tag!r} is not a system, a hyphen and one of the collections {list(collections)}"
        )
    return system, collection


def judgements(
    qrels: pa.Table, documents: pa.Table, names: Iterable[str], source_lang: str, languages: Sequence[str]
) -> dict[str, pa.Table]:
    """Return the judgements (QRELS) that hold in each collection: those of the documents in it.

    A judgement holds for every language version of its passage. A query none of whose documents in a collection is relevant (a grade of 1
    or more) has no judgements there, so that no system is measured by what it cannot find; in `pooled`, where everything is, every query
    keeps all of its judgements, see `pooled_qrels`. Cost: one pass over the ids of the documents.

    Args:
        qrels: of the queries to evaluate.
        documents: every document (passage_id, lang).
        names: the collections.
        source_lang: the language of a judged passage that is no document, in the pooled collection.
        languages: those of the mixed collection.
    """
    judged = documents.select(["passage_id", "lang"]).filter(
        pc.is_in(documents["passage_id"], value_set=pc.unique(qrels["passage_id"]))
    )
    held: dict[str, pa.Table] = {}
    for name in names:
        if name == POOLED:
            held[name] = pooled_qrels(qrels, judged, source_lang)
        elif name == MIXED:
            held[name] = _with_relevant(qrels, _in_all(judged, languages))
        else:
            held[name] = _with_relevant(qrels, judged["passage_id"].filter(pc.equal(judged["lang"], name)).to_pylist())
    return held


def pooled_qrels(qrels: pa.Table, documents: pa.Table, source_lang: str) -> pa.Table:
    """Return the judgements of a pooled collection: each language version has its passage's grade.

    A version is `passage_id@lang`; those that exist are the rows of `documents`. A judged passage of which no version
    exists stays as one that cannot be found (its version in `source_lang`), so that an incomplete index is not measured
    as a complete one. Cost: one hash join.
    """
    versions = documents.select(["passage_id", "lang"])
    joined = qrels.join(versions, "passage_id", join_type="left outer")
    names = pc.binary_join_element_wise(joined["passage_id"], pc.fill_null(joined["lang"], source_lang), "@")
    return QRELS.check(
        pa.table({"query_id": joined["query_id"], "passage_id": names, "relevance": joined["relevance"]})
    )


def _in_all(documents: pa.Table, languages: Sequence[str]) -> set[str]:
    """Return the passages that a mixed collection takes: those with a document in each of two or more languages."""
    if len(languages) < 2:
        return set()
    versions: dict[str, set[str]] = {}
    for passage_id, lang in zip(documents["passage_id"].to_pylist(), documents["lang"].to_pylist(), strict=True):
        versions.setdefault(passage_id, set()).add(lang)
    return {passage_id for passage_id, langs in versions.items() if langs >= set(languages)}


def _with_relevant(qrels: pa.Table, passage_ids: Iterable[str]) -> pa.Table:
    """Return the judgements of passages, of those queries to which one of them is relevant."""
    inside = qrels.filter(pc.is_in(qrels["passage_id"], value_set=pa.array(passage_ids, pa.string())))
    relevant = pc.unique(inside["query_id"].filter(pc.greater(inside["relevance"], 0)))
    return inside.filter(pc.is_in(inside["query_id"], value_set=relevant))
