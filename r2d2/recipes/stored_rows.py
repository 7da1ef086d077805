"""Rows of a large parent in DuckDB: a predicate is learned on samples, and tried on all rows.

The rows about which it was wrong join the sample. Samples depend on values alone, not on how the files are cut. Values
stay in DuckDB; which rows a child wants is told by their positions, and what is asked of all rows is one scan each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.recipes.columns import PredicateColumn, places_shown
from r2d2.recipes.keys import MOST_CANDIDATES, listable
from r2d2.recipes.labels import Positions, Wanted, merged
from r2d2.recipes.learn import FEW_ROWS, Mask, Sample, combined_codes, constants_for, is_hopeless, learn
from r2d2.recipes.predicates import Predicate, duck_sql, renumbered
from r2d2.recipes.rows import first_row
from r2d2.scan.beginnings import begin_alike, beginnings, tell_apart
from r2d2.scan.ordering import changes, order_of_hashes

T = TypeVar("T")

SAMPLE_ROWS = 20_000
"""Rows of a sample: up to half of them wanted, up to half not."""
LEAST_OTHERS = 4_000
"""Of those that are not wanted so many, where fewer are wanted."""
MISTAKES = 1_000
"""Wrongly selected, and wrongly left out, rows that join a sample after a trial."""
ROUNDS = 8
"""Trials with a sample of SAMPLE_ROWS, at most."""
FEW_ROUNDS = 3
"""Trials before, with a sample of FEW_ROWS, which mostly are enough."""
_WORDS_HELD = 6
"""Columns of a table of which the beginnings of hashes are held, with four bytes a row each, and as many of which it is
held which rows share a value, with one byte."""
_OFTEN = 4
"""Questions about a column after which it is found out for all rows together which of them share a value."""
_FIRST_PART = 16
"""So small a part of the rows is looked at first for values that a key list must not have: it shows most of them."""
AT_HAND_CELLS = 2_000_000
"""Values in memory, at most, of the rows of a table that any of its children has."""
AT_HAND_BYTES = 64 << 20
"""Their memory, at most."""
_BATCH_ROWS = 1 << 14
_AMPLE = 4
"""So many times the rows that are looked for hold enough without repetitions, mostly."""


class StoredTable:
    """A table in DuckDB, whose rows are asked about by their positions.

    Args:
        connection: Where the table is; it keeps the order of rows.
        name: Its name.
        columns: Whose values it has, as v0, v1, ….
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[PredicateColumn]) -> None:
        self.columns = columns
        self.name = name
        self.connection = connection
        self._orders: dict[tuple[int, ...], RowOrder] = {}
        self._words: dict[int, npt.NDArray[np.uint32]] = {}
        self._shared: dict[int, Mask] = {}
        self._asked: Counter[int] = Counter()
        self._at_hand: _AtHand | None = None
        (self.rows,) = first_row(connection, f"SELECT count(*) FROM {name}") or (0,)

    def order(self, places: Sequence[int]) -> RowOrder:
        """The order of its rows by hashes of some columns."""
        key = tuple(places)
        if key not in self._orders:
            self._orders[key] = RowOrder(self, key)
        return self._orders[key]

    def keep_at_hand(self, positions: Positions) -> None:
        """Keep the values of some rows, ascending, in memory if they are few: to find rows by position is a scan.

        Those of other rows are dropped.
        """
        self._at_hand = None
        if len(positions) * len(self.columns) > AT_HAND_CELLS:
            return
        with self.at(positions) as source:
            sql = f"SELECT {_values(range(len(self.columns)))} FROM {source} ORDER BY own.rowid"
            values = _within(self.connection.sql(sql).to_arrow_reader(_BATCH_ROWS), AT_HAND_BYTES)
        if values is not None:
            self._at_hand = _AtHand(positions=positions, values=values)

    def fetched(self, positions: Positions, places: Sequence[int]) -> pa.Table:
        """The values of rows in some columns, in the order of their positions as given."""
        values = self._taken(positions, places)
        if values is not None:
            return values
        with self.given("fetched_rows", {"r": positions, "i": np.arange(len(positions))}) as given:
            sql = f"SELECT {_values(places)} FROM {self.name} AS own JOIN {given} ON own.rowid = {given}.r"
            return self.connection.sql(f"{sql} ORDER BY {given}.i").to_arrow_table()

    @contextmanager
    def at(self, positions: Positions) -> Iterator[str]:
        """Some rows, to stand behind FROM while the context lasts."""
        values = self._taken(positions, range(len(self.columns)))
        if values is not None:
            with self.given("own", values) as given:
                yield given
            return
        with self.given("wanted_positions", {"r": positions}) as given:
            yield f"{self.name} AS own JOIN {given} ON own.rowid = {given}.r"

    def _taken(self, positions: Positions, places: Sequence[int]) -> pa.Table | None:
        return self._at_hand.taken(positions, places) if self._at_hand is not None else None

    def words(self, place: int) -> npt.NDArray[np.uint32]:
        """The beginnings of hashes of a column: rows whose words differ have different values there."""
        return _held(self._words, place, lambda: beginnings(self.hashes([place])))

    def are_alone(self, positions: Positions, place: int) -> bool:
        """Whether, as far as is known, no other row has the value of one of some rows in a column."""
        self._asked[place] += 1
        if self._asked[place] <= _OFTEN:
            return False
        return not _held(self._shared, place, lambda: _shared(self.hashes([place])))[positions].any()

    def hashes(self, places: Sequence[int]) -> npt.NDArray[np.uint64]:
        """A hash of the values of each row in some columns."""
        told = self.connection.sql(f"SELECT hash({_values(places)}) AS w FROM {self.name}").to_arrow_table()
        words: npt.NDArray[np.uint64] = told["w"].to_numpy()
        return words

    def fulfil(self, test: str) -> Mask:
        """Which rows fulfil a condition."""
        told = self.connection.sql(f"SELECT ({test}) IS TRUE AS told FROM {self.name}").to_arrow_table()
        mask: Mask = told["told"].to_numpy()
        return mask

    @contextmanager
    def given(self, name: str, columns: Mapping[str, npt.NDArray[Any]] | pa.Table) -> Iterator[str]:
        """Numbers, or values, as a table of a name, while the context lasts."""
        self.connection.register(name, columns if isinstance(columns, pa.Table) else pa.table(dict(columns)))
        try:
            yield name
        finally:
            self.connection.unregister(name)


