"""What a Parquet footer, a page header and a column index say, as stored.

pyarrow is not asked for them: it does not show which bounds are exact, nor counts of NaN, and it ends the process where
a bound is shorter than its type; nor does it show pages. All three are Thrift structs in the compact protocol. This
reader walks down to what is wanted and skips all else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from r2d2.scan.footer.compact import (
    BINARY,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    binary,
    flag,
    list_head,
    list_of,
    list_or_none,
    read_struct,
    signed,
    skip,
    struct,
    true,
    whole_struct,
)

Encoding = tuple[int | None, int | None, int | None]
"""Kind of page, encoding, and how many such pages a column chunk has."""


class ChunkFacts(NamedTuple):
    """What a footer says of a column chunk, each None or False where it does not say it.

    Attributes:
        values: Values, NULLs included.
        compressed_bytes: Of all pages.
        external: The values are in another file.
        low, high: `min_value` and `max_value`, bytes of any number.
        old_low, old_high: The deprecated `min` and `max`.
        low_exact, high_exact: The writer says that `low`, `high` is a value of the chunk.
        nulls, nans: Counts, whatever number that is.
        codec: Parquet's number of the compression.
        data_offset, dictionary_offset: Where in the file the first data page and the dictionary page begin.
        encodings: Of the pages.
        index_offset, index_bytes: Where in the file the column index is.
        encrypted: Its pages are.
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
    codec: int | None = None
    data_offset: int | None = None
    dictionary_offset: int | None = None
    encodings: Sequence[Encoding] | None = None
    index_offset: int | None = None
    index_bytes: int | None = None
    encrypted: bool = False


class GroupFacts(NamedTuple):
    """What a footer says of a row group: its rows, None where it does not say it, and one entry per Parquet column."""

    rows: int | None
    chunks: Sequence[ChunkFacts]


@dataclass(frozen=True, kw_only=True)
class FooterFacts:
    """What a footer says of its column chunks.

    Attributes:
        groups: The row groups in file order.
        ordered: Per Parquet column, whether bounds follow the order of its type; empty where the footer does not say.
        rowless: The footer with no rows and no row groups in it: what files of one writer and schema have in common.
        schema: The columns, as they are stored.
    """

    groups: Sequence[GroupFacts]
    ordered: Sequence[bool]
    rowless: bytes
    schema: bytes


@dataclass(frozen=True, kw_only=True)
class PageHeader:
    """What a page says of itself, each None where it does not say it.

    Attributes:
        kind: Parquet's number of the kind of page.
        uncompressed_bytes, compressed_bytes: Of what follows the header.
        crc: Checksum of what follows, as a signed number.
        values, encoding: Of a dictionary page.
        size: Bytes of the header.
    """

    kind: int | None
    uncompressed_bytes: int | None
    compressed_bytes: int | None
    crc: int | None
    values: int | None
    encoding: int | None
    size: int


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What a column index says, one entry per page; `nulls` is None where it does not count NULLs."""

    null_pages: Sequence[bool]
    lows: Sequence[bytes]
    highs: Sequence[bytes]
    nulls: Sequence[int] | None


def page_header(data: bytes) -> PageHeader:
    """The header that some bytes start with.

    Raises:
        ValueError: If they do not start with the Thrift struct `PageHeader`.
    """
    found, size = whole_struct(data, _PAGE_HEADER)
    dictionary = found.get(7, {})
    return PageHeader(
        kind=found.get(1),
        uncompressed_bytes=found.get(2),
        compressed_bytes=found.get(3),
        crc=found.get(4),
        values=dictionary.get(1),
        encoding=dictionary.get(2),
        size=size,
    )


def column_index(data: bytes) -> IndexFacts:
    """The column index that some bytes start with.

    Raises:
        ValueError: If they do not start with the Thrift struct `ColumnIndex`, or its lists differ in length.
    """
    found, _ = whole_struct(data, _COLUMN_INDEX)
    index = IndexFacts(null_pages=found.get(1, ()), lows=found.get(2, ()), highs=found.get(3, ()), nulls=found.get(5))
    lists = (index.null_pages, index.lows, index.highs, index.null_pages if index.nulls is None else index.nulls)
    if len({len(one) for one in lists}) > 1:
        raise ValueError("the lists of a column index differ in length")
    return index


def footer_facts(footer: bytes) -> FooterFacts:
    """What a footer says of its column chunks.

    Args:
        footer: Starts with the Thrift struct `FileMetaData`; what follows it is not looked at.

    Raises:
        ValueError: If the bytes are no such struct.
    """
    found, size = whole_struct(footer, _FILE)
    groups, start, end = found.get(4, ((), size, size))
    rows_start, rows_end = found.get(3, (size, size))
    rowless = footer[:size]
    if rows_end <= start < end:
        rowless = b"".join((footer[:rows_start], _NO_ROWS, footer[rows_end:start], _NO_GROUPS, footer[end:size]))
    schema = slice(*found.get(2, (size, size)))
    return FooterFacts(groups=groups, ordered=found.get(7, ()), rowless=rowless, schema=footer[schema])


# --- the structs of Parquet -------------------------------------------------------------------------------------------


def _place_of_rows(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Where the number of rows stands, from and to; pyarrow is asked for the number."""
    _, end = signed(data, at)
    return (at, end), end


