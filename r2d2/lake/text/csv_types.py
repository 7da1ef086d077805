"""The type of a CSV column: the narrowest whose text form gives back every value's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import duckdb
import pyarrow as pa

from r2d2.scan.duck import quote_text

NULL_TEXT = "r2d2:null"
"""The `nullValue` of views: a file that holds it as a value cannot be read through one."""

_COLUMNS_PER_QUERY = 64
_SAMPLE_ROWS = 2048
_MAX_DIGITS = 38

_DECIMAL = r"-?(0|[1-9][0-9]*)\.[0-9]+"
_NEGATIVE_ZERO = r"-0\.0+"
_DOUBLE = r"-?(0|[1-9][0-9]*)\.([0-9]*[1-9]|0)"
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"


@dataclass(frozen=True, kw_only=True)
class ColumnForms:
    """Which forms all non-NULL values of a column have. Without values, every form holds.

    Attributes:
        values: Non-NULL values.
        integer, decimal, double, boolean, date, timestamp, timestamp_micros: Whether all have that form.
        low_scale, high_scale: Fewest and most characters after the first point (None without values).
        integer_digits: Most digits before it, leading zeros not counted (None without values).
        empty_text, carriage_return, null_text: Whether some value is empty, contains a CR, is `NULL_TEXT`.
    """

    values: int
    integer: bool
    decimal: bool
    double: bool
    boolean: bool
    date: bool
    timestamp: bool
    timestamp_micros: bool
    low_scale: int | None
    high_scale: int | None
    integer_digits: int | None
    empty_text: bool
    carriage_return: bool
    null_text: bool

    @property
    def dtype(self) -> pa.DataType:
        """The column's type."""
        if self.values == 0:
            return pa.string()
        for holds, dtype in (
            (self.integer, pa.int64()),
            (self.decimal and self._fits_decimal, None),
            (self.double, pa.float64()),
            (self.boolean, pa.bool_()),
            (self.date, pa.date32()),
            (self.timestamp or self.timestamp_micros, pa.timestamp("us")),
        ):
            if holds:
                return dtype or self._decimal_type()
        return pa.string()

    @property
    def _fits_decimal(self) -> bool:
        same_scale = self.low_scale == self.high_scale
        return same_scale and (self.integer_digits or 0) + (self.high_scale or 0) <= _MAX_DIGITS

    def _decimal_type(self) -> pa.DataType:
        scale = self.high_scale or 0
        return pa.decimal128(min(_MAX_DIGITS, max(1, self.integer_digits or 0) + scale), scale)


_ALL = ("integer", "decimal", "double", "boolean", "date", "timestamp", "timestamp_micros")
_ANY = ("empty_text", "carriage_return", "null_text")
_NUMBERS = {"low_scale": "min", "high_scale": "max", "integer_digits": "max"}

_NO_VALUES: dict[str, Any] = {**dict.fromkeys(_ALL, True), **dict.fromkeys(_NUMBERS), **dict.fromkeys(_ANY, False)}
NO_VALUES = ColumnForms(values=0, **_NO_VALUES)


def column_forms(connection: duckdb.DuckDBPyConnection, path: str, columns: int, rows: int) -> list[ColumnForms]:
    """Look at every value of a Parquet file whose columns c0, c1, … are all text.

    What the first rows refute is not looked for again, which is most of it.

    Args:
        connection: Where the queries run.
        path: As `files.duckdb_path` returns it.
        columns: How many columns to look at.
        rows: Rows of the file.
    """
    scan = f"read_parquet([{quote_text(path)}], hive_partitioning = false)"
    forms: list[ColumnForms] = []
    for start in range(0, columns, _COLUMNS_PER_QUERY):
        block = range(start, min(columns, start + _COLUMNS_PER_QUERY))
        possible = [NO_VALUES] * len(block)
        if rows > _SAMPLE_ROWS:
            possible = _block_forms(connection, f"(SELECT * FROM {scan} LIMIT {_SAMPLE_ROWS})", block, possible)
        forms += _block_forms(connection, scan, block, possible)
    return forms


