"""Which sample tables contain which, by brute force over their rows in plain Python.

Nothing here is shared with the audit: the results of one can be checked against the other. Python compares int, float
and Decimal by mathematical value, which is what the contract asks for; whatever Python does otherwise is spelled out in
`canonical`.
"""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

Name = tuple[str, ...]
"""Path of names down to a value that is no struct; the paths of the structs themselves end in an empty name."""

_MIDNIGHT = datetime.time()
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, kw_only=True)
class TruthEdge:
    """A containment that holds.

    Attributes:
        child, parent: Table ids.
        relation: `equal` or `contained`.
        set, bag: Which containments hold.
        child_rows, parent_rows: Rows.
        fewer_columns: The parent has more columns.
    """

    child: str
    parent: str
    relation: str
    set: bool
    bag: bool
    child_rows: int
    parent_rows: int
    fewer_columns: bool

    @property
    def proposable(self) -> str | None:
        """`equal` or `projection` where the child is the parent, or all rows of some of its columns."""
        if not self.bag or self.child_rows == 0 or self.child_rows != self.parent_rows:
            return None
        return "projection" if self.fewer_columns else "equal"


@dataclass(frozen=True, kw_only=True)
class TruthUnion:
    """A table whose rows are all in others, though no single one has them all; `parents` are those with some."""

    child: str
    parents: tuple[str, ...]


class TruthTable:
    """The canonical rows of a table, in the columns that are asked for.

    Args:
        name: Table id.
        rows: As a faithful reader sees them.
    """

    def __init__(self, name: str, rows: pa.Table) -> None:
        self.name = name
        self.rows = rows.num_rows
        self._columns = dict(_leaf_columns(rows))
        self._counters: dict[tuple[Name, ...], Counter[tuple[Any, ...]]] = {}

    @property
    def paths(self) -> list[Name]:
        """Exact leaf paths."""
        return list(self._columns)

    @cached_property
    def is_case_sensitive(self) -> bool:
        """Whether two columns differ only by case."""
        return len({_folded(path) for path in self._columns}) < len(self._columns)

    def named(self, *, exact: bool) -> dict[Name, Name]:
        """Own leaf paths by the names under which a pair compares them."""
        return {path if exact else _folded(path): path for path in self._columns}

    def counter(self, paths: tuple[Name, ...]) -> Counter[tuple[Any, ...]]:
        """How often each row occurs in some leaf columns, in that order."""
        if paths not in self._counters:
            columns = [self._columns[path] for path in paths]
            self._counters[paths] = Counter(zip(*columns, strict=True))
        return self._counters[paths]


def canonical(value: Any) -> Any:
    """A value whose `==` and hash are the contract's equality."""
    if isinstance(value, bool | bytes):
        return (type(value).__name__, value)
    if isinstance(value, float) and value != value:
        return ("NaN",)
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo is None else ("instant", (value - _EPOCH) // datetime.timedelta(microseconds=1))
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, _MIDNIGHT)
    if isinstance(value, list):
        return ("array", *map(canonical, value))
    if isinstance(value, dict):
        return ("struct", *sorted((name.lower(), canonical(field)) for name, field in value.items()))
    return value


def find_edges(tables: Sequence[TruthTable]) -> list[TruthEdge]:
    """Every containment among the tables, sorted by child and parent."""
    found = [_edge(child, parent) for child, parent in itertools.permutations(tables, 2)]
    return sorted((edge for edge in found if edge is not None), key=lambda edge: (edge.child, edge.parent))


def find_unions(tables: Sequence[TruthTable], edges: Sequence[TruthEdge]) -> list[TruthUnion]:
    """Tables with rows that only several others together cover, sorted by id."""
    covered = {edge.child for edge in edges}
    open_tables = [table for table in tables if table.rows and table.name not in covered]
    unions = [_union(child, [table for table in tables if table is not child]) for child in open_tables]
    return sorted((union for union in unions if union is not None), key=lambda union: union.child)


def _edge(child: TruthTable, parent: TruthTable) -> TruthEdge | None:
    pair = _shared_columns(child, parent)
    if pair is None:
        return None
    inner, outer = child.counter(pair[0]), parent.counter(pair[1])
    if not inner.keys() <= outer.keys():
        return None
    fewer = len(child.paths) < len(parent.paths)
    return TruthEdge(
        child=child.name,
        parent=parent.name,
        relation="equal" if not fewer and inner == outer else "contained",
        set=True,
        bag=inner <= outer,
        child_rows=child.rows,
        parent_rows=parent.rows,
        fewer_columns=fewer,
    )


def _union(child: TruthTable, others: Sequence[TruthTable]) -> TruthUnion | None:
    missing = set(child.counter(tuple(sorted(child.paths))))
    parents = []
    for other in others:
        pair = _shared_columns(child, other)
        if pair is None:
            continue
        shared = child.counter(pair[0]).keys() & other.counter(pair[1]).keys()
        if shared:
            parents.append(other.name)
            missing -= _reordered(shared, pair[0])
    return None if missing else TruthUnion(child=child.name, parents=tuple(sorted(parents)))


def _reordered(rows: set[tuple[Any, ...]], paths: tuple[Name, ...]) -> set[tuple[Any, ...]]:
    """Rows in the order of the sorted paths."""
    order = sorted(range(len(paths)), key=lambda i: paths[i])
    return {tuple(row[i] for i in order) for row in rows}


def _shared_columns(child: TruthTable, parent: TruthTable) -> tuple[tuple[Name, ...], tuple[Name, ...]] | None:
    """The child's columns and their counterparts in the parent, in one order; None where one is missing."""
    exact = child.is_case_sensitive or parent.is_case_sensitive
    inner, outer = child.named(exact=exact), parent.named(exact=exact)
    if not inner.keys() <= outer.keys():
        return None
    names = sorted(inner)
    return tuple(inner[name] for name in names), tuple(outer[name] for name in names)


def _folded(path: Name) -> Name:
    return tuple(name.lower() for name in path)


def _leaf_columns(rows: pa.Table) -> Iterator[tuple[Name, list[Any]]]:
    for field, column in zip(rows.schema, rows.columns, strict=True):
        yield from _leaves((field.name,), field.type, column.to_pylist())


def _leaves(path: Name, dtype: pa.DataType, values: Sequence[Any]) -> Iterator[tuple[Name, list[Any]]]:
    """Leaf columns of a column; a struct also has one that says where it is NULL."""
    if not pa.types.is_struct(dtype):
        yield path, list(values) if _is_canonical(dtype) else [canonical(value) for value in values]
        return
    yield (*path, ""), [("absent",) if value is None else ("present",) for value in values]
    for field in dtype:
        inner = [value[field.name] if isinstance(value, Mapping) else None for value in values]
        yield from _leaves((*path, field.name), field.type, inner)


def _is_canonical(dtype: pa.DataType) -> bool:
    """Whether the values of a type are their own canonical values: `canonical` would return each as it is."""
    return any(test(dtype) for test in (pa.types.is_integer, pa.types.is_decimal, pa.types.is_string))
