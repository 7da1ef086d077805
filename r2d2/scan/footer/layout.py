"""What the footers of files with one schema and one writer have in common, made once for all of them.

A footer without its rows and row groups is the same bytes for all files of a table that one writer wrote, and for many
tables of a lake. A layout is made from these bytes alone, so no file has a say in that of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.errors import TableFailed
from r2d2.model import LeafPath
from r2d2.scan.footer.recent import Recent
from r2d2.scan.footer.schema import StoredType, footer_schema, is_legacy, leaf_columns, refuse_spark_types, width
from r2d2.scan.footer.thrift import ChunkFacts, FooterFacts
from r2d2.scan.footer.values import Decoder, bound_decoder, has_signed_order
from r2d2.scan.footer.writers import counts_nulls, counts_some_nulls, has_outer_bounds

MAGIC = b"PAR1"
UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RuntimeError)
"""What pyarrow raises for footers that it cannot read."""

_RECENT_BYTES = 4 << 20
"""Stored bytes of the layouts that are kept; parsed they take about ten times as much."""

_ARROW_SCHEMA = b"ARROW:schema"


@dataclass(frozen=True, kw_only=True)
class StoredColumn:
    """A Parquet column whose values are one per row, and how far its statistics are believed.

    Attributes:
        type_name: Of `dtype`, as claims say it.
        position: Among the Parquet columns.
        required: It holds no NULL.
        has_bounds, has_nulls: Its writer gets bounds and counts of NULL right.
        has_some_nulls: Counts of NULL above zero, too.
        is_ordered: Its bounds are those that follow the order of its type, not the deprecated ones.
        is_float, is_time: Its type is one of floats; a date or a timestamp.
        decode: Reads a bound.
    """

    leaf: LeafPath
    dtype: pa.DataType
    type_name: str
    writer: str
    position: int
    required: bool
    has_bounds: bool
    has_nulls: bool
    has_some_nulls: bool
    is_ordered: bool
    is_float: bool
    is_time: bool
    decode: Decoder

    def bounds(self, facts: ChunkFacts) -> tuple[bytes | None, bytes | None]:
        """The stored bounds of a chunk that count, if it has them."""
        return (facts.low, facts.high) if self.is_ordered else (facts.old_low, facts.old_high)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """A footer without its rows.

    Attributes:
        schema: One nullable field per top-level column, in file order, names verbatim (they may repeat).
        int96: Leaves that hold values stored as INT96.
        writer: `created_by`, empty where it is missing or no text.
        legacy_calendar: The file holds dates or timestamps as Spark 2 wrote them; only Spark reads them as meant.
        stored: The Parquet columns.
        coded: Top-level columns that the writer may have been given as codes and a dictionary.
        ordered: See FooterFacts.
        digest: Of the columns as they are stored: pyarrow does not show all that other readers go by.
    """

    schema: pa.Schema
    int96: frozenset[LeafPath]
    writer: str
    legacy_calendar: bool
    stored: tuple[StoredType, ...]
    coded: frozenset[str]
    ordered: Sequence[bool]
    digest: bytes

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Parquet columns of each top-level column."""
        return tuple(width(field.type) for field in self.schema)

    @cached_property
    def columns(self) -> tuple[StoredColumn, ...]:
        """The leaves that are not inside an array or a map, and how to read their bounds."""
        return tuple(
            _column(self, leaf, dtype, position)
            for leaf, dtype, position in leaf_columns(self.schema)
            if width(dtype) == 1 and not pa.types.is_list(dtype)
        )


def layout_of(facts: FooterFacts, name: str) -> Layout:
    """The layout of a footer.

    Args:
        facts: Of the footer.
        name: Of its file, for messages.

    Raises:
        TableFailed: If it is damaged, or its schema cannot be read.
        TableUnsupported: If a column has a type that the contract does not list.
    """
    known = _RECENT.get(facts.rowless)
    if known is None:
        known = _RECENT.put(facts.rowless, _parsed(facts, name), len(facts.rowless))
    return known


_RECENT: Recent[Layout] = Recent(_RECENT_BYTES)


def _parsed(facts: FooterFacts, name: str) -> Layout:
    size = len(facts.rowless).to_bytes(4, "little")
    try:
        metadata = pq.read_metadata(pa.BufferReader(b"".join((MAGIC, facts.rowless, size, MAGIC))))
    except UNREADABLE as exc:
        raise TableFailed(f"{name} has a damaged Parquet footer: {type(exc).__name__}", error="NotParquet") from exc
    found = footer_schema(metadata, name)
    keys = metadata.metadata or {}
    refuse_spark_types(keys, name)
    return Layout(
        schema=found.schema,
        int96=found.int96,
        writer=_writer(metadata),
        legacy_calendar=is_legacy(keys, found.schema, has_int96=bool(found.int96)),
        stored=found.stored,
        coded=found.coded if _ARROW_SCHEMA in keys else frozenset(found.schema.names),
        ordered=facts.ordered,
        digest=hashlib.blake2b(facts.schema, digest_size=16).digest(),
    )


def _writer(metadata: pq.FileMetaData) -> str:
    try:
        return metadata.created_by or ""
    except UnicodeDecodeError:
        return ""


def _column(layout: Layout, leaf: LeafPath, dtype: pa.DataType, position: int) -> StoredColumn:
    stored = layout.stored[position]
    may_be_codes = leaf[0] in layout.coded  # an Arrow schema would tell
    is_ordered = position < len(layout.ordered) and layout.ordered[position]
    is_time = pa.types.is_temporal(dtype)
    is_readable = not (pa.types.is_null(dtype) or leaf in layout.int96 or (layout.legacy_calendar and is_time))
    is_outer = has_outer_bounds(layout.writer, dtype, stored.physical, may_be_codes=may_be_codes)
    return StoredColumn(
        leaf=leaf,
        dtype=dtype,
        type_name=str(dtype),
        writer=layout.writer,
        position=position,
        required=stored.required,
        has_bounds=is_readable and is_outer and (is_ordered or has_signed_order(dtype, stored.physical)),
        has_nulls=counts_nulls(layout.writer, dtype, may_be_codes=may_be_codes),
        has_some_nulls=counts_some_nulls(layout.writer),
        is_ordered=is_ordered,
        is_float=pa.types.is_floating(dtype),
        is_time=is_time,
        decode=bound_decoder(dtype, stored.physical, stored.length),
    )
