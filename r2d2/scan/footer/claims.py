"""What the statistics of a Parquet footer claim about the columns.

Statistics are believed as far as their writer and the column's type allow; the rest is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from r2d2.model import Claim, LeafPath, encode_bound
from r2d2.scan.footer.read import Footer
from r2d2.scan.footer.schema import leaf_columns, width
from r2d2.scan.footer.thrift import ChunkFacts, GroupFacts
from r2d2.scan.footer.values import Decoder, bound_decoder, has_signed_order
from r2d2.scan.footer.writers import counts_nulls, counts_some_nulls, has_outer_bounds, is_bound

_MICROS_PER_DAY = 86_400_000_000
_ARROW_SCHEMA = b"ARROW:schema"


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A column chunk whose values are one per row.

    Attributes:
        values: Rows, NULLs included.
        nulls: None where unknown.
        facts: The statistics of the chunk.
    """

    values: int
    nulls: int | None
    facts: ChunkFacts


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """A bound as a value that compares like the column's, and whether it is said to be a value of the column."""

    value: Any
    exact: bool


def footer_claims(footer: Footer, fragment: int) -> list[Claim]:
    """What the statistics of a footer say about each leaf that is not inside an array or a map.

    `nulls` of a struct's leaf counts the rows whose struct is NULL too. Bounds are outer bounds of the values that are
    neither NULL nor NaN, over all row groups: a string's bound may be cut off, and one row group without a bound leaves
    the file without one. Nanoseconds are rounded outwards to microseconds. `nans` is None for all but floats.

    Args:
        footer: From `read_footer`.
        fragment: Position of the file in the table's fragments.
    """
    return [_claim(column, _chunks(column, footer.facts.groups), fragment) for column in stored_columns(footer)]


def stored_columns(footer: Footer) -> Iterator[StoredColumn]:
    """The leaves of a footer that are not inside an array or a map, and how to read their bounds."""
    ordered = footer.facts.ordered
    coded = _coded_columns(footer)
    for leaf, dtype, position in leaf_columns(footer.schema):
        if width(dtype) == 1 and not pa.types.is_list(dtype):
            is_ordered = position < len(ordered) and ordered[position]
            yield _column(footer, leaf, dtype, position, may_be_codes=leaf[0] in coded, is_ordered=is_ordered)


def _coded_columns(footer: Footer) -> frozenset[str]:
    """Top-level columns that the writer may have been given as codes and a dictionary; an Arrow schema would tell."""
    if _ARROW_SCHEMA not in (footer.metadata.metadata or {}):
        return frozenset(footer.schema.names)
    shape = footer.metadata.schema.to_arrow_schema()
    return frozenset(field.name for field in shape if "dictionary<" in str(field.type))


@dataclass(frozen=True, kw_only=True)
class StoredColumn:
    """A Parquet column whose values are one per row, and how far its statistics are believed.

    Attributes:
        position: Among the Parquet columns.
        required: It holds no NULL.
        has_bounds, has_nulls: Its writer gets bounds and counts of NULL right.
        is_ordered: Its bounds are those that follow the order of its type, not the deprecated ones.
        decode: Reads a bound.
    """

    leaf: LeafPath
    dtype: pa.DataType
    writer: str
    position: int
    required: bool
    has_bounds: bool
    has_nulls: bool
    is_ordered: bool
    decode: Decoder

    def bounds(self, facts: ChunkFacts) -> tuple[bytes | None, bytes | None]:
        """The stored bounds of a chunk that count, if it has them."""
        return (facts.low, facts.high) if self.is_ordered else (facts.old_low, facts.old_high)


def _column(
    footer: Footer, leaf: LeafPath, dtype: pa.DataType, position: int, *, may_be_codes: bool, is_ordered: bool
) -> StoredColumn:
    stored = footer.metadata.schema.column(position)
    is_time = pa.types.is_temporal(dtype)
    is_readable = not (pa.types.is_null(dtype) or leaf in footer.int96 or (footer.legacy_calendar and is_time))
    physical = stored.physical_type
    is_outer = has_outer_bounds(footer.writer, dtype, physical, may_be_codes=may_be_codes)
    return StoredColumn(
        leaf=leaf,
        dtype=dtype,
        writer=footer.writer,
        position=position,
        required=stored.max_definition_level == 0,
        has_bounds=is_readable and is_outer and (is_ordered or has_signed_order(dtype, physical)),
        has_nulls=counts_nulls(footer.writer, dtype, may_be_codes=may_be_codes),
        is_ordered=is_ordered,
        decode=bound_decoder(dtype, physical, stored.length),
    )


