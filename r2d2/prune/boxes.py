"""Stage 2, kernel: what the files of a pair of tables refute beyond the tables as wholes.

Two rules. *Union*: a witness of the child misses the cover of each of the parent's files in one leaf, though perhaps
not the hull of them all. *Box*: a file of the child with a row meets no file of the parent in all leaves at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2d2.prune.minmax import NO_RANK, Indices, Leaves, Mask, Numbers, Tables, is_set
from r2d2.scan.evidence import UNKNOWN, Flag

CELLS = 4_000_000
"""Files of the child times files of the parent, times leaves, that are looked at in one step."""

MOST_FILE_PAIRS = 4 * CELLS
"""Files of the child times files of the parent beyond which a pair is not judged file by file."""


@dataclass(frozen=True, kw_only=True)
class FileVerdict:
    """What the files of a pair say.

    Attributes:
        union: A leaf of the child by which the union rule refutes the pair, and the child's file; or None.
        box: A file of the child by which the box rule refutes the pair, or None.
        bag_excluded: Some rows of the child are more than all those of the parent that may equal them.
    """

    union: tuple[int, int] | None
    box: int | None
    bag_excluded: bool

    @property
    def refuted(self) -> bool:
        """Whether the pair is no containment."""
        return self.union is not None or self.box is not None


def has_files(children: Tables, parents: Tables, child: int, parent: int) -> bool:
    """Whether looking at the files of a pair can say more than the tables do, at a bounded price."""
    pairs = max(1, int(children.files[child])) * max(1, int(parents.files[parent]))
    return 1 < pairs <= MOST_FILE_PAIRS


def file_verdict(children: Tables, parents: Tables, child: int, parent: int, parent_leaf: Sequence[int]) -> FileVerdict:
    """Judge one pair, given by its positions, by the files of its tables."""
    of_child, of_parent = file_rows(children, child), file_rows(parents, parent)[:, list(parent_leaf)]
    meets: Mask = np.ones((len(of_child), len(of_parent)), bool)
    union: tuple[int, int] | None = None
    bag_excluded = False
    step = max(1, CELLS // meets.size)
    for start in range(0, len(parent_leaf), step):
        mine = children.evidence.at(of_child[:, None, start : start + step])
        its = parents.evidence.at(of_parent[None, :, start : start + step])
        missed = _missed_witnesses(mine, its)
        if union is None and missed.any():
            file, leaf = np.unravel_index(int(np.argmax(missed)), missed.shape)
            union = (start + int(leaf), int(file))
        common = _meets(mine, its)
        bag_excluded = bag_excluded or _constants_exceed(mine, its, common)
        meets &= common.all(axis=2)
    child_rows, parent_rows = children.evidence.rows[of_child[:, 0]], parents.evidence.rows[of_parent[:, 0]]
    lost = (child_rows > 0) & ~meets.any(axis=1)
    return FileVerdict(
        union=union,
        box=int(np.argmax(lost)) if lost.any() else None,
        bag_excluded=bag_excluded or bool(_exceeds(child_rows, meets, parent_rows).any()),
    )


def file_rows(tables: Tables, position: int) -> Indices:
    """Rows of the evidence of each file of a table, by leaf: an array (files, leaves)."""
    first, files = int(tables.first[position]), int(tables.files[position])
    start = first + tables.leaves if files else first
    return np.arange(start, start + max(files, 1) * tables.leaves).reshape(-1, tables.leaves)


def _missed_witnesses(child: Leaves, parent: Leaves) -> Mask:
    """Files and leaves of the child with a witness that lies in the cover of no file of the parent."""
    first = _touches(child.low, child.first_high, child, parent).any(axis=1)
    last = _touches(child.last_low, child.high, child, parent).any(axis=1)
    missed: Mask = ((child.first_high != NO_RANK)[:, 0] & ~first) | ((child.last_low != NO_RANK)[:, 0] & ~last)
    return missed & is_set(child.flags, Flag.HAS_VALUE)[:, 0]


def _meets(child: Leaves, parent: Leaves) -> Mask:
    """Which files (of the child, of the parent) may have a value of a leaf in common."""
    common = _touches(child.low, child.high, child, parent) & is_set(child.flags, Flag.MAY_VALUE)
    for flag in (Flag.MAY_NULL, Flag.MAY_NAN):
        common |= is_set(child.flags, flag) & is_set(parent.flags, flag)
    return common


def _touches(low: Numbers, high: Numbers, child: Leaves, parent: Leaves) -> Mask:
    """Whether intervals, one per file and leaf of the child, meet the parent's covers; NO_RANK is unbounded."""
    below = (high != NO_RANK) & (high < parent.low)
    above = (parent.high != NO_RANK) & (low > parent.high)
    touches: Mask = (child.kind == parent.kind) & is_set(parent.flags, Flag.MAY_VALUE) & ~below & ~above
    return touches


def _constants_exceed(child: Leaves, parent: Leaves, common: Mask) -> bool:
    """Whether the child has a value in whole files more often than the parent can have it."""
    low, rows = child.low[:, 0], child.rows[:, 0]
    constant = (low != NO_RANK) & (low == child.first_high[:, 0]) & (low == child.last_low[:, 0])
    constant &= (low == child.high[:, 0]) & ~is_set(child.flags[:, 0], Flag.MAY_NULL | Flag.MAY_NAN) & (rows != UNKNOWN)
    for leaf in np.flatnonzero(constant.any(axis=0)):
        for value in np.unique(low[constant[:, leaf], leaf]):
            files = np.flatnonzero(constant[:, leaf] & (low[:, leaf] == value))
            count = np.array([rows[files, leaf].sum()])
            if _exceeds(count, common[files[:1], :, leaf], parent.rows[0, :, leaf])[0]:
                return True
    return False


def _exceeds(rows: Numbers, may_hold: Mask, parent_rows: Numbers) -> Mask:
    """Whether counts of rows are known to be larger than all rows of the files that may hold their equals."""
    counted = ~(may_hold & (parent_rows == UNKNOWN)[None, :]).any(axis=1)
    room = (may_hold * np.maximum(parent_rows, 0)[None, :]).sum(axis=1)
    exceeds: Mask = counted & (rows > room)
    return exceeds
