"""The columns of a parent that a predicate may name: how DuckDB sees their values, and how Spark SQL writes them."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from r2d2.model import LeafPath, fold_path, leaves, spark_name
from r2d2.recipes.text import quote_text
from r2d2.scan.duck import quote_text as duck_text
from r2d2.scan.rowhash import Column

MAX_COLUMNS = 200
"""Columns of a parent that a search looks at: the child's first, then others, in the parent's order."""

MAX_TEXT = 200
"""Characters of a text, and of bytes in hexadecimal, that may stand in a predicate."""

_DAY_MICROSECONDS = 86_400_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, between which a date has a literal that engines agree on."""


class Kind(StrEnum):
    """What a column's values are, as far as literals and order are concerned."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    REAL = "real"
    SINGLE = "single"
    TEXT = "text"
    BYTES = "bytes"
    BOOLEAN = "boolean"
    DATE = "date"
    WALL = "wall"
    INSTANT = "instant"

    @property
    def is_float(self) -> bool:
        """Whether the column may hold NaN, and zero with a sign."""
        return self in (Kind.REAL, Kind.SINGLE)


@dataclass(frozen=True, kw_only=True)
class PredicateColumn:
    """A leaf of a parent.

    Attributes:
        path: Where it is.
        kind: What its values are.
        shared: The child has it too.
        digits, scale: Of a decimal.
    """

    path: LeafPath
    kind: Kind
    shared: bool
    digits: int = 0
    scale: int = 0

    @property
    def name(self) -> str:
        """The column in Spark SQL."""
        return ".".join(spark_name(name) for name in self.path)

    @property
    def stored_type(self) -> str:
        """DuckDB's type of its stored values: times are microseconds (dates: days) since 1970, bytes hexadecimal."""
        if self.kind is Kind.DECIMAL:
            return f"DECIMAL({self.digits}, {self.scale})"
        if self.kind.is_float:
            return "DOUBLE"
        return "VARCHAR" if self.kind in (Kind.TEXT, Kind.BYTES) else "BIGINT"

    def stored_sql(self, column: Column | None) -> str:
        """DuckDB expression of the stored value in a source; None, where the source lacks the leaf, is NULL."""
        if column is None:
            return f"CAST(NULL AS {self.stored_type})"
        sql, source = column.sql, str(column.duckdb_type).upper()
        if self.kind.is_float:
            sql = f"CAST({sql} AS DOUBLE) + 0.0"
        elif self.kind is Kind.BYTES:
            sql = f"hex({sql})"
        elif self.kind in (Kind.DATE, Kind.WALL, Kind.INSTANT) and source == "DATE":
            days = f"({sql} - DATE '1970-01-01')"
            sql = days if self.kind is Kind.DATE else f"{days} * {_DAY_MICROSECONDS}"
        elif self.kind is Kind.DATE:
            sql = f"epoch_us({sql}) // {_DAY_MICROSECONDS}"
        elif self.kind in (Kind.WALL, Kind.INSTANT):
            sql = f"epoch_us({sql})"
        return f"CAST({sql} AS {self.stored_type})"

    def duck_literal(self, value: Any) -> str:
        """A stored value as DuckDB writes it."""
        if self.kind in (Kind.TEXT, Kind.BYTES):
            return duck_text(value)
        if self.kind.is_float:
            return f"CAST('{value!r}' AS DOUBLE)"
        return f"CAST('{value}' AS {self.stored_type})"

    def spark_literal(self, value: Any) -> str:
        """A stored value as Spark SQL writes it, whatever the session's time zone and ANSI setting."""
        return _LITERALS[self.kind](value)

    def has_literal(self, value: Any) -> bool:
        """Whether a stored value may stand in a predicate."""
        if self.kind in (Kind.TEXT, Kind.BYTES):
            return len(value) <= MAX_TEXT and value.isprintable()
        if self.kind is Kind.DATE:
            return bool(_FIRST_DAY <= value <= _LAST_DAY)
        if self.kind in (Kind.WALL, Kind.INSTANT):
            return bool(_FIRST_DAY * _DAY_MICROSECONDS <= value < (_LAST_DAY + 1) * _DAY_MICROSECONDS)
        return not self.kind.is_float or abs(value) != float("inf")


