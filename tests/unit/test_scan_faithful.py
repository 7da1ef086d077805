"""The scan reads what a file holds: not what its footer says of it, and nothing cut off."""

from __future__ import annotations

import datetime as dt
import struct
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from r2d2.model import leaves
from r2d2.scan.duck import KernelLimits
from r2d2.scan.faithful import below_microsecond
from r2d2.scan.files import stamp
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.footer.read import read_footer
from r2d2.scan.items import EVERYTHING, ColumnSet, ScanFile, ScanItem
from r2d2.scan.rowhash import RowHasher
from tests.unit.fingerprint_rows import counted
from tests.unit.forgery import (
    BINARY,
    BOUNDS,
    DISTINCT_COUNT,
    I64,
    MAX,
    MAX_IS_EXACT,
    MIN,
    MIN_IS_EXACT,
    NULL_COUNT,
    NUM_VALUES,
    PHYSICAL_TYPE,
    Struct,
    forge,
)

HASHER = RowHasher(lane_keys=(0x0123456789ABCDEF, 0xFEDCBA9876543210))
ROWS = 300
Scan = tuple[Counter[tuple[int, ...]], dict[str, Any]]


def scan(path: Path, *, names: list[str] | None = None, threshold: int = EVERYTHING) -> Scan:
    """Counted fingerprints of a file over all leaves and over its first column, and the report.

    Args:
        path: The file.
        names: Top-level columns that are read, all by default; with none the file is only checked.
        threshold: See ScanItem.
    """
    paths = [path_ for path_, _ in leaves(read_footer(str(path)).schema) if names is None or path_[0] in names]
    item = ScanItem(
        table=0,
        files=(ScanFile(stamp=stamp(str(path)), data_uri=str(path)),),
        partition_schema=pa.schema([]),
        column_sets=(ColumnSet(id=0, paths=tuple(paths)), ColumnSet(id=1, paths=tuple(paths[:1]))) if paths else (),
        threshold=threshold,
    )
    counts, (report,) = counted(scan_items([item], HASHER, KernelLimits()))
    return counts, report


# --- statistics -------------------------------------------------------------------------------------------------------


def some(make: Callable[[int], Any], dtype: pa.DataType) -> pa.Array:
    """Values with a NULL in every seventh place."""
    return pa.array([None if n % 7 == 0 else make(n) for n in range(ROWS)], dtype)


COLUMNS = {
    "int8": some(lambda n: n % 100, pa.int8()),
    "int32": some(lambda n: n * 3, pa.int32()),
    "int64": some(lambda n: n * 3_000_000_000, pa.int64()),
    "uint64": some(lambda n: 2**63 + n, pa.uint64()),
    "float": some(float, pa.float32()),
    "double": some(lambda n: n * 1.5 if n % 5 else float("nan"), pa.float64()),
    "decimal": some(lambda n: Decimal(n) / 4, pa.decimal128(10, 2)),
    "wide": some(lambda n: Decimal(n) * 10**20, pa.decimal128(38, 10)),
    "text": some(lambda n: f"v{n}", pa.string()),
    "unicode": some(lambda n: f"v{n}é", pa.string()),
    "bytes": some(lambda n: bytes([n % 256]), pa.binary()),
    "flag": some(lambda n: n % 2 == 0, pa.bool_()),
    "day": some(lambda n: dt.date(2020, 1, 1) + dt.timedelta(n), pa.date32()),
    "wall": some(lambda n: n * 10**6, pa.timestamp("us")),
    "instant": some(lambda n: n * 10**6, pa.timestamp("us", "UTC")),
    "struct": some(lambda n: {"x": n if n % 3 else None}, pa.struct([("x", pa.int64())])),
    "list": some(lambda n: [n, None], pa.list_(pa.int64())),
    "map": some(lambda n: [("k", n)], pa.map_(pa.string(), pa.int64())),
}
"""Columns of every kind: all but those in lists and maps have ROWS values."""

_BYTES = {0: 1, 1: 4, 2: 8, 4: 4, 5: 8, 6: 1}


def say(chunk: Struct, statistics: Struct, low: int, high: int) -> None:
    """Give a chunk bounds of its type's size that are said to be values."""
    number = chunk[PHYSICAL_TYPE][1]
    for field in BOUNDS:
        statistics.pop(field, None)
    for field, value in ((MIN, low), (MAX, high)):
        packed = struct.pack("<f" if number == 4 else "<d", value) if number in (4, 5) else None
        statistics[field] = (BINARY, packed or value.to_bytes(_BYTES.get(number, 16), "little"))
    statistics[MIN_IS_EXACT] = statistics[MAX_IS_EXACT] = (1, True)


def constant(chunk: Struct, statistics: Struct) -> None:
    say(chunk, statistics, 1, 1)


def narrow(chunk: Struct, statistics: Struct) -> None:
    say(chunk, statistics, 1, 1 if chunk[PHYSICAL_TYPE][1] == 0 else 9)


def no_nulls(chunk: Struct, statistics: Struct) -> None:
    statistics[NULL_COUNT] = (I64, 0)


