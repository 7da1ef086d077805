"""Kernel: which tables may hold rows of a child, from metadata alone, and which children no tables together can hold.

A table is a *candidate* unless the covers of some leaf do not meet, which proves that it shares no row with the child.
A child is refuted where one of its witnesses meets the cover of none of its candidates. Intervals are joined over the
leaf in which the fewest pairs meet, so that disjoint tables, as daily dumps are, cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.scan.evidence import ROWS, WHOLE, Flag, unpack

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

STEP_PAIRS = 1 << 20
"""Pairs of tables that are judged at once, with about 200 bytes each."""

MOST_CANDIDATES = 1000
"""Candidates of one child beyond which it is left undecided."""

_LOWEST, _HIGHEST = -1, 1 << 62


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


@dataclass(frozen=True, kw_only=True)
class Covers:
    """Evidence of tables as arrays (tables, leaves); keys as ranks, ends that are not known far outside.

    Attributes:
        ids: Positions of the tables.
        kind, flags: As in `scan.evidence.ROWS`.
        low, high: Cover of the values.
        first_high, last_low: Inner ends of the witnesses that start at `low` and end at `high`.
    """

    ids: Numbers
    kind: Numbers
    flags: Numbers
    low: Numbers
    high: Numbers
    first_high: Numbers
    last_low: Numbers

    def may(self, flag: Flag) -> Mask:
        """Where one of some flags is set."""
        found: Mask = (self.flags & int(flag)) != 0
        return found

    def at(self, index: npt.NDArray[np.intp]) -> Covers:
        """Some of the tables."""
        return Covers(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def candidates(block: Block, evidence: Mapping[int, bytes]) -> Iterator[tuple[int, list[int]]]:
    """Children that several tables together may hold, each with these tables, ascending.

    A child with more than MOST_CANDIDATES comes with none: it is left undecided.

    Args:
        block: Children and the tables that have their columns.
        evidence: Packed evidence of all its tables.
    """
    children, parents = _covers(block, evidence)
    children = children.at(np.flatnonzero(_may_be_held(children, parents)))
    for c, p in _meeting(children, parents):
        yield from _several(children, parents, c, p)


def _covers(block: Block, evidence: Mapping[int, bytes]) -> tuple[Covers, Covers]:
    own = [(table, None) for table in block.children]
    others = [(table, places) for tables, places in block.parents for table in tables]
    parts = [_whole(evidence[table], places) for table, places in (*own, *others)]
    (rows,) = pa.Table.from_batches(parts, ROWS).combine_chunks().to_batches()
    shape = (len(parts), -1)
    numbers = {name: np.asarray(rows.column(name).to_numpy(), np.int64).reshape(shape) for name in ("kind", "flags")}
    ends = {name: ranks.reshape(shape) for name, ranks in _ranked(rows).items()}
    ids = np.array([table for table, _ in (*own, *others)], np.int64)
    together = Covers(ids=ids, **numbers, **ends)
    places = np.arange(len(parts))
    return together.at(places[: len(own)]), together.at(places[len(own) :])


def _whole(packed: bytes, places: Sequence[int] | None) -> pa.RecordBatch:
    rows = unpack(packed)
    leaves = int(np.count_nonzero(np.asarray(rows.column("file")) == WHOLE))
    whole = rows.slice(0, leaves)
    return whole if places is None else whole.take(pa.array(places, pa.int64()))


def _ranked(rows: pa.RecordBatch) -> dict[str, Numbers]:
    """Ranks of all ends; one that is not known lies beyond all others, on the side on which it proves nothing."""
    unknown = {"low": _LOWEST, "high": _HIGHEST, "first_high": _HIGHEST, "last_low": _LOWEST}
    together = pa.chunked_array([rows.column(name) for name in unknown], pa.binary()).combine_chunks()
    ranks = np.array(pc.rank(together, tiebreaker="dense").to_numpy(), np.int64)
    missing = np.asarray(together.is_null().to_numpy(zero_copy_only=False))
    found = {}
    for name, part, lost in zip(unknown, np.split(ranks, 4), np.split(missing, 4), strict=True):
        part[lost] = unknown[name]
        found[name] = part
    return found


def _witnesses(children: Covers) -> Iterator[tuple[Numbers, Numbers]]:
    """Intervals each of which holds a value of the child, if it has one; unbounded where no witness is known."""
    yield np.where(children.first_high == _HIGHEST, _LOWEST, children.low), children.first_high
    yield children.last_low, np.where(children.last_low == _LOWEST, _HIGHEST, children.high)


def _hull(covers: Covers) -> tuple[Numbers, Numbers]:
    """Intervals outside of which a table meets no other in a leaf; unbounded where it may be NULL or NaN."""
    bounded = covers.may(Flag.MAY_VALUE) & ~covers.may(Flag.MAY_NULL | Flag.MAY_NAN)
    return np.where(bounded, covers.low, _LOWEST), np.where(bounded, covers.high, _HIGHEST)


def _met(low: Numbers, high: Numbers, lows: Numbers, highs: Numbers) -> Numbers:
    """How many of some intervals, given by their sorted ends, each interval meets."""
    before = np.searchsorted(highs, low, side="left")
    after = len(lows) - np.searchsorted(lows, high, side="right")
    met: Numbers = len(lows) - before - after
    return met


def _may_be_held(children: Covers, parents: Covers) -> Mask:
    """Children each of whose witnesses meets some other table; every child is among the parents too."""
    kept = np.ones(len(children.ids), bool)
    may_value = parents.may(Flag.MAY_VALUE)
    for leaf in range(children.kind.shape[1]):
        there = may_value[:, leaf]
        lows, highs = np.sort(parents.low[there, leaf]), np.sort(parents.high[there, leaf])
        has_value = children.may(Flag.HAS_VALUE)[:, leaf]
        for low, high in _witnesses(children):
            kept &= ~has_value | (_met(low[:, leaf], high[:, leaf], lows, highs) > 1)
        for has, may in ((Flag.HAS_NULL, Flag.MAY_NULL), (Flag.HAS_NAN, Flag.MAY_NAN)):
            kept &= ~children.may(has)[:, leaf] | (np.count_nonzero(parents.may(may)[:, leaf]) > 1)
    return kept


def _meeting(children: Covers, parents: Covers) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Pairs of positions whose covers meet in all leaves, in portions of whole children."""
    if not len(children.ids):
        return
    mine, theirs = _hull(children), _hull(parents)
    counts = [
        _met(mine[0][:, leaf], mine[1][:, leaf], np.sort(theirs[0][:, leaf]), np.sort(theirs[1][:, leaf]))
        for leaf in range(children.kind.shape[1])
    ]
    order = sorted(range(len(counts)), key=lambda leaf: int(counts[leaf].sum()))
    best = order[0]
    portions = np.cumsum(counts[best]) // STEP_PAIRS
    for portion in np.unique(portions):
        chosen = np.flatnonzero(portions == portion)
        low, high = mine[0][chosen, best], mine[1][chosen, best]
        c, p = _joined(low, high, theirs[0][:, best], theirs[1][:, best])
        c = chosen[c]
        kept = children.ids[c] != parents.ids[p]
        for leaf in order:
            c, p = c[kept], p[kept]
            kept = _meets(children, parents, c, p, leaf)
        yield c[kept], p[kept]


