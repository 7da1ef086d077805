"""OPT-RET: which tables to delete so that the most is saved and each of them is rebuilt from tables that are kept.

With x_v = 1 for a kept table and y_h = 1 for a used recipe h, maximise the sum of saving_h * y_h subject to
sum(y_h of v's recipes) = 1 - x_v, and y_h <= x_p for each parent p of h. Savings are positive, so this is the cheapest
plan: a recipe without a saving never helps, since keeping its child costs no more and only allows more.

Tables are numbered by preference: of two tables that may stand for one another the smaller number is kept. A tie is a
difference of less than a billionth of a component's saving.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

TIE_RATIO = 1e-9
_BATCH_TABLES = 2000
_TIE_TABLES = 2000  # above, fixing the saving costs HiGHS minutes: its first optimum stands, the same on each run
_SCALE = 1e4  # HiGHS stops at an absolute gap of 1e-6: a ten-billionth of the largest saving

Options = dict[int, dict[frozenset[int], float]]
"""Child to parent set to saving, above 0."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A recipe as OPT-RET sees it: `saving` (> 0) is what the plan gains if it replaces `child` by `parents`."""

    child: int
    parents: frozenset[int]
    saving: float


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


def solve(options: Iterable[Option], *, time_limit_seconds: float) -> Solution:
    """The deletions that save most.

    Reductions that keep an optimal solution come first, then an integer program for each connected component,
    small ones first and together. What is not proved optimal in time is the best that HiGHS or a greedy pass found.
    """
    deadline = time.monotonic() + time_limit_seconds
    reduction = Reduction(options)
    reduction.run()
    deleted, bounds, optimal = set(reduction.deleted), [reduction.saving], True
    for batch in _batches(split(reduction.options)):
        part = _solve_batch(batch, deadline)
        deleted |= part.deleted
        bounds.append(part.bound)
        optimal &= part.optimal
    return Solution(deleted=frozenset(deleted), bound=math.fsum(bounds), optimal=optimal)


class Reduction:
    """Shrinks an instance step by step; each step keeps an optimal solution, the preferred one where there is a tie.

    Equal tables collapse here, but only where costs allow: see `_absorb`.

    Attributes:
        options: What is left to decide.
        deleted, saving: Tables whose deletion is decided, and what that saves.
    """

    def __init__(self, options: Iterable[Option]) -> None:
        self.options: Options = defaultdict(dict)
        self.users: dict[int, set[tuple[int, frozenset[int]]]] = defaultdict(set)
        self.deleted: set[int] = set()
        self.saving = 0.0
        self._best: dict[int, float] = {}
        self._changed: set[int] = set()
        for option in options:
            self._add(option.child, option.parents, option.saving)

    def run(self) -> None:
        """Apply all steps until none changes anything."""
        pending = set(self.options) | set(self.users)
        while pending:
            self._changed.clear()
            for table in sorted(pending):
                self._reduce(table)
            pending = {near for table in self._changed for near in self._neighbours(table)}
        self.options = {child: dict(found) for child, found in self.options.items() if found}

    def _reduce(self, table: int) -> None:
        if not self.options[table]:
            self._keep(table)
            return
        self._drop_dominated(table)
        self._absorb(table)
        self._keep_if_needed(table)
        self._delete_if_free(table)

    def _keep(self, table: int) -> None:
        """A kept table asks nothing of the options that use it. Without options a table is always kept."""
        for parents in list(self.options[table]):
            self._drop(table, parents)
        for child, parents in list(self.users[table]):
            saving = self.options[child][parents]
            self._drop(child, parents)
            self._add(child, parents - {table}, saving)

    def _drop_dominated(self, table: int) -> None:
        """An option is not needed beside one that saves as much with a part of its parents."""
        needed: set[frozenset[int]] = set()
        for parents in sorted(self.options[table], key=lambda p: (-self.options[table][p], len(p))):
            lone = len(parents) <= 1
            if frozenset() in needed if lone else any(other < parents for other in needed):
                self._drop(table, parents)
            else:
                needed.add(parents)

    def _absorb(self, table: int) -> None:
        """Delete `table` (b) for good where a parent (a) can do all that b does: no option uses b any more.

        Let b have an option with a as the only parent that saves at least as much as any option of a, and let each
        option of another child that uses b have a substitute that uses a instead and saves no less. Take an optimal
        plan that keeps b. Use the substitutes, keep a, and rebuild b from a. If a was kept, that saves more; if a was
        deleted, no less, as a's old option saved at most what b's saves now. So some optimal plan deletes b, and the
        options that use b can go. In an equal class this keeps the table that costs most to rebuild against what it
        costs to keep: one that may not be deleted (it has no options), else the one with the fewest stored bytes. On
        equal savings a must be the preferred table, so the swap follows the tie rule.
        """
        if not self.users[table]:
            return
        lone = [next(iter(parents)) for parents in self.options[table] if len(parents) == 1]
        for parent in sorted(lone, key=lambda p: (self._best_saving(p), p)):
            gain = self.options[table][frozenset({parent})] - self._best_saving(parent)
            if (gain > 0 or (gain == 0 and parent < table)) and self._replaces(parent, table):
                for child, parents in list(self.users[table]):
                    self._drop(child, parents)
                return

    def _replaces(self, new: int, old: int) -> bool:
        for child, parents in self.users[old]:
            found, single = self.options[child], frozenset({new})
            best = max(found.get((parents - {old}) | single, 0.0), found.get(single, 0.0))
            if child != new and best < self.options[child][parents]:
                return False
        return True

    def _keep_if_needed(self, table: int) -> None:
        """Keep a table where children that no other table depends on, and that only it rebuilds, save more together."""
        gains = [
            self.options[child][parents]
            for child, parents in self.users[table]
            if len(parents) == 1 and len(self.options[child]) == 1 and not self.users[child]
        ]
        if gains and math.fsum(gains) > self._best_saving(table):
            self._keep(table)

    def _delete_if_free(self, table: int) -> None:
        """Delete a table that no option uses, where its best option asks for no undecided table."""
        if not self.users[table] and list(self.options[table]) == [frozenset()]:
            self.deleted.add(table)
            self.saving = math.fsum((self.saving, self._best_saving(table)))
            self._drop(table, frozenset())

    def _best_saving(self, table: int) -> float:
        if table not in self._best:
            self._best[table] = max(self.options[table].values(), default=-math.inf)
        return self._best[table]

    def _add(self, child: int, parents: frozenset[int], saving: float) -> None:
        if self.options[child].get(parents, 0.0) < saving:
            self.options[child][parents] = saving
            for parent in parents:
                self.users[parent].add((child, parents))
            self._touch(child, parents)

    def _drop(self, child: int, parents: frozenset[int]) -> None:
        del self.options[child][parents]
        for parent in parents:
            self.users[parent].discard((child, parents))
        self._touch(child, parents)

    def _touch(self, child: int, parents: frozenset[int]) -> None:
        self._best.pop(child, None)
        self._changed.add(child)
        self._changed |= parents

    def _neighbours(self, table: int) -> set[int]:
        return {table, *(child for child, _ in self.users[table])}.union(*self.options[table])


