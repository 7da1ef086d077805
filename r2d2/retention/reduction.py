"""Steps that shrink an instance of OPT-RET and keep an optimal solution."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from r2d2.retention.instance import Option, Options


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
