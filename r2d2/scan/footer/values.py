"""The bounds of a footer's statistics as values: bytes in Parquet's plain encoding, of any length, from anyone."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

Decoder = Callable[[bytes], Any]
"""A bound's value; None where its bytes are none of its type."""

_SIGNED = {"INT32": "<i", "INT64": "<q", "FLOAT": "<f", "DOUBLE": "<d"}
_UNSIGNED = {"INT32": "<I", "INT64": "<Q"}
_FLAGS = {b"\0": False, b"\1": True}
_ANY_DECIMAL = Context(prec=76)


def bound_decoder(dtype: pa.DataType, physical: str, size: int) -> Decoder:
    """How to read the bounds of a column.

    Values compare like the column's: dates and timestamps are the stored numbers, strings their bytes.

    Args:
        dtype: Of the leaf.
        physical: Parquet's name of the type as stored.
        size: Bytes of a value of type FIXED_LEN_BYTE_ARRAY.
    """
    if physical == "BOOLEAN":
        return _FLAGS.get
    if pa.types.is_decimal(dtype):
        return _decimals(_plain(dtype, physical, size), dtype)
    return _plain(dtype, physical, size)


def has_signed_order(dtype: pa.DataType, physical: str) -> bool:
    """Whether the deprecated bounds, which compare as signed numbers, follow the order of a type."""
    return physical in _SIGNED and not pa.types.is_unsigned_integer(dtype)


def _plain(dtype: pa.DataType, physical: str, size: int) -> Decoder:
    if physical == "BYTE_ARRAY":
        return _signed_number if pa.types.is_decimal(dtype) else bytes
    if physical == "FIXED_LEN_BYTE_ARRAY":
        read = _signed_number if pa.types.is_decimal(dtype) else bytes
        return lambda raw: read(raw) if len(raw) == size else None
    layout = (_UNSIGNED if pa.types.is_unsigned_integer(dtype) else _SIGNED).get(physical)
    return _no_value if layout is None else _numbers(struct.Struct(layout))


def _no_value(raw: bytes) -> None:
    """INT96 and what the format adds have no bounds."""


def _signed_number(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def _numbers(layout: struct.Struct) -> Decoder:
    return lambda raw: layout.unpack(raw)[0] if len(raw) == layout.size else None


def _decimals(unscaled: Decoder, dtype: pa.Decimal128Type) -> Decoder:
    most = 10**dtype.precision

    def decode(raw: bytes) -> Decimal | None:
        number = unscaled(raw)
        if number is None or not -most < number < most:
            return None
        return Decimal(number).scaleb(-dtype.scale, _ANY_DECIMAL)

    return decode