def split(options: Options) -> list[Options]:
    """The connected components of what is left to decide, the small ones first."""
    tables = sorted(set(options).union(*(parents for found in options.values() for parents in found)))
    position = {table: i for i, table in enumerate(tables)}
    links = [(position[child], position[p]) for child, found in options.items() for parents in found for p in parents]
    heads, tails = zip(*links, strict=True) if links else ((), ())
    graph = coo_array((np.ones(len(links)), (heads, tails)), shape=(len(tables), len(tables)))
    labels: Any = connected_components(graph, directed=False)[1] if tables else []
    parts: dict[int, Options] = defaultdict(dict)
    for table, label in zip(tables, labels, strict=True):
        if table in options:
            parts[int(label)][table] = options[table]
    return sorted(parts.values(), key=lambda part: (len(part), min(part)))


def rebuildable(options: Options, wanted: Iterable[int]) -> dict[int, float]:
    """Those of the tables wanted deleted that come back from tables not wanted, each with its best saving."""
    gone, found = set(wanted), {}
    for table in gone:
        savings = [saving for parents, saving in options.get(table, {}).items() if gone.isdisjoint(parents)]
        if savings:
            found[table] = max(savings)
    return found


def _total(savings: Mapping[int, float]) -> float:
    return math.fsum(savings.values())


def _greedy(options: Options) -> set[int]:
    """Deletions by descending saving, each allowed if its parents are kept and no deletion depends on it."""
    offers = [(-s, child, sorted(parents)) for child, found in options.items() for parents, s in found.items()]
    deleted: set[int] = set()
    needed: set[int] = set()
    for _, child, parents in sorted(offers):
        if child not in deleted and child not in needed and deleted.isdisjoint(parents):
            deleted.add(child)
            needed.update(parents)
    return deleted


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


def _solve_batch(parts: list[Options], deadline: float) -> Solution:
    program = _Program(parts)
    found, slack, proved = program.maximise_saving(deadline - time.monotonic())
    best = [_better(part, found, set() if proved else _greedy(part)) for part in parts]
    bound = min(program.most, math.fsum(map(_total, best)) + slack)
    settled = proved
    if proved and max(map(len, parts)) <= _TIE_TABLES:
        preferred, settled = program.settle_ties([_total(part) for part in best], deadline - time.monotonic())
        if settled:
            best = [_preferred(part, was, preferred) for part, was in zip(parts, best, strict=True)]
    deleted = frozenset(table for part in best for table in part)
    return Solution(deleted=deleted, bound=bound, optimal=settled)


