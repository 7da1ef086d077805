"""What the pages of a Parquet file say beyond its footer: dictionaries, and bounds per page.

A dictionary is data: the values of rows are positions in it, so it covers them all, though it may hold values of no
row. Bounds per page are claims like those of the footer, and are compared with them. Whatever is missing, damaged, too
large or odd says nothing; none of it is an error of the table, whose pages a scan will read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from sys import getsizeof
from typing import Any

import numpy as np
import pyarrow as pa

from r2d2.scan.files import filesystem, is_remote, open_file
from r2d2.scan.footer.claims import chunk_nulls
from r2d2.scan.footer.dictionary import dictionary_values, refers_to_dictionary
from r2d2.scan.footer.layout import StoredColumn
from r2d2.scan.footer.read import Footer
from r2d2.scan.footer.stored_order import first_at, last_at, stored_value
from r2d2.scan.footer.thrift import ChunkFacts, IndexFacts, column_index
from r2d2.scan.footer.writers import is_bound

MOST_DICTIONARY_BYTES = 1 << 20
DICTIONARY_SHARE = 0.9
"""A larger dictionary page, in bytes or as a share of its chunk's, is not read."""

MOST_INDEX_BYTES = 1 << 18
MOST_READ_BYTES = 1 << 26
MOST_HELD_BYTES = 1 << 27
"""Of a file: of its pages, and of the intervals that they are decoded to, which may take a hundred times as many."""

_GAP_BYTES = 1 << 12
"""Ranges of a file with fewer bytes between them are read as one."""

_LEAST_CUT_BYTES = 16
_CHANGED_BYTES = 4
"""A bound of that length may have been cut off, and its last character may be another one than the value's."""

Range = tuple[int, int]


class Source(StrEnum):
    """Where intervals come from, the finest first."""

    DICTIONARY = "dictionary"
    INDEX = "column index"
    GROUP = "row group"


Planned = tuple[Source, Range]
"""What to read of a chunk, and where it is."""


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Closed intervals of stored values, disjoint and ascending; a dictionary's are points.

    Attributes:
        lows, highs: Of equal length, as the column stores its values.
    """

    dtype: pa.DataType
    lows: Sequence[Any]
    highs: Sequence[Any]

    def touch(self, low: bytes | None, high: bytes | None) -> bool:
        """Whether one of them has a value in common with an interval of keys; None is unbounded."""
        first, last = first_at(low, self.dtype), last_at(high, self.dtype)
        place = 0 if first is None else bisect_left(self.highs, first)
        return place < len(self.highs) and (last is None or bool(self.lows[place] <= last))


@dataclass(frozen=True, kw_only=True)
class ChunkSpans:
    """Intervals that hold all values of a column chunk but NULL and NaN.

    Attributes:
        spans: Each holds at least one value, unless they are a dictionary's.
        ends: Least and greatest value of each page or row group, as it stands in the file.
    """

    source: Source
    spans: Spans
    ends: Sequence[tuple[Any, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pages of a column may be looked at.

    Attributes:
        column: The column.
        dictionary: Its dictionaries may be.
        index: Bounds of its pages and row groups may be, and counts of NULL.
    """

    column: StoredColumn
    dictionary: bool
    index: bool


def chunk_spans(uri: str, footer: Footer, wanted: Sequence[Wanted], budget: int) -> tuple[list[list[ChunkSpans]], int]:
    """The intervals of all chunks of some columns.

    Args:
        uri: The file that the footer was read from.
        footer: Its footer.
        wanted: The columns, each with bounds that are believed.
        budget: Most bytes to read, beside MOST_READ_BYTES: the columns that take the least come first.

    Returns:
        Per column the intervals of its chunks with a value, in file order, an empty list where those of one are not
        known; and the bytes that were read.
    """
    plans = _affordable([_plan(footer, one) for one in wanted], min(budget, MOST_READ_BYTES))
    ranges = [place for plan in plans for _, place in filter(None, plan)]
    pages, read = _read(uri, ranges)
    found, room = [], MOST_HELD_BYTES
    for one, plan in zip(wanted, plans, strict=True):
        found.append(_column_spans(footer, one, plan, pages, room))
        room -= sum(map(_held_bytes, found[-1]))
    return found, read


