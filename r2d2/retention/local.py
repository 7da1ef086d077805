"""Where a proof would take too long: a greedy choice of deletions, improved by one table at a time."""

from __future__ import annotations

import math
import time
from collections import defaultdict

from r2d2.retention.instance import Options, rebuildable, total

_CHECKED = 256  # tables between two looks at the clock


def greedy(options: Options, *, spare_parents: bool = False) -> set[int]:
    """Deletions by descending saving, each allowed if its parents are kept and no deletion depends on it.

    Args:
        options: One component.
        spare_parents: Count against each saving what the table, as a parent, would let others save.
    """
    offered: dict[int, float] = defaultdict(float)
    for found in options.values() if spare_parents else ():
        for parents, saving in found.items():
            for parent in parents:
                offered[parent] += saving / len(parents) / len(found)
    offers = [
        (offered[child] - saving, child, sorted(parents))
        for child, found in options.items()
        for parents, saving in found.items()
    ]
    deleted: set[int] = set()
    needed: set[int] = set()
    for _, child, sources in sorted(offers):
        if child not in deleted and child not in needed and deleted.isdisjoint(sources):
            deleted.add(child)
            needed.update(sources)
    return deleted


def search(options: Options, deadline: float) -> set[int]:
    """The best of what is found from two greedy choices and from no deletion at all."""
    starts = [greedy(options), greedy(options, spare_parents=True), set[int]()]
    found = [improve(options, start, deadline) for start in starts]
    return max(found, key=lambda deleted: total(rebuildable(options, deleted)))


def improve(options: Options, deleted: set[int], deadline: float) -> set[int]:
    """Better deletions than those given: keep or delete one more table as long as that saves more.

    Args:
        options: One component.
        deleted: Feasible deletions to begin with.
        deadline: Of `time.monotonic`; what was found until then is returned.
    """
    return _Search(options, deleted).run(deadline)


class _Search:
    """Deletions with the best option of each, kept feasible move by move."""

    def __init__(self, options: Options, deleted: set[int]) -> None:
        self.options = options
        self.users: dict[int, set[int]] = defaultdict(set)
        for child, found in options.items():
            for parents in found:
                for parent in parents:
                    self.users[parent].add(child)
        self.tables = sorted(set(options) | set(self.users))
        self.deleted = set(rebuildable(options, deleted))

    def run(self, deadline: float) -> set[int]:
        pending = self.tables
        while pending and time.monotonic() < deadline:
            touched: set[int] = set()
            for number, table in enumerate(pending):
                if number % _CHECKED == 0 and time.monotonic() >= deadline:
                    break
                touched |= self._try(table)
            pending = sorted(touched)
        return self.deleted

    def _try(self, table: int) -> set[int]:
        """Make the better move at a table, if there is one; the tables near it then deserve another look."""
        change = self._undelete(table) if table in self.deleted else self._delete(table)
        if change is None:
            return set()
        add, remove = change
        self.deleted -= remove
        self.deleted |= add
        near = {table, *add, *remove}
        for moved in list(near):
            near |= self.users[moved]
            near.update(*self.options.get(moved, {}))
        return near

    def _saving(self, table: int, deleted: set[int], kept: int | None = None, gone: int | None = None) -> float:
        """The best saving of a table with these deletions, but for one table kept or gone; minus infinity if none."""
        return max(
            (
                saving
                for parents, saving in self.options.get(table, {}).items()
                if gone not in parents and all(p == kept or p not in deleted for p in parents)
            ),
            default=-math.inf,
        )

    def _delete(self, table: int) -> tuple[set[int], set[int]] | None:
        """Delete a table; those that need it are rebuilt another way, or kept."""
        gain = self._saving(table, self.deleted)
        if gain == -math.inf:
            return None
        lost: set[int] = set()
        for child in self.users[table] & self.deleted:
            other = self._saving(child, self.deleted, gone=table)
            gain -= self._saving(child, self.deleted) - max(other, 0.0)
            if other == -math.inf:
                lost.add(child)
        return ({table}, lost) if gain > 0 else None

    def _undelete(self, table: int) -> tuple[set[int], set[int]] | None:
        """Keep a table, and delete what it rebuilds where nothing else depends on that."""
        gain = -self._saving(table, self.deleted)
        add: set[int] = set()
        for child in sorted(self.users[table]):
            best = self._saving(child, self.deleted, kept=table)
            if child in self.deleted:
                gain += best - self._saving(child, self.deleted)
            elif best > 0 and not self._is_needed(child) and self._apart(child, add):
                add.add(child)
                gain += best
        return (add, {table}) if gain > 0 else None

    def _is_needed(self, table: int) -> bool:
        """Whether a deletion would come back less well without the table."""
        return any(
            self._saving(child, self.deleted, gone=table) < self._saving(child, self.deleted)
            for child in self.users[table] & self.deleted
        )

    def _apart(self, table: int, others: set[int]) -> bool:
        """Whether no option links a table with any of the others."""
        linked = set().union(*self.options.get(table, {})) | self.users[table]
        return others.isdisjoint(linked)
