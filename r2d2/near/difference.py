"""The smallest difference that explains why two tables are nearly, but not quite, contained in one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from r2d2.model import LeafPath
from r2d2.near.estimates import Extent, Interval, Overlap, rows_lacking

ROWS, COLUMN, COLUMNS = "rows", "column", "columns"
"""Kinds of difference: rows that only the child has, one column, or several columns."""

LEAST_KEPT = 0.5
"""Part of a child's distinct rows that leaving columns out must keep apart: else nearly everything would look alike."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A high overlap of a pair under some columns.

    Attributes:
        left_out: The child's leaves that were not compared.
        columns: Those that were.
        extent: Of the child's sample, under these columns.
        overlap: With the parent's.
    """

    left_out: tuple[LeafPath, ...]
    columns: tuple[LeafPath, ...]
    extent: Extent
    overlap: Overlap


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """A pair of tables with a high, partial overlap.

    Attributes:
        child, parent: Table positions.
        difference: ROWS, COLUMN or COLUMNS.
        containment: Share of the child's distinct rows, under the compared columns, that the parent has.
        differing: The child's leaves that were left out of the comparison.
        columns: Those that were compared.
        rows_only_in_child: Distinct rows, under the compared columns, that the parent lacks.
        sampled: Rows that the estimate stands on.
    """

    child: int
    parent: int
    difference: str
    containment: Interval
    differing: tuple[LeafPath, ...]
    columns: tuple[LeafPath, ...]
    rows_only_in_child: Interval
    sampled: int


def smallest_difference(findings: Sequence[Finding], all_distinct: Interval) -> Finding | None:
    """The finding with the fewest columns left out, unless more of them explain the difference whole.

    More of them do where all sampled rows match, and the interval shows that without them some do not.

    Args:
        findings: Of one pair, each under other columns.
        all_distinct: The child's distinct rows under all its columns.
    """
    ranked = sorted(findings, key=lambda one: (len(one.left_out), -_share(one), one.left_out))
    usable = [one for one in ranked if not one.left_out or _keeps_rows_apart(one, all_distinct)]
    chosen: Finding | None = None
    for one in usable:
        if chosen is None or (_share(one) == 1 and one.overlap.containment().low > chosen.overlap.containment().high):
            chosen = one
    return chosen


def near_duplicate(child: int, parent: int, found: Finding, child_rows: int | None) -> NearDuplicate:
    """What is told about a pair.

    Args:
        child, parent: Table positions.
        found: The smallest difference.
        child_rows: Rows of the child, where known.
    """
    return NearDuplicate(
        child=child,
        parent=parent,
        difference=(ROWS, COLUMN, COLUMNS)[min(2, len(found.left_out))],
        containment=found.overlap.containment(),
        differing=found.left_out,
        columns=found.columns,
        rows_only_in_child=rows_lacking(found.extent, found.overlap, child_rows),
        sampled=found.overlap.sampled,
    )


def _share(found: Finding) -> float:
    return found.overlap.matched / found.overlap.sampled


def _keeps_rows_apart(found: Finding, all_distinct: Interval) -> bool:
    return found.extent.distinct().high >= LEAST_KEPT * all_distinct.low
