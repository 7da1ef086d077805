"""Fingerprints as the kernels pack them, and one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from r2d2.scan.reports import FINGERPRINTS, REPORT, pack, unpack

_NOTHING = {"rows_read": 0, "bytes_read": 0, "error": "", "message": "", "status": ""}


def counted(batches: Iterable[pa.RecordBatch]) -> tuple[Counter[tuple[int, int, int]], list[dict[str, Any]]]:
    """How often each column set and fingerprint occurs in the output of a kernel, and its reports."""
    counts: Counter[tuple[int, int, int]] = Counter()
    reports: list[dict[str, Any]] = []
    for row in pa.Table.from_batches(batches, FINGERPRINTS).to_pylist():
        if row["column_set"] == REPORT:
            reports.append(row)
            continue
        first, second, count = unpack(row["packed"])
        counts_of = np.ones(len(first), np.int64) if count is None else count
        for one, other, many in zip(first.tolist(), second.tolist(), counts_of.tolist(), strict=True):
            counts[row["column_set"], one, other] += many
    return counts, reports


def packed_row(bucket: int, table: int, column_set: int, rows: Counter[tuple[int, int]]) -> dict[str, Any]:
    """A row of FINGERPRINTS."""
    lanes = np.array(list(rows), np.int64).reshape(len(rows), 2)
    packed = pack(lanes[:, 0].copy(), lanes[:, 1].copy(), np.array(list(rows.values()), np.int64))
    return {**_NOTHING, "bucket": bucket, "table": table, "column_set": column_set, "packed": packed}
