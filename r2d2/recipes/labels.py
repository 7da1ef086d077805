"""Labels of a parent's rows: which of them a query has to return.

Rows are numbered by their fingerprints under the child's columns, so equal rows have the same number in every table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from r2d2.scan.beginnings import begin_alike, beginnings, tell_apart
from r2d2.scan.compare import numbered
from r2d2.scan.kinds import Lists
from r2d2.scan.reports import Words

PART_ROWS = 4_000_000
"""Fingerprints that are numbered at once, with about 60 bytes each."""

NEGATIVE, POSITIVE, AMBIGUOUS, FREE = 0, 1, 2, 3
"""Labels: the child has none of these rows, all of them, or some of equal ones; or it does not matter who gets them."""

Fingerprints = tuple[Words, Words]
"""The two lanes of some rows' fingerprints, in the order of the rows."""

Numbers = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
"""By number."""
Positions = npt.NDArray[np.int64]
"""Of rows in their table."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a child wants of a parent's rows, one element per row.

    Attributes:
        numbers: Of the rows; with a label other than FREE, rows of one number have the same label at first.
        wanted: How often the child has the row.
        labels: See NEGATIVE.
    """

    numbers: Numbers
    wanted: Counts
    labels: npt.NDArray[np.int8]


def rows_alike(parent: Fingerprints, children: Sequence[Fingerprints]) -> Positions:
    """Positions of a parent's rows that any child may have, by the first bits of fingerprints: no less than all."""
    if not tell_apart(sum(len(first) for first, _ in children)):
        return np.arange(len(parent[0]))
    wanted = np.concatenate([beginnings(first) for first, _ in children])
    return np.flatnonzero(begin_alike(beginnings(parent[0]), wanted))


def number_rows(tables: Sequence[Fingerprints]) -> tuple[list[Numbers], int]:
    """The numbers of some tables' rows, and how many numbers there are; a part of the fingerprints at a time."""
    found = [np.empty(len(first), np.int64) for first, _ in tables]
    bits = (sum(map(len, found)) // PART_ROWS).bit_length()
    following = 0
    for part in range(1 << bits):
        chosen = [_of_part(first, part, bits) for first, _ in tables]
        first, second = (
            np.concatenate([lanes[lane][own] for lanes, own in zip(tables, chosen, strict=True)]) for lane in (0, 1)
        )
        ids, firsts = numbered(first, second)
        ends = np.cumsum([np.count_nonzero(own) for own in chosen])
        for numbers, own, here in zip(found, chosen, np.split(ids, ends[:-1]), strict=True):
            numbers[own] = following + here
        following += len(firsts)
    return found, following


def _of_part(first: Words, part: int, bits: int) -> npt.NDArray[np.bool_]:
    """Which rows' first lanes begin with some bits."""
    if bits == 0:
        return np.ones(len(first), bool)
    begins: npt.NDArray[np.bool_] = first.view(np.uint64) >> np.uint64(64 - bits) == np.uint64(part)
    return begins


def label_rows(
    numbers: Numbers, needed: Counts, *, one_is_enough: bool = False, free: npt.NDArray[np.bool_] | None = None
) -> Labels:
    """Label rows by how often the child needs them.

    Args:
        numbers: Of the rows.
        needed: How often the child needs the row of each number.
        one_is_enough: A needed row may be returned more often than it is needed.
        free: By number, rows that may be returned or not.
    """
    wanted = needed[numbers]
    most = 1 if one_is_enough else np.bincount(numbers, minlength=len(needed))[numbers]
    labels = np.where(wanted == 0, NEGATIVE, np.where(wanted >= most, POSITIVE, AMBIGUOUS)).astype(np.int8)
    if free is not None:
        labels[free[numbers]] = FREE
    return Labels(numbers=numbers, wanted=wanted, labels=labels)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Labels as positions, for tables of which a child has few rows, or of which it does not matter who gets some.

    Attributes:
        positive: Rows all equals of which the child has, ascending.
        ambiguous: Rows of which it has some of the equal ones, ascending.
        numbers: Of the ambiguous rows.
        needed: How often the child has each ambiguous row.
        most: How often it has one row at most.
        free: By row of the table, whether it does not matter; None where that is nowhere so.
    """

    positive: Positions
    ambiguous: Positions
    numbers: Numbers
    needed: Counts
    most: int
    free: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, labels: Labels) -> Wanted:
        """The same as labels of all rows."""
        is_free = labels.labels == FREE
        ambiguous = np.flatnonzero(labels.labels == AMBIGUOUS)
        return cls(
            positive=np.flatnonzero(labels.labels == POSITIVE),
            ambiguous=ambiguous,
            numbers=labels.numbers[ambiguous],
            needed=labels.wanted[ambiguous],
            most=int(labels.wanted[~is_free].max(initial=0)),
            free=is_free if is_free.any() else None,
        )

    def settled(self, picked: npt.NDArray[np.bool_]) -> Wanted:
        """The same where, of the ambiguous rows, those that are picked are the child's."""
        nothing = np.empty(0, np.int64)
        own = self.ambiguous[picked[self.ambiguous]]
        return replace(self, positive=merged(self.positive, own), ambiguous=nothing, numbers=nothing, needed=nothing)


def merged(positions: Positions, others: Positions) -> Positions:
    """Different positions in one ascending list."""
    return np.sort(np.concatenate([positions, others])) if len(others) else positions


class RowsByNumber:
    """Where the rows of each number are in a table.

    Args:
        numbers: Of its rows, or of those that any child may have.
        positions: Of these rows.
        count: How many numbers there are.
    """

    def __init__(self, numbers: Numbers, positions: Positions, count: int) -> None:
        self._rows = Lists.by_owner(numbers, positions, count)

    def wanted_by(self, child: Numbers) -> Wanted:
        """The rows that a child wants, given its rows' numbers."""
        ids, times = np.unique(child, return_counts=True)
        own = self._rows.taken(ids)
        numbers, needed = np.repeat(ids, own.sizes), np.repeat(times, own.sizes)
        is_ambiguous = needed < np.repeat(own.sizes, own.sizes)
        rows = np.argsort(own.items[is_ambiguous])
        return Wanted(
            positive=np.sort(own.items[~is_ambiguous]),
            ambiguous=own.items[is_ambiguous][rows],
            numbers=numbers[is_ambiguous][rows],
            needed=needed[is_ambiguous][rows],
            most=int(times[own.sizes > 0].max(initial=0)),
        )
