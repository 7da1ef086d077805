"""How a comparison of many tables is cut into tasks: buckets of rows that meet, and work items sized by bytes."""

from __future__ import annotations

import base64
import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from r2d2.components import components
from r2d2.model import Fragment, Harvest, LeafPath, SchemaClass, SchemaGraph, fold_path, is_case_sensitive, leaves
from r2d2.scan.compare import QUESTIONS, SEVERAL
from r2d2.scan.evidence import of_file
from r2d2.scan.field_ids import has_stored_names
from r2d2.scan.items import EVERYTHING, ColumnSet, ScanFile, ScanItem
from r2d2.scan.members import Question, pack_parents
from r2d2.scan.reports import signed

ITEM_BYTES = 64 << 20
"""Compressed bytes of files that make a work item of their own."""

BUCKET_ROWS = 1_000_000
"""Fingerprints that one comparing task holds at most, about 100 MB while it sorts them."""

WHOLE_FACTOR = 4
"""Times the rows of a sketch up to which all rows of a table are its sample: who has them need not look again."""

_UNKNOWN_ROWS = 1 << 20


class Pair(NamedTuple):
    """A question: are the rows of child, over a column set, among those of parent?"""

    child: int
    parent: int
    column_set: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Pair:
        """The pair that a row of a stored table, or of an answer, is about."""
        return cls(child=row["child"], parent=row["parent"], column_set=row["column_set"])


@dataclass(frozen=True, kw_only=True)
class TableScan:
    """A table to be fingerprinted.

    Attributes:
        table: Its position.
        harvest: Its metadata.
        column_sets: What to fingerprint.
        threshold: See ScanItem.
        filters: See ScanItem.
        evidence: What metadata had proved of the table, packed by `scan.evidence`, to be compared with what its files
            hold; empty where that is not asked for.
    """

    table: int
    harvest: Harvest
    column_sets: tuple[ColumnSet, ...]
    threshold: int = EVERYTHING
    filters: str = ""
    evidence: bytes = b""

    @property
    def expected_rows(self) -> int:
        """Fingerprints that the scan is expected to yield, before equal ones are counted together."""
        rows = 1_000_000 if self.harvest.rows is None else self.harvest.rows
        return math.ceil(rows * len(self.column_sets) * self.threshold / EVERYTHING)


