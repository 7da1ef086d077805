"""How a comparison is cut into two passes, so that rows of parents that no child has stay where they are.

The first pass takes the children, and says in filters which rows they have. The second takes what is only looked into:
of these tables just the rows that a child may have are compared, the others are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from r2d2.scan.items import EVERYTHING, ColumnSet
from r2d2.scan.members import Question
from r2d2.scan.plan import Pair, TableScan
from r2d2.scan.row_filter import PLACES_PER_ROW, places_for

LEAST_SPARED = 1_000_000
"""Fingerprints that a second pass leaves out at least: two jobs take longer than one."""
CHILD_SHARE = 2
"""The rows of all children under a column set are at most this part of a table's, or it is not worth while."""
TWICE_SHARE = 0.1
"""The part of the bytes of a comparison that is read in both passes at most."""

Key = tuple[int, int]
"""A table and a column set."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """The scans of a comparison.

    Attributes:
        first: Whose rows are all compared.
        second: Of whose rows those that the filters do not hold are only counted.
        places: Of the filters, by column set; none where there is no second pass.
        children: Whose rows the filters hold.
        rows_of: Fingerprints that are to be expected of each table.
    """

    first: Sequence[TableScan]
    second: Sequence[TableScan]
    places: Mapping[int, int]
    children: Set[Key]
    rows_of: Mapping[int, int]

    @property
    def read_twice(self) -> set[int]:
        """The tables of both passes."""
        return {scan.table for scan in self.first} & {scan.table for scan in self.second}

    @property
    def rows(self) -> int:
        """Fingerprints that are to be expected of all tables."""
        return sum(self.rows_of.values())


def passes_of(
    scans: Sequence[TableScan], pairs: Sequence[Pair], questions: Sequence[Question], tasks: int = 1
) -> Passes:
    """One pass, or two where the second leaves much out.

    Args:
        scans: Of the tables of the pairs and questions. Those with a threshold or evidence belong to the first pass:
            their leaves are observed by the scan that has all of their column sets.
        pairs: What is compared.
        questions: About several parents.
        tasks: That scan at most.
    """
    asked = {(pair.child, pair.column_set) for pair in pairs} | {(one.child, one.column_set) for one in questions}
    wanted = _rows_of_children(scans, asked)
    spared = {
        (scan.table, own.id): spared
        for scan in scans
        if scan.threshold == EVERYTHING and not scan.evidence
        for own in scan.column_sets
        if (scan.table, own.id) not in asked and (spared := _spared(scan, wanted.get(own.id)))
    }
    later = _chosen(scans, spared)
    places = places_for({own: wanted[own] or 0 for own in sorted({own for _, own in later})}, tasks)
    later = {key for key in later if key[1] in places}
    if sum(spared[key] for key in later) < LEAST_SPARED:
        later, places = set(), {}
    rows_of = {
        scan.table: scan.expected_rows - sum(spared[scan.table, s.id] for s in _sets(scan, later)) for scan in scans
    }
    return Passes(
        first=[part for scan in scans if (part := _part(scan, {(scan.table, s.id) for s in scan.column_sets} - later))],
        second=[part for scan in scans if (part := _part(scan, later))],
        places=places,
        children=frozenset(key for key in asked if key[1] in places),
        rows_of=rows_of,
    )


def _rows_of_children(scans: Iterable[TableScan], asked: Set[Key]) -> dict[int, int | None]:
    """The rows of all children under each column set; None where they are not known."""
    found: dict[int, int | None] = {}
    for scan in scans:
        for own in scan.column_sets:
            if (scan.table, own.id) in asked:
                rows, others = scan.harvest.rows, found.get(own.id, 0)
                found[own.id] = None if rows is None or others is None else others + rows
    return found


def _spared(scan: TableScan, wanted: int | None) -> int:
    """How many rows of a table are likely to be left out, where so many are looked for."""
    rows = scan.harvest.rows
    if rows is None or wanted is None or CHILD_SHARE * wanted > rows:
        return 0
    return max(0, rows - wanted - rows // PLACES_PER_ROW)


def _chosen(scans: Sequence[TableScan], spared: Mapping[Key, int]) -> set[Key]:
    """The keys of a second pass in which few bytes are read that the first reads too: those that spare most for it."""
    room = TWICE_SHARE * sum(scan.harvest.table_bytes for scan in scans)
    gains = {scan.table: sum(spared.get((scan.table, own.id), 0) for own in scan.column_sets) for scan in scans}
    chosen: set[Key] = set()
    for scan in sorted(scans, key=lambda scan: -gains[scan.table] / (1 + scan.harvest.table_bytes)):
        own = {key for s in scan.column_sets if (key := (scan.table, s.id)) in spared}
        twice = scan.harvest.table_bytes if len(own) < len(scan.column_sets) else 0
        if own and twice <= room:
            room -= twice
            chosen |= own
    return chosen


def _sets(scan: TableScan, keys: Set[Key]) -> list[ColumnSet]:
    return [own for own in scan.column_sets if (scan.table, own.id) in keys]


def _part(scan: TableScan, keys: Set[Key]) -> TableScan | None:
    """The scan with some of its column sets; None with none of them."""
    own = _sets(scan, keys)
    return replace(scan, column_sets=tuple(own)) if own else None
