"""The statistics of a Parquet footer as stored.

pyarrow is not asked for them: it does not show which bounds are exact, nor counts of NaN, and it ends the process where
a bound is shorter than its type. A footer is a Thrift struct in the compact protocol. This reader walks down to the
statistics and skips all else. Each step consumes a byte, so damaged bytes end in a ValueError after time linear in
their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_STOP = 0
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MOST_NESTED = 16

_Read = Callable[[bytes, int], tuple[Any, int]]
"""From the position of a value to the value and the position behind it."""


@dataclass(frozen=True, kw_only=True)
class ChunkFacts:
    """What a footer says of a column chunk, each None or False where it does not say it.

    Attributes:
        values: Values, NULLs included.
        compressed_bytes: Of all pages.
        external: The values are in another file.
        low, high: `min_value` and `max_value`, bytes of any number.
        old_low, old_high: The deprecated `min` and `max`.
        low_exact, high_exact: The writer says that `low`, `high` is a value of the chunk.
        nulls, nans: Counts, whatever number that is.
    """

    values: int | None = None
    compressed_bytes: int | None = None
    external: bool = False
    low: bytes | None = None
    high: bytes | None = None
    old_low: bytes | None = None
    old_high: bytes | None = None
    low_exact: bool = False
    high_exact: bool = False
    nulls: int | None = None
    nans: int | None = None


@dataclass(frozen=True, kw_only=True)
class GroupFacts:
    """What a footer says of a row group: its rows, None where it does not say it, and one entry per Parquet column."""

    rows: int | None
    chunks: Sequence[ChunkFacts]


@dataclass(frozen=True, kw_only=True)
class FooterFacts:
    """What a footer says of its column chunks.

    Attributes:
        groups: The row groups in file order.
        ordered: Per Parquet column, whether bounds follow the order of its type; empty where the footer does not say.
    """

    groups: Sequence[GroupFacts]
    ordered: Sequence[bool]


def footer_facts(footer: bytes) -> FooterFacts:
    """What a footer says of its column chunks.

    Args:
        footer: Starts with the Thrift struct `FileMetaData`; what follows it is not looked at.

    Raises:
        ValueError: If the bytes are no such struct.
    """
    try:
        found, _ = _fields(footer, 0, _FILE)
    except IndexError:
        raise ValueError("the footer is cut off") from None
    return FooterFacts(groups=found.get(4, ()), ordered=found.get(7, ()))


# --- the compact protocol: what is wanted -----------------------------------------------------------------------------


def _fields(data: bytes, at: int, wanted: Mapping[int, tuple[int, _Read]]) -> tuple[dict[int, Any], int]:
    """The wanted fields of a struct and the position behind it; of a repeated field the last, as in other readers.

    Args:
        data: The footer.
        at: Position of the struct.
        wanted: Type and reader of fields by number; the reader of a boolean is not called.
    """
    found: dict[int, Any] = {}
    field = 0
    while (head := data[at]) != _STOP:
        field, at = (field + (head >> 4), at + 1) if head > 15 else _signed(data, at + 1)
        kind = head & 15
        wanted_kind, read = wanted.get(field, _NOT_WANTED)
        if kind in (_TRUE, _FALSE):
            if wanted_kind == _TRUE:
                found[field] = kind == _TRUE
        elif kind == wanted_kind:
            found[field], at = read(data, at)
        else:
            at = _skip(data, at, kind)
    return found, at + 1


def _signed(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] > 127:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise ValueError("the footer has a number of more than 64 bits")
    return number | data[at] << shift, at + 1


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _varint(data, at)
    return data[at : at + size], at + size


def _structs(read: _Read) -> _Read:
    """Reads a list of structs."""

    def read_all(data: bytes, at: int) -> tuple[list[Any], int]:
        size, kind, at = _list(data, at)
        if kind != _STRUCT and size:
            raise ValueError("a list of the footer has elements of another type than expected")
        found = []
        for _ in range(size):
            one, at = read(data, at)
            found.append(one)
        return found, at

    return read_all


# --- the structs of Parquet -------------------------------------------------------------------------------------------


def _row_group(data: bytes, at: int) -> tuple[GroupFacts, int]:
    found, at = _fields(data, at, _ROW_GROUP)
    return GroupFacts(rows=found.get(3), chunks=found.get(1, ())), at


def _column_chunk(data: bytes, at: int) -> tuple[ChunkFacts, int]:
    found, at = _fields(data, at, _COLUMN_CHUNK)
    metadata = found.get(3, {})
    statistics = metadata.get(12, {})
    facts = ChunkFacts(
        values=metadata.get(5),
        compressed_bytes=metadata.get(7),
        external=1 in found,
        old_high=statistics.get(1),
        old_low=statistics.get(2),
        nulls=statistics.get(3),
        high=statistics.get(5),
        low=statistics.get(6),
        high_exact=statistics.get(7, False),
        low_exact=statistics.get(8, False),
        nans=statistics.get(9),
    )
    return facts, at


def _column_metadata(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    return _fields(data, at, _COLUMN_METADATA)


def _statistics(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    return _fields(data, at, _STATISTICS)


def _column_order(data: bytes, at: int) -> tuple[bool, int]:
    found, at = _fields(data, at, _COLUMN_ORDER)
    return 1 in found, at


_NOT_WANTED = (_STOP, _signed)
_BOUND, _COUNT, _FLAG = (_BINARY, _binary), (_I64, _signed), (_TRUE, _signed)
_STATISTICS = {1: _BOUND, 2: _BOUND, 3: _COUNT, 5: _BOUND, 6: _BOUND, 7: _FLAG, 8: _FLAG, 9: _COUNT}
_COLUMN_METADATA = {5: _COUNT, 7: _COUNT, 12: (_STRUCT, _statistics)}
_COLUMN_CHUNK = {1: (_BINARY, _binary), 3: (_STRUCT, _column_metadata)}
_ROW_GROUP = {1: (_LIST, _structs(_column_chunk)), 3: _COUNT}
_COLUMN_ORDER = {1: (_STRUCT, lambda data, at: _fields(data, at, {}))}
_FILE = {4: (_LIST, _structs(_row_group)), 7: (_LIST, _structs(_column_order))}


# --- the compact protocol: what is skipped ----------------------------------------------------------------------------


def _skip_fields(data: bytes, at: int, depth: int = 0) -> int:
    """The position behind a struct, from one inside of it."""
    while (head := data[at]) != _STOP:
        at = at + 1 if head > 15 else _varint(data, at + 1)[1]
        at = _skip(data, at, head & 15, depth)
    return at + 1


def _skip(data: bytes, at: int, kind: int, depth: int = 0) -> int:
    """The position behind a value."""
    if _I16 <= kind <= _I64:
        while data[at] > 127:
            at += 1
        return at + 1
    if kind in (_TRUE, _FALSE):
        return at  # the type of the field is its value
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if depth == _MOST_NESTED:
        raise ValueError("the footer is nested too deeply")
    if kind == _STRUCT:
        return _skip_fields(data, at, depth + 1)
    if kind in (_LIST, _SET):
        return _skip_list(data, at, depth)
    if kind in (_BYTE, _DOUBLE):
        return at + (1 if kind == _BYTE else 8)
    raise ValueError("the footer has a value of an unknown type")


def _skip_list(data: bytes, at: int, depth: int) -> int:
    size, kind, at = _list(data, at)
    if kind in (_TRUE, _FALSE):
        return at + size
    for _ in range(size):
        at = _skip(data, at, kind, depth + 1)
    return at


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """Length and type of a list, and the position of its first element. No element is shorter than a byte."""
    head = data[at]
    size, at = (head >> 4, at + 1) if head < 0xF0 else _varint(data, at + 1)
    if size > len(data) - at:
        raise ValueError("the footer is cut off")
    return size, head & 15, at
