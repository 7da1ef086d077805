"""Tables made from other tables."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.sample.draw import Draw


def shuffled(rows: pa.Table, seed: int) -> pa.Table:
    """The rows in another order."""
    return rows.take(Draw(seed, rows.num_rows).order())


def repeated(rows: pa.Table, count: int) -> pa.Table:
    """The rows, the first ones once more at the end."""
    return pa.concat_tables([rows, rows.slice(0, count)])


def with_types(rows: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The same values, some columns with other types; raises where a value does not fit."""
    fields = [pa.field(f.name, types.get(f.name, f.type)) for f in rows.schema]
    return rows.cast(pa.schema(fields))


def with_column(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows with other values in one column."""
    return rows.set_column(rows.column_names.index(name), name, values)


def all_null(rows: pa.Table, name: str, dtype: pa.DataType) -> pa.Table:
    """The rows with one column NULL throughout, of another type."""
    return with_column(rows, name, pa.nulls(rows.num_rows, dtype))


def renamed(rows: pa.Table, change: Callable[[str], str]) -> pa.Table:
    """The rows with each column name changed."""
    return rows.rename_columns([change(name) for name in rows.column_names])


def where(rows: pa.Table, name: str, *values: object) -> pa.Table:
    """The rows whose column has one of some values."""
    column = rows.column(name)
    return rows.filter(pc.is_in(column, value_set=pa.array(values, column.type)))


def from_day(rows: pa.Table, name: str, day: str) -> pa.Table:
    """The rows whose date is that day or later."""
    return rows.filter(pc.greater_equal(rows.column(name), pa.scalar(datetime.date.fromisoformat(day))))


def one_changed(rows: pa.Table, name: str, value: object) -> pa.Table:
    """The rows, one value in the middle of a column replaced."""
    values = rows.column(name).to_pylist()
    values[len(values) // 2] = value
    return with_column(rows, name, pa.array(values, rows.column(name).type))
