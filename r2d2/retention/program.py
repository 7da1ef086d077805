"""OPT-RET as an integer program for HiGHS."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from r2d2.retention.instance import TIE_RATIO, Options

_SCALE = 1e4  # HiGHS stops at an absolute gap of 1e-6: a ten-billionth of the largest saving


class Program:
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

    def relaxed_bound(self, seconds: float) -> float:
        """No deletions save more than this: the optimum with fractions of tables, where it is found in time."""
        result = self._run(-self.savings, self.constraints, seconds, integral=False)
        if result is None or result.status != 0 or len(self.largest) != 1:
            return self.most
        return min(self.most, -float(result.fun) / _SCALE * self.largest[0] * (1 + TIE_RATIO))

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

    def _run(self, costs: Any, constraints: list[LinearConstraint], seconds: float, *, integral: bool = True) -> Any:
        if seconds <= 0:
            return None
        whole = np.array([int(integral)] * len(self.tables) + [0] * len(self.offers))
        with _no_output():
            return milp(
                costs,
                integrality=whole,
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
