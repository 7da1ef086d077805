"""Comparison of bags of fingerprints: which rows of a child a parent lacks, and which it has less often.

Works on one bucket: all fingerprints of some tables whose first lane falls into it. The verdicts of a
pair's buckets add up.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.scan.fingerprints import REPORT

Words = npt.NDArray[np.int64]

PAIRS = pa.schema(
    [
        pa.field("bucket", pa.int32()),
        pa.field("child", pa.int32()),
        pa.field("parent", pa.int32()),
        pa.field("column_set", pa.int32()),
        pa.field("last", pa.int64()),  # unsigned bits: rows with a first lane above it are not compared
    ]
)
VERDICTS = pa.schema(
    [
        pa.field("child", pa.int32()),  # REPORT in a report
        pa.field("parent", pa.int32()),
        pa.field("column_set", pa.int32()),
        pa.field("distinct", pa.int64()),  # distinct child rows compared
        pa.field("missing", pa.int64()),  # of those, absent from the parent
        pa.field("excess", pa.int64()),  # of those, more frequent in the child than in the parent
        pa.field("child_rows", pa.int64()),  # rows of the child that reached the comparison, repeated ones too
        pa.field("parent_rows", pa.int64()),
        pa.field("table", pa.int32()),  # the columns of a report, see FINGERPRINTS
        pa.field("rows_read", pa.int64()),
        pa.field("bytes_read", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome of a pair.

    Attributes:
        distinct: Distinct child rows compared.
        missing: Of those, absent from the parent.
        excess: Of those, more frequent in the child than in the parent.
    """

    distinct: int
    missing: int
    excess: int


@dataclass(frozen=True, kw_only=True)
class Bag:
    """Distinct rows of one table under one column set.

    Attributes:
        ids: Sorted numbers that stand for fingerprints within a bucket.
        first: First lane of each, as signed bits.
        counts: Occurrences of each.
    """

    ids: Words
    first: Words
    counts: Words


def compare_bucket(fingerprints: pa.Table, pairs: pa.Table) -> pa.Table:
    """Verdicts of all pairs of a bucket, with the reports found among its fingerprints.

    Args:
        fingerprints: Schema FINGERPRINTS; a fingerprint may stand in several rows, whose counts add up.
        pairs: Schema PAIRS.

    Returns:
        Schema VERDICTS: one row per pair, then one per report.
    """
    is_report = pc.equal(fingerprints["column_set"], REPORT)
    bags = bags_of(fingerprints.filter(pc.invert(is_report)))
    reports = fingerprints.filter(is_report).select(_REPORT_COLUMNS).to_pylist()
    rows = [{**_NO_REPORT, **verdict} for verdict in _verdicts(bags, pairs)]
    rows += [{**_NO_VERDICT, **row} for row in reports]
    return pa.Table.from_pylist(rows, schema=VERDICTS)


def bags_of(fingerprints: pa.Table) -> dict[tuple[int, int], Bag]:
    """Bags by (table, column set), fingerprints numbered so that equal ones have equal numbers."""
    if fingerprints.num_rows == 0:
        return {}
    table, column_set, first, second, count = (
        _words(fingerprints[name]) for name in ("table", "column_set", "first", "second", "count")
    )
    by_value = np.lexsort((second, first))
    is_new = np.ones(len(by_value), bool)
    is_new[1:] = (np.diff(first[by_value]) != 0) | (np.diff(second[by_value]) != 0)
    ids = np.empty(len(by_value), np.int64)
    ids[by_value] = np.cumsum(is_new)
    order = np.lexsort((ids, column_set, table))
    table, column_set, ids, first, count = (words[order] for words in (table, column_set, ids, first, count))
    starts = _run_starts(table, column_set, ids)
    counts = np.add.reduceat(count, starts)
    table, column_set, ids, first = (words[starts] for words in (table, column_set, ids, first))
    bounds = np.append(_run_starts(table, column_set), len(table))
    return {
        (int(table[start]), int(column_set[start])): Bag(
            ids=ids[start:end], first=first[start:end], counts=counts[start:end]
        )
        for start, end in itertools.pairwise(bounds)
    }


def missing_and_excess(child: Bag, parent: Bag) -> tuple[int, int]:
    """Distinct child rows that the parent lacks, and distinct child rows that it has less often (those included)."""
    if len(parent.ids) == 0:
        return len(child.ids), len(child.ids)
    place = np.minimum(np.searchsorted(parent.ids, child.ids), len(parent.ids) - 1)
    found = parent.ids[place] == child.ids
    enough = found & (child.counts <= parent.counts[place])
    return int(np.count_nonzero(~found)), int(np.count_nonzero(~enough))


_REPORT_COLUMNS = ["table", "rows_read", "bytes_read", "error", "message", "status"]
_NO_REPORT = {"table": REPORT, "rows_read": 0, "bytes_read": 0, "error": "", "message": "", "status": ""}
_COUNTS = ("distinct", "missing", "excess", "child_rows", "parent_rows")
_NO_VERDICT = {"child": REPORT, "parent": REPORT, "column_set": REPORT, **dict.fromkeys(_COUNTS, 0)}
_EMPTY = Bag(ids=np.empty(0, np.int64), first=np.empty(0, np.int64), counts=np.empty(0, np.int64))


def _verdicts(bags: dict[tuple[int, int], Bag], pairs: pa.Table) -> Iterator[dict[str, Any]]:
    """One verdict per pair; equal bags, as copies of a table have, are compared with others only once."""
    contents = {key: _content(bag) for key, bag in bags.items()}
    known: dict[tuple[bytes, bytes, int], tuple[int, ...]] = {}
    for pair in pairs.to_pylist():
        child, parent = (pair["child"], pair["column_set"]), (pair["parent"], pair["column_set"])
        question = (contents.get(child, b""), contents.get(parent, b""), pair["last"])
        if question not in known:
            compared, there = up_to(bags.get(child, _EMPTY), pair["last"]), bags.get(parent, _EMPTY)
            sizes = (int(compared.counts.sum()), int(there.counts.sum()))
            known[question] = (len(compared.ids), *missing_and_excess(compared, there), *sizes)
        named = {name: pair[name] for name in ("child", "parent", "column_set")}
        yield {**named, **dict(zip(_COUNTS, known[question], strict=True))}


def _content(bag: Bag) -> bytes:
    """A name of a bag's rows and counts within its bucket."""
    digest = hashlib.blake2b(bag.ids.tobytes(), digest_size=16)
    digest.update(bag.counts.tobytes())
    return digest.digest()


def up_to(bag: Bag, last: int) -> Bag:
    """The rows whose first lane, read as unsigned, is at most `last`, which is given as signed bits."""
    kept = bag.first.view(np.uint64) <= np.int64(last).view(np.uint64)
    return Bag(ids=bag.ids[kept], first=bag.first[kept], counts=bag.counts[kept])


def _run_starts(*keys: Words) -> npt.NDArray[np.intp]:
    changes = np.ones(len(keys[0]), bool)
    changes[1:] = np.logical_or.reduce([np.diff(key) != 0 for key in keys])
    return np.flatnonzero(changes)


def _words(column: pa.ChunkedArray) -> Words:
    return np.asarray(column.to_numpy(), np.int64)
