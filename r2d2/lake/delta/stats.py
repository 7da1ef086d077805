"""What the log of a Delta table claims about its files: live rows, nulls and bounds, each only where it can be trusted.

Bounds are always outer bounds. They may be values of the file only where `Claim.writer` is set: it is left empty for
files whose statistics may be loose (a deletion vector, `tightBounds` false) or were not computed from the rows that the
commit wrote (CONVERT, CLONE, RESTORE, a commit that the log no longer has).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from r2d2.errors import TableUnsupported
from r2d2.lake.delta.log import LiveFile, parse_json
from r2d2.lake.delta.schema import DeltaLeaf, DeltaSchema
from r2d2.lake.partitions import partition_bound
from r2d2.model import Claim, encode_bound

TIMESTAMP_TRUNCATION_US = 999
"""Writers cut timestamps to milliseconds, downwards, in both bounds."""

_ROW_COMPUTING_OPERATIONS = {
    "Apache-Spark/": frozenset(
        {
            "WRITE",
            "STREAMING UPDATE",
            "CREATE TABLE AS SELECT",
            "REPLACE TABLE AS SELECT",
            "CREATE OR REPLACE TABLE AS SELECT",
            "MERGE",
            "UPDATE",
            "DELETE",
            "OPTIMIZE",
        }
    ),
    "delta-rs:": frozenset({"WRITE", "MERGE", "UPDATE", "DELETE", "OPTIMIZE"}),
}
_SPARK = "Apache-Spark/"
_DIGITS_OF_A_DOUBLE = 15
_EPOCH_DAY = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
_CALENDARS_AGREE_FROM_US = (date(1900, 1, 1) - _EPOCH_DAY).days * _DAY_US
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIMESTAMP = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?(Z|[+-]\d{2}:\d{2}(?::\d{2})?)?", re.ASCII
)

Stats = Mapping[str, Any]


def file_stats(add: Mapping[str, Any]) -> Stats:
    """Statistics of an add action, empty where there are none or they are broken."""
    parsed, text = add.get("stats_parsed"), add.get("stats")
    if isinstance(text, str):
        try:
            stats = parse_json(text)
        except (ValueError, RecursionError):
            return {}
        return stats if isinstance(stats, dict) else {}
    return parsed if isinstance(parsed, dict) else {}


def live_rows(add: Mapping[str, Any], stats: Stats) -> int | None:
    """Rows of a file that its deletion vector leaves; None where the log does not say."""
    physical, deleted = _count(stats.get("numRecords")), _deleted_rows(add)
    if physical is None or deleted is None or deleted > physical:
        return None
    return physical - deleted


def log_claims(fragment: int, file: LiveFile, stats: Stats, schema: DeltaSchema) -> Iterator[Claim]:
    """Claims of the log about the leaves of one file."""
    tight = not _has_vector(file.add) and stats.get("tightBounds") is not False
    trusted = tight and _computed_from_rows(file)
    for leaf in schema.leaves:
        low, high = _bounds(leaf, stats, trusted=trusted)
        nulls = _live_nulls(leaf, file.add, stats, trusted=trusted)
        if nulls is not None or low is not None or high is not None:
            yield Claim(
                fragment=fragment,
                leaf=leaf.path,
                source="delta-log",
                writer=file.origin.engine if trusted else "",
                type=str(leaf.type),
                nulls=nulls,
                low=encode_bound(low),
                high=encode_bound(high),
            )


def hides_values(file: LiveFile, stats: Stats, schema: DeltaSchema) -> bool:
    """Whether equal bounds of a leaf in the log may stand for other values, which Sail then takes for the bound.

    Those of decimals have been through a double unless Spark wrote them; imported ones of text and floats may not be
    outer bounds.
    """
    return any(_hides_values(leaf, file) for leaf in schema.leaves if _is_constant(leaf, stats))


def hides_nan(file: LiveFile, stats: Stats, schema: DeltaSchema) -> bool:
    """Whether equal bounds of a leaf in the log may stand for NaN too: only Spark counts it among the values."""
    return not _by_spark(file) and any(
        pa.types.is_floating(leaf.type) and _is_constant(leaf, stats) and _values(leaf, stats) != 1
        for leaf in schema.leaves
    )


def _is_constant(leaf: DeltaLeaf, stats: Stats) -> bool:
    low = _at(stats, "minValues", leaf.physical)
    return low is not None and bool(low == _at(stats, "maxValues", leaf.physical))


def _hides_values(leaf: DeltaLeaf, file: LiveFile) -> bool:
    types = pa.types
    if types.is_decimal(leaf.type):
        return leaf.type.precision > _DIGITS_OF_A_DOUBLE and not _by_spark(file)
    is_bounded = types.is_string(leaf.type) or types.is_binary(leaf.type) or types.is_floating(leaf.type)
    return is_bounded and not _computed_from_rows(file)


def _by_spark(file: LiveFile) -> bool:
    return _computed_from_rows(file) and file.origin.engine.startswith(_SPARK)


def _values(leaf: DeltaLeaf, stats: Stats) -> int | None:
    rows, nulls = _count(stats.get("numRecords")), _count(_at(stats, "nullCount", leaf.physical))
    return None if rows is None or nulls is None else rows - nulls


def partition_claim(fragment: int, name: str, dtype: pa.DataType, text: str | None, rows: int | None) -> Claim:
    """What a partition value says about every row of its file.

    Raises:
        TableUnsupported: If the value cannot be read as its column's type, or engines read it differently.
    """
    value = partition_bound(None if text is None else partition_value(dtype, text))
    nulls = None if not rows else rows if text is None else 0
    return Claim(
        fragment=fragment,
        leaf=(name,),
        source="partition",
        writer="",
        type=str(dtype),
        nulls=nulls,
        low=value,
        high=value,
    )


def partition_value(dtype: pa.DataType, text: str) -> Any:
    """A partition value of the log, not NULL, as `encode_bound` takes it.

    Raises:
        TableUnsupported: See `partition_claim`.
    """
    if text in ("", "__HIVE_DEFAULT_PARTITION__"):
        raise TableUnsupported("engines disagree whether a partition value of the table is NULL", error="Partition")
    try:
        value = _parse_partition(dtype, text)
    except (ValueError, ArithmeticError):
        value = None
    if value is None:
        raise TableUnsupported(f"a partition value is not a plain {dtype}", error="Partition")
    return value


def _parse_partition(dtype: pa.DataType, text: str) -> Any:
    types = pa.types
    if types.is_string(dtype):
        text.encode()
        return text
    if types.is_integer(dtype):
        return pa.scalar(int(text), dtype).as_py() if _INTEGER.fullmatch(text) else None
    if types.is_boolean(dtype):
        return {"true": True, "false": False}.get(text)
    if types.is_date(dtype):
        return _date_us(text)
    if types.is_timestamp(dtype):
        return _timestamp_us(text, dtype)
    if types.is_decimal(dtype):
        return pa.scalar(Decimal(text), dtype).as_py() if _DECIMAL.fullmatch(text) else None
    if types.is_floating(dtype):
        return _float(dtype, text)
    return None


def _float(dtype: pa.DataType, text: str) -> float | None:
    if text not in ("NaN", "Infinity", "-Infinity") and not _DECIMAL.fullmatch(text):
        return None
    return float(np.float32(text)) if pa.types.is_float32(dtype) else float(text)


def _exact_float(dtype: pa.DataType, value: Any) -> float | None:
    """A bound of a float column: the number of its own type that the text stands for.

    NaN is on top for Spark and left out by delta-rs, so as a bound it says nothing, nor do infinities.
    """
    number = None if isinstance(value, bool) or not isinstance(value, int | float | Decimal) else Decimal(value)
    if number is None or not number.is_finite():
        return None
    return float(number) if pa.types.is_float64(dtype) else _nearest_float32(number)


def _nearest_float32(number: Decimal) -> float | None:
    """Correctly rounded: by way of a double a number may be rounded twice."""
    with np.errstate(over="ignore", under="ignore"):
        around = np.float32(float(number))
        steps = (around, np.nextafter(around, np.float32(-np.inf)), np.nextafter(around, np.float32(np.inf)))
    if not np.isfinite(around):
        return None
    return min((float(step) for step in steps if np.isfinite(step)), key=lambda step: abs(Decimal(step) - number))


def _computed_from_rows(file: LiveFile) -> bool:
    origin = file.origin
    return any(
        origin.engine.startswith(engine) and origin.operation in operations
        for engine, operations in _ROW_COMPUTING_OPERATIONS.items()
    )


def _bounds(leaf: DeltaLeaf, stats: Stats, *, trusted: bool) -> tuple[Any, Any]:
    low, high = _at(stats, "minValues", leaf.physical), _at(stats, "maxValues", leaf.physical)
    types = pa.types
    if types.is_integer(leaf.type):
        return _integer(low), _integer(high)
    if types.is_date(leaf.type):
        return _modern(_date_us(low), trusted), _modern(_date_us(high), trusted)
    if types.is_timestamp(leaf.type):
        last = _timestamp_us(high, leaf.type)
        widened = None if last is None else last + TIMESTAMP_TRUNCATION_US
        return _modern(_timestamp_us(low, leaf.type), trusted), _modern(widened, trusted)
    if trusted and types.is_boolean(leaf.type):
        return low if isinstance(low, bool) else None, high if isinstance(high, bool) else None
    if trusted and leaf.plain and types.is_string(leaf.type):
        return _text(low), _text(high)
    if trusted and types.is_floating(leaf.type) and not leaf.widened:
        return _exact_float(leaf.type, low), _exact_float(leaf.type, high)
    return None, None


def _live_nulls(leaf: DeltaLeaf, add: Mapping[str, Any], stats: Stats, *, trusted: bool) -> int | None:
    """NULLs among the live rows of a file.

    A count of zero without bounds may be invented (a footer said nothing). Imported statistics may have left out the
    NULLs of some row groups, and row groups with long strings altogether. With a deletion vector only "none" and "all"
    carry over to the live rows.
    """
    nulls, physical = _count(_at(stats, "nullCount", leaf.physical)), _count(stats.get("numRecords"))
    types = pa.types
    if nulls is None or physical is None or nulls > physical or types.is_nested(leaf.type):
        return None
    if not trusted and (types.is_string(leaf.type) or types.is_binary(leaf.type)) and nulls < physical:
        return None
    bounded = any(_at(stats, side, leaf.physical) is not None for side in ("minValues", "maxValues"))
    if nulls < physical and not bounded and (nulls == 0 or not trusted):
        return None
    if not _has_vector(add):
        return nulls
    return 0 if nulls == 0 else live_rows(add, stats) if nulls == physical else None


def _has_vector(add: Mapping[str, Any]) -> bool:
    return bool(add.get("deletionVector"))


def _deleted_rows(add: Mapping[str, Any]) -> int | None:
    return _count(add["deletionVector"].get("cardinality")) if _has_vector(add) else 0


def _at(stats: Stats, kind: str, names: tuple[str, ...]) -> Any:
    value: Any = stats.get(kind)
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _count(value: Any) -> int | None:
    number = _integer(value)
    return number if number is not None and 0 <= number < 1 << 62 else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    try:
        return value if isinstance(value, str) and value.encode() is not None else None
    except UnicodeEncodeError:  # half of a surrogate pair: not a bound of UTF-8 text
        return None


def _modern(value_us: int | None, trusted: bool) -> int | None:
    """A bound, unless it may count days in the calendar of old writers, whose footers were imported."""
    return value_us if value_us is None or trusted or value_us >= _CALENDARS_AGREE_FROM_US else None


def _date_us(value: Any) -> int | None:
    """Microseconds since 1970 of a date: ISO text, or days where a checkpoint has them parsed."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return (date.fromisoformat(value) - _EPOCH_DAY).days * _DAY_US
        except ValueError:
            return None
    days = _integer(value)
    return None if days is None else days * _DAY_US


def _timestamp_us(value: Any, dtype: pa.DataType) -> int | None:
    """Microseconds since 1970: ISO text that has a zone exactly when the type is an instant, or microseconds."""
    if not isinstance(value, str):
        return _integer(value)
    match = _TIMESTAMP.fullmatch(value)
    if match is None or (match[1] is None) != (dtype.tz is None):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        instant = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed
    except ValueError:
        return None
    return (instant - _EPOCH) // timedelta(microseconds=1)