def constant_without_nulls(chunk: Struct, statistics: Struct) -> None:
    constant(chunk, statistics)
    no_nulls(chunk, statistics)


def one_distinct(chunk: Struct, statistics: Struct) -> None:
    constant_without_nulls(chunk, statistics)
    statistics[DISTINCT_COUNT] = (I64, 1)


def negative_nulls(chunk: Struct, statistics: Struct) -> None:
    statistics[NULL_COUNT] = (I64, -5)


def all_nulls(chunk: Struct, statistics: Struct) -> None:
    for field in BOUNDS:
        statistics.pop(field, None)
    statistics[NULL_COUNT] = chunk[NUM_VALUES]


LIES = [constant, narrow, no_nulls, constant_without_nulls, one_distinct, negative_nulls]


@pytest.fixture(scope="module")
def columns() -> pa.Table:
    """All columns but the decimals that are stored in 5 bytes, since `say` knows no bound of that size."""
    return pa.table({name: values for name, values in COLUMNS.items() if name != "decimal"})


@pytest.mark.parametrize("threshold", [EVERYTHING, 1 << 62], ids=["all", "sampled"])
@pytest.mark.parametrize("lie", LIES)
def test_lying_statistics_change_no_fingerprint(
    columns: pa.Table, lie: Callable[[Struct, Struct], None], threshold: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(columns, path, row_group_size=100)
    honest, report = scan(path, threshold=threshold)
    assert report["error"] == ""
    assert len(honest) > 10
    forge(path, lie)
    assert scan(path, threshold=threshold)[0] == honest


@pytest.mark.parametrize("name", COLUMNS)
def test_a_chunk_that_claims_to_be_null_is_read_or_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "it's [a]*.parquet"
    pq.write_table(pa.table({"c": COLUMNS[name]}), path, row_group_size=100)
    honest, _ = scan(path)
    forge(path, all_nulls)
    read, report = scan(path)
    if name in ("list", "map"):
        assert (report["error"], read) == ("", honest)
    else:
        assert (report["status"], report["error"]) == ("failed", "Statistics")
        assert "'c'" in report["message"]
    assert scan(path, names=[])[1]["error"] == ""


def test_an_unread_column_may_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": COLUMNS["int64"], "b": pa.nulls(ROWS, pa.int64())}), path)
    honest, _ = scan(path, names=["b"])
    forge(path, all_nulls)
    read, report = scan(path, names=["b"])
    assert (read, report["error"]) == (honest, "")
    assert scan(path, names=["a"])[1]["error"] == "Statistics"


EMPTY_SHAPES = [
    (pa.int64(), [None, None]),
    (pa.null(), [None, None]),
    (pa.list_(pa.int64()), [[], None]),
    (pa.list_(pa.int64()), [[None], [None, None]]),
    (pa.struct([("x", pa.int64())]), [{"x": None}, None]),
    (pa.struct([("x", pa.struct([("y", pa.int64())])), ("z", pa.string())]), [{"x": {"y": None}, "z": "a"}, None]),
    (pa.map_(pa.string(), pa.int64()), [[], [("a", None)]]),
    (pa.list_(pa.struct([("x", pa.int64()), ("y", pa.list_(pa.int64()))])), [[{"x": None, "y": []}, None], []]),
]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(("dtype", "values"), EMPTY_SHAPES, ids=str)
def test_honest_chunks_of_nulls_are_read(dtype: pa.DataType, values: list[Any], version: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1, 2], "c": pa.array(values, dtype)}), path, data_page_version=version)
    said, report = scan(path)
    assert report["error"] == ""
    pq.write_table(pa.table({"n": [1, 2], "c": pa.array(values, dtype)}), path, write_statistics=False)
    assert scan(path)[0] == said


def test_bounds_shorter_than_their_type_end_no_process(tmp_path: Path) -> None:
    def cut(chunk: Struct, statistics: Struct) -> None:
        statistics[MIN] = statistics[MAX] = (BINARY, b"")

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": COLUMNS["int64"]}), path)
    forge(path, cut)
    assert scan(path)[1]["status"] == "failed"


# --- INT96 ------------------------------------------------------------------------------------------------------------

