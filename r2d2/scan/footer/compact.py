"""The compact protocol of Thrift: reads the wanted fields of structs and skips all others.

Each step consumes a byte, so damaged bytes end in a ValueError after time linear in their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

TRUE, _FALSE, _BYTE, _I16, I32, I64, _DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT = range(1, 13)
_BOOLEANS, _INTEGERS = frozenset((TRUE, _FALSE)), frozenset((_I16, I32, I64))
_MOST_NESTED = 16

Read = Callable[[bytes, int], tuple[Any, int]]
"""From the position of a value to the value and the position behind it."""

Wanted = Mapping[int, tuple[int, Read]]
"""Type and reader of the wanted fields of a struct, by number; `true` reads those that are booleans."""


def whole_struct(data: bytes, wanted: Wanted) -> tuple[dict[int, Any], int]:
    """The wanted fields of the struct that some bytes start with, and its size.

    Raises:
        ValueError: If the bytes are no such struct.
    """
    try:
        return read_struct(data, 0, wanted)
    except IndexError:
        raise ValueError("the footer is cut off") from None


def read_struct(data: bytes, at: int, wanted: Wanted) -> tuple[dict[int, Any], int]:
    """The wanted fields of a struct and the position behind it; of a repeated field the last, as in other readers."""
    found: dict[int, Any] = {}
    reader_of = wanted.get
    field = 0
    while head := data[at]:
        if head > 15:
            field, at = field + (head >> 4), at + 1
        else:
            field, at = signed(data, at + 1)
        kind = head & 15
        wanted_kind, read = reader_of(field, _NOT_WANTED)
        if kind == wanted_kind:
            if read is signed and data[at] < 128:  # most fields are small numbers: a call less for each
                number = data[at]
                found[field], at = (number >> 1) ^ -(number & 1), at + 1
            else:
                found[field], at = read(data, at)
        elif kind == _FALSE and wanted_kind == TRUE:
            found[field] = False
        else:
            at = skip(data, at, kind)
    return found, at + 1


def signed(data: bytes, at: int) -> tuple[int, int]:
    """An integer of any width."""
    number = data[at]
    if number < 128:  # most are: the case is worth a line
        return (number >> 1) ^ -(number & 1), at + 1
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


def binary(data: bytes, at: int) -> tuple[bytes, int]:
    """Bytes or text."""
    size = data[at]
    size, at = (size, at + 1) if size < 128 else _varint(data, at)
    return data[at : at + size], at + size


def true(_: bytes, at: int) -> tuple[bool, int]:
    """A boolean field that is true: its type is its value."""
    return True, at


def flag(data: bytes, at: int) -> tuple[bool, int]:
    """A boolean inside a list, where it takes a byte."""
    return data[at] == TRUE, at + 1


def list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Length and type of a list, and the position of its first element. No element is shorter than a byte."""
    head = data[at]
    size, at = (head >> 4, at + 1) if head < 0xF0 else _varint(data, at + 1)
    if size > len(data) - at:
        raise ValueError("the footer is cut off")
    return size, head & 15, at


def list_of(element: int, read: Read) -> Read:
    """Reads a list whose elements are of one type; those of booleans may name either of its two numbers."""

    def read_all(data: bytes, at: int) -> tuple[list[Any], int]:
        size, kind, at = list_head(data, at)
        if size and (TRUE if kind == _FALSE else kind) != element:
            raise ValueError("a list of the footer has elements of another type than expected")
        found = []
        for _ in range(size):
            one, at = read(data, at)
            found.append(one)
        return found, at

    return read_all


def list_or_none(element: int, read: Read) -> Read:
    """Reads a list as `list_of` does; None where its elements are of another type, or not whole."""
    read_all = list_of(element, read)

    def read_or_skip(data: bytes, at: int) -> tuple[list[Any] | None, int]:
        try:
            return read_all(data, at)
        except ValueError:
            return None, skip(data, at, LIST)

    return read_or_skip


def struct(wanted: Wanted) -> Read:
    """Reads a struct of which some fields are wanted."""
    return lambda data, at: read_struct(data, at, wanted)


_NOT_WANTED = (-1, signed)


# --- the compact protocol: what is skipped ----------------------------------------------------------------------------


def _skip_fields(data: bytes, at: int, depth: int = 0) -> int:
    """The position behind a struct, from one inside of it."""
    while head := data[at]:
        at = at + 1 if head > 15 else _varint(data, at + 1)[1]
        at = skip(data, at, head & 15, depth)
    return at + 1


def skip(data: bytes, at: int, kind: int, depth: int = 0) -> int:
    """The position behind a value."""
    if kind in _INTEGERS:
        while data[at] > 127:
            at += 1
        return at + 1
    if kind == BINARY:
        size = data[at]
        size, at = (size, at + 1) if size < 128 else _varint(data, at)
        return at + size
    if kind in _BOOLEANS:
        return at  # the type of the field is its value
    if depth == _MOST_NESTED:
        raise ValueError("the footer is nested too deeply")
    if kind == STRUCT:
        return _skip_fields(data, at, depth + 1)
    if kind in (LIST, _SET):
        return _skip_list(data, at, depth)
    if kind in (_BYTE, _DOUBLE):
        return at + (1 if kind == _BYTE else 8)
    raise ValueError("the footer has a value of an unknown type")


def _skip_list(data: bytes, at: int, depth: int) -> int:
    size, kind, at = list_head(data, at)
    if kind in _BOOLEANS:
        return at + size
    for _ in range(size):
        at = skip(data, at, kind, depth + 1)
    return at
