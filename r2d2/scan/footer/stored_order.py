"""Keys of evidence against values as a file stores them: integers, floats, bytes.

Values of a column are many and keys slow to make, so a key is brought to the column's own order instead, where it
stands between two stored values. A decimal is stored as its digits, a date as days, a timestamp in its unit.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa

from r2d2.scan.evidence import number_key, number_of

_DAY_US = 86_400_000_000
_ANY_DECIMAL = Context(prec=76)
_FARTHEST = 1200  # no stored number has more digits before the point, nor as many zeros behind it


def first_at(key: bytes | None, dtype: pa.DataType) -> Any:
    """The least value that a column of a type can store and that is not below a key; None where the key is None.

    Nanoseconds count as not below a microsecond that they reach after being rounded up: so they are in evidence.
    """
    if key is None or not _is_number(dtype):
        return key
    number = _number(key)
    if pa.types.is_floating(dtype):
        near = float(number)
        return math.nextafter(near, math.inf) if Decimal(near) < number else near
    if _is_nanoseconds(dtype):
        return int(number) * 1000 - 999
    return math.ceil(Fraction(number) * _per_unit(dtype))


def last_at(key: bytes | None, dtype: pa.DataType) -> Any:
    """The greatest value that a column of a type can store and that is not above a key; see `first_at`."""
    if key is None or not _is_number(dtype):
        return key
    number = _number(key)
    if pa.types.is_floating(dtype):
        near = float(number)
        return math.nextafter(near, -math.inf) if Decimal(near) > number else near
    if _is_nanoseconds(dtype):
        return int(number) * 1000 + 999
    return math.floor(Fraction(number) * _per_unit(dtype))


def key_of(value: Any, dtype: pa.DataType, *, up: bool) -> bytes | None:
    """A stored value as a key, nanoseconds rounded up or down; None for infinities."""
    if not _is_number(dtype):
        return bytes(value)
    if pa.types.is_floating(dtype):
        return number_key(Decimal(value)) if math.isfinite(value) else None
    if pa.types.is_decimal(dtype):
        return number_key(Decimal(value).scaleb(-dtype.scale, _ANY_DECIMAL))
    if _is_nanoseconds(dtype):
        return number_key(-(-value // 1000) if up else value // 1000)
    return number_key(int(value / _per_unit(dtype)))


def stored_value(bound: Any, dtype: pa.DataType) -> Any:
    """A bound, as `footer.values.bound_decoder` reads it, as the column stores it."""
    if isinstance(bound, Decimal):
        return int(bound.scaleb(dtype.scale, _ANY_DECIMAL))
    return bound + 0.0 if isinstance(bound, float) else bound


def _number(key: bytes) -> Decimal:
    """The number of a key, brought nearer to zero or farther from it where no stored value lies between."""
    number = number_of(key)
    if number and not -_FARTHEST < number.adjusted() < _FARTHEST:
        return Decimal((number.as_tuple().sign, (1,), int(math.copysign(_FARTHEST, number.adjusted()))))
    return number


def _is_number(dtype: pa.DataType) -> bool:
    t = pa.types
    return not (t.is_string(dtype) or t.is_binary(dtype))


def _is_nanoseconds(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(dtype)) and dtype.unit == "ns"


def _per_unit(dtype: pa.DataType) -> Fraction:
    """What the number of a key is multiplied by to be the stored integer."""
    if pa.types.is_decimal(dtype):
        return Fraction(10**dtype.scale) if dtype.scale >= 0 else Fraction(1, 10**-dtype.scale)
    if pa.types.is_date(dtype):
        return Fraction(1, _DAY_US)
    return Fraction(1, 1000) if pa.types.is_timestamp(dtype) and dtype.unit == "ms" else Fraction(1)