@dataclass(frozen=True, kw_only=True)
class _AtHand:
    """Rows of a table in memory: their positions, ascending, and their values."""

    positions: Positions
    values: pa.Table

    def taken(self, positions: Positions, places: Sequence[int]) -> pa.Table | None:
        """The values of some rows in some columns, in the order given; None if not all of the rows are here."""
        if not len(self.positions):
            return None
        rows = np.minimum(np.searchsorted(self.positions, positions), len(self.positions) - 1)
        if not (self.positions[rows] == positions).all():
            return None
        return self.values.select([f"v{place}" for place in places]).take(pa.array(rows))


def _within(batches: pa.RecordBatchReader, most_bytes: int) -> pa.Table | None:
    """All rows of a reader; None where they need more memory."""
    found: list[pa.RecordBatch] = []
    for batch in batches:
        found.append(batch)
        most_bytes -= batch.nbytes
        if most_bytes < 0:
            return None
    return pa.Table.from_batches(found, batches.schema).combine_chunks()


def _held(held: dict[int, T], place: int, made: Callable[[], T]) -> T:
    """What is held of a column, made if it is not there; that of another column makes room."""
    if place not in held:
        if len(held) == _WORDS_HELD:
            del held[next(iter(held))]
        held[place] = made()
    return held[place]


def _shared(hashes: npt.NDArray[np.uint64]) -> Mask:
    """Which hashes come more than once."""
    order = order_of_hashes(hashes)
    begins = np.append(changes(hashes[order]), True)
    shared = np.empty(len(hashes), bool)
    shared[order] = ~(begins[:-1] & begins[1:])
    return shared


