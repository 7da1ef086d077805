"""Bags have equal sums exactly if they are equal, however they were cut and counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from r2d2.errors import TableFailed
from r2d2.scan.bag_sums import SUMS, BagSum, summed
from r2d2.scan.items import ScanItem
from r2d2.scan.reports import REPORT, FingerprintRows, report

Row = tuple[int, int]

words = st.sampled_from([0, 1, 2, 3, 1 << 32, 1 << 63, (1 << 64) - 1])
bags = st.lists(st.tuples(words, words), max_size=12)


def sum_of(rows: list[Row]) -> BagSum:
    first, second = (np.array([row[lane] for row in rows], np.uint64) for lane in (0, 1))
    return BagSum.of(first, second, None)


def item(table: int) -> ScanItem:
    return ScanItem(table=table, files=(), partition_schema=pa.schema([]), column_sets=())


@given(one=bags, other=bags)
def test_sums_tell_bags_apart(one: list[Row], other: list[Row]) -> None:
    """Even of fingerprints that are no random numbers: few words, and each bit of them may cancel another."""
    assert (sum_of(one) == sum_of(other)) == (Counter(one) == Counter(other))


@given(rows=bags, cut=st.integers(0, 12))
def test_parts_and_counts_add_up(rows: list[Row], cut: int) -> None:
    counted = Counter(rows)
    first, second = (np.array([row[lane] for row in counted], np.uint64) for lane in (0, 1))
    assert sum_of(rows) == sum_of(rows[:cut]) + sum_of(rows[cut:])
    assert sum_of(rows) == BagSum.of(first, second, np.array(list(counted.values()), np.int64))


@given(tables=st.lists(bags, min_size=1, max_size=3), cut=st.integers(0, 12))
def test_the_kernel_sums_each_table(tables: list[list[Row]], cut: int) -> None:
    """Batches of fingerprints in, one row per table out, and reports go through."""
    batches = []
    for table, rows in enumerate(tables):
        for part in (rows[:cut], rows[cut:]):
            kept = FingerprintRows()
            kept.add(item(table), 0, *(np.array([row[lane] for row in part], np.uint64) for lane in (0, 1)))
            batches.append(kept.batch())
        batches.append(report(item(table), len(rows), 7, TableFailed("broken", error="Broken") if table else None))
    (found,) = summed(batches)
    assert found.schema == SUMS
    told = found.to_pylist()
    for table, rows in enumerate(tables):
        own = [row for row in told if row["table"] == table and row["column_set"] != REPORT]
        (ended,) = (row for row in told if row["table"] == table and row["column_set"] == REPORT)
        assert (ended["rows_read"], ended["bytes_read"], ended["error"]) == (len(rows), 7, "Broken" if table else "")
        words_of = [tuple(row[f"word{number}"] % (1 << 64) for number in range(4)) for row in own]
        assert words_of == ([sum_of(rows).words] if rows else [])
        assert sum(row["rows"] for row in own) == len(rows)
