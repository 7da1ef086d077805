"""Of very many unions those are searched that read least for what they save."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.recipes import union as recipes_of_unions
from r2d2.scan.covers import Union


def run_of(sizes: list[int]) -> Any:
    harvests = {table: SimpleNamespace(table_bytes=size) for table, size in enumerate(sizes)}
    return SimpleNamespace(inventory=SimpleNamespace(harvests=harvests, active=lambda: list(harvests.items())))


def union_of(child: int, parents: tuple[int, ...]) -> Union:
    ones = (1,) * len(parents)
    return Union(child=child, parents=parents, bag=True, child_rows=1, distinct=1, parent_rows=ones, outside=ones)


@given(
    sizes=st.lists(st.integers(1, 100), min_size=4, max_size=12), least=st.integers(0, 400), opened=st.integers(0, 20)
)
def test_the_lake_is_read_twice_at_most(sizes: list[int], least: int, opened: int) -> None:
    """To open a table counts as some bytes."""
    run = cast("Any", run_of(sizes))
    unions = [union_of(child, tuple(t for t in range(len(sizes)) if t != child)) for child in range(len(sizes))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes_of_unions, "LEAST_SEARCHED_BYTES", least)
        patch.setattr(recipes_of_unions, "TABLE_BYTES", opened)
        room = recipes_of_unions._Room.of(run, recipes_of_unions.SEARCHED_SHARE)
        kept = recipes_of_unions._affordable(run, unions, room)
    budget = max(least, 2 * sum(sizes))
    assert [union.child for union in kept] == sorted(union.child for union in kept)
    assert len(kept) == min(len(unions), budget // (sum(sizes) + opened * len(sizes)))
    left_out = [sizes[union.child] for union in unions if union not in kept]
    assert min((sizes[union.child] for union in kept), default=100) >= max(left_out, default=0)
