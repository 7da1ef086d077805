"""Kernel: which of several tables hold each row of some children, in one bucket of fingerprints.

Where a table was sampled, only fingerprints that all samples would have kept are looked at: a row among them that no
other table holds is nowhere, and nothing else is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from r2d2.scan.compare import ALL, Bag, up_to
from r2d2.scan.kinds import Kinds, Numbers
from r2d2.scan.ordering import changes, order_of

KINDS, SIZES, ALONE = -2, -3, -4
"""What stands for the parent in answers: about who holds which rows, about the size of a table, and about the rows of a
child that no other table holds."""

NO_CHILD = 0
"""What stands for the child in an answer about kinds."""

_NO_ROWS = np.empty(0, np.int64)

CELLS = 1 << 21
"""Pairs of a row and a table that has it that are told of in one answer, with up to 20 bytes each."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which of some parents hold the rows of a child?

    Attributes:
        child: Position of the table.
        column_set: What its rows are compared by.
        parents: The tables that are asked about, ascending.
        last: Rows with a first lane above it are not asked about: unsigned bits, ALL unless some table is sampled.
    """

    child: int
    column_set: int
    parents: tuple[int, ...]
    last: int = ALL

    @property
    def tables(self) -> tuple[int, ...]:
        """Child and parents."""
        return (self.child, *self.parents)


def pack_parents(parents: Sequence[int]) -> bytes:
    """Parents as a question's row has them."""
    return np.array(parents, np.int32).tobytes()


def questions_of(rows: pa.Table) -> list[Question]:
    """The questions that some rows of QUESTIONS about several parents ask."""
    return [
        Question(
            child=row["child"],
            column_set=row["column_set"],
            parents=tuple(np.frombuffer(row["parents"], np.int32).tolist()),
            last=row["last"],
        )
        for row in rows.to_pylist()
    ]


def answers(bags: Mapping[tuple[int, int], Bag], questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """What one bucket says to some questions.

    Yields:
        Per child, its rows that were looked at, and how many of these no other table has. Then, per column set, the
        kinds of the rows of all children that have none of those, in portions, and the size of each table; both for
        questions about all rows only.

    Args:
        bags: By table and column set; a table without fingerprints here has none.
        questions: About these tables.
    """
    by_set: dict[int, list[Question]] = {}
    for question in questions:
        by_set.setdefault(question.column_set, []).append(question)
    bags_by_set: dict[int, dict[int, Bag]] = {}
    for (table, column_set), bag in sorted(bags.items(), key=lambda one: one[0]):
        bags_by_set.setdefault(column_set, {})[table] = bag
    for column_set, asked in by_set.items():
        yield from _about_set(column_set, bags_by_set.get(column_set, {}), asked)


def _about_set(column_set: int, bags: Mapping[int, Bag], questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """Answers about tables with fingerprints here, in order of their positions."""
    about = {q.child: up_to(bags[q.child], q.last).ids for q in questions if q.child in bags}
    cut = _only(bags, about.values()) if about else {}
    holders = np.bincount(np.concatenate([_NO_ROWS, *(bag.ids for bag in cut.values())]))
    held: list[Question] = []
    for question in questions:
        if question.child in about:
            rows = about[question.child]
            alone = int(np.count_nonzero(holders[rows] == 1))
            told = {"child": question.child, "parent": ALONE, "column_set": column_set}
            yield {**told, "distinct": len(rows), "missing": alone}
            if question.last == ALL and not alone:
                held.append(question)
    for packed in _kinds(cut, held):
        yield {"child": NO_CHILD, "parent": KINDS, "column_set": column_set, "packed": packed}
    whole = {table for question in questions if question.last == ALL for table in question.tables}
    yield from (_size(table, column_set, bags[table]) for table in sorted(whole & bags.keys()))


def _size(table: int, column_set: int, bag: Bag) -> dict[str, Any]:
    distinct = len(bag.ids) + bool(bag.others)
    return {"child": table, "parent": SIZES, "column_set": column_set, "distinct": distinct, "child_rows": bag.rows}


def _only(bags: Mapping[int, Bag], asked: Iterable[Numbers]) -> dict[int, Bag]:
    """What some bags have of some rows."""
    is_asked = np.zeros(max(bag.end for bag in bags.values()), bool)
    for ids in asked:
        is_asked[ids] = True
    found = ((table, bag.where(is_asked[bag.ids])) for table, bag in bags.items())
    return {table: bag for table, bag in found if len(bag.ids)}


def _kinds(bags: Mapping[int, Bag], questions: Sequence[Question]) -> Iterator[bytes]:
    """The packed kinds of all rows of the children of some questions, among the tables of these, in portions."""
    if not questions:
        return
    among = {table for question in questions for table in question.tables}
    own = _only({t: bag for t, bag in bags.items() if t in among}, [bags[question.child].ids for question in questions])
    ids = np.concatenate([bag.ids for bag in own.values()])
    places = order_of(ids)  # of one row ascending by table, as the bags are
    ids = ids[places]
    table = np.repeat(np.array(list(own), np.int64), [len(bag.ids) for bag in own.values()])[places]
    count = np.concatenate([bag.counts for bag in own.values()])[places]
    row = np.cumsum(changes(ids)) - 1
    sizes = np.bincount(row)
    start = end = 0
    for portion in _portions(sizes):
        start, end = end, end + int(sizes[portion].sum())
        part = slice(start, end)
        yield Kinds.of_rows(portion.stop - portion.start, row[part] - portion.start, table[part], count[part]).pack()


def _portions(sizes: Numbers) -> Iterator[slice]:
    """Rows in portions of about CELLS holders, at least one row each."""
    numbers = np.cumsum(sizes) // CELLS
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(sizes)]
    yield from (slice(start, end) for start, end in itertools.pairwise(bounds) if start < end)
