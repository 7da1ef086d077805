"""Stage 2, kernel: which pages of a table's files may be looked at, how far they are believed, and their witnesses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from r2d2.model import (
    Claim,
    FileStamp,
    Harvest,
    LeafPath,
    TypeClass,
    fold,
    fold_path,
    is_case_sensitive,
    leaves,
    type_class,
)
from r2d2.prune.trust import Reading, Suspect, reading_of, suspect
from r2d2.scan.evidence import KINDS, Flag, unpack
from r2d2.scan.field_ids import has_stored_names
from r2d2.scan.files import check_unchanged
from r2d2.scan.footer.column_values import Interval, intervals_with_values
from r2d2.scan.footer.layout import StoredColumn
from r2d2.scan.footer.pages import ChunkSpans, Wanted, chunk_spans
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.footer.stored_order import key_of
from r2d2.scan.plan import column_order

MOST_WITNESSES = 32
"""Witnesses of one leaf of a child, at most."""

MOST_ROWS = 1 << 14
"""Rows of evidence beyond which the files of a child are not looked at one by one."""

Witness = tuple[bytes | None, bytes | None, int]
"""Ends of an interval of keys (None is unbounded) and the file of the child that has a value in it, or WHOLE."""


@dataclass(frozen=True, kw_only=True)
class PagedFile:
    """A file whose pages may be looked at.

    Attributes:
        number: Position among the table's fragments.
        stamp: The pinned file in the lake.
        data_uri: The Parquet file to read.
        partition: Names of the partition columns, whose values are not in the file.
        deletes: Some of its rows may be deleted, so its pages have no witnesses.
    """

    number: int
    stamp: FileStamp
    data_uri: str
    partition: tuple[str, ...]
    deletes: bool


@dataclass(frozen=True, kw_only=True)
class PagedTable:
    """A table with such files.

    Attributes:
        table: Its position.
        leaves: In the order of its evidence.
        kinds: Their type classes, as numbers.
        exact: It has columns that differ only by case.
        budget: Most bytes of pages to read.
    """

    table: int
    leaves: tuple[LeafPath, ...]
    kinds: tuple[int, ...]
    exact: bool
    budget: int
    files: tuple[PagedFile, ...]


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What is believed of pages.

    Attributes:
        utc: Dates, zone-less timestamps and instants are read on one clock.
        suspects: Writers and types whose claims do not count. Bounds of pages of such a type do not count whoever wrote
            them: it may have been these that were wrong.
    """

    utc: bool
    suspects: frozenset[Suspect] = frozenset()

    def of(self, column: StoredColumn) -> Wanted | None:
        """Which pages of a column count: none of a writer that is not known."""
        claim = Claim(
            fragment=0,
            leaf=column.leaf,
            source="footer",
            writer=column.writer,
            type=str(column.dtype),
            nulls=None,
            low=None,
            high=None,
        )
        if reading_of(claim) not in (Reading.POINT, Reading.PREFIX):
            return None
        doubted = any(one.type == suspect(claim).type for one in self.suspects)
        return Wanted(column=column, dictionary=True, index=not doubted)


def paged_table(table: int, harvest: Harvest, *, budget: int, utc: bool) -> PagedTable:
    """What of a table's pages may be looked at: nothing where its values are not those of its files' columns."""
    types = dict(leaves(harvest.schema))
    paths = column_order(list(types))
    files = [
        PagedFile(
            number=number,
            stamp=one.stamp,
            data_uri=one.data_uri,
            partition=tuple(one.partition),
            deletes=bool(one.deletes),
        )
        for number, one in enumerate(harvest.fragments)
    ]
    return PagedTable(
        table=table,
        leaves=paths,
        kinds=tuple(KINDS[_kind(types[path], utc=utc)] for path in paths),
        exact=is_case_sensitive(list(paths)),
        budget=budget,
        files=tuple(files) if has_pages(harvest) else (),
    )


def has_pages(harvest: Harvest) -> bool:
    """Whether a table has files whose columns hold its values."""
    is_plain = harvest.reader_reason is None and not has_stored_names(harvest.schema) and not harvest.stored_as
    return is_plain and bool(harvest.fragments)


# --- columns of files -------------------------------------------------------------------------------------------------


def columns_of(footer: Footer, table: PagedTable, file: PagedFile, belief: Belief) -> dict[int, Wanted]:
    """The columns of a file that hold a table's leaves, by the leaf's place, with what counts of their pages.

    A leaf is left out where its column is not found beyond doubt, or holds values of another type class.
    """
    if not table.exact and _has_twins(footer):
        return {}
    declared = {fold(name) for name in file.partition}
    by_path: dict[LeafPath, list[StoredColumn]] = defaultdict(list)
    for column in footer.layout.columns:
        by_path[column.leaf if table.exact else fold_path(column.leaf)].append(column)
    found = {}
    for place, path in enumerate(table.leaves):
        own = by_path.get(path if table.exact else fold_path(path), ())
        if len(own) == 1 and fold(path[0]) not in declared and _is_readable(footer, own[0]):
            wanted = belief.of(own[0])
            if wanted is not None and KINDS[_kind(own[0].dtype, utc=belief.utc)] == table.kinds[place]:
                found[place] = wanted
    return found


def _has_twins(footer: Footer) -> bool:
    """Whether two columns, or two fields of a struct, differ by case only."""
    paths = {path[: depth + 1] for path, _ in leaves(footer.schema) for depth in range(len(path))}
    return is_case_sensitive(list(paths))