def _plan(footer: Footer, wanted: Wanted) -> list[Planned | None]:
    """What to read of each chunk of a column."""
    return [_range_of(footer, wanted, group.chunks[wanted.column.position]) for group in footer.facts.groups]


def _affordable(plans: Sequence[list[Planned | None]], budget: int) -> list[list[Planned | None]]:
    """The plans with those emptied that a budget does not reach."""
    costs = [sum(end - start for _, (start, end) in filter(None, plan)) for plan in plans]
    kept: list[list[Planned | None]] = [[None] * len(plan) for plan in plans]
    for place in sorted(range(len(plans)), key=costs.__getitem__):
        budget -= costs[place]
        if budget < 0:
            break
        kept[place] = plans[place]
    return kept


def _range_of(footer: Footer, wanted: Wanted, facts: ChunkFacts) -> Planned | None:
    """The pages of a chunk that are worth reading, if any, and where they are."""
    if facts.encrypted:
        return None
    start, end = facts.dictionary_offset, facts.data_offset
    if wanted.dictionary and start and end and refers_to_dictionary(facts) and 4 <= start < end <= footer.data_end:
        most = min(MOST_DICTIONARY_BYTES, int(DICTIONARY_SHARE * (facts.compressed_bytes or 0)))
        if end - start <= most:
            return Source.DICTIONARY, (start, end)
    start, size = facts.index_offset, facts.index_bytes
    is_wanted = wanted.index and wanted.column.is_ordered
    if is_wanted and start and size and start >= 4 and 0 < size <= MOST_INDEX_BYTES and start + size <= footer.data_end:
        return Source.INDEX, (start, start + size)
    return None


# --- bytes ------------------------------------------------------------------------------------------------------------


def _read(uri: str, ranges: Iterable[Range]) -> tuple[dict[Range, bytes], int]:
    """Some ranges of a file, neighbours read together, and the bytes read for them."""
    parts: list[list[int]] = []
    wanted = sorted(set(ranges))
    for start, end in wanted:
        if parts and start - parts[-1][1] <= _GAP_BYTES:
            parts[-1][1] = max(parts[-1][1], end)
        else:
            parts.append([start, end])
    data = dict(zip([start for start, _ in parts], _fetched(uri, parts), strict=True))
    starts = sorted(data)
    found = {}
    for start, end in wanted:
        first = starts[bisect_left(starts, start + 1) - 1]
        found[start, end] = data[first][start - first : end - first]
    return found, sum(map(len, data.values()))


def _fetched(uri: str, parts: Sequence[Sequence[int]]) -> list[bytes]:
    if not parts:
        return []
    if is_remote(uri):
        fs, path = filesystem(uri)
        starts, ends = zip(*parts, strict=True)
        return list(fs.cat_ranges([path] * len(parts), list(starts), list(ends), on_error="raise"))
    found = []
    with open_file(uri) as file:
        for start, end in parts:
            file.seek(start)
            found.append(file.read(end - start))
    return found


# --- intervals --------------------------------------------------------------------------------------------------------


def _column_spans(
    footer: Footer, wanted: Wanted, plan: Sequence[Planned | None], pages: Mapping[Range, bytes], room: int
) -> list[ChunkSpans]:
    found: list[ChunkSpans] = []
    for group, planned in zip(footer.facts.groups, plan, strict=True):
        facts = group.chunks[wanted.column.position]
        if facts.values != group.rows:
            return []
        nulls = chunk_nulls(wanted.column, facts) if wanted.index else 0  # a count is a claim, as a bound is
        if facts.values == nulls:
            continue
        spans = _paged(footer, wanted.column, facts, planned, pages) or _of_group(wanted, facts)
        room -= _held_bytes(spans) if spans else 0
        if spans is None or room < 0:
            return []
        found.append(spans)
    return found


