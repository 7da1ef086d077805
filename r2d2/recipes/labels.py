"""Labels of a parent's rows: which of them a query has to return.

Rows are numbered by their fingerprints under the child's columns, so equal rows have the same number in every table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2d2.scan.compare import numbered
from r2d2.scan.reports import Words

PART_ROWS = 4_000_000
"""Fingerprints that are numbered at once, with about 60 bytes each."""

NEGATIVE, POSITIVE, AMBIGUOUS, FREE = 0, 1, 2, 3
"""Labels: the child has none of these rows, all of them, or some of equal ones; or it does not matter who gets them."""

Fingerprints = tuple[Words, Words]
"""The two lanes of some rows' fingerprints, in the order of the rows."""

Numbers = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
"""By number."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a child wants of a parent's rows, one element per row.

    Attributes:
        numbers: Of the rows; with a label other than FREE, rows of one number have the same label at first.
        wanted: How often the child has the row.
        labels: See NEGATIVE.
    """

    numbers: Numbers
    wanted: Counts
    labels: npt.NDArray[np.int8]


def number_rows(tables: Sequence[Fingerprints]) -> tuple[list[Numbers], int]:
    """The numbers of some tables' rows, and how many numbers there are; a part of the fingerprints at a time."""
    found = [np.empty(len(first), np.int64) for first, _ in tables]
    bits = (sum(map(len, found)) // PART_ROWS).bit_length()
    following = 0
    for part in range(1 << bits):
        chosen = [_of_part(first, part, bits) for first, _ in tables]
        first, second = (
            np.concatenate([lanes[lane][own] for lanes, own in zip(tables, chosen, strict=True)]) for lane in (0, 1)
        )
        ids, firsts = numbered(first, second)
        ends = np.cumsum([np.count_nonzero(own) for own in chosen])
        for numbers, own, here in zip(found, chosen, np.split(ids, ends[:-1]), strict=True):
            numbers[own] = following + here
        following += len(firsts)
    return found, following


def _of_part(first: Words, part: int, bits: int) -> npt.NDArray[np.bool_]:
    """Which rows' first lanes begin with some bits."""
    if bits == 0:
        return np.ones(len(first), bool)
    begins: npt.NDArray[np.bool_] = first.view(np.uint64) >> np.uint64(64 - bits) == np.uint64(part)
    return begins


def label_rows(
    numbers: Numbers, needed: Counts, *, one_is_enough: bool = False, free: npt.NDArray[np.bool_] | None = None
) -> Labels:
    """Label rows by how often the child needs them.

    Args:
        numbers: Of the rows.
        needed: How often the child needs the row of each number.
        one_is_enough: A needed row may be returned more often than it is needed.
        free: By number, rows that may be returned or not.
    """
    wanted = needed[numbers]
    most = 1 if one_is_enough else np.bincount(numbers, minlength=len(needed))[numbers]
    labels = np.where(wanted == 0, NEGATIVE, np.where(wanted >= most, POSITIVE, AMBIGUOUS)).astype(np.int8)
    if free is not None:
        labels[free[numbers]] = FREE
    return Labels(numbers=numbers, wanted=wanted, labels=labels)
