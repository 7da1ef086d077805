"""What the statistics of a Parquet footer claim about the columns.

Statistics are believed as far as their writer and the column's type allow; the rest is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from r2d2.model import Claim, encode_bound
from r2d2.scan.footer.layout import StoredColumn
from r2d2.scan.footer.read import Footer
from r2d2.scan.footer.thrift import ChunkFacts, GroupFacts
from r2d2.scan.footer.writers import is_bound

_MICROS_PER_DAY = 86_400_000_000


class _Chunk(NamedTuple):
    """A column chunk whose values are one per row.

    Attributes:
        values: Rows, NULLs included.
        nulls: None where unknown.
        facts: The statistics of the chunk.
    """

    values: int
    nulls: int | None
    facts: ChunkFacts


class _Bound(NamedTuple):
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
    groups = footer.facts.groups
    return [_claim(column, _chunks(column, groups), fragment) for column in footer.layout.columns]


def _claim(column: StoredColumn, chunks: Sequence[_Chunk] | None, fragment: int) -> Claim:
    """The claim of a column; None in place of chunks stands for chunks that have not one value per row."""
    low, high, nulls, nans = None, None, None, None
    if chunks is not None:
        nulls = _sum([chunk.nulls for chunk in chunks])
        nans = _sum([_nans(chunk) for chunk in chunks]) if column.is_float else None
        if column.has_bounds:
            low, high = _bounds(chunks, column)
    return Claim(
        fragment=fragment,
        leaf=column.leaf,
        source="footer",
        writer=column.writer,
        type=column.type_name,
        nulls=nulls,
        nans=nans,
        low=None if low is None else _encoded(low, column, round_up=False),
        high=None if high is None else _encoded(high, column, round_up=True),
        low_exact=low is not None and _is_exact(low, column.dtype),
        high_exact=high is not None and _is_exact(high, column.dtype),
    )


# --- counts -----------------------------------------------------------------------------------------------------------


def _chunks(column: StoredColumn, groups: Sequence[GroupFacts]) -> list[_Chunk] | None:
    """The chunks of a column, None if one has not one value per row."""
    found = []
    for rows, chunks in groups:
        facts = chunks[column.position]
        if facts.values is None or facts.values != rows:
            return None
        found.append(_Chunk(rows, chunk_nulls(column, facts), facts))
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
    if nulls > 0 and not column.has_some_nulls:
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
    if len(held) == 1:
        return held[0]
    return _outermost([low for low, _ in held], min), _outermost([high for _, high in held], max)


def _outermost(bounds: Sequence[_Bound | None], pick: Callable[[Iterable[Any]], Any]) -> _Bound | None:
    known = [bound for bound in bounds if bound is not None]
    if not known or len(known) < len(bounds):
        return None
    value = pick(bound.value for bound in known)
    return _Bound(value, any(bound.exact for bound in known if bound.value == value))


def _chunk_bounds(facts: ChunkFacts, column: StoredColumn) -> tuple[_Bound | None, _Bound | None]:
    """Bounds of a chunk; none that are the wrong way round, which would lie less visibly beside those of others."""
    stored_low, stored_high = column.bounds(facts)
    if stored_low is None or stored_high is None:
        return None, None
    low, high = column.decode(stored_low), column.decode(stored_high)
    if low is None or high is None or low > high:
        return None, None
    low_exact, high_exact = (facts.low_exact, facts.high_exact) if column.is_ordered else (False, False)
    return _bound(low, column, exact=low_exact), _bound(high, column, exact=high_exact)


def _bound(value: Any, column: StoredColumn, *, exact: bool) -> _Bound | None:
    if column.is_float and not is_bound(value, column.dtype):
        return None
    return _Bound(value, exact)


def _encoded(bound: _Bound, column: StoredColumn, *, round_up: bool) -> bytes | None:
    """`encode_bound`: time in microseconds, decimals in plain notation with all their digits."""
    value = bound.value
    if column.is_time:
        return encode_bound(_micros(value, column.dtype, round_up=round_up))
    return encode_bound(format(value, "f") if isinstance(value, Decimal) else value)


def _micros(raw: int, dtype: pa.DataType, *, round_up: bool) -> int:
    """A stored date or timestamp as microseconds since 1970."""
    if pa.types.is_date(dtype):
        return raw * _MICROS_PER_DAY
    if dtype.unit == "ns":
        return -(-raw // 1000) if round_up else raw // 1000
    return raw * 1000 if dtype.unit == "ms" else raw


def _is_exact(bound: _Bound, dtype: pa.DataType) -> bool:
    """Whether the encoded bound is a value of the column: rounded nanoseconds are none."""
    if not bound.exact:
        return False
    return not (pa.types.is_timestamp(dtype) and dtype.unit == "ns" and bound.value % 1000)