def _held_bytes(chunk: ChunkSpans) -> int:
    """What the intervals of a chunk take in memory, about."""
    lows: Any = chunk.spans.lows
    return int(lows.nbytes) if isinstance(lows, np.ndarray) else 2 * sum(map(getsizeof, lows))


def _paged(
    footer: Footer,
    column: StoredColumn,
    facts: ChunkFacts,
    planned: Planned | None,
    pages: Mapping[Range, bytes],
) -> ChunkSpans | None:
    if planned is None:
        return None
    source, place = planned
    if source is Source.INDEX:
        return _of_index(column, facts, pages[place])
    stored = footer.metadata.schema.column(column.position)
    values = dictionary_values(pages[place], facts.codec, stored.physical_type, stored.length, column.dtype)
    if values is None:
        return None
    return ChunkSpans(source=source, spans=Spans(dtype=column.dtype, lows=values, highs=values))


def _of_group(wanted: Wanted, facts: ChunkFacts) -> ChunkSpans | None:
    """The footer's bounds of a chunk."""
    ends = _ends(wanted.column, *wanted.column.bounds(facts)) if wanted.index and wanted.column.has_bounds else None
    return None if ends is None else _spans(Source.GROUP, wanted.column.dtype, [ends])


def _of_index(column: StoredColumn, facts: ChunkFacts, data: bytes) -> ChunkSpans | None:
    """The bounds of a chunk's pages, where they agree with those of the chunk and with its NULLs."""
    try:
        index = column_index(data)
    except ValueError:
        return None
    ends = [
        _ends(column, low, high)
        for null, low, high in zip(index.null_pages, index.lows, index.highs, strict=True)
        if not null
    ]
    whole = _ends(column, facts.low, facts.high)
    known = [one for one in ends if one is not None]
    if whole is None or not known or len(known) < len(ends) or not _same_nulls(index, facts.nulls):
        return None
    hull = (min(low for low, _ in known), max(high for _, high in known))
    return _spans(Source.INDEX, column.dtype, known) if _agree(hull, whole) else None


def _ends(column: StoredColumn, low: bytes | None, high: bytes | None) -> tuple[Any, Any] | None:
    """Two bounds as stored values; None where one is none, or they are the wrong way round."""
    if low is None or high is None or not column.has_bounds:
        return None
    bounds = column.decode(low), column.decode(high)
    if any(bound is None for bound in bounds):
        return None
    if pa.types.is_floating(column.dtype) and not all(is_bound(bound, column.dtype) for bound in bounds):
        return None
    first, last = (stored_value(bound, column.dtype) for bound in bounds)
    return (first, last) if first <= last else None


def _same_nulls(index: IndexFacts, nulls: int | None) -> bool:
    return index.nulls is None or nulls is None or sum(index.nulls) == nulls


def _agree(hull: tuple[Any, Any], whole: tuple[Any, Any]) -> bool:
    """Whether the bounds of all pages together are those of the chunk; those of text may be cut off in one place."""
    if not isinstance(hull[0], bytes):
        return hull == whole
    return _is_cut(hull[0], whole[0], changed=0) and _is_cut(hull[1], whole[1], changed=_CHANGED_BYTES)


def _is_cut(one: bytes, other: bytes, *, changed: int) -> bool:
    """Whether two bounds may be of the same value."""
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= _LEAST_CUT_BYTES and long.startswith(short[: len(short) - changed]))


def _spans(source: Source, dtype: pa.DataType, ends: Sequence[tuple[Any, Any]]) -> ChunkSpans:
    """Intervals that may overlap, united."""
    united: list[list[Any]] = []
    for low, high in sorted(ends):
        if united and low <= united[-1][1]:
            united[-1][1] = max(united[-1][1], high)
        else:
            united.append([low, high])
    lows, highs = zip(*united, strict=True)
    return ChunkSpans(source=source, spans=Spans(dtype=dtype, lows=lows, highs=highs), ends=ends)
