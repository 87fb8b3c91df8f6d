"""Checks of what was read of a source, for distillation and meta-learning: ids once, versions that agree, judgements of what exists.

Tables here have, beside their own columns, `source` and `line` (`distill.formats.rows.ORIGIN`), which messages name.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import visible
from cluster.locations import SourceError
from distill.formats.rows import Rejects, RowError
from distill.tables import duplicates

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


def check_no_floats(known: pa.Array, judged: pa.ChunkedArray, noun: str) -> None:
    """Check that no id is there both as `12` and as `12.0`, as the floats of a pandas column with gaps are written.

    Args:
        known: ids of rows.
        judged: ids in judgements.
        noun: what the ids stand for, for the message.

    Raises:
        SourceError: an id is there in both spellings; the message names it.
    """
    floats = [ids.filter(pc.match_substring_regex(ids, r"^[0-9]+\.0$")) for ids in (pa.chunked_array([known]), judged)]
    for found in floats:
        whole = pc.utf8_slice_codeunits(found, 0, -2)
        for ids in (known, judged):
            both = whole.filter(
                pc.is_in(whole, value_set=ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids)
            )
            if len(both):
                raise SourceError(
                    f"{noun} ids '{both[0]}.0' and '{both[0]}': a whole number is written as a float in one of the files; "
                    "write ids as whole numbers or text"
                )


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


@dataclass(frozen=True)
class Known:
    """The ids that judgements may name in one of their columns.

    Attributes:
        column: `query_id` or `passage_id`.
        noun: what the ids stand for, in messages.
        ids: ids of the rows that are kept.
        rejected: ids of the rows that could not be used.
        skipped: ids of the rows that are left out on purpose, by their language.
    """

    column: str
    noun: str
    ids: pa.Array
    rejected: Sequence[str] = ()
    skipped: pa.Array | None = None


class Judgements(NamedTuple):
    """Judgements of what exists, and what was left out.

    Attributes:
        kept: QREL_ROWS of known queries and passages.
        skipped: by noun, how many are of rows that are left out on purpose.
        unknown: how many are of ids that no row has.
    """

    kept: pa.Table
    skipped: Counter[str]
    unknown: int


def known_judgements(qrels: pa.Table, columns: Sequence[Known], rejects: Rejects) -> Judgements:
    """Return the judgements whose ids are all known.

    Those of rejected rows and of ids that no row has go to `rejects`. Cost: a hash table of each list of ids.

    Raises:
        SourceError: a larger share of a file's judgements than `rejects.limit` is of ids that no row has.
    """
    totals = {entry["values"]: entry["counts"] for entry in qrels["source"].value_counts().to_pylist()}
    skipped: Counter[str] = Counter()
    dangling: dict[str, list[str]] = {}
    for known in columns:
        is_known = pc.is_in(qrels[known.column], value_set=known.ids)
        others, qrels = qrels.filter(pc.invert(is_known)), qrels.filter(is_known)
        if known.skipped is not None:
            is_skipped = pc.is_in(others[known.column], value_set=known.skipped)
            skipped[known.noun] += pc.sum(is_skipped).as_py() or 0
            others = others.filter(pc.invert(is_skipped))
        rejected = set(known.rejected)
        for row in others.to_pylist():
            shown = f"'{visible(row[known.column])}'"
            if row[known.column] in rejected:
                reason = f"{shown} was rejected, so its judgement is too"
            else:
                reason = f"{shown} exists nowhere, so its judgement is left out"
                dangling.setdefault(row["source"], []).append(f"{known.noun} {shown} (line {row['line']})")
            rejects.add(row["source"], row["line"], RowError(known.noun, reason, row["query_id"]))
    _check_share(dangling, totals, columns, rejects.limit)
    return Judgements(qrels, +skipped, sum(map(len, dangling.values())))


def _check_share(
    dangling: Mapping[str, Sequence[str]], totals: Mapping[str, int], columns: Sequence[Known], limit: float
) -> None:
    for source, shown in dangling.items():
        if len(shown) > limit * totals[source]:
            nouns = " or ".join(plural(known.noun) for known in columns)
            raise SourceError(
                f"{source}: {len(shown)} of {totals[source]} judgements are of {nouns} that exist nowhere, more than max_rejected "
                f"{limit}: {', '.join(shown[:_SHOWN])}; add files that have them, remove the lines, or raise max_rejected"
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