def _place_of_schema(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Where the columns stand, from and to; pyarrow is asked for what they are."""
    end = skip(data, at, LIST)
    return (at, end), end


def _placed_groups(data: bytes, at: int) -> tuple[tuple[list[GroupFacts], int, int], int]:
    """The row groups, and from and to where they stand."""
    groups, end = _ROW_GROUPS(data, at)
    return (groups, at, end), end


def _row_group(data: bytes, at: int) -> tuple[GroupFacts, int]:
    found, at = read_struct(data, at, _ROW_GROUP)
    return GroupFacts(rows=found.get(3), chunks=found.get(1, ())), at


def _column_chunk(data: bytes, at: int) -> tuple[ChunkFacts, int]:
    found, at = read_struct(data, at, _COLUMN_CHUNK)
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
        codec=metadata.get(4),
        data_offset=metadata.get(9),
        dictionary_offset=metadata.get(11),
        encodings=metadata.get(13),
        index_offset=found.get(6),
        index_bytes=found.get(7),
        encrypted=8 in found or 9 in found,
    )
    return facts, at


def encodings(data: bytes, at: int) -> tuple[Sequence[Encoding] | None, int]:
    """The kinds of pages of a chunk; None where they are no list of those."""
    plain = _PLAIN_ENCODINGS.get(data[at], _NEVER).match(data, at + 1)
    if plain is None:
        return _ANY_ENCODINGS(data, at)
    return _known_encodings(data[at : plain.end()]), plain.end()


@lru_cache(maxsize=1024)
def _known_encodings(data: bytes) -> Sequence[Encoding] | None:
    """The same of bytes that hold nothing else: a few lists are those of nearly all chunks."""
    found: Sequence[Encoding] | None = _ANY_ENCODINGS(data, 0)[0]
    return found


def _encoding(data: bytes, at: int) -> tuple[Encoding, int]:
    found, at = read_struct(data, at, _ENCODING)
    return (found.get(1), found.get(2), found.get(3)), at


def column_orders(data: bytes, at: int) -> tuple[Sequence[bool], int]:
    """Per column, whether its bounds follow the order of its type: of nearly all files those of all columns do."""
    size, kind, start = list_head(data, at)
    end = start + size * len(TYPE_ORDER)
    if kind == STRUCT and data[start:end] == TYPE_ORDER * size:
        return [True] * size, end
    return _ANY_ORDERS(data, at)


def _column_order(data: bytes, at: int) -> tuple[bool, int]:
    found, at = read_struct(data, at, _COLUMN_ORDER)
    return 1 in found, at


_BOUND, _COUNT, _FLAG, _SMALL = (BINARY, binary), (I64, signed), (TRUE, true), (I32, signed)
_ENCODING = {1: _SMALL, 2: _SMALL, 3: _SMALL}
_ANY_ENCODINGS = list_or_none(STRUCT, _encoding)
_PLAIN_ENCODINGS = {
    count << 4 | STRUCT: re.compile(rb"(?:(?:\x15[\x80-\xff]{0,4}[\0-\x7f]){3}\0){%d}" % count) for count in range(15)
}
_NEVER = re.compile(rb"(?!)")
_STATISTICS = {1: _BOUND, 2: _BOUND, 3: _COUNT, 5: _BOUND, 6: _BOUND, 7: _FLAG, 8: _FLAG, 9: _COUNT}
_COLUMN_METADATA = {
    4: _SMALL,
    5: _COUNT,
    7: _COUNT,
    9: _COUNT,
    11: _COUNT,
    12: (STRUCT, struct(_STATISTICS)),
    13: (LIST, encodings),
}
_COLUMN_CHUNK = {
    1: (BINARY, binary),
    3: (STRUCT, struct(_COLUMN_METADATA)),
    6: _COUNT,
    7: _SMALL,
    8: (STRUCT, struct({})),
    9: (BINARY, binary),
}
_ROW_GROUP = {1: (LIST, list_of(STRUCT, _column_chunk)), 3: _COUNT}
_ROW_GROUPS = list_of(STRUCT, _row_group)
_NO_ROWS, _NO_GROUPS = b"\0", bytes([STRUCT])
_COLUMN_ORDER = {1: (STRUCT, struct({}))}
_ANY_ORDERS = list_of(STRUCT, _column_order)
TYPE_ORDER = bytes([1 << 4 | STRUCT, 0, 0])
_FILE = {
    2: (LIST, _place_of_schema),
    3: (I64, _place_of_rows),
    4: (LIST, _placed_groups),
    7: (LIST, column_orders),
}
_DICTIONARY_HEADER = {1: _SMALL, 2: _SMALL}
_PAGE_HEADER = {1: _SMALL, 2: _SMALL, 3: _SMALL, 4: _SMALL, 7: (STRUCT, struct(_DICTIONARY_HEADER))}
_COLUMN_INDEX = {
    1: (LIST, list_of(TRUE, flag)),
    2: (LIST, list_of(BINARY, binary)),
    3: (LIST, list_of(BINARY, binary)),
    5: (LIST, list_of(I64, signed)),
}
