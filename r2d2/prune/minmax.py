"""Stage 2, kernel: which pairs of tables survive their metadata.

A pair is refuted when a witness of the child is disjoint from the parent's cover in some leaf. Everything works on
arrays: lists of pairs that grow shorter leaf by leaf, the most selective first. Of many tables not even the pairs are
listed: groups of tables are judged as if they were tables, and only the members of groups that survive are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.scan.evidence import ROWS, UNKNOWN, WHOLE, Flag, unpack

Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

NO_RANK = -1

STEP_PAIRS = 1 << 20
"""Pairs that are judged at once, with about 200 bytes each."""

GROUP = 64
"""Tables that are judged as one where there are more pairs than that."""

FEW_PAIRS = 1 << 12
"""Pairs for which it does not pay to find out which leaf refutes the most."""

STEP_CELLS = 1 << 14
"""Pairs times leaves that are judged at once, where that is more than one leaf."""

_LAST_RANK = 1 << 62
_NUMBERS = ("kind", "flags", "rows", "nulls")
_KEYS = ("low", "high", "first_high", "last_low")


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """Rows of `scan.evidence.ROWS` as arrays of any one shape; keys as ranks within a block, or NO_RANK."""

    kind: Numbers
    flags: Numbers
    rows: Numbers
    nulls: Numbers
    low: Numbers
    high: Numbers
    first_high: Numbers
    last_low: Numbers

    def at(self, index: Any) -> Leaves:
        """The same with an index applied to every array."""
        return Leaves(**{name: array[index] for name, array in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Evidence of the tables of one schema class.

    Attributes:
        ids: Positions of the tables.
        evidence: Of all tables, one after the other: per table a row per leaf, then such rows for each of its files.
        first: Where each table's rows begin.
        files: Files of each table that have rows of their own; 0 where the whole is one file.
        leaves: Leaves of the class.
    """

    ids: Numbers
    evidence: Leaves
    first: Indices
    files: Indices
    leaves: int


def tables_of(*sides: tuple[Sequence[int], Sequence[bytes]]) -> list[Tables]:
    """The sides of a comparison from the stored evidence of their tables, keys ranked over all of them.

    Args:
        sides: Positions of tables, at least one and all of the same leaves, and the packed evidence of each.
    """
    batches = [[unpack(evidence) for evidence in packed] for _, packed in sides]
    (rows,) = pa.Table.from_batches([b for side in batches for b in side], ROWS).combine_chunks().to_batches()
    numbers = {name: np.asarray(rows.column(name).to_numpy(), np.int64) for name in _NUMBERS}
    ranks = dict(zip(_KEYS, _ranked([rows.column(name) for name in _KEYS]), strict=True))
    evidence = Leaves(**numbers, **ranks)
    ends = np.cumsum([sum(batch.num_rows for batch in side) for side in batches])
    return [
        _tables(ids, side, evidence.at(slice(end - sum(batch.num_rows for batch in side), end)))
        for (ids, _), side, end in zip(sides, batches, ends, strict=True)
    ]


def _tables(ids: Sequence[int], batches: Sequence[pa.RecordBatch], evidence: Leaves) -> Tables:
    sizes = np.array([batch.num_rows for batch in batches], np.intp)
    leaves = int(np.count_nonzero(np.asarray(batches[0].column("file")) == WHOLE))
    return Tables(
        ids=np.array(ids, np.int64),
        evidence=evidence,
        first=np.cumsum(sizes) - sizes,
        files=sizes // leaves - 1,
        leaves=leaves,
    )


def _ranked(arrays: Sequence[pa.Array]) -> list[Numbers]:
    """Dense ranks of all values of some arrays of bytes together; NO_RANK for NULL."""
    together = pa.chunked_array(arrays, pa.binary()).combine_chunks()
    ranks = np.array(pc.rank(together, tiebreaker="dense").to_numpy(), np.int64)
    ranks[np.asarray(together.is_null().to_numpy(zero_copy_only=False))] = NO_RANK
    return np.split(ranks, len(arrays))


def refuted(child: Leaves, parent: Leaves) -> Mask:
    """Which pairs one leaf refutes; the arrays of both sides broadcast against one another."""
    same_kind = child.kind == parent.kind
    has_value = is_set(child.flags, Flag.HAS_VALUE)
    out: Mask = has_value & (~same_kind | ~is_set(parent.flags, Flag.MAY_VALUE))
    out |= is_set(child.flags, Flag.HAS_NULL) & ~is_set(parent.flags, Flag.MAY_NULL)
    out |= is_set(child.flags, Flag.HAS_NAN) & ~is_set(parent.flags, Flag.MAY_NAN)
    out |= has_value & same_kind & outside(child, parent)
    return out


