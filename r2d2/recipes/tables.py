"""Tables of a search: their rows stay in DuckDB, or, where they are few, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.recipes.columns import Kind, PredicateColumn
from r2d2.recipes.held_rows import HeldRows, HeldTable
from r2d2.recipes.labels import Fingerprints, Labels, Positions, Wanted
from r2d2.recipes.query import Rows
from r2d2.recipes.rows import Load, first_row
from r2d2.recipes.small_rows import WantedTable, small_tables
from r2d2.recipes.stored_rows import StoredRows, StoredTable
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.rowhash import RowHasher

HELD_ROWS = 50_000
"""Rows of a table in memory at most: larger ones are better sampled than learned from whole."""
HELD_CELLS = 1_000_000
"""Its values at most."""
HELD_BYTES = 64 << 20
"""Memory of all tables that are held at once; their codes take about as much again."""
AHEAD_BYTES = 4 << 20
"""Stored bytes of the work items whose small tables are decoded together."""


class SearchTable:
    """A loaded table, in memory or in DuckDB, with the lanes of column sets as h<number>, g<number>.

    Args:
        columns: Whose values it has, as v0, v1, ….
        connection: Where it may be.
        name: Its name there.
        rows: Its rows, where they are in memory.
    """

    def __init__(
        self,
        columns: Sequence[PredicateColumn],
        connection: duckdb.DuckDBPyConnection,
        name: str,
        rows: pa.Table | None = None,
    ) -> None:
        self.columns = columns
        self._connection, self._name, self._rows = connection, name, rows

    @cached_property
    def _held(self) -> HeldTable | None:
        if self._rows is None:
            return None
        return HeldTable(self._rows.select([f"v{place}" for place in range(len(self.columns))]), self.columns)

    def fingerprints(self, column_set: int) -> Fingerprints:
        """The lanes of a column set."""
        names = [f"h{column_set}", f"g{column_set}"]
        if self._rows is not None:
            rows = self._rows.select(names)
        else:
            rows = self._connection.sql(f"SELECT {', '.join(names)} FROM {self._name}").to_arrow_table()
        first, second = (np.ascontiguousarray(lane.to_numpy()).view(np.int64) for lane in rows.columns)
        return first, second

    @property
    def held_bytes(self) -> int:
        """Memory of its rows, where they are there."""
        return self._rows.nbytes if self._rows is not None else 0

    def drop(self) -> None:
        """Remove what is in DuckDB."""
        self._connection.execute(f"DROP TABLE IF EXISTS {self._name}")

    @property
    def is_held(self) -> bool:
        """Whether its rows are in memory."""
        return self._rows is not None

    @cached_property
    def _stored(self) -> StoredTable:
        return StoredTable(self._connection, self._name, self.columns)

    @contextmanager
    def labelled(self, labels: Labels) -> Iterator[Rows]:
        """The rows with labels; of all tables of a connection one at a time."""
        if self._held is not None:
            yield HeldRows(self._held, labels)
            return
        with self.wanted(Wanted.of(labels)) as rows:
            yield rows

    def keep_at_hand(self, positions: Positions) -> None:
        """Of a table that is not held, some rows about which many questions will be asked, ascending."""
        self._stored.keep_at_hand(positions)

    @contextmanager
    def wanted(self, wanted: Wanted) -> Iterator[Rows]:
        """The same for a table that is not held, given what a child wants of it."""
        rows = StoredRows(self._stored, wanted)
        try:
            yield rows
        finally:
            rows.close()


def small_ahead(
    works: Sequence[Sequence[WantedTable]], hasher: RowHasher, limits: KernelLimits
) -> Iterator[Sequence[pa.Table | None]]:
    """Of the tables of each work item those that are small, decoded together with those of the next items."""
    start = 0
    while start < len(works):
        end, size = start, 0
        while end < len(works) and (end == start or size + _file_bytes(works[end]) <= AHEAD_BYTES):
            size += _file_bytes(works[end])
            end += 1
        tables = [table for work in works[start:end] for table in work]
        places = [place for place, table in enumerate(tables) if len(table.columns) * HELD_ROWS <= HELD_CELLS]
        found: list[pa.Table | None] = [None] * len(tables)
        with suppress(duckdb.Error), connect(limits) as connection:
            small = small_tables(connection, [tables[place] for place in places], hasher, HELD_ROWS, HELD_BYTES)
            for place, rows in zip(places, small, strict=True):
                found[place] = rows
        for work in works[start:end]:
            yield found[: len(work)]
            del found[: len(work)]
        start = end


def _file_bytes(tables: Sequence[WantedTable]) -> int:
    return sum(file.stamp.size for table in tables for item in table.items for file in item.files)


class TableLoader:
    """Loads the tables of a work item.

    Args:
        connection: Where they are loaded, one name at a time.
        tables: What is wanted.
        small: Those that are in memory already.
        hasher: Row identity.
        load: Loads the others.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        tables: Sequence[WantedTable],
        small: Sequence[pa.Table | None],
        hasher: RowHasher,
        load: Load,
    ) -> None:
        self._connection, self._hasher, self._load = connection, hasher, load
        self._tables = {table.name: (table, rows) for table, rows in zip(tables, small, strict=True)}
        self._room = HELD_BYTES - sum(rows.nbytes for rows in small if rows is not None)

    def table(self, name: str) -> SearchTable:
        """A table, to be dropped when it is not needed any more.

        Raises:
            TableFault: As `rows.load_rows` does.
        """
        table, rows = self._tables[name]
        if rows is None:
            count = self._load(self._connection, name, table.items, self._hasher, table.columns)
            rows = _taken(self._connection, table, count, self._room)
            self._room -= rows.nbytes if rows is not None else 0
        return SearchTable(table.columns, self._connection, name, rows)

    def drop(self, table: SearchTable) -> None:
        """Remove a table."""
        table.drop()
        self._room += table.held_bytes


def _taken(connection: duckdb.DuckDBPyConnection, table: WantedTable, count: int, room: int) -> pa.Table | None:
    """The rows of a table taken out of DuckDB, if they are few."""
    width = 16 * len(table.items[0].column_sets if table.items else ()) + 16 * len(table.columns)
    texts = [place for place, column in enumerate(table.columns) if column.kind in (Kind.TEXT, Kind.BYTES)]
    if count > HELD_ROWS or count * len(table.columns) > HELD_CELLS or count * width > room:
        return None
    if texts:
        lengths = " + ".join(f"coalesce(sum(strlen(v{place})), 0)" for place in texts)
        (length,) = first_row(connection, f"SELECT {lengths} FROM {table.name}") or (0,)
        if count * width + length > room:
            return None
    rows = connection.sql(f"SELECT * FROM {table.name}").to_arrow_table()
    connection.execute(f"DROP TABLE {table.name}")
    return rows
