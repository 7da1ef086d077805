"""DYN-LIN: OPT-RET on a line graph, by dynamic programming in linear time."""

from __future__ import annotations

import math
from fractions import Fraction

from r2d2.retention.instance import Options

_BITS = 60  # below the largest saving: sums of integers have no rounding, so that ties are told from differences
_NOTHING = frozenset[int]()

KEPT, FREE, LEFT, RIGHT = range(4)
"""States of a table: kept, or deleted and rebuilt from nothing undecided, from its left or from its right neighbour."""

_FOLLOWS = {
    (KEPT, KEPT), (KEPT, FREE), (KEPT, LEFT), (KEPT, RIGHT), (FREE, KEPT), (FREE, FREE), (FREE, RIGHT), (LEFT, KEPT),
    (LEFT, FREE), (LEFT, RIGHT), (RIGHT, KEPT),
}  # fmt: skip
"""States of two neighbours: who is rebuilt from a neighbour needs it kept."""

Score = tuple[int, int]
"""Saving, then minus the sum of the ranks of kept tables: larger is better."""


def line_of(options: Options) -> list[int] | None:
    """The tables of a connected component in their order along a line; None where it is no line.

    A line has options of at most one parent each, and links, whatever their direction, that form one path.
    """
    near: dict[int, set[int]] = {table: set() for table in options}
    for child, found in options.items():
        for parents in found:
            if len(parents) > 1:
                return None
            for parent in parents:
                near[child].add(parent)
                near.setdefault(parent, set()).add(child)
    ends = [table for table, others in near.items() if len(others) < 2]
    if len(near) == 1:
        return list(near)
    if len(ends) != 2 or any(len(others) > 2 for others in near.values()):
        return None
    line, before = [min(ends)], None
    while len(line) < len(near):
        following = next(iter(near[line[-1]] - {before}), None)
        if following is None:
            return None
        before = line[-1]
        line.append(following)
    return line


def solve_line(options: Options, line: list[int]) -> set[int]:
    """The deletions that save most on a line; of those, the ones that keep the least sum of ranks.

    Each table is looked at once, with the best saving for each of its states given its left neighbour's.
    """
    largest = max(max(found.values()) for found in options.values())
    unit = Fraction(2) ** (math.frexp(largest)[1] - _BITS)
    best: dict[int, Score] = {}
    choices: list[dict[int, int]] = []
    for place in range(len(line)):
        scores = _scores(options, line, place, unit)
        came: dict[int, int] = {}
        reached: dict[int, Score] = {}
        for state, (saving, rank) in scores.items():
            before = [(best[s], -s) for s in best if (s, state) in _FOLLOWS] if place else [((0, 0), 0)]
            if before:
                (gained, ranks), origin = max(before)
                reached[state], came[state] = (gained + saving, ranks + rank), -origin
        best = reached
        choices.append(came)
    return _deleted(line, choices, best)


def _scores(options: Options, line: list[int], place: int, unit: Fraction) -> dict[int, Score]:
    """What each state that the table may have adds to the score."""
    table = line[place]
    found = options.get(table, {})
    sources = {
        FREE: _NOTHING,
        LEFT: frozenset(line[place - 1 : place]) if place else None,
        RIGHT: frozenset(line[place + 1 : place + 2]) or None,
    }
    scores: dict[int, Score] = {KEPT: (0, -(table + 1))}
    for state, parents in sources.items():
        if parents is not None and parents in found:
            scores[state] = (round(Fraction(found[parents]) / unit), 0)
    return scores


def _deleted(line: list[int], choices: list[dict[int, int]], best: dict[int, Score]) -> set[int]:
    ends = {state: score for state, score in best.items() if state != RIGHT}
    state = max(ends, key=lambda s: (ends[s], -s))
    deleted = set()
    for table, came in zip(reversed(line), reversed(choices), strict=True):
        if state != KEPT:
            deleted.add(table)
        state = came[state]
    return deleted
