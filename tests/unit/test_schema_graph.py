"""The schema graph against all pairs of tables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from r2d2.model import LeafPath, fold_path, is_case_sensitive
from r2d2.prune.schema_graph import build_schema_graph
from r2d2.scan.plan import Pair, column_sets

NAMES: list[LeafPath] = [("a",), ("A",), ("b",), ("s.x",), ("s", "x"), ("S", "x"), ("c",), ("s", "y")]
schemas = st.lists(st.lists(st.sampled_from(NAMES), unique=True, max_size=5), min_size=1, max_size=8)


def fits(child: list[LeafPath], parent: list[LeafPath], *, case_sensitive: bool) -> bool:
    if not child or not parent:
        return False
    if case_sensitive or is_case_sensitive(child) or is_case_sensitive(parent):
        return set(child) <= set(parent)
    return {fold_path(path) for path in child} <= {fold_path(path) for path in parent}


@given(tables=schemas, case_sensitive=st.booleans())
def test_pairs_equal_those_of_brute_force(tables: list[list[LeafPath]], case_sensitive: bool) -> None:
    graph = build_schema_graph(dict(enumerate(tables)), case_sensitive=case_sensitive)
    found = {
        (child, parent)
        for c, p in graph.edges
        for child in graph.classes[c].tables
        for parent in graph.classes[p].tables
        if child != parent
    }
    expected = {
        (i, j)
        for i, child in enumerate(tables)
        for j, parent in enumerate(tables)
        if i != j and fits(child, parent, case_sensitive=case_sensitive)
    }
    assert found == expected
    assert graph.pairs == len(expected)
    _check_column_sets(graph, tables, found)


def _check_column_sets(graph, tables, found) -> None:  # type: ignore[no-untyped-def]
    class_of = {table: c.id for c in graph.classes for table in c.tables}
    pairs = [Pair(child=c, parent=p, column_set=class_of[c]) for c, p in found]
    sets = column_sets(pairs, graph)
    for pair in pairs:
        (own,) = [s.paths for s in sets[pair.child] if s.id == pair.column_set]
        (theirs,) = [s.paths for s in sets[pair.parent] if s.id == pair.column_set]
        assert sorted(own) == sorted(tables[pair.child])
        assert [fold_path(path) for path in own] == [fold_path(path) for path in theirs]
        assert set(theirs) <= set(tables[pair.parent])
