"""Parquet files of drawn tables, work items over them, and what the scan kernel says of these."""

from __future__ import annotations

import base64
import datetime as dt
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import strategies as st

from r2d2.model import type_class
from r2d2.scan import fingerprints
from r2d2.scan.duck import KernelLimits
from r2d2.scan.evidence import Flag, LeafEvidence, number_key, pack
from r2d2.scan.files import stamp
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.items import ColumnSet, ScanFile, ScanItem
from r2d2.scan.rowhash import RowHasher
from tests.unit import fingerprint_rows

HASHER = RowHasher(lane_keys=(0x0123456789ABCDEF, 0xFEDCBA9876543210))
INSTANTS = st.sampled_from([0, 1, -1, 1_600_000_000_000_000, 2**53 + 1])
PLAIN: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.sampled_from([0, 1, -1, 2**53 + 1, -(2**53) - 2, 2**63 - 1, -(2**63)]),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=4),
    pa.binary(): st.binary(max_size=4),
    pa.date32(): st.dates(dt.date(1, 1, 1)),
    pa.timestamp("us"): INSTANTS,
    pa.timestamp("us", tz="UTC"): INSTANTS,
    pa.timestamp("us", tz="Asia/Tokyo"): INSTANTS,
    pa.timestamp("ns"): INSTANTS,
    pa.decimal128(9, 2): st.decimals(-1000, 1000, places=2),
    pa.decimal128(30, 4): st.decimals(-(10**20), 10**20, places=4).map(lambda number: round(number, 4)),
    pa.large_string(): st.text("ab", max_size=2),
    pa.dictionary(pa.int32(), pa.string()): st.text("ab", max_size=2),
}
OTHER: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.list_(pa.int64()): st.lists(st.integers(0, 2), max_size=2),
    pa.struct([("f", pa.int64())]): st.fixed_dictionaries({"f": st.integers(0, 2)}),
}


def alone(items: Sequence[ScanItem], monkeypatch: pytest.MonkeyPatch) -> list[pa.RecordBatch]:
    """The output of the kernel without reading files together."""

    def none(items: Sequence[ScanItem], *_: object) -> Iterator[pa.RecordBatch]:
        yield from ()
        return deque(items)

    with monkeypatch.context() as patched:
        patched.setattr(fingerprints, "read_small_item", lambda _: None)
        patched.setattr(fingerprints, "scan_alike", none)
        return list(scan_items(items, HASHER, KernelLimits()))


def output_of(batches: Sequence[pa.RecordBatch]) -> tuple[Counter[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Fingerprints by bucket, table and column set, and the reports, in an order of their own."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for batch in batches:
        for row in batch.to_pylist():
            own, _ = fingerprint_rows.counted([pa.RecordBatch.from_pylist([row], schema=batch.schema)])
            for (column_set, first, second), count in own.items():
                counts[row["bucket"], row["table"], column_set, first, second] += count
    _, reports = fingerprint_rows.counted(batches)
    return counts, sorted(tuple(row.values()) for row in reports)


def evidence(table: pa.Table, flags: Flag, bound: int) -> tuple[tuple[tuple[str], ...], str]:
    """Leaves, and what metadata is to have proved of each in the one file of a table."""
    leaves = sorted(field.name for field in table.schema)
    claims = [
        LeafEvidence(kind=type_class(plain(table.schema.field(name).type)), flags=flags, low=number_key(bound))
        for name in leaves
    ]
    return tuple((name,) for name in leaves), base64.b64encode(pack(claims, [])).decode()


def plain(dtype: pa.DataType) -> pa.DataType:
    """The type of the values."""
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def item_of(number: int, path: Path, table: pa.Table, **options: Any) -> ScanItem:
    """A work item of one file: all of its columns as one column set, and its first and a missing one as another."""
    names = tuple((field.name,) for field in table.schema if not pa.types.is_struct(field.type))
    return ScanItem(
        table=number,
        files=(ScanFile(stamp=stamp(str(path)), data_uri=str(path), **options.pop("file", {})),),
        partition_schema=options.pop("partition_schema", pa.schema([])),
        column_sets=(ColumnSet(id=0, paths=names), ColumnSet(id=1, paths=(*names[:1], ("missing",)))),
        **options,
    )


@st.composite
def tables(draw: st.DrawFn, types: dict[pa.DataType, st.SearchStrategy[Any]]) -> pa.Table:
    chosen = draw(st.lists(st.sampled_from(list(types)), min_size=1, max_size=4))
    rows = draw(st.integers(0, 12))
    columns = {}
    for place, dtype in enumerate(chosen):
        values = draw(st.lists(st.none() | types[dtype], min_size=rows, max_size=rows))
        columns[f"C.{place}" if place % 2 else f"c{place}"] = pa.array(values, plain(dtype)).cast(dtype)
    return pa.table(columns)
