"""What OPT-RET decides about: options to delete tables, and what follows from a choice of deletions.

Tables are numbered by preference: of two tables that may stand for one another the smaller number is kept.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from r2d2.components import components

TIE_RATIO = 1e-9
"""Savings whose difference is a smaller share of a component's saving are a tie."""

Options = dict[int, dict[frozenset[int], float]]
"""Child to parent set to saving, above 0."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A recipe as OPT-RET sees it: `saving` (> 0) is what the plan gains if it replaces `child` by `parents`."""

    child: int
    parents: frozenset[int]
    saving: float


def split(options: Options) -> list[Options]:
    """The connected components of what is left to decide, the small ones first."""
    tables = sorted(set(options).union(*(parents for found in options.values() for parents in found)))
    position = {table: i for i, table in enumerate(tables)}
    links = [(position[child], position[p]) for child, found in options.items() for parents in found for p in parents]
    parts: dict[int, Options] = defaultdict(dict)
    for table, label in zip(tables, components(len(tables), links), strict=True):
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


def total(savings: Mapping[int, float]) -> float:
    """Sum of savings."""
    return math.fsum(savings.values())
