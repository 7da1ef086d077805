"""Kernel: few tables that hold all rows of a child together, from which tables hold which kinds of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2d2.scan.kinds import Kinds, Lists, Numbers

_GATHERED = 8
"""To count the holders of a row takes as long as to look at so many rows of a table."""

_CALLED = 400
"""To look at a table's rows takes as long as so many of them, before the first."""


@dataclass(frozen=True, kw_only=True)
class Cover:
    """Tables that hold a child together, none of which could be left out.

    Attributes:
        tables: In the order in which they were chosen.
        bag: They hold each row together at least as often as the child does.
        shared: Distinct rows of the child that each of them has.
    """

    tables: tuple[int, ...]
    bag: bool
    shared: tuple[int, ...]


class Holders:
    """Who holds which kinds of rows, for questions about one child after the other."""

    def __init__(self, kinds: Kinds) -> None:
        """For these kinds."""
        self._kinds = kinds
        self._kinds_of = _by_table(kinds.held)
        self._repeated_of = _by_table(kinds.repeated)

    def cover(self, child: int, parents: Sequence[int]) -> Cover | None:
        """A cover of a child by some parents: the one that adds most rows first, ties to the first.

        Which of them the others make superfluous is then left out, the last chosen first.

        Args:
            child: All of whose rows are among the kinds.
            parents: Ascending.

        Returns:
            None where some row of the child is in none of them.
        """
        own = self._held_by(child)
        shared = self._shared(own, parents)
        chosen = self._greedy(own, parents, shared)
        if chosen is None:
            return None
        kept = self._minimal(own, [parents[number] for number in chosen])
        rows_of = dict(zip(parents, shared.tolist(), strict=True))
        return Cover(tables=tuple(kept), bag=self._is_bag(child, kept), shared=tuple(rows_of[table] for table in kept))

    def rows_of(self, table: int) -> int:
        """Distinct rows of a table among the kinds."""
        return int(self._kinds.distinct[self._held_by(table)].sum())

    def _held_by(self, table: int) -> Numbers:
        return _at(self._kinds_of, table)

    def _shared(self, own: Numbers, parents: Sequence[int]) -> Numbers:
        """(parents,): how many rows of some kinds each has, in the cheaper of two ways."""
        kinds = self._kinds
        by_row = int(kinds.held.sizes[own].sum())
        by_table = _CALLED * len(parents) + self._kinds_of.sizes[[p for p in parents if p < len(self._kinds_of)]].sum()
        if by_table <= _GATHERED * by_row:
            left = np.zeros(len(kinds.held), np.int64)
            left[own] = kinds.distinct[own]
            return np.array([left[self._held_by(parent)].sum() for parent in parents], np.int64)
        weights = np.repeat(kinds.distinct[own], kinds.held.sizes[own])
        counts = np.bincount(kinds.held.items[kinds.held.at(own)], weights=weights, minlength=1 + max(parents))
        return counts[list(parents)].astype(np.int64)

    def _greedy(self, own: Numbers, parents: Sequence[int], shared: Numbers) -> list[int] | None:
        """Numbers of parents that hold some kinds together, or None; `shared` is how many rows of these each has.

        The first ones mostly leave little, so what each adds is counted again over the kinds that are left.
        """
        is_left = np.zeros(len(self._kinds.held), bool)
        is_left[own] = True
        left, adds = own, shared
        chosen: list[int] = []
        while len(left):
            if chosen:
                adds = self._shared(left, parents)
            number = int(np.argmax(adds))
            if not adds[number]:
                return None
            chosen.append(number)
            is_left[self._held_by(parents[number])] = False
            left = left[is_left[left]]
        return chosen

    def _minimal(self, own: Numbers, chosen: Sequence[int]) -> list[int]:
        is_own = np.zeros(len(self._kinds.held), bool)
        is_own[own] = True
        held_by = {table: held[is_own[held]] for table in chosen for held in [self._held_by(table)]}
        holders = np.zeros(len(is_own), np.int64)
        for held in held_by.values():
            holders[held] += 1
        kept = list(chosen)
        for table in reversed(chosen):
            held = held_by[table]
            if (holders[held] > 1).all():
                holders[held] -= 1
                kept.remove(table)
        return kept

    def _is_bag(self, child: int, chosen: Sequence[int]) -> bool:
        """Whether some tables, each row being in one of them, have each row together as often as the child."""
        rows = _at(self._repeated_of, child)
        if not len(rows):
            return True
        repeated = self._kinds.repeated
        places, owners = repeated.at(rows), np.repeat(np.arange(len(rows)), repeated.sizes[rows])
        tables, often = repeated.items[places], self._kinds.often[places]
        is_chosen = np.zeros(1 + int(tables.max()), bool)
        is_chosen[[table for table in chosen if table < len(is_chosen)]] = True
        there = np.bincount(owners, weights=often * is_chosen[tables], minlength=len(rows))
        needed = np.bincount(owners, weights=often * (tables == child), minlength=len(rows))
        return bool((there >= needed).all())


def _by_table(held: Lists) -> Lists:
    """By table, what it holds."""
    return Lists.by_owner(held.items, held.owners, 1 + int(held.items.max(initial=-1)))


def _at(lists: Lists, table: int) -> Numbers:
    found: Numbers = lists.items[lists.starts[table] : lists.starts[table + 1]] if table < len(lists) else _NONE
    return found


_NONE = np.empty(0, np.int64)