def outside(child: Leaves, parent: Leaves) -> Mask:
    """Whether a witness of the child ends before, or begins after, all that the parent covers."""
    before: Mask = (child.first_high != NO_RANK) & (child.first_high < parent.low)
    after: Mask = (parent.high != NO_RANK) & (child.last_low > parent.high)
    either: Mask = before | after
    return either


def is_set(flags: Numbers, flag: Flag) -> Mask:
    """Where one of some flags is set."""
    found: Mask = (flags & int(flag)) != 0
    return found


def surviving(children: Tables, parents: Tables, parent_leaf: Sequence[int]) -> tuple[Indices, Indices, Mask]:
    """Pairs of a block that the tables as wholes do not refute.

    Args:
        children, parents: Tables of a child class and of a parent class, ranked together.
        parent_leaf: Per leaf of the child class, the leaf of the parent class of the same name.

    Returns:
        Positions in `children`, positions in `parents`, and whether the counts exclude a containment as bags.
    """
    leaves = list(enumerate(parent_leaf))
    if len(children.ids) * len(parents.ids) > FEW_PAIRS:
        leaves.sort(key=lambda pair: -_refuted_by(children, parents, *pair))
    judged = [_judged(children, parents, leaves, c, p) for c, p in _candidates(children, parents, leaves)]
    c, p, bag_excluded = (np.concatenate(part) for part in zip(*judged, strict=True))
    return c, p, bag_excluded


