"""What the statistics of a Parquet footer claim about the columns.

Statistics are believed as far as their writer and the column's type allow; the rest is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from r2d2.model import Claim, LeafPath, encode_bound
from r2d2.scan.footer import Footer
from r2d2.scan.footer_schema import leaf_columns, width
from r2d2.scan.footer_writers import counts_nulls, counts_some_nulls, has_outer_bounds, is_bound
from r2d2.scan.thrift import ChunkFacts, chunk_facts

_UNUSABLE = (pa.ArrowException, OSError, ValueError, ArithmeticError, TypeError)

_MICROS_PER_DAY = 86_400_000_000
_ARROW_SCHEMA = b"ARROW:schema"
_NOTHING_SAID = ChunkFacts()


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A column chunk whose values are one per row.

    Attributes:
        values: Rows, NULLs included.
        nulls: None where unknown.
        statistics: As pyarrow gives them, None where there are none.
        facts: What pyarrow does not give.
    """

    values: int
    nulls: int | None
    statistics: Any
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
    groups = [footer.metadata.row_group(i) for i in range(footer.metadata.num_row_groups)]
    facts = _facts(footer)
    coded = _coded_columns(footer)
    claims = []
    for leaf, dtype, position in leaf_columns(footer.schema):
        if width(dtype) == 1 and not pa.types.is_list(dtype):
            column = _column(footer, leaf, dtype, position, may_be_codes=leaf[0] in coded)
            chunks = _chunks(column, groups, [columns[position] for columns in facts])
            claims.append(_claim(column, chunks, fragment))
    return claims


def _facts(footer: Footer) -> Sequence[Sequence[ChunkFacts]]:
    """Facts per row group and Parquet column; none where the footer cannot be read as pyarrow read it."""
    metadata = footer.metadata
    nothing = [[_NOTHING_SAID] * metadata.num_columns] * metadata.num_row_groups
    try:
        facts = chunk_facts(footer.data)
    except ValueError:
        return nothing
    return facts if [len(columns) for columns in facts] == [len(columns) for columns in nothing] else nothing


def _coded_columns(footer: Footer) -> frozenset[str]:
    """Top-level columns that the writer may have been given as codes and a dictionary; an Arrow schema would tell."""
    if _ARROW_SCHEMA not in (footer.metadata.metadata or {}):
        return frozenset(footer.schema.names)
    shape = footer.metadata.schema.to_arrow_schema()
    return frozenset(field.name for field in shape if "dictionary<" in str(field.type))


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A Parquet column whose values are one per row, and how far its statistics are believed.

    Attributes:
        position: Among the Parquet columns.
        required: It holds no NULL.
        has_bounds, has_nulls: Its writer gets bounds and counts of NULL right.
    """

    leaf: LeafPath
    dtype: pa.DataType
    writer: str
    position: int
    required: bool
    has_bounds: bool
    has_nulls: bool


def _column(footer: Footer, leaf: LeafPath, dtype: pa.DataType, position: int, *, may_be_codes: bool) -> _Column:
    stored = footer.metadata.schema.column(position)
    is_time = pa.types.is_temporal(dtype)
    is_readable = not (pa.types.is_null(dtype) or leaf in footer.int96 or (footer.legacy_calendar and is_time))
    is_outer = has_outer_bounds(footer.writer, dtype, stored.physical_type, may_be_codes=may_be_codes)
    return _Column(
        leaf=leaf,
        dtype=dtype,
        writer=footer.writer,
        position=position,
        required=stored.max_definition_level == 0,
        has_bounds=is_readable and is_outer,
        has_nulls=counts_nulls(footer.writer, dtype, may_be_codes=may_be_codes),
    )


def _claim(column: _Column, chunks: Sequence[_Chunk] | None, fragment: int) -> Claim:
    """The claim of a column; None in place of chunks stands for chunks that have not one value per row."""
    low, high, nulls, nans = None, None, None, None
    if chunks is not None:
        nulls = _sum([chunk.nulls for chunk in chunks])
        nans = _sum([_nans(chunk) for chunk in chunks]) if pa.types.is_floating(column.dtype) else None
        if column.has_bounds:
            low, high = _bounds(chunks, column.dtype)
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


def _chunks(column: _Column, groups: Sequence[Any], facts: Sequence[ChunkFacts]) -> list[_Chunk] | None:
    """The chunks of a column, None if one has not one value per row."""
    found = []
    for group, own in zip(groups, facts, strict=True):
        chunk = group.column(column.position)
        if chunk.num_values != group.num_rows:
            return None
        statistics, values = chunk.statistics, chunk.num_values
        found.append(_Chunk(values=values, nulls=_nulls(column, statistics, values), statistics=statistics, facts=own))
    return found


def _nulls(column: _Column, statistics: Any, values: int) -> int | None:
    """NULLs of a column chunk, where they are known."""
    if column.required or values == 0:
        return 0
    if statistics is None or not statistics.has_null_count or not column.has_nulls:
        return None
    nulls = int(statistics.null_count)
    if nulls == values and statistics.has_min_max:  # one of both is a lie
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


def _bounds(chunks: Sequence[_Chunk], dtype: pa.DataType) -> tuple[_Bound | None, _Bound | None]:
    """Bounds over all row groups that may hold a value."""
    held = [_chunk_bounds(chunk, dtype) for chunk in chunks if chunk.nulls != chunk.values]
    return _outermost([low for low, _ in held], min), _outermost([high for _, high in held], max)


def _outermost(bounds: Sequence[_Bound | None], pick: Callable[[Iterable[Any]], Any]) -> _Bound | None:
    known = [bound for bound in bounds if bound is not None]
    if not known or len(known) < len(bounds):
        return None
    value = pick(bound.value for bound in known)
    return _Bound(value=value, exact=any(bound.exact for bound in known if bound.value == value))


def _chunk_bounds(chunk: _Chunk, dtype: pa.DataType) -> tuple[_Bound | None, _Bound | None]:
    """Bounds of a chunk; none that are the wrong way round, which would lie less visibly beside those of others."""
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return None, None
    try:
        low, high = _low_and_high(statistics, dtype)
    except _UNUSABLE:  # text that is none, years that Python lacks
        return None, None
    if low > high:
        return None, None
    return _bound(low, dtype, exact=chunk.facts.low_exact), _bound(high, dtype, exact=chunk.facts.high_exact)


def _low_and_high(statistics: Any, dtype: pa.DataType) -> tuple[Any, Any]:
    """Minimum and maximum as they compare: dates and timestamps as stored, strings as bytes.

    Python's dates end in the year 9999 and know no nanoseconds; a string that was cut off may be no text any more.
    """
    t = pa.types
    if t.is_temporal(dtype) or t.is_string(dtype) or t.is_binary(dtype):
        return statistics.min_raw, statistics.max_raw
    return statistics.min, statistics.max


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
