"""Stage 2, kernel: which pairs of tables survive their metadata.

A pair is refuted when a witness of the child is disjoint from the parent's cover in some leaf. Everything works on
arrays: a matrix of pairs while most are alive, then lists of the pairs that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
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

_DENSE = 0.25
"""Share of a block's pairs that must be alive for a matrix to be faster than lists."""
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
        return Leaves(**{column.name: getattr(self, column.name)[index] for column in fields(self)})


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
    leaves = pc.sum(pc.equal(batches[0].column("file"), WHOLE)).as_py()
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
    alive = _alive_by_rows(children, parents)
    c, p = np.ogrid[: len(children.ids), : len(parents.ids)]
    bag_excluded = np.zeros(alive.shape, bool)
    for leaf, other in enumerate(parent_leaf):
        if alive.ndim == 2 and alive.mean() < _DENSE:
            c, p = np.nonzero(alive)
            alive, bag_excluded = np.ones(len(c), bool), bag_excluded[c, p]
        child = children.evidence.at(children.first[c] + leaf)
        parent = parents.evidence.at(parents.first[p] + other)
        alive &= ~refuted(child, parent)
        bag_excluded |= more_often(child.nulls, parent.nulls) | more_often(child.rows, parent.rows)
        if alive.ndim == 1:
            c, p, bag_excluded, alive = c[alive], p[alive], bag_excluded[alive], alive[alive]
        if not alive.any():
            break
    if alive.ndim == 2:
        c, p = np.nonzero(alive)
        bag_excluded = bag_excluded[c, p]
    return c, p, bag_excluded


def more_often(child: Numbers, parent: Numbers) -> Mask:
    """Whether both counts are known and the child's is the larger one: then it is no bag of the parent's rows."""
    known: Mask = (child != UNKNOWN) & (parent != UNKNOWN)
    return known & (child > parent)


def _alive_by_rows(children: Tables, parents: Tables) -> Mask:
    """All pairs but those of a table with itself, and of one with rows and one without any."""
    has_row = is_set(children.evidence.flags[children.first], Flag.HAS_ROW)
    empty = parents.evidence.rows[parents.first] == 0
    alive: Mask = children.ids[:, None] != parents.ids[None, :]
    alive &= ~(has_row[:, None] & empty[None, :])
    return alive