class RowOrder:
    """Rows of a table in the order of a hash of some of their values; equal ones are represented by the first.

    So what is chosen by a mask takes equal rows to be chosen alike, which holds where a predicate can tell rows apart.

    Args:
        table: The table.
        places: The columns.
    """

    def __init__(self, table: StoredTable, places: Sequence[int]) -> None:
        self._table = table
        words = table.hashes(places)
        order = order_of_hashes(words)
        begins = changes(words[order])
        del words
        self._places = places
        self._ranks = np.empty(len(order), np.int32)
        self._ranks[order] = np.cumsum(begins, dtype=np.int32)
        self._firsts = order[begins]

    def least(self, positions: Positions, rows: int) -> Positions:
        """Up to so many of some rows, without repetitions: those of the least hashes, in their order."""
        ranks = self._ranks[positions]
        if len(ranks) > 2 * _AMPLE * rows:
            near = ranks <= np.partition(ranks, _AMPLE * rows)[_AMPLE * rows]
            found, firsts = np.unique(ranks[near], return_index=True)
            if len(found) >= rows:
                positions, ranks = positions[near][firsts], found
        _, firsts = np.unique(ranks, return_index=True)
        chosen: Positions = positions[firsts[:rows]]
        return chosen

    def first_of(self, chosen: Mask, rows: int) -> pa.Table:
        """The values of up to so many of the chosen rows, likewise."""
        held, values = self._head
        usable = np.flatnonzero(chosen[held])
        if len(usable) >= rows or len(held) == len(self._firsts):
            return values.take(pa.array(usable[:rows]))
        size = 2 * len(held)
        while True:
            part = self._firsts[:size]
            part = part[chosen[part]]
            if len(part) >= rows or size >= len(self._firsts):
                return self._table.fetched(part[:rows], self._places)
            size *= 4

    @cached_property
    def _head(self) -> tuple[Positions, pa.Table]:
        """The first rows, of which most children want few."""
        held = self._firsts[: 2 * LEAST_OTHERS]
        return held, self._table.fetched(held, self._places)


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """Rows that a predicate must select, and whether it must not select each row of the table."""

    wanted: Positions
    is_other: Mask


