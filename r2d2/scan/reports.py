"""What a scan kernel returns: fingerprints of rows, and reports on what it has read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.errors import TableFault
from r2d2.model import LeafPath, leaf_key
from r2d2.scan.items import EVERYTHING, ScanFile, ScanItem
from r2d2.scan.observe import Observation, Observer, hides_nan, is_lie
from r2d2.scan.ordering import ordered
from r2d2.scan.row_filter import RowFilter, read_filters

FINGERPRINTS = pa.schema(
    [
        pa.field("bucket", pa.int32()),  # rows that may equal one another share it
        pa.field("table", pa.int32()),
        pa.field("column_set", pa.int32()),  # REPORT in a report, SPILLED in an index, FILTER in a filter
        pa.field("packed", pa.binary()),  # fingerprints and counts, see `pack`
        pa.field("rows_read", pa.int64()),  # of a report; of fingerprints: other rows that were left out
        pa.field("bytes_read", pa.int64()),  # of a report, as the columns below
        pa.field("error", pa.string()),  # empty where the item was read whole
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)
"""No NULLs: Sail cannot pass them through a cogrouped kernel."""

REPORT, SPILLED, FILTER = -1, -2, -3
"""Column sets of rows that are no fingerprints. SPILLED: `message` is a file that holds fingerprints, and `packed` has
bucket, start and end of its segments as 64-bit words. FILTER: `packed` is a `row_filter.RowFilter`, `bucket` the column
set, and `rows_read` how many rows it has taken in."""
NO_REPORT: dict[str, Any] = {"rows_read": 0, "bytes_read": 0, "error": "", "message": "", "status": ""}
"""What a row that is no report has in the columns of one."""
LIE, HIDDEN_NAN = "lie", "hidden NaN"
"""Status of reports that are no end of an item: the message names a file and a leaf whose metadata is wrong, or in
which `observe.hides_nan` holds."""


Words = npt.NDArray[np.int64]

UnsignedWords = npt.NDArray[np.uint64]

_MOST_PACKED = 1 << 20
_PROBED = 1 << 14


def pack(first: npt.NDArray[Any], second: npt.NDArray[Any], count: npt.NDArray[Any] | None) -> bytes:
    """Fingerprints as bytes: their number, first lanes, second lanes, counts unless all are 1; 64-bit words."""
    parts = [np.array([len(first)], np.int64), first, second]
    if count is not None and (count != 1).any():
        parts.append(count.astype(np.int64, copy=False))
    return b"".join(part.tobytes() for part in parts)


def unpack(packed: Any) -> tuple[Words, Words, Words | None]:
    """Inverse of `pack`; lanes are read as signed, and the counts are None where all are 1."""
    words = np.frombuffer(packed, np.int64)
    rows = int(words[0])
    first, second, count = words[1 : 1 + rows], words[1 + rows : 1 + 2 * rows], words[1 + 2 * rows :]
    return first, second, count if len(count) else None


def signed(word: int) -> int:
    """An unsigned 64-bit word as the signed one of the same bits."""
    return word - (1 << 64) if word >= 1 << 63 else word


def below(threshold: int, first: UnsignedWords, second: UnsignedWords) -> tuple[UnsignedWords, UnsignedWords]:
    """The fingerprints whose first lane is below a threshold."""
    if threshold == EVERYTHING:
        return first, second
    kept = first < np.uint64(threshold)
    return first[kept], second[kept]


def counted(
    first: UnsignedWords, second: UnsignedWords
) -> tuple[UnsignedWords, UnsignedWords, npt.NDArray[np.int64] | None]:
    """Fingerprints with equal ones counted, where that halves them; None counts each as one."""
    probe = np.sort(first[:_PROBED])
    if len(probe) and 1 + np.count_nonzero(probe[1:] != probe[:-1]) > len(probe) // 2:
        return first, second, None
    order, begins = ordered(first, second)
    starts = np.flatnonzero(begins)
    chosen = order[starts]
    return first[chosen], second[chosen], np.diff(starts, append=len(first))


class FingerprintRows:
    """Collects rows of FINGERPRINTS."""

    def __init__(self) -> None:
        self._keys: list[tuple[int, int, int]] = []
        self._packed: list[bytes] = []
        self._left_out: list[int] = []

    def add_rows(self, item: ScanItem, column_set: int, first: UnsignedWords, second: UnsignedWords) -> None:
        """Add rows of an item under one column set: those that it keeps, and how many its filters leave out."""
        first, second = below(item.threshold, first, second)
        left_out = None
        if item.filters:
            kept = read_filters(item.filters)[column_set].may_have(first)
            buckets = (first[~kept] % np.uint64(item.buckets)).astype(np.int64)
            left_out = np.bincount(buckets, minlength=item.buckets)
            first, second = first[kept], second[kept]
        self.add(item, column_set, *counted(first, second), left_out)

    def add(
        self,
        item: ScanItem,
        column_set: int,
        first: UnsignedWords,
        second: UnsignedWords,
        count: npt.NDArray[Any] | None = None,
        left_out: npt.NDArray[Any] | None = None,
    ) -> None:
        """Add fingerprints of rows of an item under one column set, dealt into its buckets.

        Args:
            item: Whose rows they are.
            column_set: Under which.
            first, second: Their lanes.
            count: How often each is there; None counts each as one.
            left_out: By bucket of the item, how many rows are not among them; None for no others.
        """
        others = [0] * item.buckets if left_out is None else left_out.tolist()
        if item.buckets == 1:
            self._add(item, column_set, 0, others[0], first, second, count)
            return
        buckets = (first % np.uint64(item.buckets)).astype(np.uint16 if item.buckets <= 1 << 16 else np.int64)
        order = np.argsort(buckets, kind="stable")
        first, second = first[order], second[order]
        count = None if count is None else count[order]
        ends = np.cumsum(np.bincount(buckets, minlength=item.buckets))
        for bucket, (start, end) in enumerate(itertools.pairwise([0, *ends.tolist()])):
            own = None if count is None else count[start:end]
            self._add(item, column_set, bucket, others[bucket], first[start:end], second[start:end], own)

    def _add(
        self, item: ScanItem, column_set: int, bucket: int, others: int, *columns: npt.NDArray[Any] | None
    ) -> None:
        first, second, count = columns
        if first is None or second is None:
            raise ValueError("fingerprints have two lanes")
        for start in range(0, max(len(first), min(1, others)), _MOST_PACKED):
            part = slice(start, start + _MOST_PACKED)
            self._keys.append((item.first_bucket + bucket, item.table, column_set))
            self._packed.append(pack(first[part], second[part], None if count is None else count[part]))
            self._left_out.append(0 if start else others)

    def batch(self) -> pa.RecordBatch:
        """What was collected, schema FINGERPRINTS."""
        rows = len(self._keys)
        keys = np.array(self._keys, np.int32).reshape(rows, 3)
        zeros, empty = pa.array(np.zeros(rows, np.int64)), pa.repeat(pa.scalar(""), rows)
        columns = [*(pa.array(keys[:, place]) for place in range(3)), pa.array(self._packed, pa.binary())]
        left_out = pa.array(self._left_out, pa.int64())
        return pa.RecordBatch.from_arrays([*columns, left_out, zeros, empty, empty, empty], schema=FINGERPRINTS)


def filter_batch(filters: Mapping[int, RowFilter]) -> pa.RecordBatch:
    """A row for each column set; see FILTER."""
    key = {**_NOTHING, "table": -1, "column_set": FILTER}
    rows = [
        {**key, "bucket": column_set, "packed": own.pack(), "rows_read": own.rows}
        for column_set, own in filters.items()
    ]
    return report_batch(rows)


def report(item: ScanItem, rows_read: int, bytes_read: int, fault: TableFault | None) -> pa.RecordBatch:
    """The row that ends an item: what was read, and what went wrong."""
    return report_batch([report_row(item, rows_read, bytes_read, fault)])


def report_row(item: ScanItem, rows_read: int, bytes_read: int, fault: TableFault | None) -> dict[str, Any]:
    """`report` for `report_batch`."""
    return _row(
        item,
        rows_read=rows_read,
        bytes_read=bytes_read,
        error=fault.error if fault else "",
        message=str(fault) if fault else "",
        status=fault.status if fault else "",
    )


def leaf_report(item: ScanItem, status: str, fragment: int, path: LeafPath) -> pa.RecordBatch:
    """The row that says what is odd about a leaf of a file: LIE or HIDDEN_NAN."""
    return report_batch([leaf_report_row(item, status, fragment, path)])


def leaf_report_row(item: ScanItem, status: str, fragment: int, path: LeafPath) -> dict[str, Any]:
    """`leaf_report` for `report_batch`."""
    return _row(item, message=json.dumps({"fragment": fragment, "leaf": leaf_key(path)}), status=status)


def oddities(
    item: ScanItem, file: ScanFile, observer: Observer, seen: Observation, rows: int
) -> Iterator[dict[str, Any]]:
    """What is odd about a leaf that was observed in all live rows of a file, so many, as rows of reports."""
    if is_lie(observer, seen, rows):
        yield leaf_report_row(item, LIE, file.number, observer.expected.path)
    if hides_nan(observer, seen, whole_file=True):
        yield leaf_report_row(item, HIDDEN_NAN, file.number, observer.expected.path)


def report_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Reports as rows of FINGERPRINTS."""
    return pa.RecordBatch.from_pylist(rows, schema=FINGERPRINTS)


def spilled_batch(uri: str, indexes: list[Words]) -> pa.RecordBatch:
    """A row for each index of segments of a file; see SPILLED."""
    key = {"bucket": -1, "table": -1, "column_set": SPILLED}
    rows = [{**_NOTHING, **key, "packed": index.tobytes(), "message": uri} for index in indexes]
    return pa.RecordBatch.from_pylist(rows, schema=FINGERPRINTS)


_NOTHING = {**NO_REPORT, "packed": b""}


def _row(item: ScanItem, **told: Any) -> dict[str, Any]:
    return {**_NOTHING, "bucket": item.first_bucket, "table": item.table, "column_set": REPORT, **told}
