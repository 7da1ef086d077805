"""Sums over bags of fingerprints: two bags with equal sums are equal, and no row needs to travel to find out.

The sums are those of a multiset hash: the fingerprint of each row, mixed into four keyed words that are added modulo
2^64, and the number of rows. Rows with unequal counts would have to cancel in all four at once. (Clarke, Devadas, van
Dijk, Gassend and Suh, *Incremental multiset hash functions*, ASIACRYPT 2003; the fingerprints are keyed already.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.scan.reports import FINGERPRINTS, NO_REPORT, REPORT, signed, unpack

Words = npt.NDArray[np.uint64]

BAG_FIELDS = (
    pa.field("rows", pa.int64()),
    *(pa.field(f"word{number}", pa.int64()) for number in range(4)),  # unsigned bits
)
"""The sums of one bag, as `BagSum.to_row` has them."""
SUMS = pa.schema(
    [
        pa.field("table", pa.int32()),
        pa.field("column_set", pa.int32()),  # REPORT in a report
        *BAG_FIELDS,
        pa.field("rows_read", pa.int64()),  # of a report, as the columns below
        pa.field("bytes_read", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)
_MASK = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class BagSum:
    """The sums of a bag of rows: their number, and four words."""

    rows: int = 0
    words: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __add__(self, other: BagSum) -> BagSum:
        first, second, third, fourth = ((a + b) & _MASK for a, b in zip(self.words, other.words, strict=True))
        return BagSum(rows=self.rows + other.rows, words=(first, second, third, fourth))

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> BagSum:
        """The sums that the BAG_FIELDS of a row hold."""
        first, second, third, fourth = (row[f"word{number}"] & _MASK for number in range(4))
        return cls(rows=row["rows"], words=(first, second, third, fourth))

    def to_row(self) -> dict[str, int]:
        """The sums as BAG_FIELDS."""
        return {"rows": self.rows, **{f"word{number}": signed(word) for number, word in enumerate(self.words)}}

    @classmethod
    def of(cls, first: npt.NDArray[Any], second: npt.NDArray[Any], counts: npt.NDArray[Any] | None) -> BagSum:
        """The sums of fingerprints, given by their lanes; counts of None count each once."""
        a, b = first.view(np.uint64), second.view(np.uint64)
        words = (a, b, mixed(a + b * ODD), mixed(b ^ mixed(a)))
        times = None if counts is None else counts.astype(np.uint64)
        added = [int((word if times is None else word * times).sum(dtype=np.uint64)) for word in words]
        rows = len(a) if counts is None else int(counts.sum())
        return cls(rows=rows, words=(added[0], added[1], added[2], added[3]))


ODD = np.uint64(0x9E3779B97F4A7C15)
"""The golden ratio in 64 bits, which keeps apart what is added."""


def mixed(words: Words) -> Words:
    """A permutation of 64-bit words in which each bit depends on all (the finaliser of SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed


def summed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The kernel: FINGERPRINTS in, one row of SUMS per table and column set, and all reports as they are."""
    sums: dict[tuple[int, int], BagSum] = {}
    reports: list[dict[str, Any]] = []
    for batch in batches:
        rows = batch.cast(FINGERPRINTS)
        is_report = pc.equal(rows["column_set"], REPORT)
        reports += rows.filter(is_report).select(["table", "column_set", *NO_REPORT]).to_pylist()
        kept = rows.filter(pc.invert(is_report))
        keys = zip(kept["table"].to_pylist(), kept["column_set"].to_pylist(), strict=True)
        for key, packed in zip(keys, kept["packed"], strict=True):
            sums[key] = sums.get(key, BagSum()) + BagSum.of(*unpack(packed.as_buffer()))
    told = [sum_row(table, column_set, own) for (table, column_set), own in sums.items()]
    told += [{**sum_row(row["table"], REPORT, BagSum()), **row} for row in reports]
    yield pa.RecordBatch.from_pylist(told, schema=SUMS)


def sum_row(table: int, column_set: int, own: BagSum) -> dict[str, Any]:
    """Sums as a row of SUMS."""
    return {**NO_REPORT, "table": table, "column_set": column_set, **own.to_row()}
