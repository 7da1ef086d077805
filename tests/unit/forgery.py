"""Parquet files whose footer says what is not so: the Thrift of a footer is taken apart, changed and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TRUE, _FALSE, _BYTE, _I16, I32, I64, _DOUBLE, BINARY, _LIST, _SET, _MAP, STRUCT = range(1, 13)
_ROW_GROUPS, COLUMN_ORDERS, _COLUMNS, _META_DATA, _STATISTICS = 4, 7, 1, 3, 12
PHYSICAL_TYPE, NUM_VALUES = 1, 5
NULL_COUNT, DISTINCT_COUNT, MAX, MIN, MAX_IS_EXACT, MIN_IS_EXACT = 3, 4, 5, 6, 7, 8
BOUNDS = (1, 2, MAX, MIN, MAX_IS_EXACT, MIN_IS_EXACT)

Struct = dict[int, tuple[int, Any]]
"""Fields by id: type and value."""


def forge(path: Path, change: Callable[[Struct, Struct], None]) -> None:
    """Change a file's footer in place.

    Args:
        path: A Parquet file.
        change: Called for each column chunk with its `ColumnMetaData` and its `Statistics`, which it may change.
    """

    def change_chunks(footer: Struct) -> None:
        for chunk in _chunks(footer):
            change(chunk, chunk.setdefault(_STATISTICS, (STRUCT, {}))[1])

    path.write_bytes(forged(path.read_bytes(), change_chunks))


def forged(data: bytes, change: Callable[[Struct], None]) -> bytes:
    """The bytes of a Parquet file with a changed footer; `change` is called with its `FileMetaData`."""
    size = int.from_bytes(data[-8:-4], "little")
    footer, _ = _read(data[-8 - size : -8], 0, STRUCT)
    change(footer)
    written = _written(STRUCT, footer)
    return data[: -8 - size] + written + len(written).to_bytes(4, "little") + b"PAR1"


def _chunks(footer: Struct) -> Iterator[Struct]:
    for group in footer[_ROW_GROUPS][1][1]:
        for column in group[_COLUMNS][1][1]:
            yield column[_META_DATA][1]


def _read(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    """A value of the compact protocol and the position behind it."""
    if kind in (TRUE, _FALSE):
        return kind == TRUE, at
    if kind in (_I16, I32, I64):
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == BINARY:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if kind == _LIST:
        return _read_list(data, at)
    if kind == STRUCT:
        return _read_struct(data, at)
    size = {_BYTE: 1, _DOUBLE: 8}[kind]
    return data[at : at + size], at + size


def _read_list(data: bytes, at: int) -> tuple[tuple[int, list[Any]], int]:
    size, kind, at = data[at] >> 4, data[at] & 15, at + 1
    if size == 15:
        size, at = _varint(data, at)
    values = []
    for _ in range(size):
        value, at = _read(data, at, kind)
        values.append(value)
    return (kind, values), at


def _read_struct(data: bytes, at: int) -> tuple[Struct, int]:
    fields: Struct = {}
    number = 0
    while head := data[at]:
        number, at = (number + (head >> 4), at + 1) if head > 15 else _read(data, at + 1, _I16)
        value, at = _read(data, at, head & 15)
        fields[number] = (head & 15, value)
    return fields, at + 1


def _written(kind: int, value: Any) -> bytes:
    if kind in (TRUE, _FALSE):
        return b""
    if kind in (_I16, I32, I64):
        return _as_varint(value * 2 if value >= 0 else -value * 2 - 1)
    if kind == BINARY:
        return _as_varint(len(value)) + bytes(value)
    if kind == _LIST:
        inner, values = value
        return bytes([0xF0 | inner]) + _as_varint(len(values)) + b"".join(_written(inner, one) for one in values)
    if kind == STRUCT:
        fields = sorted((number, _FALSE if own == (TRUE, False) else own[0], own[1]) for number, own in value.items())
        return b"".join(bytes([own]) + _written(_I16, n) + _written(own, one) for n, own, one in fields) + b"\0"
    return bytes(value)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] > 127:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return number | data[at] << shift, at + 1


def _as_varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + _as_varint(high) if high else bytes([low])
