"""The search kernel: which query over a parent's rows returns exactly those of a child.

It loads both tables and labels the parent's rows by the child's. What it returns is only a candidate: a recipe counts
once its SQL was run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

import duckdb
import numpy as np

from r2d2.errors import TableFault
from r2d2.model import LeafPath, fold, leaf_key, leaf_path, leaves, schema_from_bytes
from r2d2.recipes.columns import PredicateColumn, predicate_columns
from r2d2.recipes.keys import KeyList
from r2d2.recipes.labels import Fingerprints, Numbers, RowsByNumber, label_rows, number_rows, rows_alike
from r2d2.recipes.predicates import spark_sql
from r2d2.recipes.query import Found, Rows, find_query
from r2d2.recipes.rows import Load, load_rows
from r2d2.recipes.small_rows import WantedTable
from r2d2.recipes.tables import SearchTable, TableLoader, small_ahead
from r2d2.scan.bag_sums import BagSum
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.items import ScanItem
from r2d2.scan.rowhash import RowHasher, check_hash_version

LEAST_TOGETHER = 1 << 16
"""Rows of children that are numbered together, where the parent has fewer."""


@dataclass(frozen=True, kw_only=True)
class ChildWork:
    """A child of a search.

    Attributes:
        child: Its position.
        column_set: The number of its columns among the parent's column sets.
        items: Its files, with this one column set.
        most_key_bytes: A key list may not be larger.
    """

    child: int
    column_set: int
    items: tuple[ScanItem, ...]
    most_key_bytes: int


@dataclass(frozen=True, kw_only=True)
class SearchItem:
    """A parent and children that it contains, for one kernel call.

    Attributes:
        parent: Its position.
        items: Its files; their column sets have the numbers of the children's.
        schema: Its columns, as `schema_to_bytes` writes them.
        shared: Its leaves that a child has too.
    """

    parent: int
    items: tuple[ScanItem, ...]
    schema: bytes
    shared: tuple[LeafPath, ...]
    children: tuple[ChildWork, ...]

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps(
            {
                "parent": self.parent,
                "items": [item.to_json() for item in self.items],
                "schema": self.schema.hex(),
                "shared": [leaf_key(path) for path in self.shared],
                "children": [
                    [work.child, work.column_set, [item.to_json() for item in work.items], work.most_key_bytes]
                    for work in self.children
                ],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> SearchItem:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        return cls(
            parent=raw["parent"],
            items=tuple(map(ScanItem.from_json, raw["items"])),
            schema=bytes.fromhex(raw["schema"]),
            shared=tuple(map(leaf_path, raw["shared"])),
            children=tuple(
                ChildWork(
                    child=child, column_set=number, items=tuple(map(ScanItem.from_json, items)), most_key_bytes=most
                )
                for child, number, items, most in raw["children"]
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a search found for a child and its parent.

    Attributes:
        kind: `distinct`, `selection` or `key_list`; empty where it found nothing.
        where: The predicate in Spark SQL; empty for none.
        keys: For a key list.
        reason: Why nothing was found.
        bag: Sums of the child's rows, under the columns that were compared; None where they were not read.
    """

    child: int
    parent: int
    kind: str = ""
    where: str = ""
    keys: KeyList | None = None
    reason: str = ""
    bag: BagSum | None = None


def search(
    items: Sequence[SearchItem], hasher: RowHasher, limits: KernelLimits, load: Load = load_rows
) -> Iterator[Answer]:
    """Answers for each child of some items, whose tables `load` loads.

    Raises:
        EngineError: If this worker's DuckDB is not the pinned one; nothing else is raised.
    """
    check_hash_version()
    wanted = [_wanted(item) for item in items]
    for item, tables, small in zip(items, wanted, small_ahead(wanted, hasher, limits), strict=True):
        done: set[int] = set()
        try:
            with connect(limits) as connection:
                for answer in _answers(item, TableLoader(connection, tables, small, hasher, load), connection):
                    yield answer
                    done.add(answer.child)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
            for work in (work for work in item.children if work.child not in done):
                yield Answer(child=work.child, parent=item.parent, reason=not_searched(exc))


def not_searched(exc: Exception) -> str:
    """Why rows were not searched; the words of errors that are not our own may hold values."""
    return f"its rows could not be searched ({exc if isinstance(exc, TableFault) else type(exc).__name__})"


