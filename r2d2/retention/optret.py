"""OPT-RET: which tables to delete so that the most is saved and each of them is rebuilt from tables that are kept.

With x_v = 1 for a kept table and y_h = 1 for a used recipe h, maximise the sum of saving_h * y_h subject to
sum(y_h of v's recipes) = 1 - x_v, and y_h <= x_p for each parent p of h. Savings are positive, so this is the cheapest
plan: a recipe without a saving never helps, since keeping its child costs no more and only allows more.

Tables are numbered by preference: of two tables that may stand for one another the smaller number is kept. A tie is a
difference of less than a billionth of a component's saving.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from r2d2.retention.instance import TIE_RATIO, Option, Options, rebuildable, split, total
from r2d2.retention.line import line_of, solve_line
from r2d2.retention.local import search
from r2d2.retention.program import Program
from r2d2.retention.reduction import Reduction

EXACT_TABLES = 50_000
"""Undecided tables of one component above which no proof is tried: see `solve`."""

_BATCH_TABLES = 200  # half the time of 2000, and less than of 50, for components of 20 tables
_TIE_TABLES = 2000  # above, fixing the saving costs HiGHS minutes: its first optimum stands, the same on each run


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The tables to delete.

    Attributes:
        deleted: Each has an option whose parents are all kept.
        bound: No plan saves more than this.
        optimal: Proved the cheapest, and ties settled, within the time limit.
    """

    deleted: frozenset[int]
    bound: float
    optimal: bool


def solve(options: Iterable[Option], *, time_limit_seconds: float, exact_tables: int = EXACT_TABLES) -> Solution:
    """The deletions that save most.

    Reductions that keep an optimal solution come first. Then each connected component is solved: a line by dynamic
    programming, others by an integer program, small ones first and together, and those of more than `exact_tables`
    tables by local search, with the bound of the program's relaxation. What is not proved optimal in time is the best
    that HiGHS or local search found.
    """
    deadline = time.monotonic() + time_limit_seconds
    reduction = Reduction(options)
    reduction.run()
    solutions = [Solution(deleted=frozenset(reduction.deleted), bound=reduction.saving, optimal=True)]
    lines, others, large = _sorted_out(split(reduction.options), exact_tables)
    solutions += [_solve_line(part, line) for part, line in lines]
    batches = [_Batch(parts) for parts in _batches(others)]
    for batch in batches:
        batch.maximise(deadline)
    solutions += [_solve_large(part, deadline) for part in large]
    solutions += [batch.settled(deadline) for batch in batches]  # after all savings: ties are worth the least
    return Solution(
        deleted=frozenset().union(*(s.deleted for s in solutions)),
        bound=math.fsum(s.bound for s in solutions),
        optimal=all(s.optimal for s in solutions),
    )


def _sorted_out(
    components: Iterable[Options], exact_tables: int
) -> tuple[list[tuple[Options, list[int]]], list[Options], list[Options]]:
    """Lines, components for the integer program, and those too large for it."""
    lines: list[tuple[Options, list[int]]] = []
    others: list[Options] = []
    large: list[Options] = []
    for part in components:
        line = line_of(part)
        if line is not None:
            lines.append((part, line))
        else:
            (large if len(part) > exact_tables else others).append(part)
    return lines, others, large


def _solve_line(options: Options, line: list[int]) -> Solution:
    found = rebuildable(options, solve_line(options, line))
    return Solution(deleted=frozenset(found), bound=total(found), optimal=True)


def _solve_large(options: Options, deadline: float) -> Solution:
    """Local search for half of the time, a bound for the rest."""
    now = time.monotonic()
    found = rebuildable(options, search(options, now + (deadline - now) / 2))
    bound = Program([options]).relaxed_bound(deadline - time.monotonic())
    saved = total(found)
    return Solution(deleted=frozenset(found), bound=max(bound, saved), optimal=bound <= saved * (1 + TIE_RATIO))


def _batches(components: Iterable[Options]) -> list[list[Options]]:
    """Components solved in one program, since a program costs 10 ms however small; a large one is alone."""
    batches: list[list[Options]] = []
    room = 0
    for part in components:
        if len(part) > room:
            batches.append([])
            room = _BATCH_TABLES
        batches[-1].append(part)
        room -= len(part)
    return batches


class _Batch:
    """Components that are solved in one integer program: first for their savings, then for ties."""

    def __init__(self, parts: list[Options]) -> None:
        self.parts = parts
        self.program = Program(parts)
        self.best: list[dict[int, float]] = []
        self.bound = self.program.most
        self.proved = False

    def maximise(self, deadline: float) -> None:
        found, slack, self.proved = self.program.maximise_saving(deadline - time.monotonic())
        self.best = [_better(p, found, set() if self.proved else search(p, deadline)) for p in self.parts]
        self.bound = min(self.bound, math.fsum(map(total, self.best)) + slack)

    def settled(self, deadline: float) -> Solution:
        best, settled = self.best, self.proved
        if self.proved and max(map(len, self.parts)) <= _TIE_TABLES:
            savings = [total(found) for found in best]
            preferred, settled = self.program.settle_ties(savings, deadline - time.monotonic())
            if settled:
                best = [_preferred(part, was, preferred) for part, was in zip(self.parts, best, strict=True)]
        deleted = frozenset(table for part in best for table in part)
        return Solution(deleted=deleted, bound=self.bound, optimal=settled)


def _better(options: Options, *wanted: set[int]) -> dict[int, float]:
    return max((rebuildable(options, options.keys() & deleted) for deleted in wanted), key=total)


def _preferred(options: Options, best: dict[int, float], wanted: set[int]) -> dict[int, float]:
    """What settling ties wants, if it did not cost more than a tie may: solvers know equality only roughly."""
    found = rebuildable(options, options.keys() & wanted)
    return found if total(found) >= total(best) * (1 - TIE_RATIO) else best
