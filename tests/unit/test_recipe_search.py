"""The search for predicates, without an engine: what it finds selects exactly the rows that a random one chose."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.recipes import labels, stored_rows
from r2d2.recipes.columns import Kind, PredicateColumn, predicate_columns
from r2d2.recipes.labels import RowsByNumber, label_rows, number_rows, rows_alike
from r2d2.recipes.predicates import Condition, Predicate, duck_sql, spark_sql
from r2d2.recipes.query import Found, Rows, find_query
from r2d2.recipes.tables import SearchTable
from r2d2.scan import beginnings
from r2d2.scan.duck import KernelLimits, connect

COLUMNS = [
    PredicateColumn(path=("id",), kind=Kind.INTEGER, shared=True),
    PredicateColumn(path=("real",), kind=Kind.REAL, shared=True),
    PredicateColumn(path=("text",), kind=Kind.TEXT, shared=False),
    PredicateColumn(path=("flag",), kind=Kind.BOOLEAN, shared=False),
    PredicateColumn(path=("day",), kind=Kind.DATE, shared=True),
]
Row = tuple[Any, ...]

_SPREAD = 0x9E3779B97F4A7C15

reals = st.sampled_from([None, math.nan, 0.0, -1.5, 2.25, 7.0, 1e300])
texts = st.sampled_from([None, "", "a", "b'c", "ü", "zz"])
values = [st.integers(-20, 20) | st.none(), reals, texts, st.sampled_from([0, 1, None]), st.integers(-5, 5) | st.none()]
rows_of_parent = st.lists(st.tuples(*values), min_size=1, max_size=60)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    column = draw(st.integers(0, len(COLUMNS) - 1))
    ends = st.none() | values[column].filter(lambda value: value is not None and value == value)
    low, high = draw(ends), draw(ends)
    if low is not None and high is not None and low > high:
        low, high = high, low
    null, nan = draw(st.booleans()), draw(st.booleans()) and COLUMNS[column].kind.is_float
    return Condition(column=column, ranges=((low, high),), null=null, nan=nan)


boxes = st.lists(conditions(), min_size=1, max_size=2, unique_by=lambda condition: condition.column).map(tuple)


def fulfils(value: Any, condition: Condition) -> bool:
    if value is None:
        return condition.null
    if value != value:
        return condition.nan
    return any((low is None or value >= low) and (high is None or value <= high) for low, high in condition.ranges)


def selects(predicate: Predicate, row: Row) -> bool:
    """The oracle: a predicate in Python."""
    return any(all(fulfils(row[condition.column], condition) for condition in box) for box in predicate)


def projected(row: Row) -> Row:
    """What the child has of a row; every NaN is the same."""
    shared = (value for value, column in zip(row, COLUMNS, strict=True) if column.shared)
    return tuple("NaN" if value != value else value for value in shared)


TYPES = [pa.int64(), pa.float64(), pa.string(), pa.int64(), pa.int64()]


def table_of(
    connection: duckdb.DuckDBPyConnection, name: str, rows: Sequence[Row], numbers: Mapping[Row, int], where: str
) -> SearchTable:
    """Rows as the kernel reads them from files; fingerprints are made of numbers of what the child has of a row."""
    lanes = pa.array([numbers[projected(row)] * _SPREAD % (1 << 64) for row in rows], pa.uint64())
    values = {f"v{i}": pa.array([row[i] for row in rows], TYPES[i]) for i in range(len(COLUMNS))}
    table = pa.table({"h0": lanes, "g0": lanes, **values})
    if where == "memory":
        return SearchTable(COLUMNS, connection, name, table)
    connection.register("given", table)
    connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM given")
    return SearchTable(COLUMNS, connection, name)


@contextmanager
def labelled(
    connection: duckdb.DuckDBPyConnection, rows: Sequence[Row], child: Sequence[Row], where: str
) -> Iterator[Rows]:
    """The rows of a parent, labelled by those of a child."""
    connection.execute("SET preserve_insertion_order = true")
    numbers = {row: number for number, row in enumerate(dict.fromkeys(map(projected, rows)))}
    parent = table_of(connection, "parent", rows, numbers, where)
    other = table_of(connection, "child", child, numbers, where)
    fingerprints, wanted = parent.fingerprints(0), other.fingerprints(0)
    if where in ("by number", "at hand"):
        near = rows_alike(fingerprints, [wanted])
        (own, theirs), count = number_rows([(fingerprints[0][near], fingerprints[1][near]), wanted])
        if where == "at hand":
            parent.keep_at_hand(near[:1])  # as for other children before
            parent.keep_at_hand(near)
        rows_of = parent.wanted(RowsByNumber(own, near, count).wanted_by(theirs))
    else:
        (own, theirs), count = number_rows([fingerprints, wanted])
        rows_of = parent.labelled(label_rows(own, np.bincount(theirs, minlength=count)))
    with rows_of as found:
        yield found


def found_rows(rows: Sequence[Row], found: Found) -> Counter[Row]:
    """The bag that a query returns, by the oracle."""
    if found.keys is not None:
        keys = pq.read_table(pa.BufferReader(found.keys.content))
        listed = set(zip(*(column.to_pylist() for column in keys.columns), strict=True))
        places = [[column.path for column in COLUMNS].index(path) for path in found.keys.paths]
        return Counter(projected(row) for row in rows if tuple(stored(row, place) for place in places) in listed)
    assert found.predicate is not None
    chosen = Counter(projected(row) for row in rows if selects(found.predicate, row))
    return Counter(dict.fromkeys(chosen, 1)) if found.kind == "distinct" else chosen


def stored(row: Row, place: int) -> Any:
    """A value as a key list holds it."""
    if COLUMNS[place].kind is Kind.DATE and row[place] is not None:
        return pa.scalar(row[place], pa.int32()).cast(pa.date32()).as_py()
    return row[place]


@contextmanager
def small(where: str) -> Iterator[None]:
    """In DuckDB, small samples make the search learn from its mistakes."""
    with pytest.MonkeyPatch.context() as patch:
        if where in ("small samples", "by number", "at hand"):
            patch.setattr(stored_rows, "SAMPLE_ROWS", 8)
            patch.setattr(stored_rows, "LEAST_OTHERS", 2)
            patch.setattr(stored_rows, "_AMPLE", 1)
            patch.setattr(stored_rows, "_OFTEN", 0)
            patch.setattr(labels, "PART_ROWS", 8)
            patch.setattr(beginnings, "BEGINS", 64 if where in ("by number", "at hand") else 8)
        yield


def query(rows: Sequence[Row], child: Sequence[Row], where: str = "memory") -> Found:
    with small(where), connect(KernelLimits()) as connection, labelled(connection, rows, child, where) as found:
        return find_query(found, 1 << 20, frozenset())


places = st.sampled_from(["memory", "DuckDB", "small samples", "by number", "at hand"])


@settings(max_examples=45)
@given(rows=rows_of_parent, predicate=st.lists(boxes, min_size=1, max_size=2).map(tuple), where=places)
def test_a_query_returns_exactly_the_child(rows: list[Row], predicate: Predicate, where: str) -> None:
    """Whatever is found is right about every row."""
    child = [row for row in rows if selects(predicate, row)]
    found = query(rows, child, where)
    if not found.kind:
        assert found.reason
        return
    assert found_rows(rows, found) == Counter(map(projected, child))


@settings(max_examples=45)
@given(rows=rows_of_parent, box=boxes, where=places)
def test_a_plain_predicate_is_found_where_rows_can_be_told_apart(rows: list[Row], box: Any, where: str) -> None:
    rows = [(number, *row[1:]) for number, row in enumerate(rows)]
    child = [row for row in rows if selects((box,), row)]
    if not 0 < len(child) < len(rows):
        return
    found = query(rows, child, where)
    assert found.kind == "selection"
    assert found_rows(rows, found) == Counter(map(projected, child))


@settings(max_examples=25)
@given(rows=rows_of_parent, predicate=st.lists(boxes, max_size=3).map(tuple))
def test_duckdb_sees_a_predicate_as_python_does(rows: list[Row], predicate: Predicate) -> None:
    with connect(KernelLimits()) as connection, labelled(connection, rows, [], "DuckDB"):
        names = ", ".join(f"v{place}" for place in range(len(COLUMNS)))
        chosen = connection.execute(f"SELECT {names} FROM parent WHERE {duck_sql(predicate, COLUMNS)}").fetchall()
    assert Counter(map(repr, chosen)) == Counter(repr(row) for row in rows if selects(predicate, row))


bags = st.lists(st.tuples(*values), min_size=2, max_size=40, unique_by=projected)


@settings(max_examples=25)
@given(rows=bags, repeated=st.integers(1, 3), where=places)
def test_the_different_rows_of_a_parent_are_found(rows: list[Row], repeated: int, where: str) -> None:
    found = query(rows + rows[:repeated], rows, where)
    assert found.kind == "distinct"
    assert found.predicate == ((),)


@settings(max_examples=40)
@given(rows=rows_of_parent, data=st.data())
def test_all_places_answer_alike(rows: list[Row], data: st.DataObject) -> None:
    """Any part of the rows, without a rule and with repeated ones: what is asked of them in each place."""
    child = data.draw(st.lists(st.sampled_from(rows), max_size=len(rows)))
    answers = []
    for where in ("memory", "DuckDB", "by number", "at hand"):
        with small(where), connect(KernelLimits()) as connection, labelled(connection, rows, child, where) as found:
            counts = found.counts()
            found.settle()
            places = sorted(found.key_columns())
            sets = [(place,) for place in places] + list(itertools.combinations(places, 2))
            identify = [found.identify(chosen) for chosen in sets]
            keys = [found.keys(chosen).to_pydict() for chosen in sets]
            answers.append((counts, found.counts(), places, identify, keys))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("where", ["memory", "DuckDB", "by number", "at hand"])
def test_rows_without_a_rule_come_back_by_the_fewest_keys(where: str) -> None:
    rows = [(n, float(n % 7), "x", 1, n % 5) for n in range(600)]
    found = query(rows, [row for row in rows if (row[0] * 7919) % 1009 % 2], where)
    assert (found.kind, found.keys and found.keys.paths) == ("key_list", (("id",),))
    assert found_rows(rows, found) == Counter(projected(row) for row in rows if (row[0] * 7919) % 1009 % 2)


@pytest.mark.parametrize("where", ["memory", "DuckDB", "by number", "at hand"])
def test_a_child_of_equal_rows_is_told_by_a_column_that_it_lacks(where: str) -> None:
    rows = [(n, None, source, None, None) for n in range(20) for source in ("new", "old", "old")]
    found = query(rows, [row for row in rows if row[2] == "old"], where)
    assert found.kind == "selection"
    assert spark_sql(found.predicate or (), COLUMNS) == "`text` = 'old'"


ONE = Condition(column=0, ranges=((3, None),))
SQL = {
    "`id` >= 3": ((ONE,),),
    "`id` BETWEEN 1 AND 4 AND `flag`": (
        (Condition(column=0, ranges=((1, 4),)), Condition(column=3, ranges=((1, 1),))),
    ),
    "`text` IS NULL OR `text` IN ('it\\'s', 'x\\\\y')": (
        (Condition(column=2, ranges=(("it's", "it's"), ("x\\y", "x\\y")), null=True),),
    ),
    "`real` >= CAST('2.5' AS DOUBLE) AND NOT isnan(`real`)": ((Condition(column=1, ranges=((2.5, None),)),),),
    "(`real` >= CAST('2.5' AS DOUBLE) AND NOT isnan(`real`)) OR isnan(`real`)": (
        (Condition(column=1, ranges=((2.5, None),), nan=True),),
    ),
    "`real` + CAST(0 AS DOUBLE) = CAST('0.0' AS DOUBLE)": ((Condition(column=1, ranges=((0.0, 0.0),)),),),
    "(`id` >= 3 AND NOT `flag`) OR `day` <= DATE '1969-12-31'": (
        (ONE, Condition(column=3, ranges=((0, 0),))),
        (Condition(column=4, ranges=((None, -1),)),),
    ),
    "`real` IS NOT NULL AND NOT isnan(`real`)": ((Condition(column=1, ranges=((None, None),)),),),
    "`text` IS NULL": ((Condition(column=2, ranges=(), null=True),),),
}


@pytest.mark.parametrize("sql", SQL)
def test_a_predicate_reads_well(sql: str) -> None:
    assert spark_sql(SQL[sql], COLUMNS) == sql


def test_long_texts_and_odd_dates_are_not_written_down() -> None:
    day, text = COLUMNS[4], COLUMNS[2]
    assert not any(day.has_literal(value) for value in (-719_163, 2_932_897))
    assert all(day.has_literal(value) for value in (-719_162, 2_932_896))
    assert text.has_literal("a" * 200)
    assert not any(map(text.has_literal, ("a" * 201, "a\nb", "a\0")))
    assert day.spark_literal(-719_162) == "DATE '0001-01-01'"


def test_columns_that_engines_order_apart_are_left_out() -> None:
    schema = pa.schema(
        [
            ("n", pa.timestamp("ns")),
            ("l", pa.list_(pa.int32())),
            ("u", pa.uint64()),
            ("s", pa.struct([("x", pa.int8())])),
        ]
    )
    assert [column.name for column in predicate_columns(schema, [])] == ["`s`.`x`"]