def _is_readable(footer: Footer, column: StoredColumn) -> bool:
    """Whether stored values mean what they say: those of Spark's legacy calendar and INT96 do not."""
    is_time = pa.types.is_temporal(column.dtype)
    return not (pa.types.is_null(column.dtype) or column.leaf in footer.int96 or (footer.legacy_calendar and is_time))


def _kind(dtype: pa.DataType, *, utc: bool) -> TypeClass:
    kind = type_class(dtype)
    return TypeClass.INSTANT if utc and kind is TypeClass.WALL_CLOCK else kind


# --- witnesses of children --------------------------------------------------------------------------------------------


def page_witnesses(table: PagedTable, belief: Belief) -> tuple[dict[int, list[Witness]], int]:
    """Witnesses in the pages and row groups of a table's files, by leaf, and the bytes that were read for them.

    Args:
        table: The table.
        belief: What is believed.
    """
    found: dict[int, list[Witness]] = defaultdict(list)
    left = table.budget
    for file in table.files:
        if file.deletes or left <= 0:
            continue
        spans, read = spans_of(table, file, range(len(table.leaves)), belief, left, dictionary=False)
        left -= read
        for leaf, chunks in spans.items():
            found[leaf] += [(low, high, file.number) for chunk in chunks for low, high in _intervals(chunk)]
    return {leaf: _spread(ends) for leaf, ends in found.items()}, table.budget - left


def spans_of(
    table: PagedTable,
    file: PagedFile,
    places: Sequence[int],
    belief: Belief,
    budget: int,
    *,
    dictionary: bool,
) -> tuple[dict[int, list[ChunkSpans]], int]:
    """Intervals of the values of some leaves of a file, by leaf; nothing of a file that has changed or is damaged."""
    read = 0
    try:
        check_unchanged(file.stamp)
        footer = read_footer(file.data_uri)
        read = footer.footer_bytes
        columns = columns_of(footer, table, file, belief)
        wanted = {place: columns[place] for place in places if place in columns}
        asked = [
            Wanted(column=one.column, dictionary=dictionary and one.dictionary, index=one.index)
            for one in wanted.values()
        ]
        spans, more = chunk_spans(file.data_uri, footer, asked, budget)
        check_unchanged(file.stamp)
    except Exception:  # noqa: BLE001 - the scan will say what is wrong with the file; pages only ever add evidence
        return {}, read
    return {place: chunks for place, chunks in zip(wanted, spans, strict=True) if chunks}, read + more


def held_by_rows(
    table: PagedTable, file: PagedFile, place: int, intervals: Sequence[Interval], belief: Belief, budget: int
) -> tuple[list[bool], int]:
    """Which intervals of keys hold a value of a leaf of a file, by its rows; all of them where these cannot be read.

    Args:
        table, file: The file.
        place: Of the leaf.
        intervals: Those that the bounds of pages or row groups exclude.
        belief: What is believed.
        budget: Most bytes to read; where the column has more, the bounds are believed.

    Returns:
        A mark per interval, and the bytes that were read.
    """
    try:
        check_unchanged(file.stamp)
        footer = read_footer(file.data_uri)
        column = columns_of(footer, table, file, belief)[place].column
        size = sum(group.chunks[column.position].compressed_bytes or 0 for group in footer.facts.groups)
        if size > budget:
            return [False] * len(intervals), 0
        held = intervals_with_values(file.data_uri, footer, column.position, column.dtype, intervals)
        check_unchanged(file.stamp)
    except Exception:  # noqa: BLE001 - the scan will say what is wrong with the file
        return [True] * len(intervals), 0
    return held, size


def _intervals(chunk: ChunkSpans) -> Iterator[tuple[bytes | None, bytes | None]]:
    """The witnesses of a chunk: ends of pages where they are values, else the intervals that hold one."""
    dtype = chunk.spans.dtype
    if pa.types.is_string(dtype) or pa.types.is_binary(dtype):
        yield from zip(chunk.spans.lows, chunk.spans.highs, strict=True)
        return
    for value in sorted({end for ends in chunk.ends for end in ends}):
        low, high = key_of(value, dtype, up=False), key_of(value, dtype, up=True)
        if low is not None and high is not None:
            yield low, high


def _spread(witnesses: Sequence[Witness]) -> list[Witness]:
    """Some of many witnesses, from first to last."""
    if len(witnesses) <= MOST_WITNESSES:
        return list(witnesses)
    places = np.unique(np.linspace(0, len(witnesses) - 1, MOST_WITNESSES).astype(int))
    return [witnesses[place] for place in places]


def file_witnesses(evidence: bytes, leaf_count: int) -> dict[int, list[Witness]]:
    """The witnesses that the bounds of a table and of its files are, by leaf."""
    rows = unpack(evidence)
    if len(rows) > MOST_ROWS:
        rows = rows.slice(0, leaf_count)
    columns = {
        name: rows.column(name).to_pylist() for name in ("flags", "file", "low", "high", "first_high", "last_low")
    }
    found: dict[int, list[Witness]] = defaultdict(list)
    for row, flags in enumerate(columns["flags"]):
        if not flags & int(Flag.HAS_VALUE):
            continue
        ends = {name: columns[name][row] for name in ("low", "high", "first_high", "last_low")}
        own = found[row % leaf_count]
        if ends["first_high"] is not None:
            own.append((ends["low"], ends["first_high"], columns["file"][row]))
        if ends["last_low"] is not None:
            own.append((ends["last_low"], ends["high"], columns["file"][row]))
    return {leaf: _spread(list(dict.fromkeys(own))) for leaf, own in found.items()}