def _claim(column: StoredColumn, chunks: Sequence[_Chunk] | None, fragment: int) -> Claim:
    """The claim of a column; None in place of chunks stands for chunks that have not one value per row."""
    low, high, nulls, nans = None, None, None, None
    if chunks is not None:
        nulls = _sum([chunk.nulls for chunk in chunks])
        nans = _sum([_nans(chunk) for chunk in chunks]) if pa.types.is_floating(column.dtype) else None
        if column.has_bounds:
            low, high = _bounds(chunks, column)
    return Claim(
        fragment=fragment,
        leaf=column.leaf,
        source="footer",
        writer=column.writer,
        type=str(column.dtype),
        nulls=nulls,
        nans=nans,
        low=_encoded(low, column.dtype, round_up=False),
        high=_encoded(high, column.dtype, round_up=True),
        low_exact=_is_exact(low, column.dtype),
        high_exact=_is_exact(high, column.dtype),
    )


# --- counts -----------------------------------------------------------------------------------------------------------


def _chunks(column: StoredColumn, groups: Sequence[GroupFacts]) -> list[_Chunk] | None:
    """The chunks of a column, None if one has not one value per row."""
    found = []
    for group in groups:
        facts = group.chunks[column.position]
        if facts.values is None or facts.values != group.rows:
            return None
        found.append(_Chunk(values=facts.values, nulls=chunk_nulls(column, facts), facts=facts))
    return found


def chunk_nulls(column: StoredColumn, facts: ChunkFacts) -> int | None:
    """NULLs of a column chunk, where they are known."""
    values = facts.values or 0
    if column.required or values == 0:
        return 0
    nulls = facts.nulls
    if nulls is None or not column.has_nulls:
        return None
    if nulls == values and column.bounds(facts) != (None, None):  # one of both is a lie
        return None
    if nulls > 0 and not counts_some_nulls(column.writer):
        return None
    return nulls if 0 <= nulls <= values else None


def _nans(chunk: _Chunk) -> int | None:
    """NaNs of a column chunk, where they are known."""
    held = chunk.values - (chunk.nulls or 0)
    if held == 0:
        return 0
    nans = chunk.facts.nans
    return nans if nans is not None and 0 <= nans <= held else None


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


# --- bounds -----------------------------------------------------------------------------------------------------------


def _bounds(chunks: Sequence[_Chunk], column: StoredColumn) -> tuple[_Bound | None, _Bound | None]:
    """Bounds over all row groups that may hold a value."""
    held = [_chunk_bounds(chunk.facts, column) for chunk in chunks if chunk.nulls != chunk.values]
    return _outermost([low for low, _ in held], min), _outermost([high for _, high in held], max)


def _outermost(bounds: Sequence[_Bound | None], pick: Callable[[Iterable[Any]], Any]) -> _Bound | None:
    known = [bound for bound in bounds if bound is not None]
    if not known or len(known) < len(bounds):
        return None
    value = pick(bound.value for bound in known)
    return _Bound(value=value, exact=any(bound.exact for bound in known if bound.value == value))


def _chunk_bounds(facts: ChunkFacts, column: StoredColumn) -> tuple[_Bound | None, _Bound | None]:
    """Bounds of a chunk; none that are the wrong way round, which would lie less visibly beside those of others."""
    stored_low, stored_high = column.bounds(facts)
    if stored_low is None or stored_high is None:
        return None, None
    low, high = column.decode(stored_low), column.decode(stored_high)
    if low is None or high is None or low > high:
        return None, None
    low_exact, high_exact = (facts.low_exact, facts.high_exact) if column.is_ordered else (False, False)
    return _bound(low, column.dtype, exact=low_exact), _bound(high, column.dtype, exact=high_exact)


def _bound(value: Any, dtype: pa.DataType, *, exact: bool) -> _Bound | None:
    if pa.types.is_floating(dtype) and not is_bound(value, dtype):
        return None
    return _Bound(value=value, exact=exact)


def _encoded(bound: _Bound | None, dtype: pa.DataType, *, round_up: bool) -> bytes | None:
    """`encode_bound`: time in microseconds, decimals in plain notation with all their digits."""
    if bound is None:
        return None
    if pa.types.is_temporal(dtype):
        return encode_bound(_micros(bound.value, dtype, round_up=round_up))
    return encode_bound(format(bound.value, "f") if isinstance(bound.value, Decimal) else bound.value)


def _micros(raw: int, dtype: pa.DataType, *, round_up: bool) -> int:
    """A stored date or timestamp as microseconds since 1970."""
    if pa.types.is_date(dtype):
        return raw * _MICROS_PER_DAY
    if dtype.unit == "ns":
        return -(-raw // 1000) if round_up else raw // 1000
    return raw * 1000 if dtype.unit == "ms" else raw


def _is_exact(bound: _Bound | None, dtype: pa.DataType) -> bool:
    """Whether the encoded bound is a value of the column: rounded nanoseconds are none."""
    if bound is None or not bound.exact:
        return False
    return not (pa.types.is_timestamp(dtype) and dtype.unit == "ns" and bound.value % 1000)
