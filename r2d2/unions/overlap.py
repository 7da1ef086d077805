"""Kernel: which tables may hold rows of a child, from metadata alone, and which children no tables together can hold.

A table is a *candidate* unless the covers of some leaf do not meet, which proves that it shares no row with the child.
A child is refuted where one of its witnesses meets the cover of none of its candidates. Intervals are joined over the
leaf in which the fewest pairs meet, so that disjoint tables, as daily dumps are, cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from r2d2.scan.evidence import Flag
from r2d2.unions.ranked import Covers, Interval, Mask, Numbers, Ranked

Places = npt.NDArray[np.intp]
"""Of children or of other tables, one per pair."""

Leaves = npt.NDArray[np.intp]
"""Some leaves as a column, beside the pairs of a row."""

STEP_PAIRS = 1 << 20
"""Pairs of tables times leaves that are judged at once, with about 200 bytes each."""

MOST_CANDIDATES = 1000
"""Candidates of one child beyond which it is left undecided."""

_NOTHING = ((Flag.HAS_NULL, Flag.MAY_NULL), (Flag.HAS_NAN, Flag.MAY_NAN))
_MAY_VALUE, _MAY_NOTHING = int(Flag.MAY_VALUE), int(Flag.MAY_NULL | Flag.MAY_NAN)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some children of one schema class against all tables that have their columns.

    Attributes:
        column_set: The schema class of the children.
        children: Positions of tables.
        parents: Per schema class with the children's leaves: its tables, and the place of each of the children's
            leaves among its own.
    """

    column_set: int
    children: tuple[int, ...]
    parents: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

    @property
    def tables(self) -> set[int]:
        """Tables whose evidence is needed."""
        return {*self.children, *(table for tables, _ in self.parents for table in tables)}

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Block:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        parents = tuple((tuple(tables), tuple(places)) for tables, places in raw["parents"])
        return cls(column_set=raw["column_set"], children=tuple(raw["children"]), parents=parents)


def candidates(block: Block, evidence: Ranked) -> Iterator[tuple[int, list[int]]]:
    """Children that several tables together may hold, each with these tables, ascending.

    A child with more than MOST_CANDIDATES comes with none: it is left undecided.

    Args:
        block: Children and the tables that have their columns.
        evidence: Of all its tables.
    """
    own_places = range(len(block.parents[0][1]))
    children, parents = evidence.covers([(block.children, own_places)]), evidence.covers(block.parents)
    children = children.at(np.flatnonzero(_may_be_held(children, parents)))
    for c, p in _meeting(children, parents):
        yield from _several(children, parents, c, p)


def _met(low: Numbers, high: Numbers, lows: Numbers, highs: Numbers) -> Numbers:
    """How many of some intervals, given by their ends, each interval meets; none reaches into another leaf."""
    before = np.searchsorted(np.sort(highs, axis=None), low, side="left")
    met: Numbers = np.searchsorted(np.sort(lows, axis=None), high, side="right") - before
    return met


def _may_be_held(children: Covers, parents: Covers) -> Mask:
    """Children each of whose witnesses meets some other table; every child is among the parents too."""
    there = parents.has(Flag.MAY_VALUE)
    lows, highs = parents.low[there], parents.high[there]
    held = np.ones(children.kind.shape, bool)
    for low, high in children.witnesses():
        held &= _met(low, high, lows, highs) > 1
    held |= ~children.has(Flag.HAS_VALUE)
    for has, may in _NOTHING:
        others = np.count_nonzero(parents.has(may), axis=1) > 1
        held &= ~children.has(has) | others[:, np.newaxis]
    kept: Mask = np.logical_and.reduce(held, axis=0)
    return kept


def _meeting(children: Covers, parents: Covers) -> Iterator[tuple[Places, Places]]:
    """Pairs of positions whose covers meet in all leaves, in portions of whole children."""
    if not len(children.ids):
        return
    mine, theirs = children.hull(), parents.hull()
    counts = _met(*mine, *theirs)
    order = np.argsort(counts.sum(axis=1), kind="stable").tolist()
    best = order[0]
    portions = np.cumsum(counts[best]) // STEP_PAIRS
    for portion in np.unique(portions):
        chosen = np.flatnonzero(portions == portion)
        c, p = _joined(mine[0][best, chosen], mine[1][best, chosen], theirs[0][best], theirs[1][best])
        c = chosen[c]
        others = children.ids[c] != parents.ids[p]
        c, p = c[others], p[others]
        for group in _groups(order, len(c)):
            kept = _meets(children, parents, c, p, group).all(axis=0)
            c, p = c[kept], p[kept]
        yield c, p


