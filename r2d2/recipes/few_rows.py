"""Rows of a large parent of which a child has few: only those are labelled, all others are negative.

A search over the labels of all rows takes as long for a child of a hundred rows as for one of millions, and a large
table may have thousands of such children. Here the child's rows are fetched, a predicate is learned on them and a
sample that all children of the parent share, and what is asked of all rows is one scan each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.recipes.columns import PredicateColumn, places_shown
from r2d2.recipes.keys import listable
from r2d2.recipes.labels import Numbers
from r2d2.recipes.learn import Sample, constants_for, learn
from r2d2.recipes.predicates import Predicate, duck_sql, renumbered
from r2d2.recipes.rows import first_row
from r2d2.recipes.stored_rows import MISTAKES, ROUNDS
from r2d2.scan.kinds import Lists

MOST_ROWS = 10_000
"""Rows of a child that are few at most."""
LEAST_TIMES = 20
"""So many times as many rows has the parent at least."""
SAMPLE_ROWS = 4_000
"""Rows of the parent in the sample that its children share."""


def are_few(rows: int, parent_rows: int) -> bool:
    """Whether a child of so many rows has few of a parent's."""
    return rows <= MOST_ROWS and rows * LEAST_TIMES <= parent_rows


@dataclass(frozen=True, kw_only=True)
class Few:
    """Rows of a table all equals of which a child has.

    Attributes:
        positions: Where they are in the table, ascending.
        most: How often the child has one row at most.
    """

    positions: Numbers
    most: int


class LargeTable:
    """A table in DuckDB, with values v0, v1, …, for one child after the other.

    Args:
        connection: Where the table is.
        name: Its name.
        columns: Whose values it has.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[PredicateColumn]) -> None:
        self.columns = columns
        self.name = name
        self.values = ", ".join(f"v{place}" for place in range(len(columns)))
        self.connection = connection
        (self.rows,) = first_row(connection, f"SELECT count(*) FROM {name}") or (0,)

    @cached_property
    def sample(self) -> pa.Table:
        """Rows chosen by their values alone, with their positions (r); also the table `shared_sample`."""
        found = self.least("true", SAMPLE_ROWS)
        self.connection.register("found_sample", found)
        self.connection.execute("CREATE OR REPLACE TEMP TABLE shared_sample AS SELECT * FROM found_sample")
        self.connection.unregister("found_sample")
        return found

    def least(self, test: str, rows: int) -> pa.Table:
        """The rows under a condition with the least hashes of their values, with their positions (r)."""
        ordered = f"SELECT rowid AS r, {self.values} FROM {self.name} WHERE {test} ORDER BY hash({self.values}), r"
        return self.connection.sql(f"{ordered} LIMIT {rows}").to_arrow_table()

    @contextmanager
    def few(self, rows: Few) -> Iterator[FewRows]:
        """The rows labelled by a child."""
        self.connection.register("few_positions", pa.table({"r": rows.positions}))
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE few AS SELECT own.rowid AS r, {self.values} FROM {self.name} AS own "
            f"JOIN few_positions ON own.rowid = few_positions.r ORDER BY hash({self.values}), own.rowid"
        )
        self.connection.unregister("few_positions")
        try:
            yield FewRows(self, rows)
        finally:
            self.connection.execute("DROP TABLE IF EXISTS few")


class FewRows:
    """Labelled rows of a large table; see `query.Rows`."""

    def __init__(self, table: LargeTable, rows: Few) -> None:
        self.columns = table.columns
        self._table, self._positions, self._most = table, rows.positions, rows.most
        self._own = table.connection.sql(f"SELECT {table.values} FROM few").to_arrow_table()

    def counts(self) -> tuple[int, int, int]:
        """See `query.Rows`."""
        return self._table.rows - len(self._positions), 0, self._most

    def settle(self) -> None:
        """See `query.Rows`; no row is ambiguous here."""

    def predicate(self, *, distinct: bool) -> Predicate | None:
        """See `query.Rows`."""
        shown = places_shown(self.columns, distinct=distinct)
        if not shown:
            return None
        names, usable = [f"v{place}" for place in shown], [self.columns[place] for place in shown]
        most_constants = constants_for(len(self._positions))
        others = self._others(self._table.sample)
        for _ in range(ROUNDS):
            rows = pa.concat_tables([self._own, others])
            wanted = np.arange(rows.num_rows) < self._own.num_rows
            found = learn(Sample.of(rows.select(names), usable, wanted, most_constants))
            if found is None:
                return None
            predicate = renumbered(found, shown)
            test = duck_sql(predicate, self.columns)
            if self._is_right(test):
                return predicate
            wrong = self._others(self._table.least(test, len(self._positions) + MISTAKES))
            if not wrong.num_rows:
                return None  # a row that the sample's codes select, and DuckDB does not
            others = pa.concat_tables([others, wrong])
        return None

    @cached_property
    def _sampled(self) -> int:
        """How many of the child's rows are in the shared sample."""
        return int(np.count_nonzero(np.isin(self._table.sample["r"].to_numpy(), self._positions)))

    def _others(self, rows: pa.Table) -> pa.Table:
        """Those of some rows that the child does not have, without their positions."""
        is_other = np.isin(rows["r"].to_numpy(), self._positions, invert=True)
        return rows.drop_columns(["r"]).filter(pa.array(is_other))

    def _is_right(self, test: str) -> bool:
        """Whether a condition selects the child's rows and no others."""
        counts = ", ".join(f"(SELECT count(*) FROM {name} WHERE {test})" for name in ("few", self._table.name))
        return self._first(f"SELECT {counts}") == (len(self._positions), len(self._positions))

    def key_columns(self) -> list[int]:
        """See `query.Rows`."""
        own = ((place, self._own.column(place)) for place in listable(self.columns))
        found = [(-pc.count_distinct(values).as_py(), place) for place, values in own if not values.null_count]
        return [place for _, place in sorted(found)] if len(self._positions) else []

    def identify(self, places: Sequence[int]) -> bool:
        """See `query.Rows`."""
        sampled = self._sampled  # makes the shared sample
        same = " AND ".join(f"own.v{place} = few.v{place}" for place in places)
        matched = "SELECT count(*) FROM {} AS own SEMI JOIN few ON {}"
        if self._first(matched.format("shared_sample", same)) != (sampled,):
            return False  # most columns identify nothing, which a few rows show
        return self._first(matched.format(self._table.name, same)) == (len(self._positions),)

    def keys(self, places: Sequence[int]) -> pa.Table:
        """See `query.Rows`."""
        names = ", ".join(f"v{place}" for place in places)
        return self._table.connection.sql(f"SELECT DISTINCT {names} FROM few ORDER BY {names}").to_arrow_table()

    def _first(self, sql: str) -> tuple[Any, ...] | None:
        return first_row(self._table.connection, sql)


class RowsByNumber:
    """Where the rows of each number are in a table.

    Args:
        numbers: Of its rows.
        count: How many numbers there are.
    """

    def __init__(self, numbers: Numbers, count: int) -> None:
        self._rows = Lists.by_owner(numbers, np.arange(len(numbers)), count)

    def few_of(self, child: Numbers) -> Few | None:
        """The rows that a child has, given its rows' numbers; None where it has some of equal rows only."""
        ids, wanted = np.unique(child, return_counts=True)
        own = self._rows.taken(ids)
        if (wanted < own.sizes).any():
            return None
        return Few(positions=np.sort(own.items), most=int(wanted.max(initial=0)))
