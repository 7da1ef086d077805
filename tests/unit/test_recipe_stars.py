"""Of many equal tables only a star of recipes is built."""

from __future__ import annotations

import itertools

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from r2d2.lake.inventory import Inventory
from r2d2.model import Edge, Format, FoundTable, Harvest
from r2d2.recipes.stars import (
    FIRST_PARENTS,
    LASTING_PARENTS,
    SMALL_CLASS,
    equal_classes,
    needed_edges,
    portions,
)

SCHEMA = pa.schema([("x", pa.int64())])


def inventory_of(tables: int, unreadable: set[int]) -> Inventory:
    found = tuple(
        FoundTable(table=table, id=f"t{table:03}.parquet", uri=f"/lake/t{table:03}", format=Format.PARQUET)
        for table in range(tables)
    )
    harvests = {
        table: Harvest(schema=SCHEMA, version="", fragments=(), no_parent_reason="odd" if table in unreadable else None)
        for table in range(tables)
    }
    return Inventory(found=found, harvests=harvests)


def edge(child: int, parent: int, relation: str) -> Edge:
    rows = 1 if relation == "equal" else 2
    return Edge(
        child=child,
        parent=parent,
        relation=relation,
        bag=True,
        set=True,
        child_rows=1,
        parent_rows=rows,
        columns=(("x",),),
    )


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    unreadable=st.sets(st.integers(0, 40), max_size=6),
    must_stay=st.sets(st.integers(0, 40), max_size=6),
)
def test_every_table_keeps_a_way_back(sizes: list[int], unreadable: set[int], must_stay: set[int]) -> None:
    """Classes of equal tables, each contained in the next: linear in tables, and nobody is cut off."""
    starts = [0, *itertools.accumulate(sizes)]
    classes = [list(range(start, end)) for start, end in itertools.pairwise(starts)]
    edges = [edge(a, b, "equal") for members in classes for a, b in itertools.permutations(members, 2)]
    for place, members in enumerate(classes):
        edges += [edge(a, b, "contained") for bigger in classes[place + 1 :] for a in members for b in bigger]
    needed, reasons = needed_edges(edges, inventory_of(starts[-1], unreadable), must_stay)
    kept = {(one.child, one.parent) for one in needed}
    assert len(kept) + len(reasons) == len(edges)
    assert kept.isdisjoint(reasons)
    assert equal_classes(edges) == [members for members in classes if len(members) > 1]
    for members in classes:
        inside = [ends for ends in kept if set(ends) <= set(members)]
        readable = [table for table in members if table not in unreadable]
        if len(members) <= SMALL_CLASS or not readable:
            assert len(inside) == len(members) * (len(members) - 1)
            continue
        centre = min([table for table in readable if table in must_stay] or readable)
        assert len(inside) == 2 * (len(members) - 1)
        assert all(centre in ends for ends in inside)
        assert {parent for child, parent in kept if parent in members and child not in members} <= {centre}


@given(tables=st.integers(2, 40), must_stay=st.sets(st.integers(0, 40), max_size=3))
def test_in_a_chain_few_parents_come_first(tables: int, must_stay: set[int]) -> None:
    """Each edge is in one portion, the first has a bounded number per child, and what stays is among them."""
    edges = [edge(a, b, "contained") for a, b in itertools.combinations(range(tables), 2)]
    found = portions(edges, inventory_of(tables, set()), must_stay)
    assert sorted(ends(one) for portion in found for one in portion) == sorted(map(ends, edges))
    for child in range(tables - 1):
        sizes = [sum(one.child == child for one in portion) for portion in found]
        assert sizes[0] == min(FIRST_PARENTS, tables - 1 - child)
        assert all(later <= FIRST_PARENTS << place for place, later in enumerate(sizes))
        first = {one.parent for one in found[0] if one.child == child}
        lasting = {table for table in (*must_stay, tables - 1) if child < table < tables}
        assert len(first & lasting) >= min(LASTING_PARENTS, len(lasting))


def ends(one: Edge) -> tuple[int, int]:
    return one.child, one.parent