def predicate_columns(parent: pa.Schema, shared: Sequence[LeafPath]) -> list[PredicateColumn]:
    """The leaves of a parent that a predicate may name.

    Args:
        parent: Its columns.
        shared: Its leaves that the children have too.
    """
    own = {fold_path(path) for path in shared}
    found = [
        PredicateColumn(
            path=path,
            kind=kind,
            shared=fold_path(path) in own,
            digits=dtype.precision if kind is Kind.DECIMAL else 0,
            scale=dtype.scale if kind is Kind.DECIMAL else 0,
        )
        for path, dtype in leaves(parent)
        if (kind := kind_of(dtype)) is not None
    ]
    chosen = sorted(range(len(found)), key=lambda place: (not found[place].shared, place))[:MAX_COLUMNS]
    return [found[place] for place in sorted(chosen)]


def kind_of(dtype: pa.DataType) -> Kind | None:
    """The kind of a type; None where its values have no literal or no order that engines share."""
    t = pa.types
    if t.is_integer(dtype) and not t.is_uint64(dtype):
        return Kind.INTEGER
    if t.is_decimal128(dtype):
        return Kind.DECIMAL if 0 <= dtype.scale <= dtype.precision <= 38 else None
    if t.is_timestamp(dtype):
        return None if dtype.unit == "ns" else Kind.WALL if dtype.tz is None else Kind.INSTANT
    for test, kind in _KINDS:
        if test(dtype):
            return kind
    return None


_KINDS = (
    (pa.types.is_float64, Kind.REAL),
    (pa.types.is_float32, Kind.SINGLE),
    (pa.types.is_string, Kind.TEXT),
    (pa.types.is_large_string, Kind.TEXT),
    (pa.types.is_binary, Kind.BYTES),
    (pa.types.is_large_binary, Kind.BYTES),
    (pa.types.is_fixed_size_binary, Kind.BYTES),
    (pa.types.is_boolean, Kind.BOOLEAN),
    (pa.types.is_date32, Kind.DATE),
)


def _single(value: float) -> str:
    """The shortest text that is this float32 again."""
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            return text
    return repr(value)


def _timestamp(micros: int) -> str:
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)
    text = f"{moment.year:04}-{moment.month:02}-{moment.day:02} {moment:%H:%M:%S}"
    return f"{text}.{moment.microsecond:06}" if moment.microsecond else text


_LITERALS: dict[Kind, Callable[[Any], str]] = {
    Kind.INTEGER: str,
    Kind.DECIMAL: lambda value: f"{value:f}BD",
    Kind.REAL: lambda value: f"CAST('{value!r}' AS DOUBLE)",
    Kind.SINGLE: lambda value: f"CAST('{_single(value)}' AS FLOAT)",
    Kind.TEXT: quote_text,
    Kind.BYTES: lambda value: f"X'{value}'",
    Kind.BOOLEAN: lambda value: "true" if value else "false",
    Kind.DATE: lambda value: f"DATE '{(dt.date(1970, 1, 1) + dt.timedelta(days=value)).isoformat()}'",
    Kind.WALL: lambda value: f"TIMESTAMP_NTZ '{_timestamp(value)}'",
    Kind.INSTANT: lambda value: f"TIMESTAMP '{_timestamp(value)}+00:00'",
}


def places_shown(columns: Sequence[PredicateColumn], *, distinct: bool) -> list[int]:
    """The columns that a predicate may name: with rows that collapse afterwards, only those that the child has too."""
    return [place for place, column in enumerate(columns) if column.shared or not distinct]
