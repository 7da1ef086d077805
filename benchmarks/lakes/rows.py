"""Sets of row codes as ranges, and what a code stands for.

Every row of a lake has a code: a family of tables that share rows, a version (0, or more where the row was corrected)
and a number. Two rows with one code are equal in all columns that both have; rows with different codes differ in a
column that every table has. So containment of rows is inclusion of codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NUMBER_BITS = 32
VERSION_BITS = 8
FAMILY_SHIFT = NUMBER_BITS + VERSION_BITS
_PROBES = 16


def codes_of(numbers: Codes, *, family: int = 0, version: int = 0) -> Codes:
    """Codes of numbered rows, numbers below 2^32 and versions below 2^8."""
    return numbers + ((family << FAMILY_SHIFT) + (version << NUMBER_BITS))


def corrected(codes: Codes) -> Codes:
    """The codes of the next versions of rows."""
    return codes + (1 << NUMBER_BITS)


def version_of(codes: Codes) -> Codes:
    return (codes >> NUMBER_BITS) & ((1 << VERSION_BITS) - 1)


def without_version(codes: Codes) -> Codes:
    return codes & ~np.int64(((1 << VERSION_BITS) - 1) << NUMBER_BITS)


def number_of(codes: Codes) -> Codes:
    return codes & np.int64((1 << NUMBER_BITS) - 1)


@dataclass(frozen=True)
class Rows:
    """A set of codes: sorted half-open ranges that neither overlap nor touch."""

    starts: Codes
    ends: Codes

    @classmethod
    def of_ranges(cls, starts: Codes, ends: Codes) -> Rows:
        """The union of ranges, which may overlap or be empty."""
        kept = starts < ends
        order = np.argsort(starts[kept], kind="stable")
        starts, reach = starts[kept][order], np.maximum.accumulate(ends[kept][order])
        first = np.ones(len(starts), bool)
        first[1:] = starts[1:] > reach[:-1]
        last = np.append(first[1:], [True]) if len(starts) else first
        return cls(starts[first], reach[last])

    @classmethod
    def of_range(cls, start: int, end: int, *, family: int = 0) -> Rows:
        """Rows numbered from start to before end, uncorrected."""
        return cls.of_ranges(*(codes_of(np.array([side], np.int64), family=family) for side in (start, end)))

    @classmethod
    def of_codes(cls, codes: Codes) -> Rows:
        """A set of single codes, repeated ones counted once."""
        return cls.of_ranges(codes, codes + 1)

    @cached_property
    def size(self) -> int:
        """Number of codes."""
        return int((self.ends - self.starts).sum())

    def expand(self) -> Codes:
        """All codes, ascending."""
        lengths = self.ends - self.starts
        offsets = np.cumsum(lengths) - lengths
        codes: Codes = np.arange(self.size, dtype=np.int64) + np.repeat(self.starts - offsets, lengths)
        return codes

    def at(self, positions: Codes) -> Codes:
        """The codes at positions of the ascending order."""
        ends = np.cumsum(self.ends - self.starts)
        place = np.searchsorted(ends, positions, side="right")
        codes: Codes = (self.ends[place] - (ends[place] - positions)).astype(np.int64)
        return codes

    def __or__(self, other: Rows) -> Rows:
        return Rows.of_ranges(np.concatenate([self.starts, other.starts]), np.concatenate([self.ends, other.ends]))

    def __and__(self, other: Rows) -> Rows:
        return self._combined(other, np.logical_and)

    def __sub__(self, other: Rows) -> Rows:
        return self._combined(other, lambda mine, its: mine & ~its)

    def __le__(self, other: Rows) -> bool:
        """Whether all codes are in the other set."""
        if not len(self.starts) or self.size > other.size:
            return not len(self.starts)
        return other._covers(self.starts[:_PROBES], self.ends[:_PROBES]) and other._covers(self.starts, self.ends)

    def _covers(self, starts: Codes, ends: Codes) -> bool:
        place = np.searchsorted(self.starts, starts, side="right") - 1
        return bool(((place >= 0) & (ends <= self.ends[place])).all())

    def _combined(self, other: Rows, keep: Callable[[Mask, Mask], Mask]) -> Rows:
        points = np.concatenate([self.starts, self.ends, other.starts, other.ends])
        sizes = [len(self.starts), len(self.ends), len(other.starts), len(other.ends)]
        order = np.argsort(points, kind="stable")
        mine, its = (np.cumsum(np.repeat(steps, sizes)[order]) > 0 for steps in ((1, -1, 0, 0), (0, 0, 1, -1)))
        chosen = np.flatnonzero(keep(mine, its)[:-1])
        points = points[order]
        return Rows.of_ranges(points[chosen], points[chosen + 1])


def union(parts: Iterable[Rows]) -> Rows:
    """The union of many sets."""
    found = list(parts)
    return Rows.of_ranges(np.concatenate([p.starts for p in found]), np.concatenate([p.ends for p in found]))


def drawn(rng: np.random.Generator, rows: Rows, size: int) -> Rows:
    """A uniform sample without replacement; all rows where there are fewer."""
    if size >= rows.size:
        return rows
    return Rows.of_codes(rows.at(rng.choice(rows.size, size, replace=False, shuffle=False)))