DAY_NANOS = 86_400 * 10**9
EPOCH_DAY = 2_440_588
MOMENTS = st.tuples(
    st.one_of(st.integers(0, 2**32 - 1), st.integers(EPOCH_DAY - 800_000, EPOCH_DAY + 3_000_000)),
    st.one_of(st.integers(0, DAY_NANOS // 1000 - 1).map(lambda micros: micros * 1000), st.integers(0, DAY_NANOS - 1)),
)


def write_int96(path: Path, moments: list[tuple[int, int]]) -> None:
    """A file with one INT96 column whose values are encoded here: Julian day and nanoseconds of the day."""
    marks = [n * 1_000_000_007 for n in range(1, len(moments) + 1)]
    table = pa.table({"t": pa.array(marks, pa.timestamp("ns"))})
    pq.write_table(
        table, path, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none", store_schema=False
    )
    written = b"".join(struct.pack("<QI", mark, EPOCH_DAY) for mark in marks)
    data = path.read_bytes()
    assert data.count(written) == 1
    path.write_bytes(data.replace(written, b"".join(struct.pack("<QI", nanos, day) for day, nanos in moments)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments=st.lists(MOMENTS, min_size=1, max_size=20))
@example(moments=[(0, 1)])
@example(moments=[(0, 0), (EPOCH_DAY, 0)])
@example(moments=[(EPOCH_DAY, 0)])
def test_int96_is_refused_where_it_has_nanoseconds(moments: list[tuple[int, int]], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_int96(path, moments)
    error = scan(path)[1]["error"]
    hidden = any(day == 0 for day, _ in moments)  # pyarrow does not tell what Julian day 0 has
    assert error == ("Nanoseconds" if hidden or any(nanos % 1000 for _, nanos in moments) else "")


@pytest.mark.parametrize("day", [dt.date(1, 1, 1), dt.date(1677, 9, 20), dt.date(2262, 4, 12), dt.date(9999, 12, 31)])
def test_sentinel_dates_outside_the_range_of_nanoseconds_are_read(day: dt.date, tmp_path: Path) -> None:
    julian = (day - dt.date(1970, 1, 1)).days + EPOCH_DAY
    write_int96(tmp_path / "a.parquet", [(julian, DAY_NANOS - 1000)])
    instant = dt.datetime.combine(day, dt.time(23, 59, 59, 999_999), dt.UTC)
    pq.write_table(pa.table({"t": pa.array([instant], pa.timestamp("us", "UTC"))}), tmp_path / "b.parquet")
    assert scan(tmp_path / "a.parquet")[0] == scan(tmp_path / "b.parquet")[0]
    write_int96(tmp_path / "a.parquet", [(julian, DAY_NANOS - 1)])
    assert scan(tmp_path / "a.parquet")[1]["error"] == "Nanoseconds"


@given(instants=st.lists(st.integers(-(2**80), 2**80), min_size=1))
def test_what_is_below_a_microsecond_is_exact_however_often_both_readings_wrap(instants: list[int]) -> None:
    def wrapped(numbers: list[int]) -> np.ndarray:
        return np.array([number % 2**64 for number in numbers], np.uint64).view(np.int64)

    found = below_microsecond(wrapped(instants), wrapped([instant // 1000 for instant in instants]))
    assert found.tolist() == [instant % 1000 for instant in instants]


NANOS = pa.timestamp("ns")
NESTED: list[tuple[pa.DataType, Callable[[int], Any]]] = [
    (NANOS, lambda nanos: nanos),
    (pa.struct([("a.b", pa.struct([("t", NANOS)]))]), lambda nanos: {"a.b": {"t": nanos}}),
    (pa.list_(NANOS), lambda nanos: [0, nanos]),
    (pa.large_list(pa.list_(NANOS)), lambda nanos: [[], None, [nanos]]),
    (pa.list_(pa.struct([("x", pa.int64()), ("t", NANOS)])), lambda nanos: [None, {"x": 1, "t": nanos}]),
    (pa.map_(pa.string(), NANOS), lambda nanos: [("a", 0), ("b", nanos)]),
    (pa.map_(NANOS, pa.string()), lambda nanos: [(nanos, "a")]),
    (pa.map_(pa.string(), pa.list_(NANOS)), lambda nanos: [("a", [nanos])]),
]


@pytest.mark.parametrize("store_schema", [True, False])
@pytest.mark.parametrize(("dtype", "nest"), NESTED, ids=lambda value: "" if callable(value) else str(value))
def test_int96_is_found_wherever_it_is(
    dtype: pa.DataType, nest: Callable[[int], Any], store_schema: bool, tmp_path: Path
) -> None:
    def written(nanos: int) -> Path:
        values = pa.array([nest(0), None, nest(nanos)], dtype)
        table = pa.table({"x.y": [1, 2, 3], "Töne": values})
        path = tmp_path / f"{nanos}.parquet"
        pq.write_table(table, path, use_deprecated_int96_timestamps=True, store_schema=store_schema, row_group_size=2)
        return path

    assert scan(written(1_000))[1]["error"] == ""
    report = scan(written(1_001))[1]
    assert (report["status"], report["error"]) == ("unsupported", "Nanoseconds")
    assert "'Töne'" in report["message"]
    assert scan(written(1_001), names=["x.y"])[1]["error"] == ""


def test_int96_is_refused_where_the_engine_reads_the_table(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"t": pa.array([1_001], NANOS)})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    counts, report = scan(path, names=[])
    assert (counts, report["status"], report["rows_read"]) == (Counter(), "unsupported", 0)
    marks = {"org.apache.spark.version": "2.4.0", "org.apache.spark.legacyINT96": ""}
    pq.write_table(table.replace_schema_metadata(marks), path, use_deprecated_int96_timestamps=True)
    assert scan(path, names=[])[1]["error"] == ""
