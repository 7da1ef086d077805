"""Small files read together give what each gives when it is read alone, whatever is wrong with its neighbours."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.model import FileStamp
from r2d2.scan import fingerprints
from r2d2.scan.duck import KernelLimits
from r2d2.scan.evidence import Flag
from r2d2.scan.files import stamp
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.items import EVERYTHING, ColumnSet, ScanFile
from r2d2.scan.reports import HIDDEN_NAN, LIE, counted, unpack
from r2d2.scan.reports import pack as packed
from r2d2.scan.small import read_small_item
from tests.unit import fingerprint_rows
from tests.unit.forgery import I64, NUM_VALUES, forge
from tests.unit.scanned_files import HASHER, OTHER, PLAIN, alone, evidence, item_of, output_of, plain, tables

COMPRESSED_BYTES = 7
"""Field of a column chunk's metadata."""


@settings(max_examples=25, deadline=None)
@given(
    lake=st.lists(tables(PLAIN) | tables({**PLAIN, **OTHER}), min_size=1, max_size=6),
    threshold=st.sampled_from([EVERYTHING, 1 << 63]),
    buckets=st.integers(1, 3),
    flags=st.sampled_from([Flag.MAY_VALUE | Flag.MAY_NAN, Flag.MAY_VALUE | Flag.MAY_NULL | Flag.MAY_NAN]),
    bound=st.integers(-1, 1),
    observed=st.booleans(),
    group=st.sampled_from([3, 1000]),
    partition=st.sampled_from([None, "7", "-3"]),
)
def test_files_read_together_give_what_each_gives_alone(
    lake: list[pa.Table],
    threshold: int,
    buckets: int,
    flags: Flag,
    bound: int,
    observed: bool,
    group: int,
    partition: str | None,
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        items = []
        for number, table in enumerate(lake):
            path = Path(folder) / f"t[{number}].parquet"
            pq.write_table(table, path, row_group_size=group)
            options: dict[str, Any] = {"threshold": threshold, "first_bucket": 5, "buckets": buckets, "file": {}}
            if observed and not any(pa.types.is_nested(field.type) for field in table.schema):
                options["leaves"], options["file"]["evidence"] = evidence(table, flags, bound)
            if partition is not None:
                options["file"]["partition"] = {"missing": partition}
                options["partition_schema"] = pa.schema([("missing", pa.int32())])
            items.append(item_of(number, path, table, **options))
        assert output_of(list(scan_items(items, HASHER, KernelLimits()))) == output_of(alone(items, monkeypatch))


@pytest.mark.parametrize("dtype", PLAIN, ids=str)
def test_plain_columns_are_read_together(tmp_path: Path, dtype: pa.DataType) -> None:
    table = pa.table({"a": pa.nulls(3, plain(dtype)).cast(dtype)})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_small_item(item_of(0, tmp_path / "t.parquet", table)) is not None


@pytest.mark.parametrize("dtype", OTHER, ids=str)
def test_other_columns_are_read_alone(tmp_path: Path, dtype: pa.DataType) -> None:
    table = pa.table({"x": [1], "a": pa.nulls(1, dtype)})
    pq.write_table(table, tmp_path / "t.parquet")
    item = replace(item_of(0, tmp_path / "t.parquet", table), column_sets=(ColumnSet(id=0, paths=(("x",), ("a",))),))
    assert read_small_item(item) is None


@pytest.mark.parametrize("dtype", [pa.timestamp("us"), pa.timestamp("us", tz="UTC"), pa.timestamp("ns")], ids=str)
def test_the_first_and_last_timestamps_are_read_as_they_are_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: pa.DataType
) -> None:
    first = -9_223_372_022_400_000_000  # DuckDB's reader of files fails on what is before
    items = []
    for number, value in enumerate([-(2**63), 1 - 2**63, 2 - 2**63, first - 1, first, 2**63 - 2, 2**63 - 1]):
        table = pa.table({"a": pa.array([value, None], pa.int64()).view(dtype)})
        pq.write_table(table, tmp_path / f"{number}.parquet")
        items.append(item_of(number, tmp_path / f"{number}.parquet", table))
    assert output_of(list(scan_items(items, HASHER, KernelLimits()))) == output_of(alone(items, monkeypatch))