def _judged(
    children: Tables, parents: Tables, leaves: Sequence[tuple[int, int]], c: Indices, p: Indices
) -> tuple[Indices, Indices, Mask]:
    """Those of some pairs that survive all leaves, tried in the order given."""
    alive = _alive_by_rows(children, parents, c, p)
    c, p = c[alive], p[alive]
    bag_excluded = np.zeros(len(c), bool)
    own, other = np.array(leaves, np.intp).reshape(-1, 2).T
    start = 0
    while start < len(leaves) and len(c):
        step = slice(start, start + max(1, STEP_CELLS // len(c)))
        child = children.evidence.at(children.first[c][:, None] + own[step])
        parent = parents.evidence.at(parents.first[p][:, None] + other[step])
        bag_excluded |= (more_often(child.nulls, parent.nulls) | more_often(child.rows, parent.rows)).any(axis=1)
        alive = ~np.any(refuted(child, parent), axis=1)
        c, p, bag_excluded = c[alive], p[alive], bag_excluded[alive]
        start = step.stop
    return c, p, bag_excluded


def _alive_by_rows(children: Tables, parents: Tables, c: Indices, p: Indices) -> Mask:
    """All pairs but those of a table with itself, and of one with rows and one without any."""
    has_row = is_set(children.evidence.flags[children.first], Flag.HAS_ROW)
    empty = parents.evidence.rows[parents.first] == 0
    alive: Mask = (children.ids[c] != parents.ids[p]) & ~(has_row[c] & empty[p])
    return alive


def more_often(child: Numbers, parent: Numbers) -> Mask:
    """Whether both counts are known and the child's is the larger one: then it is no bag of the parent's rows."""
    known: Mask = (child != UNKNOWN) & (parent != UNKNOWN)
    return known & (child > parent)


def _refuted_by(children: Tables, parents: Tables, leaf: int, other: int) -> int:
    """How many pairs a leaf's ranges and NULLs refute, counted without looking at the pairs."""
    child, parent = children.evidence.at(children.first + leaf), parents.evidence.at(parents.first + other)
    lows, highs = np.sort(parent.low[parent.low != NO_RANK]), np.sort(parent.high[parent.high != NO_RANK])
    before = len(lows) - np.searchsorted(lows, child.first_high[child.first_high != NO_RANK], side="right")
    after = np.searchsorted(highs, child.last_low[child.last_low != NO_RANK], side="left")
    nulls = np.count_nonzero(is_set(child.flags, Flag.HAS_NULL)) * np.count_nonzero(
        ~is_set(parent.flags, Flag.MAY_NULL)
    )
    return int(before.sum() + after.sum() + nulls)


# --- many tables ------------------------------------------------------------------------------------------------------


def _candidates(
    children: Tables, parents: Tables, leaves: Sequence[tuple[int, int]]
) -> Iterator[tuple[Indices, Indices]]:
    """All pairs where they are few; else those of groups of tables that are not refuted as groups.

    Groups are neighbours in the most selective leaf. What a group as a whole cannot hold, none of its tables can, so
    tables with disjoint ranges are never paired, and the price follows the pairs that are left.
    """
    if len(children.ids) * len(parents.ids) <= STEP_PAIRS:
        c, p = np.indices((len(children.ids), len(parents.ids))).reshape(2, -1)
        yield c, p
        return
    by_child, by_parent = _order(children, leaves[0][0]), _order(parents, leaves[0][1])
    mixed = [leaf for leaf, other in leaves if not _of_one_kind(children, leaf) or not _of_one_kind(parents, other)]
    grouped = _groups(children, by_child, as_children=True, mixed=mixed)
    g, h, _ = surviving(grouped, _groups(parents, by_parent, as_children=False), _in_order(leaves))
    for start in range(0, max(1, len(g)), max(1, STEP_PAIRS // GROUP**2)):
        step = slice(start, start + max(1, STEP_PAIRS // GROUP**2))
        yield _members(by_child, by_parent, g[step], h[step])


def _in_order(leaves: Sequence[tuple[int, int]]) -> list[int]:
    return [other for _, other in sorted(leaves)]


def _order(tables: Tables, leaf: int) -> Indices:
    evidence = tables.evidence.at(tables.first + leaf)
    return np.lexsort((evidence.high, evidence.low))


def _of_one_kind(tables: Tables, leaf: int) -> bool:
    kinds = tables.evidence.kind[tables.first + leaf]
    return bool((kinds == kinds[0]).all())


def _members(by_child: Indices, by_parent: Indices, g: Indices, h: Indices) -> tuple[Indices, Indices]:
    """The pairs of tables of some pairs of groups."""
    inner = np.arange(GROUP)
    c = np.broadcast_to((GROUP * g)[:, None, None] + inner[None, :, None], (len(g), GROUP, GROUP)).ravel()
    p = np.broadcast_to((GROUP * h)[:, None, None] + inner[None, None, :], (len(g), GROUP, GROUP)).ravel()
    there = (c < len(by_child)) & (p < len(by_parent))
    return by_child[c[there]], by_parent[p[there]]


def _groups(tables: Tables, order: Indices, *, as_children: bool, mixed: Sequence[int] = ()) -> Tables:
    """Groups of neighbours as tables: what they prove holds for each of their members.

    Args:
        tables: Tables of one class.
        order: Their positions; GROUP in a row make a group.
        as_children: They are to be refuted as children: a group has what all members have; as parents it may have what
            any member may have.
        mixed: Leaves whose values prove nothing of a group, since tables disagree on their kind.
    """
    rows = tables.first[order][:, None] + np.arange(tables.leaves)[None, :]
    members = tables.evidence.at(rows)
    starts = np.arange(0, len(order), GROUP)
    merged = _all_of(members, starts) if as_children else _any_of(members, starts)
    merged.flags[:, list(mixed)] &= ~int(Flag.HAS_VALUE)
    flat = Leaves(**{name: array.reshape(-1) for name, array in vars(merged).items()})
    return Tables(
        ids=np.full(len(starts), -1 if as_children else -2),
        evidence=flat,
        first=np.arange(len(starts)) * tables.leaves,
        files=np.zeros(len(starts), np.intp),
        leaves=tables.leaves,
    )


def _all_of(members: Leaves, starts: Indices) -> Leaves:
    """A group as a child: the witness ends that lie nearest to the middle, unknown where one member's are."""
    unknown = np.full((len(starts), members.kind.shape[1]), UNKNOWN, np.int64)
    no_end = np.full_like(unknown, NO_RANK)
    return Leaves(
        kind=members.kind[starts],
        flags=np.bitwise_and.reduceat(members.flags, starts),
        rows=unknown,
        nulls=unknown,
        low=no_end,
        high=no_end,
        first_high=_end_of_all(members.first_high, starts, np.maximum),
        last_low=_end_of_all(members.last_low, starts, np.minimum),
    )


def _any_of(members: Leaves, starts: Indices) -> Leaves:
    """A group as a parent: the hull of the covers, without an end where one member has none."""
    no_end = np.full((len(starts), members.kind.shape[1]), NO_RANK, np.int64)
    empty = ~is_set(members.flags, Flag.MAY_VALUE)
    low, high = np.where(empty, _LAST_RANK, members.low), np.where(empty, 0, members.high)
    return Leaves(
        kind=members.kind[starts],
        flags=np.bitwise_or.reduceat(members.flags, starts),
        rows=_end_of_all(members.rows, starts, np.maximum),
        nulls=np.full_like(no_end, UNKNOWN),
        low=_end_of_all(low, starts, np.minimum),
        high=_end_of_all(high, starts, np.maximum),
        first_high=no_end,
        last_low=no_end,
    )


def _end_of_all(ends: Numbers, starts: Indices, outermost: np.ufunc) -> Numbers:
    """The outermost end of each group; NO_RANK where a member has none."""
    lacking = np.logical_or.reduceat(ends == NO_RANK, starts)
    return np.where(lacking, NO_RANK, outermost.reduceat(ends, starts))
