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
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

TIE_RATIO = 1e-9
_SCALE = (
    1e4  # HiGHS stops at an absolute gap of 1e-6: a ten-billionth of the largest saving
)

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

    Reductions that keep an optimal solution come first, then one integer program per connected component, small
    components first. What is not proved optimal in time is the best that HiGHS or a greedy pass found.
    """
    deadline = time.monotonic() + time_limit_seconds
    reduction = Reduction(options)
    reduction.run()
    deleted, bounds, optimal = set(reduction.deleted), [reduction.saving], True
    for component in split(reduction.options):
        part = _solve_component(component, deadline)
        deleted |= part.deleted
        bounds.append(part.bound)
        optimal &= part.optimal
    return Solution(
        deleted=frozenset(deleted), bound=math.fsum(bounds), optimal=optimal
    )


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
            pending = {
                near for table in self._changed for near in self._neighbours(table)
            }
        self.options = {
            child: dict(found) for child, found in self.options.items() if found
        }

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
        for parents in sorted(
            self.options[table], key=lambda p: (-self.options[table][p], len(p))
        ):
            lone = len(parents) <= 1
            if (
                frozenset() in needed
                if lone
                else any(other < parents for other in needed)
            ):
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
        lone = [
            next(iter(parents)) for parents in self.options[table] if len(parents) == 1
        ]
        for parent in sorted(lone, key=lambda p: (self._best_saving(p), p)):
            gain = self.options[table][frozenset({parent})] - self._best_saving(parent)
            if (gain > 0 or (gain == 0 and parent < table)) and self._replaces(
                parent, table
            ):
                for child, parents in list(self.users[table]):
                    self._drop(child, parents)
                return

    def _replaces(self, new: int, old: int) -> bool:
        for child, parents in self.users[old]:
            found, single = self.options[child], frozenset({new})
            best = max(
                found.get((parents - {old}) | single, 0.0), found.get(single, 0.0)
            )
            if child != new and best < self.options[child][parents]:
                return False
        return True

    def _keep_if_needed(self, table: int) -> None:
        """Keep a table where children that no other table depends on, and that only it rebuilds, save more together."""
        gains = [
            self.options[child][parents]
            for child, parents in self.users[table]
            if len(parents) == 1
            and len(self.options[child]) == 1
            and not self.users[child]
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
        return {table, *(child for child, _ in self.users[table])}.union(
            *self.options[table]
        )


def split(options: Options) -> list[Options]:
    """The connected components of what is left to decide, the small ones first."""
    tables = sorted(
        set(options).union(
            *(parents for found in options.values() for parents in found)
        )
    )
    position = {table: i for i, table in enumerate(tables)}
    links = [
        (position[child], position[p])
        for child, found in options.items()
        for parents in found
        for p in parents
    ]
    heads, tails = zip(*links, strict=True) if links else ((), ())
    graph = coo_array(
        (np.ones(len(links)), (heads, tails)), shape=(len(tables), len(tables))
    )
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
        savings = [
            saving
            for parents, saving in options.get(table, {}).items()
            if gone.isdisjoint(parents)
        ]
        if savings:
            found[table] = max(savings)
    return found


def _total(savings: Mapping[int, float]) -> float:
    return math.fsum(savings.values())


def _greedy(options: Options) -> set[int]:
    """Deletions by descending saving, each allowed if its parents are kept and no deletion depends on it."""
    offers = [
        (-s, child, sorted(parents))
        for child, found in options.items()
        for parents, s in found.items()
    ]
    deleted: set[int] = set()
    needed: set[int] = set()
    for _, child, parents in sorted(offers):
        if child not in deleted and child not in needed and deleted.isdisjoint(parents):
            deleted.add(child)
            needed.update(parents)
    return deleted


def _solve_component(options: Options, deadline: float) -> Solution:
    program = _Program(options)
    found, bound, proved = program.maximise_saving(deadline - time.monotonic())
    best = max(
        (rebuildable(options, wanted) for wanted in (found, _greedy(options))),
        key=_total,
    )
    if proved:
        best = rebuildable(options, found)
        found, settled = program.settle_ties(_total(best), deadline - time.monotonic())
        preferred = rebuildable(options, found)
        if settled and _total(preferred) >= _total(best) * (1 - TIE_RATIO):
            best = preferred
        return Solution(deleted=frozenset(best), bound=_total(best), optimal=settled)
    return Solution(
        deleted=frozenset(best), bound=max(bound, _total(best)), optimal=False
    )


class _Program:
    """The integer program of one component: x_v for each table, then y_h for each option.

    Only x needs to be integral: once it is, each deleted table's best option with kept parents is a best y.
    """

    def __init__(self, options: Options) -> None:
        self.offers = [
            (c, sorted(p), s)
            for c in sorted(options)
            for p, s in sorted(options[c].items(), key=_by_tables)
        ]
        self.tables = sorted(
            set(options).union(*(parents for _, parents, _ in self.offers))
        )
        self.x = {table: i for i, table in enumerate(self.tables)}
        self.most = math.fsum(max(found.values()) for found in options.values())
        self.largest = max(s for _, _, s in self.offers)
        self.savings = np.array(
            [0.0] * len(self.tables)
            + [s / self.largest * _SCALE for _, _, s in self.offers]
        )
        self.constraints = [self._kept_or_rebuilt(), self._parents_kept()]

    def maximise_saving(self, seconds: float) -> tuple[set[int], float, bool]:
        """Deletions, an upper bound of what any saves, and whether these are proved to save most."""
        result = self._run(-self.savings, self.constraints, seconds)
        bound = getattr(result, "mip_dual_bound", None)
        bound = (
            self.most
            if bound is None
            else min(self.most, -bound / _SCALE * self.largest)
        )
        return (
            self._deleted(result),
            bound if math.isfinite(bound) else self.most,
            getattr(result, "status", 1) == 0,
        )

    def settle_ties(self, saving: float, seconds: float) -> tuple[set[int], bool]:
        """Of the deletions that save as much, those that keep few and preferred tables (least sum of their ranks)."""
        ranks = np.zeros(len(self.savings))
        ranks[: len(self.tables)] = np.arange(1, len(self.tables) + 1)
        least = saving / self.largest * _SCALE * (1 - TIE_RATIO)
        same = LinearConstraint(csr_array(self.savings[np.newaxis, :]), least, np.inf)
        result = self._run(ranks, [*self.constraints, same], seconds)
        return self._deleted(result), getattr(result, "status", 1) == 0

    def _run(
        self, costs: Any, constraints: list[LinearConstraint], seconds: float
    ) -> Any:
        if seconds <= 0:
            return None
        integral = np.array([1] * len(self.tables) + [0] * len(self.offers))
        return milp(
            costs,
            integrality=integral,
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"time_limit": seconds, "mip_rel_gap": 0.0, "presolve": len(constraints)==2},
        )

    def _deleted(self, result: Any) -> set[int]:
        kept = getattr(result, "x", None)
        return (
            set()
            if kept is None
            else {table for table, i in self.x.items() if kept[i] < 0.5}
        )

    def _kept_or_rebuilt(self) -> LinearConstraint:
        n = len(self.tables)
        cells = [(i, i, 1.0) for i in range(n)]
        cells += [
            (self.x[child], n + h, 1.0) for h, (child, _, _) in enumerate(self.offers)
        ]
        return LinearConstraint(self._matrix(cells, n), 1, 1)

    def _parents_kept(self) -> LinearConstraint:
        """One row per child and parent: at most one option of a child is used, so the sum of those is at most x_p."""
        rows: dict[tuple[int, int], int] = {}
        cells = []
        for h, (child, parents, _) in enumerate(self.offers):
            for parent in parents:
                row = rows.setdefault((child, parent), len(rows))
                cells.append((row, len(self.tables) + h, 1.0))
        cells += [(row, self.x[parent], -1.0) for (_, parent), row in rows.items()]
        return LinearConstraint(self._matrix(cells, len(rows)), -np.inf, 0)

    def _matrix(self, cells: list[tuple[int, int, float]], rows: int) -> Any:
        i, j, values = zip(*cells, strict=True) if cells else ((), (), ())
        return csr_array(coo_array((values, (i, j)), shape=(rows, len(self.savings))))


def _by_tables(item: tuple[frozenset[int], float]) -> list[int]:
    return sorted(item[0])
