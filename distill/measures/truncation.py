"""Counts of the texts of which an encoder read only the beginning, by language."""

from collections.abc import Mapping

import pyarrow as pa

from cluster.workspace import Workspace

Counts = dict[str, dict[str, int]]
"""Language -> `texts`, and those of them that are `truncated`."""


def truncated_counts(texts: pa.Table) -> Counts:
    """Return the counts of a table of texts with the columns `lang` and `truncated` (boolean)."""
    numbers = pa.table({"lang": texts["lang"], "truncated": texts["truncated"].cast(pa.int64())})
    rows = numbers.group_by("lang").aggregate([([], "count_all"), ("truncated", "sum")]).sort_by("lang").to_pylist()
    return {row["lang"]: {"texts": row["count_all"], "truncated": row["truncated_sum"]} for row in rows}


def note_truncated(workspace: Workspace, what: str, texts: pa.Table | Mapping[str, Mapping[str, int]]) -> None:
    """Note how many of a stage's texts are truncated, by language, and warn where any are.

    Args:
        workspace: the stage.
        what: the texts, in the plural: `documents`, `queries`, `training passages`.
        texts: the columns `lang` and `truncated` of all, or their `Counts`.
    """
    counts = truncated_counts(texts) if isinstance(texts, pa.Table) else texts
    cut = {lang: numbers for lang, numbers in counts.items() if numbers["truncated"]}
    if not cut:
        return
    shown = ", ".join(
        f"{lang} {numbers['truncated']:,} of {numbers['texts']:,} ({numbers['truncated'] / numbers['texts']:.1%})"
        for lang, numbers in cut.items()
    )
    remedy = (
        "raise student.query_tokens"
        if "queries" in what
        else "cut documents (source.cut) or raise student.passage_tokens"
    )
    facts = {f"truncated_{what.replace(' ', '_')}": {lang: numbers["truncated"] for lang, numbers in cut.items()}}
    workspace.note(**facts, warning=f"the student reads only the beginning of some {what}: {shown}; {remedy}")
