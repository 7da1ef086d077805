"""Sums of the rows of many small frames are those of each frame alone, however the rows were cut."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.model import leaves
from r2d2.scan import pieces
from r2d2.scan.bag_sums import BagSum, summed
from r2d2.scan.duck import KernelLimits
from r2d2.scan.engine_reader import scan_batches
from r2d2.scan.items import ColumnSet, ScanItem
from r2d2.scan.pieces import TABLE, are_plain
from r2d2.scan.plan import column_order
from r2d2.scan.rowhash import RowHasher

HASHER = RowHasher(lane_keys=(3, 5))
LIMITS = KernelLimits()
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-3, 3),
    pa.int64(): st.sampled_from([0, 1, -1, 1 << 60]),
    pa.float64(): st.sampled_from([0.0, -0.0, float("nan"), 1.5]),
    pa.bool_(): st.booleans(),
    pa.string(): st.sampled_from(["", "a", "ü"]),
    pa.binary(): st.sampled_from([b"", b"\0"]),
    pa.date32(): st.sampled_from([dt.date(1, 1, 1), dt.date(2020, 2, 29)]),
    pa.timestamp("us"): st.sampled_from([1, -1, 1_577_836_800_000_000]),
    pa.timestamp("us", "UTC"): st.sampled_from([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
    pa.decimal128(20, 3): st.sampled_from([Decimal("1.500"), Decimal("-2.001")]),
}


@st.composite
def tables(draw: st.DrawFn, types: Sequence[pa.DataType] | None = None) -> pa.Table:
    types = types or draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    rows = draw(st.integers(0, 5))
    columns = [draw(st.lists(VALUES[dtype] | st.none(), min_size=rows, max_size=rows)) for dtype in types]
    names = draw(st.permutations(["b", "A", "c", "d"]))[: len(types)]
    return pa.table([pa.array(own, dtype) for own, dtype in zip(columns, types, strict=True)], names)


def numbered(table: pa.Table) -> pa.Table:
    return table.rename_columns([f"c{place}" for place in range(table.num_columns)])


def alone(number: int, table: pa.Table) -> BagSum:
    """The oracle: fingerprints by the query that the kernel plans for one frame."""
    paths = column_order([path for path, _ in leaves(table.schema)])
    one = ColumnSet(id=0, paths=paths)
    item = ScanItem(table=number, files=(), partition_schema=pa.schema([]), column_sets=(one,))
    batches = scan_batches(iter(numbered(table).to_batches()), item, table.schema.names, HASHER, LIMITS)
    (told,) = summed(batches)
    return sum((BagSum.of_row(row) for row in told.to_pylist() if row["column_set"] == 0), BagSum())


def together(batches: Iterator[pa.RecordBatch], orders: dict[int, list[int]]) -> dict[int, BagSum]:
    sums = dict.fromkeys(orders, BagSum())
    for batch in pieces.summer(orders, HASHER, LIMITS)(batches):
        for row in batch.to_pylist():
            sums[row["table"]] += BagSum.of_row(row)
    return sums


@settings(max_examples=30)
@given(lake=st.lists(tables(), min_size=1, max_size=4), rows=st.integers(1, 4), most=st.sampled_from([1, 1 << 20]))
def test_many_frames_are_summed_as_each_alone(lake: list[pa.Table], rows: int, most: int) -> None:
    packed = [
        piece
        for number, table in enumerate(lake)
        for piece in pieces.packer([number])(iter(numbered(table).to_batches(max_chunksize=rows)))
    ]
    orders = {number: pieces.column_places(table.schema) for number, table in enumerate(lake)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "KERNEL_BYTES", most)
        found = together(iter(packed), orders)
    assert found == {number: alone(number, table) for number, table in enumerate(lake)}


@settings(max_examples=20)
@given(data=st.data(), types=st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
def test_rows_of_a_shared_frame_go_to_their_tables(data: st.DataObject, types: list[pa.DataType]) -> None:
    table = data.draw(tables(types))
    owners = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(table), max_size=len(table))), np.int32)
    frame = numbered(table).append_column(TABLE, pa.array(owners, pa.int32()))
    numbers = [7, 3, 5]
    packed = list(pieces.packer(numbers)(iter(frame.to_batches())))
    found = together(iter(packed), dict.fromkeys(numbers, pieces.column_places(table.schema)))
    assert found == {
        number: alone(number, table.filter(pa.array(owners == place))) for place, number in enumerate(numbers)
    }


def test_nested_columns_are_not_plain() -> None:
    assert are_plain(pa.schema([("x", pa.int32())]))
    assert not are_plain(pa.schema([("x", pa.int32()), ("l", pa.list_(pa.int32()))]))
    assert not are_plain(pa.schema([("s", pa.struct([("x", pa.int8())]))]))
    assert not are_plain(pa.schema([]))
