"""The contract of a table: its columns with types and meaning, its key, and its lists of equal length."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError

STRING = pa.string()
STRINGS = pa.list_(pa.string())
FLOATS = pa.list_(pa.float32())


class TableError(UserError, ValueError):
    """A table does not keep its contract. The message names the columns or rows, what they hold and what was expected."""


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, its meaning, and whether its lists may hold nulls."""

    name: str
    type: pa.DataType
    meaning: str
    gaps: bool = False


@dataclass(frozen=True)
class Table:
    """One data contract.

    Attributes:
        name: the table's name, also its folder's name inside a stage's output.
        purpose: one sentence for the documentation.
        columns: the columns, in order.
        key: the columns whose values together are unique.
        order: what row order means, or why it means nothing.
        example: one row, shown in the documentation and checked by a test.
        aligned: groups of list columns whose lengths are equal in each row.
    """

    name: str
    purpose: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order: str
    example: Mapping[str, Any]
    aligned: tuple[tuple[str, ...], ...] = field(default=())

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; no column is nullable."""
        return pa.schema([pa.field(column.name, column.type, nullable=False) for column in self.columns])

    def check(self, table: pa.Table, source: str = "") -> pa.Table:
        """Return `table` with the columns in contract order, or raise a `TableError` that names every fault.

        Checked: missing and unexpected columns, types, nulls, duplicate keys, and unequal lengths of aligned lists.
        `source` (a file or a stage) begins the message. Cost: one hash of the key columns.
        """
        faults = self._shape_faults(table)
        if not faults:
            table = table.select([column.name for column in self.columns])
            faults = [*self._null_faults(table), *self._length_faults(table), *self._key_faults(table)]
        if faults:
            origin = f"{source}: " if source else ""
            raise TableError(f"{origin}not a '{self.name}' table: " + "; ".join(faults))
        return table.cast(self.schema)

    def empty(self) -> pa.Table:
        """Return a table of this contract without rows."""
        return self.schema.empty_table()

    def from_rows(self, rows: Iterable[Mapping[str, Any]], source: str = "") -> pa.Table:
        """Build and check a table from dictionaries."""
        rows = list(rows)
        names = [column.name for column in self.columns]
        unknown = sorted({name for row in rows for name in row} - set(names))
        if unknown:
            raise TableError(f"not a '{self.name}' table: unexpected columns {unknown}")
        arrays = [pa.array([row.get(column.name) for row in rows], type=column.type) for column in self.columns]
        return self.check(pa.table(arrays, names=names), source)

    def _shape_faults(self, table: pa.Table) -> list[str]:
        faults = []
        for column in self.columns:
            if column.name not in table.column_names:
                faults.append(f"column '{column.name}' is missing")
            elif not _same_type(table.schema.field(column.name).type, column.type):
                faults.append(
                    f"column '{column.name}' is {table.schema.field(column.name).type}, expected {column.type}"
                )
        unexpected = sorted(set(table.column_names) - {column.name for column in self.columns})
        if unexpected:
            faults.append(f"unexpected columns {unexpected}")
        return faults

    def _null_faults(self, table: pa.Table) -> list[str]:
        faults = []
        for name in table.column_names:
            if table[name].null_count:
                row = pc.index(pc.is_null(table[name]), value=True).as_py()
                faults.append(f"column '{name}' has {table[name].null_count} nulls, the first in row {row}")
        whole = [column.name for column in self.columns if pa.types.is_list(column.type) and not column.gaps]
        holes = {name: pc.list_flatten(table[name]).null_count for name in whole}
        return faults + [f"column '{name}' has {nulls} nulls in its lists" for name, nulls in holes.items() if nulls]

    def _length_faults(self, table: pa.Table) -> list[str]:
        faults = []
        for first, *others in self.aligned:
            for other in others:
                differ = pc.not_equal(pc.list_value_length(table[first]), pc.list_value_length(table[other]))
                row = pc.index(differ, value=True).as_py() if len(table) else -1
                if row >= 0:
                    faults.append(
                        f"row {row} has {len(table[first][row])} {first} but {len(table[other][row])} {other}"
                        f" ({', '.join(f'{k} {table[k][row].as_py()!r}' for k in self.key)})"
                    )
        return faults

    def _key_faults(self, table: pa.Table) -> list[str]:
        repeated = duplicates(table, self.key)
        if not repeated:
            return []
        shown = ", ".join(
            "(" + ", ".join(f"{k} {v!r}" for k, v in zip(self.key, values, strict=True)) + ")"
            for values in repeated[:3]
        )
        return [f"{len(repeated)} repeated keys, among them {shown}"]


def duplicates(table: pa.Table, key: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the key values that occur more than once, in sorted order."""
    if not key or len(table) < 2:
        return []
    counts = table.select(list(key)).group_by(list(key)).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1)).select(list(key))
    return sorted(tuple(row[k] for k in key) for row in repeated.to_pylist())


def lookup(table: pa.Table, key: str, ids: Sequence[str] | pa.Array, what: str) -> pa.Table:
    """Return the rows of `table` whose `key` is each of `ids`, in the order of `ids`.

    An id that `table` lacks is a `TableError` that begins with `what` and names up to three of them.
    """
    wanted: pa.Array = ids if isinstance(ids, pa.Array) else pa.array(ids, STRING)
    rows = pc.index_in(wanted, value_set=table[key].combine_chunks())
    if rows.null_count:
        lost = sorted(set(wanted.filter(pc.is_null(rows)).to_pylist()))
        raise TableError(f"{what}: {len(lost)} of {key} do not exist, among them {lost[:3]}")
    return table.take(rows)


def _same_type(actual: pa.DataType, expected: pa.DataType) -> bool:
    if pa.types.is_list(actual) and pa.types.is_list(expected):
        return _same_type(actual.value_type, expected.value_type)
    return actual == expected