def _joined(
    low: Numbers, high: Numbers, lows: Numbers, highs: Numbers
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pairs of meeting intervals: those where the second begins within the first, then those where it began before."""
    by_low = np.argsort(lows, kind="stable")
    first, p = _ranges(np.searchsorted(lows[by_low], low, side="left"), np.searchsorted(lows[by_low], high, "right"))
    by_start = np.argsort(low, kind="stable")
    begins = low[by_start]
    other, second = _ranges(np.searchsorted(begins, lows, side="right"), np.searchsorted(begins, highs, side="right"))
    return np.concatenate([first, by_start[second]]), np.concatenate([by_low[p], other])


def _ranges(
    starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The numbers of several ranges, each with the position of its range."""
    sizes = np.maximum(ends - starts, 0)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    inner = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, starts[owner] + inner


def _meets(children: Covers, parents: Covers, c: npt.NDArray[np.intp], p: npt.NDArray[np.intp], leaf: int) -> Mask:
    """Whether pairs of tables may have a value of a leaf in common."""
    both = children.may(Flag.MAY_VALUE)[c, leaf] & parents.may(Flag.MAY_VALUE)[p, leaf]
    both &= children.kind[c, leaf] == parents.kind[p, leaf]
    meets: Mask = both & _touch(children.low[c, leaf], children.high[c, leaf], parents, p, leaf)
    for flag in (Flag.MAY_NULL, Flag.MAY_NAN):
        meets |= children.may(flag)[c, leaf] & parents.may(flag)[p, leaf]
    return meets


def _touch(low: Numbers, high: Numbers, parents: Covers, p: npt.NDArray[np.intp], leaf: int) -> Mask:
    touch: Mask = (high >= parents.low[p, leaf]) & (low <= parents.high[p, leaf])
    return touch


def _several(
    children: Covers, parents: Covers, c: npt.NDArray[np.intp], p: npt.NDArray[np.intp]
) -> Iterator[tuple[int, list[int]]]:
    """The children of some pairs whose witnesses all meet a candidate, with at least two candidates."""
    kept = np.bincount(c, minlength=len(children.ids)) > 1
    for leaf in range(children.kind.shape[1]):
        has_value = children.may(Flag.HAS_VALUE)[:, leaf]
        same = parents.may(Flag.MAY_VALUE)[p, leaf] & (children.kind[c, leaf] == parents.kind[p, leaf])
        for low, high in _witnesses(children):
            kept &= ~has_value | _any(c, same & _touch(low[c, leaf], high[c, leaf], parents, p, leaf), len(kept))
        for has, may in ((Flag.HAS_NULL, Flag.MAY_NULL), (Flag.HAS_NAN, Flag.MAY_NAN)):
            kept &= ~children.may(has)[:, leaf] | _any(c, parents.may(may)[p, leaf], len(kept))
    order = np.lexsort((parents.ids[p], c))
    c, p = c[order], p[order]
    bounds = np.searchsorted(c, np.arange(len(kept) + 1))
    for child in np.flatnonzero(kept):
        found = parents.ids[p[bounds[child] : bounds[child + 1]]].tolist()
        yield int(children.ids[child]), found if len(found) <= MOST_CANDIDATES else []


def _any(places: npt.NDArray[np.intp], told: Mask, size: int) -> Mask:
    """Per place, whether one of what is told of it is true."""
    found: Mask = np.bincount(places[told], minlength=size) > 0
    return found
