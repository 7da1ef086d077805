"""Key lists: the fewest columns whose values tell a child's rows from the parent's others, and those values."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.model import LeafPath
from r2d2.recipes.columns import Kind, PredicateColumn

if TYPE_CHECKING:
    from r2d2.recipes.query import Rows

MOST_KEY_COLUMNS = 3
MOST_CANDIDATES = 12
"""Columns that are combined: those with the most different values."""
MOST_TRIALS = 60
"""Sets of columns of one size that are tried for one child."""
_LIKELY = 2
"""Columns that are tried alone before all are together, which takes longer."""
MOST_LISTS = 4
"""Lists that are written to find the smallest."""

_TYPES = {
    Kind.INTEGER: pa.int64(),
    Kind.TEXT: pa.string(),
    Kind.BYTES: pa.binary(),
    Kind.DATE: pa.date32(),
    Kind.WALL: pa.timestamp("us"),
    Kind.INSTANT: pa.timestamp("us", "UTC"),
}


@dataclass(frozen=True, kw_only=True)
class KeyList:
    """A key list.

    Attributes:
        paths: The parent's leaves that are listed.
        content: The Parquet file. No column of it has a name that one of the parent's has.
    """

    paths: tuple[LeafPath, ...]
    content: bytes


def listable(columns: Sequence[PredicateColumn]) -> list[int]:
    """The columns whose values may be listed."""
    return [place for place, column in enumerate(columns) if column.kind in _TYPES or column.kind is Kind.DECIMAL]


def find_keys(rows: Rows, taken: Set[str]) -> KeyList | None:
    """The smallest list of the fewest columns that identify the positive rows, if any do.

    Args:
        rows: The parent's.
        taken: Folded names that no column of the list may have.
    """
    places = rows.key_columns()[:MOST_CANDIDATES]
    identify = functools.cache(rows.identify)
    if not any(identify((place,)) for place in places[:_LIKELY]) and not (places and identify(tuple(places))):
        return None  # nor do fewer columns
    for size in range(1, MOST_KEY_COLUMNS + 1):
        sets = itertools.islice(itertools.combinations(places, size), MOST_TRIALS)
        good = itertools.islice((chosen for chosen in sets if identify(chosen)), MOST_LISTS)
        lists = [_key_list(rows.keys(chosen), [rows.columns[place] for place in chosen], taken) for chosen in good]
        if lists:
            return min(lists, key=lambda one: (len(one.content), one.paths))
    return None


def _key_list(keys: pa.Table, columns: Sequence[PredicateColumn], taken: Set[str]) -> KeyList:
    typed = [_typed(values, column) for values, column in zip(keys.columns, columns, strict=True)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(typed, names=list(_free_names(len(columns), taken))), sink, compression="zstd")
    return KeyList(paths=tuple(column.path for column in columns), content=bytes(sink.getvalue()))


def _free_names(count: int, taken: Set[str]) -> Iterator[str]:
    free = (name for number in itertools.count() if (name := f"key {number}") not in taken)
    return itertools.islice(free, count)


def _typed(values: pa.ChunkedArray, column: PredicateColumn) -> pa.ChunkedArray:
    """Stored values in the type of the list: dates and times are numbers there, bytes hexadecimal."""
    if column.kind is Kind.BYTES:
        return pa.chunked_array([pa.array(map(bytes.fromhex, values.to_pylist()), pa.binary())])
    if column.kind is Kind.DATE:
        return values.cast(pa.int32()).cast(pa.date32())
    return values.cast(_TYPES.get(column.kind, values.type))
