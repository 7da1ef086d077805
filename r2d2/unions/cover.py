"""Kernel: few tables that hold all rows of a child together, from which tables hold each kind of row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_COVERED = 0.05
"""Rows of a kind that may be left over when a sample proposes a cover; what is missing is asked for later."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Rows of a child that the same tables hold.

    Attributes:
        held: The tables that hold them.
        open: Those that may, where they were sampled.
        distinct: How many rows, repeated ones counted once.
    """

    held: frozenset[int]
    open: frozenset[int]
    distinct: int


def is_refuted(kinds: Iterable[Kind]) -> bool:
    """Whether some rows are in no table at all."""
    return any(not kind.held and not kind.open for kind in kinds)


def proposed(kinds: Sequence[Kind]) -> list[int]:
    """Tables that are likely to hold all rows: the greedy cover, the table that adds most rows first.

    Where a table may hold rows, it counts for as many as it holds of those of which this is known. Ties go to the table
    of the smaller number.

    Args:
        kinds: All rows.
    """
    rates = _rates(kinds)
    cover: list[int] = []
    left = {kind: float(kind.distinct) for kind in kinds}
    while True:
        gains = {table: gain for table, gain in _gains(left, rates).items() if table not in cover}
        best = min(gains, key=lambda table: (-gains[table], table), default=None)
        if best is None or gains[best] < _COVERED:
            return cover
        cover.append(best)
        _take(left, best, rates)


def _rates(kinds: Sequence[Kind]) -> dict[int, float]:
    """Of the rows of which it is known whether a table holds them: the share that it does."""
    tables = {table for kind in kinds for table in (*kind.held, *kind.open)}
    total = sum(kind.distinct for kind in kinds)
    held = {table: sum(kind.distinct for kind in kinds if table in kind.held) for table in tables}
    may = {table: sum(kind.distinct for kind in kinds if table in kind.open) for table in tables}
    return {table: (held[table] + 0.5) / (total - may[table] + 1) for table in tables}


def _gains(left: Mapping[Kind, float], rates: Mapping[int, float]) -> dict[int, float]:
    gains: dict[int, float] = {}
    for kind, rows in left.items():
        for table in kind.held if rows else ():
            gains[table] = gains.get(table, 0.0) + rows
        for table in kind.open:
            gains[table] = gains.get(table, 0.0) + rows * rates[table]
    return gains


def _take(left: dict[Kind, float], table: int, rates: Mapping[int, float]) -> None:
    for kind in left:
        if table in kind.held:
            left[kind] = 0.0
        elif table in kind.open:
            left[kind] *= 1 - rates[table]


def minimal(kinds: Sequence[Kind], chosen: Sequence[int]) -> list[int]:
    """The chosen tables without those that the others make superfluous; the last chosen are dropped first.

    Args:
        kinds: All rows, each held by a chosen table.
        chosen: Tables in the order in which they were chosen.
    """
    kept = list(chosen)
    for table in reversed(chosen):
        rest = frozenset(kept) - {table}
        if all(kind.held & rest for kind in kinds):
            kept.remove(table)
    return kept
