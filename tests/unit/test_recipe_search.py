"""The search for predicates, without an engine: what it finds selects exactly the rows that a random one chose."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.recipes import search
from r2d2.recipes.columns import Kind, PredicateColumn, predicate_columns
from r2d2.recipes.predicates import Condition, Predicate, duck_sql, spark_sql
from r2d2.recipes.search import find_query, label_rows
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


def labelled(connection: duckdb.DuckDBPyConnection, rows: Sequence[Row], child: Sequence[Row]) -> None:
    """Tables as the kernel reads them from files, and their labels."""
    numbers = {row: number for number, row in enumerate(dict.fromkeys(map(projected, rows)))}
    types = [pa.int64(), pa.float64(), pa.string(), pa.int64(), pa.int64()]
    stored = {f"v{i}": pa.array([row[i] for row in rows], types[i]) for i in range(len(COLUMNS))}
    for name, own, more in (("parent", rows, stored), ("child", child, {})):
        places = pa.array([numbers[projected(row)] * _SPREAD % (1 << 64) for row in own], pa.uint64())
        connection.register("given", pa.table({"h0": places, "g0": places, **more}))
        connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM given")
    label_rows(connection, 0)


def found_rows(rows: Sequence[Row], found: search.Found) -> Counter[Row]:
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


def query(rows: Sequence[Row], child: Sequence[Row]) -> search.Found:
    with connect(KernelLimits()) as connection:
        labelled(connection, rows, child)
        return find_query(connection, COLUMNS, 1 << 20, frozenset())


@settings(max_examples=30)
@given(rows=rows_of_parent, predicate=st.lists(boxes, min_size=1, max_size=2).map(tuple), small=st.booleans())
def test_a_query_returns_exactly_the_child(rows: list[Row], predicate: Predicate, small: bool) -> None:
    """Whatever is found is right about every row; small samples make the search learn from its mistakes."""
    child = [row for row in rows if selects(predicate, row)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SAMPLE_ROWS", 8 if small else search.SAMPLE_ROWS)
        patch.setattr(search, "PART_ROWS", 8 if small else search.PART_ROWS)
        found = query(rows, child)
    if not found.kind:
        assert found.reason
        return
    assert found_rows(rows, found) == Counter(map(projected, child))


@settings(max_examples=30)
@given(rows=rows_of_parent, box=boxes, small=st.booleans())
def test_a_plain_predicate_is_found_where_rows_can_be_told_apart(rows: list[Row], box: Any, small: bool) -> None:
    rows = [(number, *row[1:]) for number, row in enumerate(rows)]
    child = [row for row in rows if selects((box,), row)]
    if not 0 < len(child) < len(rows):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SAMPLE_ROWS", 8 if small else search.SAMPLE_ROWS)
        patch.setattr(search, "PART_ROWS", 8 if small else search.PART_ROWS)
        found = query(rows, child)
    assert found.kind == "selection"
    assert found_rows(rows, found) == Counter(map(projected, child))


@settings(max_examples=25)
@given(rows=rows_of_parent, predicate=st.lists(boxes, max_size=3).map(tuple))
def test_duckdb_sees_a_predicate_as_python_does(rows: list[Row], predicate: Predicate) -> None:
    with connect(KernelLimits()) as connection:
        labelled(connection, rows, [])
        names = ", ".join(f"v{place}" for place in range(len(COLUMNS)))
        chosen = connection.execute(f"SELECT {names} FROM labelled WHERE {duck_sql(predicate, COLUMNS)}").fetchall()
    assert Counter(map(repr, chosen)) == Counter(repr(row) for row in rows if selects(predicate, row))


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(*values), min_size=2, max_size=40, unique_by=projected), repeated=st.integers(1, 3))
def test_the_different_rows_of_a_parent_are_found(rows: list[Row], repeated: int) -> None:
    found = query(rows + rows[:repeated], rows)
    assert found.kind == "distinct"
    assert found.predicate == ((),)


def test_rows_without_a_rule_come_back_by_the_fewest_keys() -> None:
    rows = [(n, float(n % 7), "x", 1, n % 5) for n in range(600)]
    found = query(rows, [row for row in rows if (row[0] * 7919) % 1009 % 2])
    assert (found.kind, found.keys and found.keys.paths) == ("key_list", (("id",),))
    assert found_rows(rows, found) == Counter(projected(row) for row in rows if (row[0] * 7919) % 1009 % 2)


def test_a_child_of_equal_rows_is_told_by_a_column_that_it_lacks() -> None:
    rows = [(n, None, source, None, None) for n in range(20) for source in ("new", "old", "old")]
    found = query(rows, [row for row in rows if row[2] == "old"])
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
