"""Audit of statistics: what a scan sees of each leaf of a file, against what its metadata had proved.

A lie is a bound that a value exceeds, a count of NULLs that is wrong where it was believed, or a value that was said to
be there and is not. Whatever had been refuted through it is looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.model import LeafPath, TypeClass, type_class
from r2d2.scan.evidence import KINDS, UNKNOWN, Flag, number_key, unpack

_TIMES = (TypeClass.WALL_CLOCK, TypeClass.INSTANT)
_ORDERED = (TypeClass.NUMBER, TypeClass.BOOLEAN, *_TIMES, TypeClass.STRING, TypeClass.BINARY)
_KIND_OF = {number: kind for kind, number in KINDS.items()}
_DAY_US = 86_400_000_000
_FIRST, _LAST = b"\0", b"\xff"  # keys before and after those of all finite numbers


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What metadata proves of a leaf of one file: a row of `scan.evidence.ROWS` and the leaf it is about."""

    path: LeafPath
    proved: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Aggregates that observe one leaf during a scan.

    Attributes:
        expected: What the metadata says there.
        value: SQL of the leaf's value, over the source.
        kind: How its values compare.
        type: Its Arrow type in the file.
    """

    expected: Expected
    value: str
    kind: TypeClass
    type: pa.DataType

    @property
    def is_float(self) -> bool:
        """Whether some of the values may be NaN."""
        return bool(pa.types.is_floating(self.type))

    def aggregates(self, column: str) -> list[str]:
        """SQL over a column that holds `value`: the least value, the greatest, how many there are, how many are NaN."""
        known = f"CASE WHEN NOT isnan({column}) THEN {column} END" if self.is_float else column
        nans = f"count(*) FILTER (isnan({column}))" if self.is_float else "0"
        return [f"min({known})", f"max({known})", f"count({column})", nans]


def expected_of(packed: bytes, leaves: Sequence[LeafPath]) -> list[Expected]:
    """What the evidence of one file says of each leaf, in their order; leaves of which it says nothing are left out."""
    rows = unpack(packed).to_pylist()
    return [Expected(path=path, proved=row) for path, row in zip(leaves, rows, strict=True) if _says_something(row)]


def _says_something(row: dict[str, Any]) -> bool:
    return any(row[end] is not None for end in ("low", "high")) or not _is(row, Flag.MAY_NULL) or row["nulls"] > 0


def observer(expected: Expected, sql: str, dtype: pa.DataType) -> Observer | None:
    """How to observe a leaf; None for what has no order here.

    Args:
        expected: What metadata says of it.
        sql: Expression of its value.
        dtype: Its Arrow type in the file.
    """
    kind = type_class(dtype)
    if kind not in _ORDERED:
        return None
    return Observer(expected=expected, value=_time_sql(sql, dtype) if kind in _TIMES else sql, kind=kind, type=dtype)


def _time_sql(sql: str, dtype: pa.DataType) -> str:
    """The stored number of a date or timestamp: days, nanoseconds or microseconds since 1970.

    DuckDB takes the largest and the smallest number for infinity, which has no such functions.
    """
    if pa.types.is_date(dtype):
        finite, limit = f"{sql} - DATE '1970-01-01'", (1 << 31) - 1
    else:
        sql = f"CAST({sql} AS TIMESTAMP_NS)" if dtype.unit == "ns" else sql  # DuckDB's zoned type has no such functions
        finite, limit = f"{'epoch_ns' if dtype.unit == 'ns' else 'epoch_us'}({sql})", (1 << 63) - 1
    infinite = f"CASE WHEN {sql} > 'epoch' THEN {limit} ELSE {-limit} END"
    return f"CASE WHEN isfinite({sql}) THEN {finite} WHEN {sql} IS NOT NULL THEN {infinite} END"


@dataclass(kw_only=True)
class Observation:
    """What a scan has seen of one leaf so far; values as DuckDB returns them, None before the first."""

    low: Any = None
    high: Any = None
    values: int = 0
    nans: int = 0

    def add(self, columns: Sequence[pa.Array]) -> None:
        """Take in a batch of the four aggregates."""
        low, high, values, nans = columns
        self.join(
            Observation(
                low=pc.min(low).as_py(),
                high=pc.max(high).as_py(),
                values=pc.sum(values).as_py() or 0,
                nans=pc.sum(nans).as_py() or 0,
            )
        )

    def join(self, other: Observation) -> None:
        """Take in what was seen of the same leaf elsewhere."""
        self.low = _outermost([self.low, other.low], min)
        self.high = _outermost([self.high, other.high], max)
        self.values += other.values
        self.nans += other.nans


def _outermost(values: Iterable[Any], pick: Any) -> Any:
    return pick((value for value in values if value is not None), default=None)


def hides_nan(observer: Observer, seen: Observation, *, whole_file: bool) -> bool:
    """Whether an engine that takes a file's bounds for values would lose NaN: Sail does, with its default settings.

    Args:
        observer: What was observed.
        seen: What was seen of it.
        whole_file: It was seen in all rows of one file; otherwise a file with NaN may have one other value only.
    """
    return observer.is_float and seen.nans > 0 and (seen.low == seen.high or not whole_file)


def exceeds(observer: Observer, seen: Observation, rows: int) -> bool:
    """Whether some live rows of a table have what its metadata had excluded for all of them."""
    return _is_comparable(observer) and _exceeds(observer, seen, rows, _ends(observer, seen))


def is_lie(observer: Observer, seen: Observation, rows: int) -> bool:
    """Whether what was seen in all live rows of a file contradicts what its metadata had proved."""
    if not _is_comparable(observer):
        return False
    proved, ends = observer.expected.proved, _ends(observer, seen)
    nulls = rows - seen.values
    return (
        _exceeds(observer, seen, rows, ends)
        or (nulls == 0 and _is(proved, Flag.HAS_NULL))
        or (seen.values == 0 and _is(proved, Flag.HAS_VALUE))
        or (seen.nans == 0 and _is(proved, Flag.HAS_NAN))
        or proved["nulls"] not in (UNKNOWN, nulls)
        or _misses_witness(proved, *ends)
    )


def _exceeds(observer: Observer, seen: Observation, rows: int, ends: tuple[bytes | None, bytes | None]) -> bool:
    proved = observer.expected.proved
    return (
        (rows > seen.values and not _is(proved, Flag.MAY_NULL))
        or (seen.values > 0 and not _is(proved, Flag.MAY_VALUE))
        or (seen.nans > 0 and observer.is_float and not _is(proved, Flag.MAY_NAN))
        or _is_beyond(proved, *ends)
    )


def _is_comparable(observer: Observer) -> bool:
    kind = _KIND_OF[observer.expected.proved["kind"]]
    return kind is observer.kind or {kind, observer.kind} <= set(_TIMES)


def _ends(observer: Observer, seen: Observation) -> tuple[bytes | None, bytes | None]:
    return _key(seen.low, observer, up=False), _key(seen.high, observer, up=True)


def _is_beyond(proved: dict[str, Any], low: bytes | None, high: bytes | None) -> bool:
    """Whether values from low to high leave the cover."""
    if low is None or high is None:
        return False
    below = proved["low"] is not None and low < proved["low"]
    return below or (proved["high"] is not None and high > proved["high"])


def _misses_witness(proved: dict[str, Any], low: bytes | None, high: bytes | None) -> bool:
    """Whether none of the values from low to high is where one was said to be."""
    if low is None or high is None:
        return False
    first = proved["first_high"] is not None and low > proved["first_high"]
    return first or (proved["last_low"] is not None and high < proved["last_low"])


def _key(value: Any, observer: Observer, *, up: bool) -> bytes | None:
    """A value as a key; nanoseconds are rounded to microseconds, up or down, as in claims."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float):
        return _FIRST if value == -math.inf else _LAST if value == math.inf else number_key(Decimal(value))
    if observer.kind in _TIMES:
        return number_key(_microseconds(value, observer.type, up=up))
    return number_key(int(value) if observer.kind is TypeClass.BOOLEAN else value)


def _microseconds(value: int, dtype: pa.DataType, *, up: bool) -> int:
    if pa.types.is_date(dtype):
        return value * _DAY_US
    if dtype.unit == "ns":
        return -(-value // 1000) if up else value // 1000
    return value


def _is(row: dict[str, Any], flag: Flag) -> bool:
    return bool(row["flags"] & int(flag))