def names_in(schema: bytes) -> frozenset[str]:
    """The folded names of the columns and fields of a stored schema."""
    return frozenset(fold(name) for path, _ in leaves(schema_from_bytes(schema)) for name in path)


def _wanted(item: SearchItem) -> list[WantedTable]:
    columns = predicate_columns(schema_from_bytes(item.schema), item.shared)
    parent = WantedTable(name="parent", items=item.items, columns=columns)
    return [parent, *(WantedTable(name=_name(work), items=work.items, columns=()) for work in item.children)]


def _name(work: ChildWork) -> str:
    return f"child{work.child}"


def _answers(item: SearchItem, loader: TableLoader, connection: duckdb.DuckDBPyConnection) -> Iterator[Answer]:
    connection.execute("SET preserve_insertion_order = true")
    names = names_in(item.schema)
    parent = loader.table("parent")
    ordered = sorted(item.children, key=lambda work: work.column_set)
    for column_set, works in itertools.groupby(ordered, key=lambda work: work.column_set):
        own = parent.fingerprints(column_set)
        for children in _loaded(works, loader, max(len(own[0]), LEAST_TOGETHER)):
            rows_of = [rows for _, rows in children if not isinstance(rows, Exception)]
            numbered = iter(_Numbered(parent, own, rows_of))
            for work, rows in children:
                if isinstance(rows, Exception):
                    yield Answer(child=work.child, parent=item.parent, reason=not_searched(rows))
                else:
                    answer = _answer(work, parent, next(numbered), names, item.parent)
                    yield replace(answer, bag=BagSum.of(*rows, counts=None))


_Loaded = tuple[ChildWork, Fingerprints | Exception]


def _loaded(works: Iterable[ChildWork], loader: TableLoader, rows: int) -> Iterator[list[_Loaded]]:
    """The fingerprints of children, or why there are none, in portions of about so many rows."""
    portion: list[_Loaded] = []
    room = rows
    for work in works:
        try:
            child = loader.table(_name(work))
            fingerprints = child.fingerprints(work.column_set)
            loader.drop(child)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the others are still to be searched
            portion.append((work, exc))
            continue
        portion.append((work, fingerprints))
        room -= len(fingerprints[0])
        if room <= 0:
            yield portion
            portion, room = [], rows
    if portion:
        yield portion


class _Numbered:
    """Rows of a parent and of some children, numbered together: iterates over the parent's, labelled by each child."""

    def __init__(self, parent: SearchTable, own: Fingerprints, children: Sequence[Fingerprints]) -> None:
        self._parent = parent
        if parent.is_held:
            self._rows = np.arange(len(own[0]))
        else:
            self._rows = rows_alike(own, children)
            parent.keep_at_hand(self._rows)
        is_whole = len(self._rows) == len(own[0])
        numbered = own if is_whole else (own[0][self._rows], own[1][self._rows])
        (self._own, *self._children), self._count = number_rows([numbered, *children])

    def __iter__(self) -> Iterator[AbstractContextManager[Rows]]:
        return map(self._labelled, self._children)

    @cached_property
    def _by_number(self) -> RowsByNumber:
        return RowsByNumber(self._own, self._rows, self._count)

    def _labelled(self, child: Numbers) -> AbstractContextManager[Rows]:
        if self._parent.is_held:
            return self._parent.labelled(label_rows(self._own, np.bincount(child, minlength=self._count)))
        return self._parent.wanted(self._by_number.wanted_by(child))


def _answer(
    work: ChildWork, parent: SearchTable, labelled: AbstractContextManager[Rows], names: Set[str], number: int
) -> Answer:
    try:
        with labelled as rows:
            found = find_query(rows, work.most_key_bytes, names)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the others are still to be searched
        return Answer(child=work.child, parent=number, reason=not_searched(exc))
    return Answer(
        child=work.child,
        parent=number,
        kind=found.kind,
        where=where_of(found, parent.columns),
        keys=found.keys,
        reason=found.reason,
    )


def where_of(found: Found, columns: Sequence[PredicateColumn]) -> str:
    """The predicate of a query in Spark SQL; empty for none."""
    return spark_sql(found.predicate, columns) if found.predicate not in (None, ((),)) else ""