def sample_threshold(harvest: Harvest, sketch_rows: int, factor: int = 1) -> int:
    """The threshold under which a table without repeated rows has about `factor` times `sketch_rows` fingerprints.

    It keeps everything of a table of at most WHOLE_FACTOR times `sketch_rows` rows.
    """
    rows = _UNKNOWN_ROWS if harvest.rows is None else harvest.rows
    return (
        EVERYTHING if rows <= WHOLE_FACTOR * sketch_rows else min(EVERYTHING, EVERYTHING * factor * sketch_rows // rows)
    )


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Where a table's fingerprints go: `first + lane % count`."""

    first: int
    count: int


def assign_buckets(
    pairs: Sequence[Pair], rows_of: Mapping[int, int], *, parallelism: int, bucket_rows: int = BUCKET_ROWS
) -> dict[int, Buckets]:
    """Buckets of every table of some pairs, so that the tables of a pair share theirs.

    Connected tables go together. Small components are packed into common buckets, large ones get several of their own.
    """
    tables = sorted({table for pair in pairs for table in (pair.child, pair.parent)})
    labels = _components(pairs, tables)
    rows = np.bincount(labels, weights=[rows_of[table] for table in tables])
    target = max(1, min(bucket_rows, math.ceil(rows.sum() / (4 * parallelism))))
    assigned: dict[int, Buckets] = {}
    following, room = 0, 0.0
    for label in np.argsort(-rows, kind="stable"):
        if rows[label] > target:
            assigned[int(label)] = Buckets(first=following, count=math.ceil(rows[label] / target))
            following += assigned[int(label)].count
        else:
            if rows[label] > room:
                following, room = following + 1, float(target)
            assigned[int(label)] = Buckets(first=following - 1, count=1)
            room -= rows[label]
    return {table: assigned[int(label)] for table, label in zip(tables, labels, strict=True)}


def _components(pairs: Sequence[Pair], tables: Sequence[int]) -> np.ndarray:
    place = {table: index for index, table in enumerate(tables)}
    return components(len(tables), [(place[pair.child], place[pair.parent]) for pair in pairs])


def question_rows(
    pairs: Sequence[Pair], questions: Sequence[Question], buckets: Mapping[int, Buckets], thresholds: Mapping[int, int]
) -> pa.Table:
    """The rows of QUESTIONS about pairs, and about several parents, whose `last` is filled in."""
    tables = [(pair.child, pair.parent) for pair in pairs] + [question.tables for question in questions]
    columns = {
        "first_bucket": [buckets[own[0]].first for own in tables],
        "buckets": [buckets[own[0]].count for own in tables],
        "child": [own[0] for own in tables],
        "parent": [*(pair.parent for pair in pairs), *(SEVERAL for _ in questions)],
        "column_set": [*(pair.column_set for pair in pairs), *(question.column_set for question in questions)],
        "last": [signed(min(thresholds[table] for table in own) - 1) for own in tables],
        "parents": [*(b"" for _ in pairs), *(pack_parents(question.parents) for question in questions)],
    }
    return pa.table(columns, schema=QUESTIONS)


def pairs_of(questions: Iterable[Question]) -> list[Pair]:
    """Child and parent of some questions, for all parents."""
    return [Pair(q.child, parent, q.column_set) for q in questions for parent in q.parents]


def items_of(scan: TableScan, buckets: Buckets) -> list[ScanItem]:
    """The work items of a table: its files in portions of about ITEM_BYTES."""
    partition_columns = {name for fragment in scan.harvest.fragments for name in fragment.partition}
    exact = is_case_sensitive([path for path, _ in leaves(scan.harvest.schema)])
    partition_schema = pa.schema([f for f in scan.harvest.schema if f.name in partition_columns])
    return [
        ScanItem(
            table=scan.table,
            files=tuple(_scan_file(scan, number, fragment) for number, fragment in portion),
            partition_schema=partition_schema,
            column_sets=scan.column_sets,
            threshold=scan.threshold,
            filters=scan.filters,
            exact=exact,
            schema=scan.harvest.schema if has_stored_names(scan.harvest.schema) else None,
            leaves=leaves_of(scan),
            first_bucket=buckets.first,
            buckets=buckets.count,
        )
        for portion in _portions(scan.harvest.fragments)
    ]


def leaves_of(scan: TableScan) -> tuple[LeafPath, ...]:
    """The leaves in the order of the scan's evidence, if it has any."""
    return column_order([path for path, _ in leaves(scan.harvest.schema)]) if scan.evidence else ()


def _scan_file(scan: TableScan, number: int, fragment: Fragment) -> ScanFile:
    return ScanFile(
        stamp=fragment.stamp,
        data_uri=fragment.data_uri,
        partition=fragment.partition,
        deletes=fragment.deletes,
        number=number,
        evidence=base64.b64encode(of_file(scan.evidence, number)).decode() if scan.evidence else "",
    )


def _portions(fragments: Sequence[Fragment]) -> list[list[tuple[int, Fragment]]]:
    """The files with their positions, in portions of about ITEM_BYTES."""
    portions: list[list[tuple[int, Fragment]]] = []
    room = 0
    for number, fragment in enumerate(fragments):
        if not portions or fragment.stamp.size > room:
            portions.append([])
            room = ITEM_BYTES
        portions[-1].append((number, fragment))
        room -= fragment.stamp.size
    return portions


def balanced(items: Sequence[ScanItem], bins: int) -> list[list[str]]:
    """Work items in text form, dealt into at most `bins` lists of about equal bytes."""
    opening = 1 << 18  # opening a file costs about as much as reading this many bytes
    costs = [sum(file.stamp.size + opening for file in item.files) for item in items]
    return [[items[index].to_json() for index in dealt] for dealt in deal(costs, bins)]


def deal(costs: Sequence[int], bins: int) -> list[list[int]]:
    """Positions of some costs, dealt into at most `bins` non-empty lists of about equal sums, largest first."""
    loads = [(0, number) for number in range(max(1, min(bins, len(costs))))]
    dealt: list[list[int]] = [[] for _ in loads]
    for position in sorted(range(len(costs)), key=lambda position: -costs[position]):
        load, number = heapq.heappop(loads)
        dealt[number].append(position)
        heapq.heappush(loads, (load + max(1, costs[position]), number))
    return [positions for positions in dealt if positions]


def column_order(paths: Sequence[LeafPath]) -> tuple[LeafPath, ...]:
    """Leaf paths in the order in which a child's rows are fingerprinted."""
    return tuple(sorted(paths, key=lambda path: (fold_path(path), path)))


def matching_paths(child: Sequence[LeafPath], parent: Sequence[LeafPath], *, exact: bool) -> tuple[LeafPath, ...]:
    """The parent's paths that stand for the child's, in the child's order."""
    if exact:
        return tuple(child)
    by_folded = {fold_path(path): path for path in parent}
    return tuple(by_folded[fold_path(path)] for path in child)


def compared_paths(child: SchemaClass, parent: SchemaClass) -> tuple[tuple[LeafPath, ...], tuple[LeafPath, ...]]:
    """The leaves by which tables of two classes are compared: the child's in order, and the parent's for them."""
    own = column_order(list(child.names))
    return own, matching_paths(own, sorted(parent.names), exact=child.exact or parent.exact)


def column_sets(pairs: Sequence[Pair], graph: SchemaGraph) -> dict[int, tuple[ColumnSet, ...]]:
    """The column sets that the pairs need of each table; a set is numbered by the child's schema class."""
    number = {table: c.id for table, c in graph.class_of.items()}
    edges = {(number[child], number[parent], column_set) for child, parent, column_set in pairs}
    of_edge = {}
    for child, parent, column_set in edges:
        paths = compared_paths(graph.classes[child], graph.classes[parent])
        of_edge[child, parent, column_set] = [ColumnSet(id=column_set, paths=own) for own in paths]
    wanted: dict[int, dict[int, ColumnSet]] = {}
    for child, parent, column_set in pairs:
        own, other = of_edge[number[child], number[parent], column_set]
        wanted.setdefault(child, {})[column_set] = own
        wanted.setdefault(parent, {}).setdefault(column_set, other)
    return {table: tuple(own for _, own in sorted(sets.items())) for table, sets in wanted.items()}
