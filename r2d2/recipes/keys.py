"""Key lists: the fewest columns whose values tell a child's rows from the parent's others, and those values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.model import LeafPath
from r2d2.recipes.columns import Kind, PredicateColumn
from r2d2.recipes.rows import first_row

MOST_KEY_COLUMNS = 3
MOST_CANDIDATES = 12
"""Columns that are combined: those with the most different values."""
MOST_TRIALS = 60
"""Sets of columns of one size that are tried for one child."""
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


def find_keys(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[PredicateColumn], taken: Set[str]
) -> KeyList | None:
    """The smallest list of the fewest columns that identify the wanted rows of the table `labelled`, if any do.

    Args:
        connection: Where the table is.
        columns: What may be listed.
        taken: Folded names that no column of the list may have.
    """
    places = _candidates(connection, columns)
    if not places or not _identify(connection, places):
        return None
    for size in range(1, MOST_KEY_COLUMNS + 1):
        sets = itertools.islice(itertools.combinations(places, size), MOST_TRIALS)
        good = itertools.islice((chosen for chosen in sets if _identify(connection, chosen)), MOST_LISTS)
        lists = [_key_list(connection, columns, chosen, taken) for chosen in good]
        if lists:
            return min(lists, key=lambda one: (len(one.content), one.paths))
    return None


def _candidates(connection: duckdb.DuckDBPyConnection, columns: Sequence[PredicateColumn]) -> list[int]:
    """Columns without NULL in a wanted row, those with the most different values first."""
    usable = [place for place, column in enumerate(columns) if column.kind in _TYPES or column.kind is Kind.DECIMAL]
    if not usable:
        return []
    counts = ", ".join(f"count(v{place}), approx_count_distinct(v{place})" for place in usable)
    (rows, *counted) = first_row(connection, f"SELECT count(*), {counts} FROM labelled WHERE y = 1") or (0,)
    found = [
        (-different, place)
        for place, filled, different in zip(usable, counted[::2], counted[1::2], strict=True)
        if filled == rows and rows
    ]
    return [place for _, place in sorted(found)[:MOST_CANDIDATES]]


def _identify(connection: duckdb.DuckDBPyConnection, places: Sequence[int]) -> bool:
    """Whether no combination of values stands in a wanted row and in another one."""
    names = ", ".join(f"v{place}" for place in places)
    mixed = f"SELECT 1 FROM labelled GROUP BY {names} HAVING bool_or(y = 1) AND bool_or(y <> 1) LIMIT 1"
    ambiguous = first_row(connection, "SELECT 1 FROM labelled WHERE y = 2 LIMIT 1")
    return ambiguous is None and first_row(connection, mixed) is None


def _key_list(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[PredicateColumn],
    places: Sequence[int],
    taken: Set[str],
) -> KeyList:
    names = ", ".join(f"v{place}" for place in places)
    listed = ", ".join(
        f"unhex(v{place}) AS v{place}" if columns[place].kind is Kind.BYTES else f"v{place}" for place in places
    )
    sql = f"SELECT {listed} FROM (SELECT DISTINCT {names} FROM labelled WHERE y = 1 ORDER BY {names})"
    rows = connection.sql(sql).to_arrow_table()
    typed = [_typed(rows.column(number), columns[place]) for number, place in enumerate(places)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(typed, names=list(_free_names(len(places), taken))), sink, compression="zstd")
    return KeyList(paths=tuple(columns[place].path for place in places), content=bytes(sink.getvalue()))


def _free_names(count: int, taken: Set[str]) -> Iterator[str]:
    free = (name for number in itertools.count() if (name := f"key {number}") not in taken)
    return itertools.islice(free, count)


def _typed(values: pa.ChunkedArray, column: PredicateColumn) -> pa.ChunkedArray:
    """Stored values in the type of the list: dates and times are numbers there."""
    if column.kind is Kind.DATE:
        return values.cast(pa.int32()).cast(pa.date32())
    return values.cast(_TYPES.get(column.kind, values.type))
