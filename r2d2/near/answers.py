"""What the samples of one bucket say: which pairs of tables overlap highly under its columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.near.candidates import candidate_pairs
from r2d2.near.estimates import Overlap, Sample, overlap
from r2d2.near.scan import REPORT

ANSWERS = pa.schema(
    [
        pa.field("bucket", pa.int32()),  # REPORT in a report
        pa.field("child", pa.int32()),
        pa.field("parent", pa.int32()),  # NO_PARENT where only the child's distinct rows are told
        pa.field("sampled", pa.int64()),
        pa.field("matched", pa.int64()),
        pa.field("whole", pa.bool_()),  # the sample is all of the child's distinct rows
        pa.field("kept", pa.int64()),  # hashes in the child's own sample
        pa.field("limit", pa.string()),  # of the child's sample, in decimal; empty where it has all
        pa.field("rows_read", pa.int64()),  # of a report, as the columns below
        pa.field("bytes_read", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)
NO_PARENT = -2

LEAST_SAMPLED = 16
"""Rows that a sample must have to say something, unless it has all."""

MOST_PARENTS = 20
"""Parents of one child in one bucket, the best of them, so that results grow with the tables and not with the pairs."""


def answer_bucket(sketches: pa.Table, threshold: float) -> pa.Table:
    """Overlaps that reach a threshold, and the reports among some samples.

    Args:
        sketches: Schema SKETCHES, of one bucket; a table may have several rows.
        threshold: Least estimated containment.

    Returns:
        Schema ANSWERS.
    """
    is_report = pc.equal(sketches["bucket"], REPORT)
    told = ["rows_read", "bytes_read", "error", "message", "status"]
    reports = sketches.filter(is_report).select(["table", *told]).to_pylist()
    rows = [_row(bucket=REPORT, child=row.pop("table"), **row) for row in reports]
    return pa.Table.from_pylist([*rows, *_overlaps(sketches.filter(pc.invert(is_report)), threshold)], schema=ANSWERS)


def _overlaps(sketches: pa.Table, threshold: float) -> Iterator[dict[str, Any]]:
    if sketches.num_rows == 0:
        return
    bucket, choice = (sketches[name][0].as_py() for name in ("bucket", "choice"))
    children = set(sketches.filter(sketches["is_child"])["table"].to_pylist())
    samples = samples_of(sketches)
    if choice == 0:
        yield from (_row(bucket=bucket, child=child, **_sample(samples[child])) for child in sorted(children))
    best: dict[int, list[tuple[float, int, Overlap]]] = defaultdict(list)
    for child, parent in candidate_pairs(samples, children, threshold):
        found = overlap(samples[child], samples[parent])
        if found.matched >= threshold * max(1, found.sampled) and (found.whole or found.sampled >= LEAST_SAMPLED):
            best[child].append((-found.matched / found.sampled, parent, found))
    for child, ranked in sorted(best.items()):
        for _, parent, found in sorted(ranked, key=lambda one: one[:2])[:MOST_PARENTS]:
            counts = {"sampled": found.sampled, "matched": found.matched, "whole": found.whole}
            yield _row(bucket=bucket, child=child, parent=parent, **counts, **_sample(samples[child]))


def samples_of(sketches: pa.Table) -> dict[int, Sample]:
    """The sample of each table, of all its parts."""
    parts: dict[int, list[Any]] = defaultdict(list)
    sizes: dict[int, int] = {}
    for row in sketches.select(["table", "size", "hashes"]).to_pylist():
        parts[row["table"]].append(np.frombuffer(row["hashes"], np.uint64))
        sizes[row["table"]] = row["size"]
    return {table: Sample.of(own, sizes[table]) for table, own in parts.items()}


def _sample(sample: Sample) -> dict[str, Any]:
    return {"kept": len(sample.hashes), "limit": "" if sample.limit is None else str(sample.limit)}


def _row(**told: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("sampled", "matched", "kept", "rows_read", "bytes_read"), 0)
    texts = dict.fromkeys(("limit", "error", "message", "status"), "")
    return {"parent": NO_PARENT, "whole": False, **numbers, **texts, **told}