def _block_forms(
    connection: duckdb.DuckDBPyConnection, relation: str, block: range, possible: Sequence[ColumnForms]
) -> list[ColumnForms]:
    """Forms of some columns; those that are not possible are not looked for."""
    aggregates = [
        sql for index, forms in zip(block, possible, strict=True) for sql in _aggregates(f"c{index}", forms).values()
    ]
    answer = connection.execute(f"SELECT {', '.join(aggregates)} FROM {relation}").fetchone() or ()
    width = len(answer) // len(block)
    return [_forms(answer[place * width : (place + 1) * width]) for place in range(len(block))]


def merged(forms: Sequence[ColumnForms]) -> ColumnForms:
    """The forms of one column over several files."""
    return reduce(_both, forms, NO_VALUES)


def _both(one: ColumnForms, other: ColumnForms) -> ColumnForms:
    def numbers(name: str, pick: str) -> int | None:
        known = [value for value in (getattr(one, name), getattr(other, name)) if value is not None]
        return None if not known else min(known) if pick == "min" else max(known)

    forms: dict[str, Any] = {
        **{name: getattr(one, name) and getattr(other, name) for name in _ALL},
        **{name: getattr(one, name) or getattr(other, name) for name in _ANY},
        **{name: numbers(name, pick) for name, pick in _NUMBERS.items()},
    }
    return ColumnForms(values=one.values + other.values, **forms)


def _forms(answer: Sequence[Any]) -> ColumnForms:
    named = dict(zip(_aggregates("c", NO_VALUES), answer, strict=True))
    for name in _ALL:
        named[name] = named[name] is not False  # NULL: no value speaks against it
    for name in _ANY:
        named[name] = bool(named[name])
    return ColumnForms(**named)


def _aggregates(column: str, possible: ColumnForms) -> dict[str, str]:
    """Aggregates by attribute of ColumnForms."""
    conditions = {
        name: f"bool_and({column} IS NULL OR ({sql}))" if getattr(possible, name) else "false"
        for name, sql in _conditions(column).items()
    }
    scale = f"length({column}) - instr({column}, '.')"
    digits = f"length(ltrim(split_part({column}, '.', 1), '-0'))"
    numbers = {"low_scale": f"min({scale})", "high_scale": f"max({scale})", "integer_digits": f"max({digits})"}
    return {
        "values": f"count({column})",
        **conditions,
        **(numbers if possible.decimal else dict.fromkeys(numbers, "NULL")),
        "empty_text": f"bool_or({column} = '')",
        "carriage_return": f"bool_or(contains({column}, chr(13)))",
        "null_text": f"bool_or({column} = {quote_text(NULL_TEXT)})",
    }


def _conditions(column: str) -> dict[str, str]:
    """Conditions on one value; never NULL where the value is not."""
    day, time = f"left({column}, 10)", f"substr({column}, 11)"
    return {
        "integer": f"coalesce(try_cast({column} AS BIGINT)::VARCHAR = {column}, false)",
        "decimal": f"{_matches(column, _DECIMAL)} AND NOT {_matches(column, _NEGATIVE_ZERO)}",
        "double": f"{_matches(column, _DOUBLE)} AND coalesce({_is_shortest(column)}, false)",
        "boolean": f"{column} IN ('true', 'false')",
        "date": _is_real_date(column),
        "timestamp": f"{_is_real_date(day)} AND {_matches(time, ' ' + _TIME)}",
        "timestamp_micros": f"{_is_real_date(day)} AND {_matches(time, ' ' + _TIME + '[.][0-9]{6}')}",
    }


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {quote_text(pattern)})"


def _is_real_date(text: str) -> str:
    return f"({_matches(text, _DATE)} AND coalesce(try_cast({text} AS DATE)::VARCHAR = {text}, false))"


def _is_shortest(column: str) -> str:
    """Whether a plain number has the digits of the shortest text of its double.

    Equal digits are enough: a text with the same digits at another place is another double.
    """

    def digits(text: str) -> str:
        return f"trim(replace(replace({text}, '-', ''), '.', ''), '0')"

    return f"{digits(column)} = {digits(f'''split_part(try_cast({column} AS DOUBLE)::VARCHAR, 'e', 1)''')}"


def duckdb_type(dtype: pa.DataType) -> str:
    """The DuckDB type of a type that `ColumnForms.dtype` returns."""
    if pa.types.is_decimal(dtype):
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    return _DUCKDB_TYPES[str(dtype)]


_DUCKDB_TYPES = {
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "date32[day]": "DATE",
    "timestamp[us]": "TIMESTAMP",
    "string": "VARCHAR",
}
