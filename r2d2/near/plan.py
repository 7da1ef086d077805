"""What the near-duplicate scan samples: of each table, the columns of the classes that it may hold rows of."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from r2d2.model import Harvest, LeafPath, SchemaClass, SchemaGraph, TypeClass, fold_path, leaves, type_class
from r2d2.near.hashing import terms_of
from r2d2.near.subsets import LeftOut, left_out_sets
from r2d2.near.work import Sketching
from r2d2.scan.plan import compared_paths

MOST_SETS = 256
"""Column sets under which one table's rows are sampled, at most: classes of children that are larger come first."""

MOST_TIMES = 16
"""A table's sample is up to so many times larger than a child's, so that smaller children have rows in its range."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A class of children, and the choices of its leaves that are left out.

    Attributes:
        bucket: Of the first choice; those of the others follow.
        child: The class.
        paths: Its leaves in the order in which they are compared.
        choices: The first leaves out nothing.
    """

    bucket: int
    child: SchemaClass
    paths: tuple[LeafPath, ...]
    choices: tuple[LeftOut, ...]


@dataclass(frozen=True, kw_only=True)
class SketchPlan:
    """All comparisons, and the samples of each table that takes part in some."""

    comparisons: Sequence[Comparison]
    sketchings: Mapping[int, tuple[Sketching, ...]]

    def of_bucket(self, bucket: int) -> tuple[Comparison, LeftOut]:
        """The comparison and the choice behind a bucket."""
        place = bisect.bisect_right(self.comparisons, bucket, key=lambda one: one.bucket) - 1
        found = self.comparisons[place]
        return found, found.choices[bucket - found.bucket]


def plan_sketches(
    graph: SchemaGraph, harvests: Mapping[int, Harvest], lane_keys: tuple[int, int], sketch_rows: int
) -> SketchPlan:
    """Plan the samples of some tables.

    Args:
        graph: Whose classes are compared along its edges.
        harvests: The tables to compare.
        lane_keys: Secret keys of the audit.
        sketch_rows: Rows of a sample.
    """
    members = {c.id: [table for table in c.tables if table in harvests] for c in graph.classes}
    parents: dict[int, list[int]] = defaultdict(list)
    for child, parent in graph.edges:
        if members[child] and len({*members[child], *members[parent]}) > 1:
            parents[child].append(parent)
    comparisons = _comparisons(graph, members, parents, harvests)
    sketchings: dict[int, list[Sketching]] = defaultdict(list)
    for parent, compared in _affordable(comparisons, parents).items():
        for one, choices in compared:
            own, other = compared_paths(one.child, graph.classes[parent])
            names = own if one.child.exact else tuple(map(fold_path, own))
            terms = terms_of(names, other, choices, lane_keys)
            children = [harvests[table].rows for table in members[one.child.id]]
            for table in members[parent]:
                size = sketch_rows * _times(harvests[table].rows, children)
                is_child = parent == one.child.id
                sketchings[table].append(Sketching(bucket=one.bucket, is_child=is_child, size=size, terms=terms))
    return SketchPlan(comparisons=comparisons, sketchings={table: tuple(own) for table, own in sketchings.items()})


def _comparisons(
    graph: SchemaGraph,
    members: Mapping[int, Sequence[int]],
    parents: Mapping[int, Sequence[int]],
    harvests: Mapping[int, Harvest],
) -> list[Comparison]:
    """The comparisons, those of classes with the most bytes first."""
    weight = {c: sum(harvests[table].table_bytes for table in members[c]) for c in parents}
    found: list[Comparison] = []
    bucket = 0
    for number in sorted(parents, key=lambda c: (-weight[c], c)):
        child = graph.classes[number]
        paths, _ = compared_paths(child, child)
        tables = [table for c in {number, *parents[number]} for table in members[c]]
        dates = _temporal(harvests[table] for table in tables)
        choices = tuple(left_out_sets(paths, [path for path in paths if fold_path(path) in dates]))
        found.append(Comparison(bucket=bucket, child=child, paths=paths, choices=choices))
        bucket += len(choices)
    return found


def _temporal(harvests: Iterable[Harvest]) -> set[LeafPath]:
    """Folded leaves that hold dates or timestamps in some table."""
    return {
        fold_path(path)
        for harvest in harvests
        for path, dtype in leaves(harvest.schema)
        if type_class(dtype) in (TypeClass.WALL_CLOCK, TypeClass.INSTANT)
    }


def _affordable(
    comparisons: Sequence[Comparison], parents: Mapping[int, Sequence[int]]
) -> dict[int, list[tuple[Comparison, tuple[LeftOut, ...]]]]:
    """By class: what its tables are sampled for, its own columns first; where all is too much, without choices."""
    wanted: dict[int, list[Comparison]] = defaultdict(list)
    for one in comparisons:
        for c in {one.child.id, *parents[one.child.id]}:
            wanted[c].append(one)
    found: dict[int, list[tuple[Comparison, tuple[LeftOut, ...]]]] = defaultdict(list)
    for c, compared in sorted(wanted.items()):
        room = MOST_SETS
        for one in sorted(compared, key=lambda one: one.child.id != c):
            choices = one.choices if len(one.choices) <= room else one.choices[:1]
            if len(choices) <= room:
                found[c].append((one, choices))
                room -= len(choices)
    return found


def _times(rows: int | None, children: Iterable[int | None]) -> int:
    """How many times larger a table's sample is than a child's: by the smallest child that this helps."""
    if rows is None:
        return 1
    ratios = [rows / child for child in children if child and child * MOST_TIMES**2 >= rows]
    return max(1, min(MOST_TIMES, math.ceil(max(ratios, default=1))))
