"""Stage 2, kernels: which pairs of two schema classes survive their metadata.

A pair is refuted when a witness of the child is disjoint from the parent's cover in some column. Everything works on
arrays: one row per table of a class, one matrix of pairs per block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2d2.model import LeafPath, TypeClass
from r2d2.prune.evidence import TEXT_PREFIX, Evidence

Matrix = npt.NDArray[np.bool_]

BLOCK_PAIRS = 4_000_000

_KINDS = {kind: number for number, kind in enumerate(TypeClass)}
_NO_TEXT = b""


@dataclass(frozen=True, kw_only=True)
class TableEvidence:
    """What stage 2 knows of one table.

    Attributes:
        rows: Live rows; None where unknown.
        kinds: Type class by leaf.
        leaves: Evidence by leaf.
    """

    rows: int | None
    kinds: Mapping[LeafPath, TypeClass]
    leaves: Mapping[LeafPath, Evidence]


@dataclass(frozen=True, kw_only=True)
class LeafArrays:
    """Evidence of one leaf over many tables; see Evidence for the meaning. Text ends come with a mask of known ones."""

    kind: npt.NDArray[np.int8]
    has_value: Matrix
    has_null: Matrix
    may_value: Matrix
    may_null: Matrix
    first_high: npt.NDArray[np.float64]
    last_low: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    text: npt.NDArray[np.bytes_]
    text_known: Matrix


def leaf_arrays(tables: Sequence[TableEvidence], path: LeafPath) -> LeafArrays:
    """Arrays over tables of the leaf that all of them have at a path."""
    found = [table.leaves[path] for table in tables]
    kinds = [_KINDS[table.kinds[path]] for table in tables]
    number = [e.number for e in found]
    text = [(e.text and [e.text.first_high, e.text.last_low, e.text.low, e.text.high]) or [None] * 4 for e in found]
    cut = [[(end or _NO_TEXT)[:TEXT_PREFIX] for end in ends] for ends in text]
    return LeafArrays(
        kind=np.array(kinds, np.int8),
        has_value=np.array([e.has_value for e in found], bool),
        has_null=np.array([e.has_null for e in found], bool),
        may_value=np.array([e.may_value for e in found], bool),
        may_null=np.array([e.may_null for e in found], bool),
        first_high=np.array([n.first_high if n else math.inf for n in number], float),
        last_low=np.array([n.last_low if n else -math.inf for n in number], float),
        low=np.array([n.low if n else -math.inf for n in number], float),
        high=np.array([n.high if n else math.inf for n in number], float),
        text=np.array(cut, f"S{TEXT_PREFIX}").reshape(len(found), 4),
        text_known=np.array([[end is not None for end in ends] for ends in text], bool).reshape(len(found), 4),
    )


def refuted_by_leaf(child: LeafArrays, parent: LeafArrays) -> Matrix:
    """Pairs (child row, parent row of the arrays) that one leaf refutes."""
    has_value, has_null = child.has_value[:, None], child.has_null[:, None]
    same_kind = child.kind[:, None] == parent.kind[None, :]
    refuted: Matrix = has_value & (~same_kind | ~parent.may_value[None, :])
    refuted |= has_null & ~parent.may_null[None, :]
    outside = child.first_high[:, None] < parent.low[None, :]
    outside |= child.last_low[:, None] > parent.high[None, :]
    if child.text_known.any() and parent.text_known.any():
        outside |= _before(child, 0, parent, 2) | _after(child, 1, parent, 3)
    refuted |= has_value & same_kind & outside
    return refuted


def surviving(
    children: Sequence[TableEvidence],
    parents: Sequence[TableEvidence],
    child_paths: Sequence[LeafPath],
    parent_paths: Sequence[LeafPath],
) -> Matrix:
    """Pairs of a block that metadata does not refute.

    Args:
        children, parents: Tables of a child class and of a parent class.
        child_paths, parent_paths: Paths of the compared leaves in the child class and, aligned, in the parent class.
    """
    child_rows = np.array([-1 if t.rows is None else t.rows for t in children])
    parent_rows = np.array([-1 if t.rows is None else t.rows for t in parents])
    refuted: Matrix = (child_rows[:, None] > 0) & (parent_rows[None, :] == 0)
    for of_child, of_parent in zip(child_paths, parent_paths, strict=True):
        refuted |= refuted_by_leaf(leaf_arrays(children, of_child), leaf_arrays(parents, of_parent))
        if refuted.all():
            break
    return ~refuted


def _before(child: LeafArrays, end: int, parent: LeafArrays, cover: int) -> Matrix:
    known = child.text_known[:, end][:, None] & parent.text_known[:, cover][None, :]
    before: Matrix = known & (child.text[:, end][:, None] < parent.text[:, cover][None, :])
    return before


def _after(child: LeafArrays, end: int, parent: LeafArrays, cover: int) -> Matrix:
    known = child.text_known[:, end][:, None] & parent.text_known[:, cover][None, :]
    after: Matrix = known & (child.text[:, end][:, None] > parent.text[:, cover][None, :])
    return after
