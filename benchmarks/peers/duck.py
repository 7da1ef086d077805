"""Peers on DuckDB: EXCEPT per pair, hash sets, min-max and EXCEPT, and the plain scan that costs are measured by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.peers.tables import Answer, Group, Judge, PeerTable, Task, by_pair, groups_of, judged, read_tables

NOTHING = object()
Bounds = dict[str, tuple[Any, Any, int]]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def rows_sql(paths: Sequence[str]) -> str:
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{listed}])"


def select(table: PeerTable, columns: Sequence[str]) -> str:
    return f"SELECT {', '.join(map(quoted, columns))} FROM {rows_sql(table.paths)}"


def connection(task: Task) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": task.threads})


def except_judge(duck: duckdb.DuckDBPyConnection) -> Judge:
    def contained(child: PeerTable, parent: PeerTable) -> bool:
        sql = f"{select(child, child.columns)} EXCEPT {select(parent, child.columns)} LIMIT 1"
        return duck.execute(sql).fetchone() is None

    return contained


def except_per_pair(task: Task) -> Answer:
    """EXCEPT of each pair whose columns fit."""
    return by_pair(task, except_judge(connection(task)))


def hash_sets(task: Task) -> Answer:
    """The hash of each row of each table under each column set, once; then sets of Python, all pairs."""
    duck = connection(task)
    begun = time.monotonic()
    groups = groups_of(read_tables(task.tables_folder))
    found: set[tuple[str, str]] = set()
    for group in groups:
        found |= included(group, [hashes(duck, table, group.columns) for table in group.parents])
    return Answer(edges=frozenset(found), seconds=time.monotonic() - begun, pairs=sum(group.pairs for group in groups))


def hashes(duck: duckdb.DuckDBPyConnection, table: PeerTable, columns: Sequence[str]) -> frozenset[int]:
    sql = f"SELECT hash({', '.join(map(quoted, columns))}) AS h FROM {rows_sql(table.paths)}"
    return frozenset(duck.execute(sql).fetchnumpy()["h"].tolist())


def included(group: Group, sets: Sequence[frozenset[int]]) -> set[tuple[str, str]]:
    """Children, which come first among the parents, whose set is part of a parent's."""
    ids = [table.id for table in group.parents]
    return {
        (ids[place], ids[other])
        for place in range(len(group.children))
        for other, its in enumerate(sets)
        if sets[place] <= its and other != place
    }


def minmax_except(task: Task) -> Answer:
    """Minimum and maximum of footers as they stand, then EXCEPT of the pairs left."""
    contained = except_judge(connection(task))
    tables = read_tables(task.tables_folder)
    footer_bounds(tables[0])  # what the first time zone imports is no part of the method
    begun = time.monotonic()
    tables = read_tables(task.tables_folder)
    bounds = {table.id: footer_bounds(table) for table in tables}
    groups = groups_of(tables)
    left = [kept for group in groups for kept in in_bounds(group, bounds)]
    pairs_left = {(child.id, parent.id) for group in left for child, parent in group.all()}
    before = time.monotonic() - begun
    answer = judged(left, lambda c, p: (c.id, p.id) in pairs_left and contained(c, p), task, before)
    facts = {**answer.facts, "minmax_seconds": before, "pairs_left": len(pairs_left)}
    return replace(answer, pairs=sum(group.pairs for group in groups), facts=facts)


def footer_bounds(table: PeerTable) -> Bounds:
    """Per column minimum, maximum and NULLs of all files; NOTHING where a row group has none."""
    bounds: Bounds = {}
    for path in table.paths:
        footer = pq.read_metadata(path)
        for group in range(footer.num_row_groups):
            for place in range(footer.num_columns):
                chunk = footer.row_group(group).column(place)
                _widen(bounds, chunk.path_in_schema, chunk.statistics)
    return bounds


def _widen(bounds: Bounds, name: str, statistics: Any) -> None:
    found: tuple[Any, Any, int] = (NOTHING, NOTHING, 0)
    if statistics is not None and statistics.has_min_max:
        found = (statistics.min, statistics.max, statistics.null_count or 0)
    if name in bounds and NOTHING not in (bounds[name][0], found[0]):
        low, high, nulls = bounds[name]
        found = (min(low, found[0]), max(high, found[1]), nulls + found[2])
    elif name in bounds:
        found = (NOTHING, NOTHING, 0)
    bounds[name] = found


def in_bounds(group: Group, bounds: dict[str, Bounds]) -> list[Group]:
    """Of each child the parents whose bounds hold its bounds, as a group of one child."""
    kept = np.ones((len(group.children), len(group.parents)), bool)
    np.fill_diagonal(kept, False)
    for name in group.columns:
        low, high = (_ranks([bounds[table.id][name][side] for table in group.parents]) for side in (0, 1))
        children = slice(0, len(group.children))
        kept &= ~((low[children, None] < low) & (low[children, None] >= 0) & (low >= 0))
        kept &= ~((high[children, None] > high) & (high >= 0))
    return [
        Group(columns=group.columns, children=(child,), parents=(child, *(group.parents[p] for p in places)))
        for child, row in zip(group.children, kept, strict=True)
        if (places := np.flatnonzero(row).tolist())
    ]


def _ranks(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Places in ascending order, -1 for NOTHING."""
    order = {value: place for place, value in enumerate(sorted({v for v in values if v is not NOTHING}))}
    return np.array([order.get(value, -1) for value in values], np.int64)


def grouped_scan(task: Task) -> Answer:
    """Hash every column of every table once, the files of one schema in one query: what reading alone costs."""
    duck = connection(task)
    begun = time.monotonic()
    classes: dict[tuple[str, ...], list[str]] = {}
    for table in read_tables(task.tables_folder):
        classes.setdefault(table.columns, []).extend(table.paths)
    for columns, paths in classes.items():
        hashed = ", ".join(f"bit_xor(hash({quoted(name)}))" for name in columns)
        duck.execute(f"SELECT {hashed} FROM {rows_sql(paths)}").fetchall()
    return Answer(edges=None, seconds=time.monotonic() - begun)
