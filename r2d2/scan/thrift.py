"""What a Parquet footer says of its column chunks beyond what pyarrow shows: exact bounds, and counts of NaN.

A footer is a Thrift struct in the compact protocol. This reader walks down to the statistics and skips all else. Each
step consumes a byte, so damaged bytes end in a ValueError after time linear in their number.
"""

from __future__ import annotations

from dataclasses import dataclass

_STOP = 0
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MOST_NESTED = 16

_ROW_GROUPS, _COLUMNS, _META_DATA, _STATISTICS = 4, 1, 3, 12
_MAX_IS_EXACT, _MIN_IS_EXACT, _NAN_COUNT = 7, 8, 9


@dataclass(frozen=True, kw_only=True)
class ChunkFacts:
    """Optional statistics of a column chunk.

    Attributes:
        low_exact, high_exact: The writer says that the bound is a value of the chunk; False where it says nothing.
        nans: Values that the writer says are NaN, whatever number that is; None where it says nothing.
    """

    low_exact: bool = False
    high_exact: bool = False
    nans: int | None = None


_NO_FACTS = ChunkFacts()


def chunk_facts(footer: bytes) -> list[list[ChunkFacts]]:
    """What a footer says of its column chunks.

    Args:
        footer: Starts with the Thrift struct `FileMetaData`; what follows its row groups is not looked at.

    Returns:
        One list per row group, in file order, with one entry per Parquet column.

    Raises:
        ValueError: If the bytes are no such struct.
    """
    try:
        found, at = _seek(footer, 0, _ROW_GROUPS, _LIST)
        size, at = _struct_list(footer, at) if found else (0, at)
        groups = []
        for _ in range(size):
            facts, at = _row_group(footer, at)
            groups.append(facts)
    except IndexError:
        raise ValueError("the footer is cut off") from None
    return groups


# --- structs of Parquet: a function begins at a struct's first field and ends behind its last one ---------------------


def _row_group(data: bytes, at: int) -> tuple[list[ChunkFacts], int]:
    found, at = _seek(data, at, _COLUMNS, _LIST)
    if not found:
        return [], at
    size, at = _struct_list(data, at)
    columns = []
    for _ in range(size):
        facts, at = _column_chunk(data, at)
        columns.append(facts)
    return columns, _skip_fields(data, at)


def _column_chunk(data: bytes, at: int) -> tuple[ChunkFacts, int]:
    found, at = _seek(data, at, _META_DATA, _STRUCT)
    if not found:
        return _NO_FACTS, at
    found, at = _seek(data, at, _STATISTICS, _STRUCT)
    facts = _NO_FACTS
    if found:
        facts, at = _statistics(data, at)
        at = _skip_fields(data, at)
    return facts, _skip_fields(data, at)


def _statistics(data: bytes, at: int) -> tuple[ChunkFacts, int]:
    exact: dict[int, bool] = {}
    nans = None
    field = 0
    while (head := data[at]) != _STOP:
        field, at = (field + (head >> 4), at + 1) if head > 15 else _signed(data, at + 1)
        kind = head & 15
        if kind in (_TRUE, _FALSE):
            exact[field] = kind == _TRUE
        elif kind == _I64 and field == _NAN_COUNT:
            nans, at = _signed(data, at)
        else:
            at = _skip(data, at, kind)
    low_exact, high_exact = exact.get(_MIN_IS_EXACT, False), exact.get(_MAX_IS_EXACT, False)
    return ChunkFacts(low_exact=low_exact, high_exact=high_exact, nans=nans), at + 1


# --- the compact protocol ---------------------------------------------------------------------------------------------


def _seek(data: bytes, at: int, wanted: int, wanted_kind: int) -> tuple[bool, int]:
    """Whether a struct has a field of a type, and the position of its value, else that behind the struct."""
    field = 0
    while (head := data[at]) != _STOP:
        field, at = (field + (head >> 4), at + 1) if head > 15 else _signed(data, at + 1)
        kind = head & 15
        if field == wanted and kind == wanted_kind:
            return True, at
        at = _skip(data, at, kind)
    return False, at + 1


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


def _struct_list(data: bytes, at: int) -> tuple[int, int]:
    """Length of a list of structs, and the position of the first."""
    size, kind, at = _list(data, at)
    if kind != _STRUCT and size:
        raise ValueError("a list of the footer has elements of another type than expected")
    return size, at


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """Length and type of a list, and the position of its first element. No element is shorter than a byte."""
    head = data[at]
    size, at = (head >> 4, at + 1) if head < 0xF0 else _varint(data, at + 1)
    if size > len(data) - at:
        raise ValueError("the footer is cut off")
    return size, head & 15, at


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
