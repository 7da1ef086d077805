"""How much of a child a parent holds, estimated from bottom-k samples of their distinct rows, with intervals.

A sample holds the smallest of a table's distinct row hashes. Rows are hashed alike in all tables, so what two samples
share below the range of both is a uniform sample, without replacement, of the child's distinct rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv

Words = npt.NDArray[np.uint64]

CONFIDENCE = 0.95
HASHES = float(1 << 64)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate between the ends of its confidence interval, inclusive."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How far a sample reaches.

    Attributes:
        kept: Its hashes.
        limit: The table has no other hash below it; None where these are all.
    """

    kept: int
    limit: int | None

    def distinct(self, confidence: float = CONFIDENCE) -> Interval:
        """Distinct rows of the table: counted where the sample has all, else from its density (Beyer et al. 2007).

        Below the limit lie `kept` of n uniform hashes, so n * limit is close to a Gamma variable of shape kept + 1.
        """
        if self.limit is None:
            return Interval(estimate=self.kept, low=self.kept, high=self.kept)
        tail, share = (1 - confidence) / 2, self.limit / HASHES
        low, high = (float(gammaincinv(self.kept + 1, side)) / share for side in (tail, 1 - tail))
        return Interval(estimate=self.kept / share, low=max(low, self.kept + 1), high=high)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The smallest distinct row hashes of a table.

    Attributes:
        hashes: Ascending, without repetition.
        limit: See Extent.
    """

    hashes: Words
    limit: int | None

    @classmethod
    def of(cls, parts: Sequence[Words], size: int) -> Sample:
        """The sample of a table from the smallest `size + 1` hashes, or all, of each of its parts."""
        kept = smallest(np.concatenate([np.empty(0, np.uint64), *parts]), size + 1)
        return cls(hashes=kept[:size], limit=int(kept[size]) if len(kept) > size else None)

    @property
    def extent(self) -> Extent:
        """How far it reaches."""
        return Extent(kept=len(self.hashes), limit=self.limit)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What a sample of a child's distinct rows says of a parent.

    Attributes:
        sampled: Sampled rows, at least 0.
        matched: Of those, the rows that the parent has.
        whole: The sample is all of the child's distinct rows.
    """

    sampled: int
    matched: int
    whole: bool

    def containment(self, confidence: float = CONFIDENCE) -> Interval:
        """The share of the child's distinct rows that the parent has.

        The interval is that of Clopper and Pearson for a binomial share; sampling without replacement has less spread,
        so it covers the truth at least as often. A sample of all rows has no error.

        Raises:
            ValueError: If nothing was sampled.
        """
        if self.sampled == 0:
            raise ValueError("a share of no rows is not defined")
        estimate = self.matched / self.sampled
        if self.whole:
            return Interval(estimate=estimate, low=estimate, high=estimate)
        low, high = clopper_pearson(self.matched, self.sampled, confidence)
        return Interval(estimate=estimate, low=low, high=high)


def overlap(child: Sample, parent: Sample) -> Overlap:
    """How many of a child's rows, within the range of both samples, the parent has."""
    limits = [sample.limit for sample in (child, parent) if sample.limit is not None]
    within = child.hashes
    if limits:
        within = within[: np.searchsorted(within, np.uint64(min(limits)), side="left")]
    whole = child.limit is None and len(within) == len(child.hashes)
    return Overlap(sampled=len(within), matched=common(within, parent.hashes), whole=whole)


def rows_lacking(child: Extent, found: Overlap, child_rows: int | None) -> Interval:
    """Distinct rows of a child that a parent lacks; each factor's interval has half of the allowed error.

    Args:
        child: Of its sample.
        found: How that overlaps with the parent's.
        child_rows: Rows of the child, which bound the distinct ones; None is unknown.
    """
    each = 1 - (1 - CONFIDENCE) / 2
    distinct, share = child.distinct(each), found.containment(each)
    most = distinct.high if child_rows is None else min(distinct.high, child_rows)
    least = min(distinct.low, most)
    estimate = min(distinct.estimate, most) * (1 - share.estimate)
    return Interval(estimate=estimate, low=least * (1 - share.high), high=most * (1 - share.low))


def clopper_pearson(matched: int, sampled: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact binomial interval of a share (Clopper and Pearson 1934), from 0 to 1."""
    tail = (1 - confidence) / 2
    low = 0.0 if matched == 0 else float(betaincinv(matched, sampled - matched + 1, tail))
    high = 1.0 if matched == sampled else float(betaincinv(matched + 1, sampled - matched, 1 - tail))
    return low, high


def smallest(hashes: Words, count: int) -> Words:
    """The smallest distinct hashes, ascending, at most `count`."""
    ordered = np.sort(hashes)
    if len(ordered):
        ordered = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return ordered[:count]


def common(some: Words, others: Words) -> int:
    """How many of some ascending hashes are among others, ascending too."""
    if len(others) == 0:
        return 0
    places = np.minimum(np.searchsorted(others, some), len(others) - 1)
    return int(np.count_nonzero(others[places] == some))