def _groups(order: Sequence[int], pairs: int) -> Iterator[Leaves]:
    """Leaves in parts that are looked at together: as many as keep the cells below STEP_PAIRS, as a column each."""
    step = max(1, STEP_PAIRS // max(1, pairs))
    for start in range(0, len(order), step):
        yield np.array(order[start : start + step], np.intp)[:, np.newaxis]


def _joined(low: Numbers, high: Numbers, lows: Numbers, highs: Numbers) -> tuple[Places, Places]:
    """Pairs of meeting intervals: those where the second begins within the first, then those where it began before."""
    by_low = np.argsort(lows, kind="stable")
    first, p = _ranges(np.searchsorted(lows[by_low], low, side="left"), np.searchsorted(lows[by_low], high, "right"))
    by_start = np.argsort(low, kind="stable")
    begins = low[by_start]
    other, second = _ranges(np.searchsorted(begins, lows, side="right"), np.searchsorted(begins, highs, side="right"))
    return np.concatenate([first, by_start[second]]), np.concatenate([by_low[p], other])


def _ranges(starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> tuple[Places, Places]:
    """The numbers of several ranges, each with the position of its range."""
    sizes = np.maximum(ends - starts, 0)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    inner = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, starts[owner] + inner


def _meets(children: Covers, parents: Covers, c: Places, p: Places, leaf: Leaves) -> Mask:
    """Whether pairs of tables may have a value of each leaf in common."""
    may = children.flags[leaf, c] & parents.flags[leaf, p]
    meets: Mask = ((may & _MAY_VALUE) != 0) & (children.kind[leaf, c] == parents.kind[leaf, p])
    meets &= _touch(children.low[leaf, c], children.high[leaf, c], parents, p, leaf)
    meets |= (may & _MAY_NOTHING) != 0
    return meets


def _touch(low: Numbers, high: Numbers, parents: Covers, p: Places, leaf: Leaves) -> Mask:
    touch: Mask = (high >= parents.low[leaf, p]) & (low <= parents.high[leaf, p])
    return touch


def _several(children: Covers, parents: Covers, c: Places, p: Places) -> Iterator[tuple[int, list[int]]]:
    """The children of some pairs whose witnesses all meet a candidate, with at least two candidates."""
    kept = np.bincount(c, minlength=len(children.ids)) > 1
    if not kept.any():
        return
    witnesses = children.witnesses()
    for leaf in _groups(range(len(children.kind)), max(len(c), len(kept))):
        kept &= _are_met(children, witnesses, parents, c, p, leaf).all(axis=0)
    order = np.lexsort((parents.ids[p], c))
    c, p = c[order], p[order]
    bounds = np.searchsorted(c, np.arange(len(kept) + 1))
    for child in np.flatnonzero(kept):
        found = parents.ids[p[bounds[child] : bounds[child + 1]]].tolist()
        yield int(children.ids[child]), found if len(found) <= MOST_CANDIDATES else []


def _are_met(
    children: Covers, witnesses: Sequence[Interval], parents: Covers, c: Places, p: Places, leaf: Leaves
) -> Mask:
    """Whether the witnesses of children in some leaves each meet the other table of one of the child's pairs."""
    has, may = children.flags[leaf[:, 0]], parents.flags[leaf, p]
    same = ((may & _MAY_VALUE) != 0) & (children.kind[leaf, c] == parents.kind[leaf, p])
    shape = (len(leaf), len(children.ids))
    met = np.ones(shape, bool)
    for low, high in witnesses:
        met &= _any(c, same & _touch(low[leaf, c], high[leaf, c], parents, p, leaf), shape)
    met |= (has & int(Flag.HAS_VALUE)) == 0
    for has_it, may_be_it in _NOTHING:
        met &= ((has & int(has_it)) == 0) | _any(c, (may & int(may_be_it)) != 0, shape)
    return met


def _any(c: Places, told: Mask, shape: tuple[int, int]) -> Mask:
    """Per leaf and child, whether one of what is told of its pairs is true."""
    rows, columns = np.nonzero(told)
    found: Mask = np.bincount(rows * shape[1] + c[columns], minlength=shape[0] * shape[1]).reshape(shape) > 0
    return found