def test_a_long_text_in_a_dictionary_is_not_written_out_in_all_rows(tmp_path: Path) -> None:
    once = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1 << 16, np.int32)), ["x" * 2000])
    table = pa.table({"a": once})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(pa.ArrowInvalid):
        read_small_item(item_of(0, tmp_path / "t.parquet", table))


def test_files_that_hold_much_more_than_their_bytes_are_read_alone(tmp_path: Path) -> None:
    table = pa.table({"a": pa.repeat(pa.scalar(7), 1 << 18)})
    pq.write_table(table, tmp_path / "t.parquet")
    item = replace(item_of(0, tmp_path / "t.parquet", table), column_sets=(ColumnSet(id=0, paths=(("a",),)),))
    assert read_small_item(item) is not None
    assert read_small_item(replace(item, files=item.files * 20)) is None


def test_a_wide_file_is_read_whole_where_a_narrow_one_of_its_size_is_read_alone(tmp_path: Path) -> None:
    rows = (1 << 19) // 63
    for columns, is_small in ((64, True), (4, False)):
        cells = pa.repeat(pa.scalar(7), 64 * rows // columns)
        table = pa.table({f"c{place}": cells for place in range(columns)})
        pq.write_table(table, tmp_path / f"{columns}.parquet")
        item = item_of(0, tmp_path / f"{columns}.parquet", table)
        assert (read_small_item(item) is not None) is is_small


def flipped(data: bytes) -> bytes:
    """A file whose first page cannot be decompressed."""
    return data[:4] + bytes(byte ^ 0xFF for byte in data[4:40]) + data[40:]


@pytest.mark.parametrize("damage", [flipped, lambda data: data[:-20], lambda _: b"", lambda data: b"x" * len(data)])
def test_a_damaged_file_fails_its_own_table_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any) -> None:
    table = pa.table({"a": list(range(1000)), "b": [f"text {n % 7}" for n in range(1000)]})
    items = []
    for number in range(5):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table.slice(number), path)
        if number == 2:
            path.write_bytes(damage(path.read_bytes()))
        items.append(item_of(number, path, table))
    together = output_of(list(scan_items(items, HASHER, KernelLimits())))
    assert together == output_of(alone(items, monkeypatch))
    _, reports = fingerprint_rows.counted(list(scan_items(items, HASHER, KernelLimits())))
    assert {row["table"]: bool(row["error"]) for row in reports} == {n: n == 2 for n in range(5)}


@pytest.mark.parametrize("values", [0, 2, 4])
def test_a_chunk_with_another_number_of_values_than_rows_is_read_alone(tmp_path: Path, values: int) -> None:
    table = pa.table({"a": [1, None, 2]})
    pq.write_table(table, tmp_path / "t.parquet")
    forge(tmp_path / "t.parquet", lambda chunk, _: chunk.update({NUM_VALUES: (I64, values)}))
    assert read_small_item(item_of(0, tmp_path / "t.parquet", table)) is None


def test_a_footer_that_claims_too_many_bytes_does_not_end_the_job(tmp_path: Path) -> None:
    table = pa.table({"a": [1, None, 2], "b": ["x", "y", None]})
    items = []
    for number in range(2):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table, path)
        if number == 1:
            forge(path, lambda chunk, _: chunk.update({COMPRESSED_BYTES: (I64, 2**63 - 1)}))
        items.append(item_of(number, path, table))
    _, reports = fingerprint_rows.counted(list(scan_items(items, HASHER, KernelLimits())))
    assert {row["table"] for row in reports} == {0, 1}
    assert all(0 <= row["bytes_read"] <= 2 * item.files[0].stamp.size for row, item in zip(reports, items, strict=True))


