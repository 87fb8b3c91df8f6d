"""Checks of what was read of a source, for distillation and meta-learning: ids once, versions that agree, judgements of what exists.

Tables here have, beside their own columns, `source` and `line` (`distill.formats.rows.ORIGIN`), which messages name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import SourceError
from distill.formats.rows import Rejects, RowError
from distill.tables import STRING, duplicates

_SHOWN = 3


def check_unique(table: pa.Table, key: tuple[str, ...], noun: str) -> None:
    """Check that no two rows have the same `key`; raise SourceError, which names the first one and two lines that have it."""
    repeated = duplicates(table, key)
    if not repeated:
        return
    first = dict(zip(key, repeated[0], strict=True))
    shown = " ".join(f"{name} '{value}'" for name, value in first.items())
    more = f" ({len(repeated) - 1} more such)" if len(repeated) > 1 else ""
    lines = " and ".join(_origins(table, first)[:2])
    raise SourceError(f"{noun} more than once: {shown} in {lines}{more}; ids must be unique")


def check_versions(table: pa.Table, key: str, column: str, noun: str) -> None:
    """Check that the versions in several languages of one thing have the same value in `column`.

    Args:
        table: rows with the columns `key`, `column` and `lang`.
        key: the column whose value versions share.
        column: the column that must agree, for example `split`.
        noun: what the rows are, for the message.

    Raises:
        SourceError: two versions differ; the message shows the first thing of which they do.
    """
    counts = table.select([key, column]).group_by(key).aggregate([(column, "count_distinct")])
    torn = counts.filter(pc.greater(counts[f"{column}_count_distinct"], 1))[key].to_pylist()
    if torn:
        versions = table.filter(pc.equal(table[key], min(torn))).slice(0, _SHOWN).to_pylist()
        shown = ", ".join(f"'{row[column]}' in {row['lang']} ({origin(row)})" for row in versions)
        raise SourceError(
            f"{len(torn)} {plural(noun)} have versions of different {plural(column)}, among them '{min(torn)}': {shown}"
        )


def known_judgements(
    qrels: pa.Table,
    column: str,
    noun: str,
    known: pa.Array,
    rejects: Rejects,
    rejected: Sequence[str],
    skipped: pa.Array | None = None,
) -> tuple[pa.Table, int]:
    """Return the judgements whose id in `column` is known, and how many are left out because their id was skipped.

    Cost: a hash table of each list of ids.

    Args:
        qrels: judgements (QREL_ROWS).
        column: `query_id` or `passage_id`.
        noun: what the ids stand for, in messages.
        known: ids of the rows that are kept.
        rejects: where judgements of rejected rows go.
        rejected: ids of the rejected rows.
        skipped: ids of the rows that are left out on purpose, by their language.

    Raises:
        SourceError: a judgement is of an id that no row has.
    """
    is_known = pc.is_in(qrels[column], value_set=known)
    others, qrels = qrels.filter(pc.invert(is_known)), qrels.filter(is_known)
    left_out = 0
    if skipped is not None:
        is_skipped = pc.is_in(others[column], value_set=skipped)
        left_out = pc.sum(is_skipped).as_py() or 0
        others = others.filter(pc.invert(is_skipped))
    is_rejected = pc.is_in(others[column], value_set=pa.array(rejected, STRING))
    for row in others.filter(is_rejected).to_pylist():
        error = RowError(noun, f"'{row[column]}' was rejected, so its judgement is too", row["query_id"])
        rejects.add(row["source"], row["line"], error)
    _check_none_unknown(others.filter(pc.invert(is_rejected)), column, noun)
    return qrels, left_out


def _check_none_unknown(qrels: pa.Table, column: str, noun: str) -> None:
    ids = pc.unique(qrels[column]).to_pylist()
    if ids:
        shown = ", ".join(f"'{name}' ({_origins(qrels, {column: name})[0]})" for name in ids[:_SHOWN])
        raise SourceError(
            f"qrels judge {len(ids)} {plural(noun)} that exist nowhere: {shown}; add files that have them, or remove the lines"
        )


def origin(row: Mapping[str, Any]) -> str:
    """Return file and line of a row, for messages."""
    return f"{row['source']} line {row['line']}"


def plural(noun: str) -> str:
    """Return the plural of a noun of this module's messages."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def _origins(table: pa.Table, values: Mapping[str, Any]) -> list[str]:
    for name, value in values.items():
        table = table.filter(pc.equal(table[name], value))
    return [origin(row) for row in table.select(["source", "line"]).to_pylist()]
