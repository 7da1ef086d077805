"""What manifests claim about the columns of a data file, each only where it can be trusted.

Bounds are always outer bounds. `Claim.writer` is set only where Iceberg's own library computed them from the rows that
it wrote, and all of these are live. Metrics of other writers may have been imported from footers, by importers that
skip row groups without statistics: bounds of strings then are not even outer ones, and a NULL count may be too low.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from r2d2.lake.iceberg.manifests import Entry
from r2d2.model import Claim, LeafPath, encode_bound

_LIBRARY = "Apache Iceberg"
_DAY_US = 86_400_000_000
_CALENDARS_AGREE_FROM_US = -25_567 * _DAY_US
_FLOATS = {4: "<f", 8: "<d"}

Leaf = tuple[int, LeafPath, pa.DataType]


def computed_by(entry: Entry, committed_by: str) -> str:
    """The writer that computed a file's metrics from its rows; empty where that is not known.

    Imports commit with the same library, and leave out where the row groups begin.
    """
    is_known = committed_by.startswith(_LIBRARY) and entry.has_offsets
    return f"iceberg {committed_by.removeprefix(_LIBRARY).strip()}" if is_known else ""


def manifest_claims(
    fragment: int, entry: Entry, leaves: Sequence[Leaf], writer: str, *, has_deletes: bool
) -> Iterator[Claim]:
    """Claims about the leaves of one data file.

    Args:
        fragment: Position of the file in the table's fragments.
        entry: What the manifest says of it.
        leaves: Field id, path and type in the table's current schema, arrays and maps left out.
        writer: See `computed_by`.
        has_deletes: Rows of the file may have been deleted.
    """
    for number, path, dtype in leaves:
        if entry.values.get(number) != entry.rows or not (writer or _survives_import(dtype)):
            continue
        low, high = _bounds(entry, number, dtype, trusted=bool(writer))
        nulls = _nulls(entry, number, bounded=low is not None or high is not None, trusted=bool(writer))
        if nulls is not None or low is not None or high is not None:
            yield Claim(
                fragment=fragment,
                leaf=path,
                source="iceberg",
                writer="" if has_deletes else writer,
                type=str(dtype),
                nulls=nulls if nulls == 0 or not has_deletes else None,
                low=low,
                high=high,
                nans=_nans(entry, number, dtype) if writer and not has_deletes else None,
            )


def _survives_import(dtype: pa.DataType) -> bool:
    """Whether bounds that were imported from footers are outer bounds."""
    return bool(pa.types.is_integer(dtype) or pa.types.is_date32(dtype))


def _nulls(entry: Entry, number: int, *, bounded: bool, trusted: bool) -> int | None:
    """NULLs among the rows of a file, before deletes; imported counts may lack those of some row groups."""
    nulls = _count(entry.nulls, number)
    if nulls is None or nulls > entry.rows:
        return None
    if entry.rows > nulls and not bounded and not (trusted and nulls > 0):
        return None
    return nulls


def _nans(entry: Entry, number: int, dtype: pa.DataType) -> int | None:
    nans = _count(entry.nans, number) if pa.types.is_floating(dtype) else None
    return nans if nans is not None and nans <= entry.rows else None


def _count(counts: Mapping[int, int], number: int) -> int | None:
    count = counts.get(number)
    return count if count is not None and count >= 0 else None


def _bounds(entry: Entry, number: int, dtype: pa.DataType, *, trusted: bool) -> tuple[bytes | None, bytes | None]:
    low, high = (decode_bound(bounds.get(number), dtype) for bounds in (entry.lows, entry.highs))
    if not trusted and pa.types.is_date32(dtype):
        low, high = _modern(low), _modern(high)
    if low is not None and high is not None and low > high:
        return None, None
    return _encoded(low), _encoded(high)


def _modern(bound_us: Any) -> Any:
    """A date, unless it may be counted in the calendar of old writers, whose footers were imported."""
    return bound_us if bound_us is not None and bound_us >= _CALENDARS_AGREE_FROM_US else None


def _encoded(bound: Any) -> bytes | None:
    return encode_bound(format(bound, "f") if isinstance(bound, Decimal) else bound)


def decode_bound(data: bytes | None, dtype: pa.DataType) -> Any:
    """A bound of a manifest as a value that compares like the column's; None where it says nothing.

    Args:
        data: In the single-value form of the type that the column had when the file was written: an `int` of 4 bytes
            in a column that is a `long` today.
        dtype: The column's type today.

    Returns:
        Dates and timestamps as microseconds since 1970; strings as bytes, since they compare by bytes.
    """
    t = pa.types
    if not data:
        return None
    if t.is_integer(dtype) and len(data) in (4, 8):
        return int.from_bytes(data, "little", signed=True)
    if t.is_floating(dtype) and len(data) in _FLOATS:
        value = struct.unpack(_FLOATS[len(data)], data)[0]
        return value if value == value else None
    if t.is_boolean(dtype) and len(data) == 1:
        return data != b"\0"
    if t.is_decimal128(dtype) and len(data) <= 16:
        return Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-dtype.scale)
    if t.is_string(dtype) or t.is_binary(dtype):
        return data
    return _decode_time(data, dtype)


def _decode_time(data: bytes, dtype: pa.DataType) -> int | None:
    number = int.from_bytes(data, "little", signed=True)
    if len(data) == 4 and (pa.types.is_date32(dtype) or (pa.types.is_timestamp(dtype) and dtype.tz is None)):
        return number * _DAY_US
    is_micros = pa.types.is_timestamp(dtype) and dtype.unit == "us"
    return number if is_micros and len(data) == 8 else None
