"""The search for the parts of a union, without an engine: put together they are the child, whatever overlaps."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.recipes.labels import number_rows
from r2d2.recipes.tables import SearchTable
from r2d2.recipes.union_search import Parts, UnionSource, find_parts
from r2d2.scan.duck import KernelLimits, connect
from tests.unit.test_recipe_search import (
    COLUMNS,
    Row,
    found_rows,
    places,
    projected,
    rows_of_parent,
    small,
    table_of,
    values,
)

parents_of_rows = st.lists(rows_of_parent, min_size=2, max_size=4)


def search(parents: Sequence[Sequence[Row]], child: Sequence[Row], key_bytes: int = 0, where: str = "memory") -> Parts:
    """Parts for a child whose rows are projected ones."""
    numbers = {row: number for number, row in enumerate(dict.fromkeys(projected(r) for own in parents for r in own))}
    with small(where), connect(KernelLimits()) as connection:
        tables = [table_of(connection, f"parent{place}", rows, numbers, where) for place, rows in enumerate(parents)]
        own, count = number_rows([table.fingerprints(0) for table in tables])
        number_of = {
            projected(row): n for rows, ns in zip(parents, own, strict=True) for row, n in zip(rows, ns, strict=True)
        }
        sources = [
            UnionSource(
                parent=place,
                table=table,
                numbers=ns,
                taken=frozenset(),
                is_inside=all(projected(row) in child for row in parents[place]),
            )
            for place, (table, ns) in enumerate(zip(tables, own, strict=True))
        ]
        wanted = np.bincount([number_of[row] for row in child], minlength=count)
        return find_parts(sources, wanted, most_key_bytes=key_bytes, may_collapse=True)


def rebuilt(parents: Sequence[Sequence[Row]], parts: Parts) -> Counter[Row]:
    """What all parts give together."""
    together = sum((found_rows(parents[source.parent], found) for source, found in parts.of), Counter[Row]())
    return Counter(dict.fromkeys(together, 1)) if parts.collapse else together


@settings(max_examples=30)
@given(parents=parents_of_rows, data=st.data(), keys=st.booleans(), where=places)
def test_parts_put_together_are_the_child(
    parents: list[list[Row]], data: st.DataObject, keys: bool, where: str
) -> None:
    """Rows that several parents have, rows that repeat, NaN and NULL among them."""
    whole = [projected(row) for own in parents for row in own]
    child = data.draw(st.lists(st.sampled_from(range(len(whole))), min_size=1, unique=True).map(sorted))
    rows = [whole[place] for place in child]
    parts = search(parents, rows, 1 << 20 if keys else 0, where)
    if parts.reason:
        assert not parts.of
        return
    assert rebuilt(parents, parts) == Counter(rows)
    assert sum(len(found.keys.content) for _, found in parts.of if found.keys) <= 1 << 20


def numbered(parents: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The parents with an id of its own in each row: they have no row in common."""
    return [[(100 * place + n, *row[1:]) for n, row in enumerate(own)] for place, own in enumerate(parents)]


@settings(max_examples=20)
@given(parents=parents_of_rows, days=st.tuples(values[4], values[4]), nan=st.booleans(), where=places)
def test_parts_of_disjoint_parents_are_found(
    parents: list[list[Row]], days: tuple[Any, Any], nan: bool, where: str
) -> None:
    """A range of a column that the child has, the rows with NaN taken out or not."""
    low, high = (-5 if days[0] is None else days[0]), (5 if days[1] is None else days[1])

    def is_kept(row: Row) -> bool:
        is_nan = row[1] is not None and math.isnan(row[1])
        return row[4] is not None and low <= row[4] <= high and (nan or not is_nan)

    parents = numbered(parents)
    child = [projected(row) for own in parents for row in own if is_kept(row)]
    if len(child) < 8:  # values that a predicate may name grow with the rows
        return
    parts = search(parents, child, 0, where)
    assert not parts.reason
    assert rebuilt(parents, parts) == Counter(child)
    assert not any(found.keys for _, found in parts.of)


def row(number: int, text: str | None = None, real: float | None = 1.0) -> Row:
    return (number, real, text, None, 0)


def test_whole_parents_need_no_predicate_and_overlaps_are_given_once() -> None:
    low, high = [row(n) for n in range(60)], [row(n) for n in range(40, 100)]
    parts = search([low, high], [projected(row(n)) for n in range(100)])
    assert rebuilt([low, high], parts) == Counter(projected(row(n)) for n in range(100))
    assert next(found.predicate for _, found in parts.of) == ((),)
    assert not parts.collapse


def test_a_predicate_may_name_a_column_that_the_child_lacks() -> None:
    low = [row(n * 7 % 61, "north" if n % 2 else "south") for n in range(60)]
    high = [row(100 + n * 7 % 61, "north" if n % 3 else None) for n in range(60)]
    child = [projected(r) for r in (*low, *high) if r[2] == "north"]
    parts = search([low, high], child)
    assert rebuilt([low, high], parts) == Counter(child)
    assert {COLUMNS[c.column].path for _, f in parts.of for box in f.predicate or () for c in box} == {("text",)}


def test_where_no_row_repeats_parts_may_overlap() -> None:
    """What one parent has and the other lacks follows no rule; what the child has does."""
    chance = random.Random(5)
    held = [chance.choice(("low", "high", "both")) for _ in range(500)]
    low, high = (
        [row(n) for n in range(500) if held[n] in (side, "both")] + [row(n) for n in range(1000, 1009)]
        for side in ("low", "high")
    )
    child = [projected(row(n)) for n in range(500)]
    parts = search([low, high], child)
    assert parts.collapse
    assert rebuilt([low, high], parts) == Counter(child)
    assert search([low, high], [*child, child[0]]).reason, "a row that repeats must not collapse"


def test_key_lists_take_the_place_of_predicates_that_are_too_long() -> None:
    low, high = [row(n) for n in range(2000)], [row(n) for n in range(5000, 7000)]
    child = [projected(r) for r in (*low, *high) if r[0] ** 2 % 11 < 4]
    assert search([low, high], child).reason
    parts = search([low, high], child, 1 << 20)
    assert rebuilt([low, high], parts) == Counter(child)
    assert all(found.kind == "key_list" for _, found in parts.of)
    used = sum(len(found.keys.content) for _, found in parts.of if found.keys)
    assert search([low, high], child, used - 1).reason, "the lists count together"


def test_rows_that_the_parents_have_less_often_have_no_parts() -> None:
    low, high = [row(n) for n in range(30)], [row(n) for n in range(30, 60)]
    child = [projected(r) for r in (*low, *low, *high)]
    assert search([low, high], child).reason == "the parents have some of its rows less often than it does"


def test_a_column_that_no_query_may_name_is_no_trouble() -> None:
    with connect(KernelLimits()) as connection:
        sources = []
        for place, numbers in enumerate(([0], [1, 2])):
            connection.execute(f"CREATE TEMP TABLE t{place} AS SELECT unnest({numbers})::UBIGINT AS h0, h0 AS g0")
            table = SearchTable([], connection, f"t{place}")
            sources.append(UnionSource(parent=place, table=table, numbers=np.array(numbers), taken=frozenset()))
        parts = find_parts(sources, np.array([1, 1, 0]), most_key_bytes=0, may_collapse=True)
    assert parts.reason