def _better(options: Options, *wanted: set[int]) -> dict[int, float]:
    return max((rebuildable(options, options.keys() & deleted) for deleted in wanted), key=_total)


def _preferred(options: Options, best: dict[int, float], wanted: set[int]) -> dict[int, float]:
    """What settling ties wants, if it did not cost more than a tie may: solvers know equality only roughly."""
    found = rebuildable(options, options.keys() & wanted)
    return found if _total(found) >= _total(best) * (1 - TIE_RATIO) else best


class _Program:
    """The integer program of some components: x_v for each table, then y_h for each option.

    Only x needs to be integral: once it is, each deleted table's best option with kept parents is a best y. Savings
    are scaled in each component, so that small ones are not lost beside large ones.
    """

    def __init__(self, parts: list[Options]) -> None:
        self.parts = parts
        self.largest = [max(max(found.values()) for found in part.values()) for part in parts]
        self.offers = [
            (k, child, sorted(parents), part[child][parents])
            for k, part in enumerate(parts)
            for child in sorted(part)
            for parents in sorted(part[child], key=sorted)
        ]
        self.tables = sorted({t for _, child, parents, _ in self.offers for t in (child, *parents)})
        self.x = {table: i for i, table in enumerate(self.tables)}
        self.most = math.fsum(max(found.values()) for part in parts for found in part.values())
        scaled = [saving / self.largest[k] * _SCALE for k, _, _, saving in self.offers]
        self.savings = np.array([0.0] * len(self.tables) + scaled)
        self.constraints = [self._kept_or_rebuilt(), self._parents_kept()]

    def maximise_saving(self, seconds: float) -> tuple[set[int], float, bool]:
        """Deletions, how much more others may save at most, and whether these are proved to save most."""
        result = self._run(-self.savings, self.constraints, seconds)
        if result is None or result.x is None or result.mip_dual_bound is None:
            return set(), math.inf, False
        slack = max(0.0, result.fun - result.mip_dual_bound) / _SCALE * max(self.largest)
        return self._deleted(result), 0.0 if result.status == 0 else slack, result.status == 0

    def settle_ties(self, savings: list[float], seconds: float) -> tuple[set[int], bool]:
        """Of the deletions that save as much, those that keep few and preferred tables (least sum of their ranks)."""
        ranks = np.zeros(len(self.savings))
        ranks[: len(self.tables)] = np.arange(1, len(self.tables) + 1)
        least = np.array(savings) / np.array(self.largest) * _SCALE * (1 - TIE_RATIO)
        n = len(self.tables)
        cells = [(k, n + h, float(self.savings[n + h])) for h, (k, _, _, _) in enumerate(self.offers)]
        same = LinearConstraint(self._matrix(cells, len(self.parts)), least, np.inf)
        result = self._run(ranks, [*self.constraints, same], seconds)
        return (set(), False) if result is None or result.x is None else (self._deleted(result), result.status == 0)

    def _run(self, costs: Any, constraints: list[LinearConstraint], seconds: float) -> Any:
        if seconds <= 0:
            return None
        integral = np.array([1] * len(self.tables) + [0] * len(self.offers))
        with _no_output():
            return milp(
                costs,
                integrality=integral,
                bounds=Bounds(0, 1),
                constraints=constraints,
                options={"time_limit": seconds, "mip_rel_gap": 0.0},
            )

    def _deleted(self, result: Any) -> set[int]:
        return {table for table, i in self.x.items() if result.x[i] < 0.5}

    def _kept_or_rebuilt(self) -> LinearConstraint:
        n = len(self.tables)
        cells = [(i, i, 1.0) for i in range(n)]
        cells += [(self.x[child], n + h, 1.0) for h, (_, child, _, _) in enumerate(self.offers)]
        return LinearConstraint(self._matrix(cells, n), 1, 1)

    def _parents_kept(self) -> LinearConstraint:
        """One row per child and parent: at most one option of a child is used, so the sum of those is at most x_p."""
        rows: dict[tuple[int, int], int] = {}
        cells = []
        for h, (_, child, parents, _) in enumerate(self.offers):
            for parent in parents:
                row = rows.setdefault((child, parent), len(rows))
                cells.append((row, len(self.tables) + h, 1.0))
        cells += [(row, self.x[parent], -1.0) for (_, parent), row in rows.items()]
        return LinearConstraint(self._matrix(cells, len(rows)), -np.inf, 0)

    def _matrix(self, cells: list[tuple[int, int, float]], rows: int) -> Any:
        i, j, values = zip(*cells, strict=True) if cells else ((), (), ())
        return csr_array(coo_array((values, (i, j)), shape=(rows, len(self.savings))))


@contextmanager
def _no_output() -> Iterator[None]:
    """HiGHS has lines for its developers that no option silences; standard output belongs to the command line."""
    try:
        saved = os.dup(1)
    except OSError:  # standard output is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
