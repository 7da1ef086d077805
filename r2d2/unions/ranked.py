"""Evidence of whole tables as arrays of numbers, in which many children are compared with many tables at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.scan.evidence import ROWS, WHOLE, Flag, unpack

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Interval = tuple[Numbers, Numbers]
"""Lower and upper ends."""

_ENDS = ("low", "high", "first_high", "last_low")
_MAY_VALUE, _MAY_NOTHING = int(Flag.MAY_VALUE), int(Flag.MAY_NULL | Flag.MAY_NAN)


@dataclass(frozen=True, kw_only=True)
class Covers:
    """Evidence of some tables in some leaves, as arrays (leaves, tables).

    The ends of intervals are ranks of keys. They grow from leaf to leaf, so that those of all leaves can be sorted
    and searched together; one that is not known is `lowest` or `highest`, on the side on which it proves nothing.

    Attributes:
        ids: Positions of the tables.
        kind, flags: As in `scan.evidence.ROWS`.
        low, high: Cover of the values.
        first_high, last_low: Inner ends of the witnesses that start at `low` and end at `high`.
        lowest, highest: Of each leaf, as arrays (leaves, 1).
    """

    ids: Numbers
    kind: npt.NDArray[np.int8]
    flags: npt.NDArray[np.int16]
    low: Numbers
    high: Numbers
    first_high: Numbers
    last_low: Numbers
    lowest: Numbers
    highest: Numbers

    def has(self, flag: Flag) -> Mask:
        """Where a flag is set."""
        found: Mask = (self.flags & int(flag)) != 0
        return found

    def hull(self) -> Interval:
        """Intervals outside of which a table meets no other in a leaf; unbounded where it may be NULL or NaN."""
        bounded = (self.flags & (_MAY_VALUE | _MAY_NOTHING)) == _MAY_VALUE
        return np.where(bounded, self.low, self.lowest), np.where(bounded, self.high, self.highest)

    def witnesses(self) -> tuple[Interval, Interval]:
        """Intervals each of which holds a value of the table, if it has one; unbounded where no witness is known."""
        first = np.where(self.first_high == self.highest, self.lowest, self.low), self.first_high
        last = self.last_low, np.where(self.last_low == self.lowest, self.highest, self.high)
        return first, last

    def at(self, index: npt.NDArray[np.intp]) -> Covers:
        """Some of the tables."""
        return Covers(
            ids=self.ids[index],
            kind=self.kind[:, index],
            flags=self.flags[:, index],
            low=self.low[:, index],
            high=self.high[:, index],
            first_high=self.first_high[:, index],
            last_low=self.last_low[:, index],
            lowest=self.lowest,
            highest=self.highest,
        )


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Evidence of tables, a row per table and leaf; what of it is compared is chosen by `covers`.

    Attributes:
        first: Row of each table's first leaf, by position of the table.
        kind, flags: As in `scan.evidence.ROWS`.
        ends: Ranks of the keys of all rows and ends together, as an array (ends, rows), from 1.
        span: More than all ranks; stands for an end that is not known above, 0 for one below.
    """

    first: Mapping[int, int]
    kind: npt.NDArray[np.int8]
    flags: npt.NDArray[np.int16]
    ends: Numbers
    span: int

    @classmethod
    def of(cls, evidence: Mapping[int, bytes]) -> Ranked:
        """The evidence of some tables, packed by `scan.evidence`."""
        parts = [unpack(packed) for packed in evidence.values()]
        rows = pa.Table.from_batches(parts, ROWS)
        is_whole = rows.column("file").to_numpy() == WHOLE
        starts = np.cumsum([0, *map(len, parts)])[:-1]
        first = np.concatenate([[0], np.cumsum(is_whole)])[starts].tolist()
        rows = rows.filter(pa.array(is_whole))
        ends, span = _ranks(rows)
        return cls(
            first=dict(zip(evidence, first, strict=True)),
            kind=rows.column("kind").to_numpy(),
            flags=rows.column("flags").to_numpy(),
            ends=ends,
            span=span,
        )

    def covers(self, sides: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Covers:
        """Some tables, in as many leaves each.

        Args:
            sides: Positions of tables, and the places among their own leaves of those that are compared.
        """
        ids = [table for tables, _ in sides for table in tables]
        index = np.concatenate([self._rows(tables, places) for tables, places in sides], axis=1)
        lowest = np.arange(len(index))[:, np.newaxis] * (self.span + 1)
        low, high, first_high, last_low = self.ends[:, index] + lowest
        return Covers(
            ids=np.array(ids, np.int64),
            kind=self.kind[index],
            flags=self.flags[index],
            low=low,
            high=high,
            first_high=first_high,
            last_low=last_low,
            lowest=lowest,
            highest=lowest + self.span,
        )

    def _rows(self, tables: Sequence[int], places: Sequence[int]) -> npt.NDArray[np.intp]:
        starts = np.array([self.first[table] for table in tables], np.intp)
        return np.array(places, np.intp)[:, np.newaxis] + starts


def _ranks(rows: pa.Table) -> tuple[Numbers, int]:
    columns = [rows.column(name).cast(pa.large_binary()) for name in _ENDS]
    together = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.large_binary())
    keys = together.combine_chunks()
    ranks = np.array(pc.rank(keys, tiebreaker="dense").to_numpy(), np.int64).reshape(len(_ENDS), -1)
    missing = np.asarray(keys.is_null().to_numpy(zero_copy_only=False)).reshape(ranks.shape)
    span = int(ranks.max(initial=0)) + 1
    unknown = np.array([0 if name in ("low", "last_low") else span for name in _ENDS])
    return np.where(missing, unknown[:, np.newaxis], ranks), span