class StoredRows:
    """Labelled rows of a stored table; see `query.Rows`. A connection has one at a time, until `close`.

    Args:
        table: The table.
        wanted: What a child wants of it.
    """

    def __init__(self, table: StoredTable, wanted: Wanted) -> None:
        self.columns = table.columns
        self._table, self._wanted = table, wanted
        self._needed = merged(wanted.positive, wanted.ambiguous)

    def close(self) -> None:
        """Remove what was made of the wanted rows."""
        self._table.connection.execute("DROP TABLE IF EXISTS wanted")

    def counts(self) -> tuple[int, int, int]:
        """See `query.Rows`."""
        wanted = self._wanted
        others = self._table.rows - len(wanted.positive) - len(wanted.ambiguous)
        if wanted.free is not None:
            others -= int(np.count_nonzero(wanted.free))
        return others, len(wanted.ambiguous), wanted.most

    def settle(self) -> None:
        """See `query.Rows`."""
        asked, name = self._wanted, self._table.name
        given = {"r": asked.ambiguous, "f": asked.numbers, "n": asked.needed}
        with self._table.given("ambiguous", given) as ambiguous:
            for place, column in enumerate(self.columns):
                if column.shared or column.kind.is_float:
                    continue
                picked = self._first(
                    f"SELECT v FROM (SELECT f, v{place} AS v, any_value(n) AS n, count(*) AS m FROM {name} AS own "
                    f"JOIN {ambiguous} ON own.rowid = r GROUP BY f, v) WHERE n = m GROUP BY v HAVING count(*) = "
                    f"(SELECT count(DISTINCT f) FROM {ambiguous}) ORDER BY v NULLS LAST LIMIT 1",
                )
                if picked is not None:
                    is_null = picked[0] is None
                    value = f"v{place} IS NULL" if is_null else f"v{place} = {column.duck_literal(picked[0])}"
                    self._wanted = asked.settled(self._table.fulfil(value))
                    return

    def predicate(self, *, distinct: bool, trees: bool = True) -> Predicate | None:
        """See `query.Rows`."""
        shown = places_shown(self.columns, distinct=distinct)
        if not shown:
            return None
        sides = self._sides(distinct=True) if distinct else self._key_sides
        rows = self._sampled(sides, shown, FEW_ROWS) if distinct else self._few_rows
        few = self._sample_of(rows, shown) if distinct else self._few
        if is_hopeless(replace(few, most_constants=constants_for(len(sides.wanted))), trees=trees):
            return None
        learned = self._learned(sides, shown, rows, FEW_ROUNDS, trees=trees)
        if learned is None:
            rows = self._sampled(sides, shown, SAMPLE_ROWS // 2)
            learned = self._learned(sides, shown, rows, ROUNDS, trees=trees)
        if learned is None:
            return None
        predicate, chosen = learned
        return predicate if distinct or self._settles(chosen) else None

    def _learned(
        self, sides: _Sides, shown: Sequence[int], rows: pa.Table, rounds: int, *, trees: bool
    ) -> tuple[Predicate, Mask] | None:
        """A predicate learned from some rows that is right about all, and which rows it selects.

        The rows about which it was wrong are learned from in the next round.
        """
        for _ in range(rounds):
            sample = replace(self._sample_of(rows, shown), most_constants=constants_for(len(sides.wanted)))
            found = learn(sample, trees=trees)
            if found is None:
                return None
            predicate = renumbered(found, shown)
            chosen = self._table.fulfil(duck_sql(predicate, self.columns))
            missed = sides.wanted[~chosen[sides.wanted]]
            excess = np.flatnonzero(chosen & sides.is_other)
            if not len(missed) and not len(excess):
                return predicate, chosen
            order = self._table.order(shown)
            wrong = (self._table.fetched(order.least(own, MISTAKES), shown) for own in (missed, excess))
            rows = pa.concat_tables([rows, *map(_marked, wrong, (True, False))])
        return None

    def _sides(self, *, distinct: bool) -> _Sides:
        asked = self._wanted
        wanted = self._needed if distinct else asked.positive
        is_other = np.ones(self._table.rows, bool)
        for own in (wanted, asked.ambiguous):
            is_other[own] = False
        if asked.free is not None:
            is_other &= ~asked.free
        return _Sides(wanted=wanted, is_other=is_other)

    def _sampled(self, sides: _Sides, shown: Sequence[int], most: int) -> pa.Table:
        """Up to so many rows of each side to learn from, chosen and ordered by their values alone."""
        order = self._table.order(shown)
        wanted = self._table.fetched(order.least(sides.wanted, most), shown)
        others = order.first_of(sides.is_other, min(most, max(LEAST_OTHERS, len(sides.wanted))))
        return pa.concat_tables([_marked(wanted, True), _marked(others, False)])

    def _sample_of(self, rows: pa.Table, shown: Sequence[int]) -> Sample:
        wanted = rows.column("wanted").to_numpy(zero_copy_only=False).astype(bool)
        return Sample.of(rows.select([f"v{place}" for place in shown]), [self.columns[p] for p in shown], wanted)

    def _settles(self, chosen: Mask) -> bool:
        """Whether the rows that a predicate chose are, of each ambiguous row, as many as the child has."""
        asked = self._wanted
        _, firsts, groups = np.unique(asked.numbers, return_index=True, return_inverse=True)
        counts = np.bincount(groups[chosen[asked.ambiguous]], minlength=len(firsts))
        return bool((counts == asked.needed[firsts]).all())

    def key_columns(self) -> list[int]:
        """See `query.Rows`."""
        return self._key_places

    @cached_property
    def _key_places(self) -> list[int]:
        usable = listable(self.columns)
        if not usable or not len(self._wanted.positive):
            return []
        counts = ", ".join(f"count(v{place}), approx_count_distinct(v{place})" for place in usable)
        with self._table.at(self._wanted.positive) as rows:
            (number, *counted) = self._first(f"SELECT count(*), {counts} FROM {rows}") or (0,)
        found = [
            (-different, place)
            for place, filled, different in zip(usable, counted[::2], counted[1::2], strict=True)
            if filled == number
        ]
        return [place for _, place in sorted(found)]

    def identify(self, places: Sequence[int]) -> bool:
        """See `query.Rows`."""
        if len(self._wanted.ambiguous):
            return False
        if self._share_few(places):
            return False  # most columns identify nothing, which a few rows show
        if any(self._table.are_alone(self._wanted.positive, place) for place in places):
            return True
        same = " AND ".join(f"own.v{place} = wanted.v{place}" for place in places)
        part = self._table.rows // _FIRST_PART
        if self._share(self._alike(places[0], slice(part)), same):
            return False
        if tell_apart(len(self._wanted.positive)):
            return not self._share(self._alike(places[0], slice(part, None)), same)
        matched = f"SELECT own.rowid AS r FROM {self._table.name} AS own SEMI JOIN {self._listed_rows} ON {same}"
        rows = self._table.connection.sql(matched).to_arrow_table()["r"].to_numpy()
        return not self._key_sides.is_other[rows].any()

    def _share(self, others: Positions, same: str) -> bool:
        """Whether any of some rows has the same values as a wanted one."""
        if not len(others):
            return False
        with self._table.given("alike_rows", {"r": others}) as given:
            rows = f"{self._table.name} AS own JOIN {given} ON own.rowid = {given}.r"
            return self._first(f"SELECT 1 FROM {rows} SEMI JOIN {self._listed_rows} ON {same} LIMIT 1") is not None

    def _alike(self, place: int, rows: slice) -> Positions:
        """Of some rows, those that are not wanted and may have a wanted row's value in a column: no less than all."""
        chosen = self._key_sides.is_other[rows]
        if tell_apart(len(self._wanted.positive)):
            words = self._table.words(place)
            chosen = begin_alike(words[rows], words[self._wanted.positive]) & chosen
        return (rows.start or 0) + np.flatnonzero(chosen)

    def _share_few(self, places: Sequence[int]) -> bool:
        """Whether few rows of both sides have the same values in some columns already."""
        keys, wanted = combined_codes(self._few, places), self._few.wanted
        return bool(np.isin(keys[~wanted], keys[wanted]).any())

    def keys(self, places: Sequence[int]) -> pa.Table:
        """See `query.Rows`."""
        names = _values(places)
        return self._table.connection.sql(
            f"SELECT DISTINCT {names} FROM {self._listed_rows} ORDER BY {names}"
        ).to_arrow_table()

    @cached_property
    def _key_sides(self) -> _Sides:
        return self._sides(distinct=False)

    @cached_property
    def _few_rows(self) -> pa.Table:
        return self._sampled(self._key_sides, places_shown(self.columns, distinct=False), FEW_ROWS)

    @cached_property
    def _few(self) -> Sample:
        return self._sample_of(self._few_rows, places_shown(self.columns, distinct=False))

    @cached_property
    def _listed_rows(self) -> str:
        """The name of a table of the wanted rows, with the columns that a key list may have."""
        names = _values(self._key_places[:MOST_CANDIDATES])
        with self._table.at(self._wanted.positive) as rows:
            self._table.connection.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT {names} FROM {rows}")
        return "wanted"

    def _first(self, sql: str) -> tuple[Any, ...] | None:
        return first_row(self._table.connection, sql)


def _values(places: Iterable[int]) -> str:
    return ", ".join(f"v{place}" for place in places)


def _marked(rows: pa.Table, wanted: bool) -> pa.Table:
    return rows.append_column("wanted", pa.array(np.full(rows.num_rows, wanted)))