def test_text_that_is_not_utf8_fails_its_own_table_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = []
    for number, value in enumerate([b"fine", b"\xff\xfe", b"too"]):
        path = tmp_path / f"{number}.parquet"
        invalid = pa.Array.from_buffers(pa.string(), 1, pa.array([value], pa.binary()).buffers())
        table = pa.table({"a": invalid})
        pq.write_table(table, path)
        items.append(item_of(number, path, table))
    together = output_of(list(scan_items(items, HASHER, KernelLimits())))
    assert together == output_of(alone(items, monkeypatch))


def test_a_group_that_fails_is_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = []
    for number in range(3):
        path = tmp_path / f"{number}.parquet"
        table = pa.table({"a": [number, number], "b": ["x", None]})
        pq.write_table(table, path)
        items.append(item_of(number, path, table))
    expected = output_of(alone(items, monkeypatch))

    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fingerprints, "scan_together", refuse)
    assert output_of(list(scan_items(items, HASHER, KernelLimits()))) == expected


def test_a_small_file_that_changes_fails(tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    pq.write_table(table, tmp_path / "t.parquet")
    item = item_of(3, tmp_path / "t.parquet", table)
    old = replace(item.files[0], stamp=FileStamp(**{**vars(item.files[0].stamp), "token": "1"}))
    counts, (report,) = fingerprint_rows.counted(scan_items([replace(item, files=(old,))], HASHER, KernelLimits()))
    assert (dict(counts), report["error"]) == ({}, "Changed")


def test_what_rows_say_against_the_metadata_is_reported(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, float("nan"), 1.0], "b": [None, "x", "y"]})
    pq.write_table(table, tmp_path / "t.parquet")
    leaves, claims = evidence(table, Flag.MAY_VALUE | Flag.MAY_NAN, 0)
    item = item_of(0, tmp_path / "t.parquet", table, leaves=leaves, file={"evidence": claims, "number": 4})
    assert read_small_item(item) is not None
    _, reports = fingerprint_rows.counted(scan_items([item], HASHER, KernelLimits()))
    told = {(row["status"], row["message"]) for row in reports if row["status"]}
    assert told == {
        (HIDDEN_NAN, '{"fragment": 4, "leaf": "[\\"a\\"]"}'),
        (LIE, '{"fragment": 4, "leaf": "[\\"b\\"]"}'),
    }


@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40))
def test_packed_fingerprints_come_back_counted(rows: list[tuple[int, int]]) -> None:
    lanes = np.array(rows, np.uint64).reshape(len(rows), 2)
    first, second, count = unpack(packed(*counted(lanes[:, 0].copy(), lanes[:, 1].copy())))
    found: Counter[tuple[int, int]] = Counter()
    for one, other, many in zip(first, second, np.ones_like(first) if count is None else count, strict=True):
        found[int(one), int(other)] += int(many)
    assert found == Counter(rows)


def test_an_object_store_gives_the_same(tmp_path: Path) -> None:
    import fsspec

    table = pa.table({"a": list(range(50)), "b": [f"{n}" for n in range(50)]})
    pq.write_table(table, tmp_path / "t.parquet")
    store = fsspec.filesystem("memory")
    uri = f"memory://{os.path.basename(tmp_path)}/t.parquet"
    store.pipe_file(uri, (tmp_path / "t.parquet").read_bytes())
    try:
        item = item_of(0, tmp_path / "t.parquet", table)
        remote = replace(item, files=(ScanFile(stamp=stamp(uri), data_uri=uri),))
        assert read_small_item(remote) is not None
        own, other = (output_of(list(scan_items([one], HASHER, KernelLimits()))) for one in (item, remote))
        assert own == other
    finally:
        store.rm_file(uri)
