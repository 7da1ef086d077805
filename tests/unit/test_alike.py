"""Files that are read by one query give what each gives when it is read alone, whatever the others are."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.model import FileStamp
from r2d2.scan import alike, fingerprints
from r2d2.scan.alike import with_company
from r2d2.scan.duck import KernelLimits
from r2d2.scan.evidence import Flag
from r2d2.scan.files import stamp
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.footer.read import read_footer
from r2d2.scan.items import EVERYTHING, ColumnSet, ScanFile, ScanItem
from r2d2.scan.reports import HIDDEN_NAN, LIE
from tests.unit import fingerprint_rows
from tests.unit.forgery import I32, I64, NULL_COUNT, NUM_VALUES, Struct, forge, forged
from tests.unit.scanned_files import HASHER, OTHER, PLAIN, alone, evidence, item_of, output_of, tables

LIMITS = KernelLimits()


@contextmanager
def only_alike() -> Iterator[list[int]]:
    """No file is read as a small one; yields the numbers of files of the queries that were run without an error."""
    sizes: list[int] = []
    scan = alike._scan

    def counted(connection: Any, group: Sequence[Any], *rest: Any) -> Any:
        found = scan(connection, group, *rest)
        sizes.append(len(group))
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fingerprints, "read_small_item", lambda _: None)
        patched.setattr(alike, "_scan", counted)
        yield sizes


def written(folder: Path, parts: Sequence[pa.Table], **options: Any) -> list[ScanItem]:
    """An item for each of some tables of one schema."""
    items = []
    for number, table in enumerate(parts):
        path = folder / f"{number}.parquet"
        pq.write_table(table, path, **options)
        items.append(item_of(number, path, table))
    return items


def parts(count: int, rows: int = 50) -> list[pa.Table]:
    texts = pa.array([f"text {n % 7}" for n in range(rows)], pa.string())
    return [
        pa.table({"a": pa.array([n * place for n in range(rows)], pa.int64()), "b": texts}) for place in range(count)
    ]


@settings(max_examples=40, deadline=None)
@given(
    lake=st.lists(tables(PLAIN) | tables({**PLAIN, **OTHER}), min_size=1, max_size=3),
    cuts=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=8),
    thresholds=st.lists(st.sampled_from([EVERYTHING, 1 << 63, 1 << 60]), min_size=1, max_size=3),
    buckets=st.integers(1, 3),
    flags=st.sampled_from([Flag.MAY_VALUE | Flag.MAY_NAN, Flag.MAY_VALUE | Flag.MAY_NULL | Flag.MAY_NAN]),
    bounds=st.lists(st.integers(-1, 1), min_size=1, max_size=3),
    observed=st.booleans(),
    group=st.sampled_from([3, 1000]),
    partitions=st.none() | st.lists(st.none() | st.sampled_from(["7", "-3"]), min_size=1, max_size=3),
    most=st.sampled_from([2, 512]),
)
def test_files_of_one_query_give_what_each_gives_alone(
    lake: list[pa.Table],
    cuts: list[tuple[int, int, int]],
    thresholds: list[int],
    buckets: int,
    flags: Flag,
    bounds: list[int],
    observed: bool,
    group: int,
    partitions: list[str | None] | None,
    most: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(alike, "MOST_FILES", most)
        items = []
        for number, (which, start, length) in enumerate(cuts):
            table = lake[which % len(lake)].slice(start, length)
            path = Path(folder) / f"t{number}.parquet"
            pq.write_table(table, path, row_group_size=group)
            options: dict[str, Any] = {"first_bucket": 5, "buckets": buckets, "file": {}}
            options["threshold"] = thresholds[number % len(thresholds)] if observed else EVERYTHING
            if observed and not any(pa.types.is_nested(field.type) for field in table.schema):
                options["leaves"], claims = evidence(table, flags, bounds[number % len(bounds)])
                options["file"] |= {"evidence": claims, "number": number}
            if partitions is not None:
                options["file"]["partition"] = {"missing": partitions[number % len(partitions)]}
                options["partition_schema"] = pa.schema([("missing", pa.int32())])
            items.append(item_of(number, path, table, **options))
        with only_alike() as sizes:
            together = output_of(list(scan_items(items, HASHER, LIMITS)))
        assert together == output_of(alone(items, monkeypatch))
        assert not sizes or max(sizes) <= most


@pytest.mark.parametrize("dtype", [*PLAIN, *OTHER], ids=str)
def test_files_of_all_types_are_read_by_one_query(tmp_path: Path, dtype: pa.DataType) -> None:
    value_type = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    table = pa.table({"x": [1, 2, 3], "a": pa.nulls(3, value_type).cast(dtype)})
    items = [
        replace(item, column_sets=(ColumnSet(id=0, paths=(("x",), ("a",))),)) for item in written(tmp_path, [table] * 4)
    ]
    with only_alike() as sizes:
        list(scan_items(items, HASHER, LIMITS))
    assert sizes == [4]


def test_a_table_of_many_files_is_read_by_one_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path, parts(30))
    files = tuple(replace(item.files[0], number=place) for place, item in enumerate(items))
    table = replace(items[0], files=files)
    with only_alike() as sizes:
        together = output_of(list(scan_items([table], HASHER, LIMITS)))
    assert sizes == [30]
    assert together == output_of(alone([table], monkeypatch))


def test_numbers_of_files_follow_the_list(tmp_path: Path) -> None:
    """What the queries rest on: DuckDB numbers files as they are listed, whatever their names and sizes."""
    names = [f"{n:02d}" for n in (5, 1, 9, 0, 7, 3)]
    for place, name in enumerate(names):
        pq.write_table(pa.table({"a": [name] * (1 + 5000 * (place % 3))}), tmp_path / f"{name}.parquet")
    listed = ", ".join(f"'{tmp_path}/{name}.parquet'" for name in names)
    with duckdb.connect(config={"threads": 4}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        found = connection.sql(f"SELECT DISTINCT file_index, a FROM read_parquet([{listed}])").fetchall()
    assert sorted(found) == list(enumerate(names))


def test_rows_that_come_in_any_order_find_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path, [table for rows in (1, 30_000, 7, 0, 20_000) for table in parts(2, rows)])
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, KernelLimits(threads=4))))
    assert sizes == [10]
    assert together == output_of(alone(items, monkeypatch))


def test_one_file_in_two_tables_is_read_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path, parts(3))
    shared = [*items, replace(items[1], table=7), replace(items[1], table=8, files=items[1].files * 2)]
    with only_alike() as sizes:
        together = output_of(list(scan_items(shared, HASHER, LIMITS)))
    assert sizes == [3]
    assert together == output_of(alone(shared, monkeypatch))


def test_files_whose_writers_note_their_rows_are_read_by_one_query(tmp_path: Path) -> None:
    items = []
    for number in range(3):
        frame = pd.DataFrame({"a": range(number + 2), "b": "x"})
        frame.to_parquet(tmp_path / f"{number}.parquet")
        items.append(item_of(number, tmp_path / f"{number}.parquet", pa.Table.from_pandas(frame)))
    with only_alike() as sizes:
        list(scan_items(items, HASHER, LIMITS))
    assert sizes == [3]


def test_types_that_arrow_does_not_tell_apart_are_not_read_by_one_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = []
    for number, dtype in enumerate(["VARCHAR", "JSON", "VARCHAR", "JSON"]):
        path = str(tmp_path / f"{number}.parquet")
        with duckdb.connect() as connection:
            connection.execute(f"COPY (SELECT '{{}}'::{dtype} AS a, {number} AS b) TO '{path}' (FORMAT parquet)")
        items.append(item_of(number, Path(path), pa.table({"a": ["{}"], "b": [number]})))
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, LIMITS)))
    assert sizes == [2, 2]
    assert together == output_of(alone(items, monkeypatch))


SCALE = 7
"""Field of a column of a footer's schema."""


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_with_two_scales_of_a_decimal_changes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    values = [Decimal("1.254"), Decimal("1.261"), Decimal("9.000"), Decimal("1.250")]
    items = written(tmp_path, [pa.table({"x": pa.array([value], pa.decimal128(9, 3))}) for value in values])
    path = tmp_path / f"{place}.parquet"

    def two_scales(footer: Struct) -> None:
        for column in footer[2][1][1][1:]:
            column[SCALE] = (I32, 1)

    path.write_bytes(forged(path.read_bytes(), two_scales))
    items[place] = replace(items[place], files=(ScanFile(stamp=stamp(str(path)), data_uri=str(path)),))
    with only_alike() as sizes:
        batches = list(scan_items(items, HASHER, LIMITS))
    assert sizes == [3]
    assert output_of(batches) == output_of(alone(items, monkeypatch))
    _, reports = fingerprint_rows.counted(batches)
    assert {row["table"]: row["error"] for row in reports} == {n: "Columns" if n == place else "" for n in range(4)}


def test_an_error_of_a_store_fails_its_own_table_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path, parts(4))
    read = alike.read_footer

    class ThrottledError(Exception):
        """What a store may raise, of no known kind."""

    def throttled(uri: str) -> Any:
        if uri.endswith("1.parquet"):
            raise ThrottledError
        return read(uri)

    for module in (alike, fingerprints):
        monkeypatch.setattr(module, "read_footer", throttled)
    with only_alike() as sizes:
        _, reports = fingerprint_rows.counted(scan_items(items, HASHER, LIMITS))
    assert sizes == [3]
    assert {row["table"]: row["error"] for row in reports} == {0: "", 1: "ThrottledError", 2: "", 3: ""}


def test_of_many_files_one_that_fails_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path, parts(32))
    path = tmp_path / "11.parquet"
    path.write_bytes(flipped(path.read_bytes()))
    items[11] = replace(items[11], files=(ScanFile(stamp=stamp(str(path)), data_uri=str(path)),))
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, LIMITS)))
    assert together == output_of(alone(items, monkeypatch))
    assert sorted(sizes, reverse=True) == [16, 8, 4, 2, 1]


@pytest.mark.parametrize("name", ["file_index", "FILE_INDEX", "file", "filename", "number", "v0", "p0", "source", "c0"])
def test_a_column_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tables = [pa.table({name: [5, place, 1], 'quote"d': ["x", None, "y"]}) for place in range(4)]
    items = written(tmp_path, tables)
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, LIMITS)))
    assert together == output_of(alone(items, monkeypatch))
    assert sizes == ([] if name.lower() == "file_index" else [4])


def test_names_with_quotes_and_patterns_are_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = []
    for number, name in enumerate(["it's", "a[b]", "*", "?", "{x}", "semi;colon", "new\nline", "it''s"]):
        table = pa.table({"a": [number, 1]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        items.append(item_of(number, tmp_path / f"{name}.parquet", table))
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, LIMITS)))
    assert together == output_of(alone(items, monkeypatch))
    assert sizes == [4]


def test_a_value_of_a_partition_rules_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    types = pa.schema([("B", pa.string()), ("day", pa.date32()), ("at", pa.timestamp("us", tz="UTC"))])
    items = []
    for number, item in enumerate(written(tmp_path, parts(4))):
        day = None if number == 2 else str(dt.date(2024, 1, 1 + number))
        partition = {"B": f"it's {number}", "day": day, "at": f"2024-01-0{number + 1} 00:00:00"}
        paths = (("a",), ("B",), ("day",), ("at",))
        items.append(
            replace(
                item,
                files=(replace(item.files[0], partition=partition),),
                partition_schema=types,
                column_sets=(ColumnSet(id=0, paths=paths),),
            )
        )
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, LIMITS)))
    assert sizes == [4]
    assert together == output_of(alone(items, monkeypatch))


def flipped(data: bytes) -> bytes:
    """A file whose first page cannot be decompressed."""
    return data[:4] + bytes(byte ^ 0xFF for byte in data[4:40]) + data[40:]


@pytest.mark.parametrize("damage", [flipped, lambda data: data[:-20], lambda _: b"", lambda data: b"x" * len(data)])
def test_a_damaged_file_fails_its_own_table_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any) -> None:
    items = written(tmp_path, parts(5, rows=1000))
    path = tmp_path / "2.parquet"
    path.write_bytes(damage(path.read_bytes()))
    items[2] = replace(items[2], files=(ScanFile(stamp=stamp(str(path)), data_uri=str(path)),))
    with only_alike():
        batches = list(scan_items(items, HASHER, LIMITS))
    assert output_of(batches) == output_of(alone(items, monkeypatch))
    _, reports = fingerprint_rows.counted(batches)
    assert {row["table"]: bool(row["error"]) for row in reports} == {n: n == 2 for n in range(5)}


def test_a_file_that_fails_takes_all_of_its_table_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path, [*parts(3), *(table.append_column("c", table["a"]) for table in parts(3))])
    broken = tmp_path / "4.parquet"
    broken.write_bytes(flipped(broken.read_bytes()))
    paths = (ColumnSet(id=0, paths=(("a",), ("c",))),)
    both = replace(items[0], files=(items[0].files[0], items[4].files[0]), column_sets=paths)
    others = [replace(item, column_sets=paths) for item in (items[1], items[2], items[3], items[5])]
    lake = [both, *others]
    lake[0] = replace(both, files=tuple(replace(f, stamp=stamp(f.data_uri)) for f in both.files))
    with only_alike() as sizes:
        batches = list(scan_items(lake, HASHER, LIMITS))
    assert output_of(batches) == output_of(alone(lake, monkeypatch))
    _, reports = fingerprint_rows.counted(batches)
    assert {row["table"]: bool(row["error"]) for row in reports} == {0: True, 1: False, 2: False, 3: False, 5: False}
    assert 3 in sizes


def test_a_file_that_changes_meanwhile_fails(tmp_path: Path) -> None:
    items = written(tmp_path, parts(3))
    old = replace(items[1].files[0], stamp=FileStamp(**{**vars(items[1].files[0].stamp), "token": "1"}))
    items[1] = replace(items[1], files=(old,))
    with only_alike():
        _, reports = fingerprint_rows.counted(scan_items(items, HASHER, LIMITS))
    assert {row["table"]: row["error"] for row in reports} == {0: "", 1: "Changed", 2: ""}


@pytest.mark.parametrize("values", [0, 2, 4])
def test_a_chunk_with_another_number_of_values_than_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    items = written(tmp_path, [pa.table({"a": [1, None, place]}) for place in range(3)])
    forge(tmp_path / "1.parquet", lambda chunk, _: chunk.update({NUM_VALUES: (I64, values)}))
    path = str(tmp_path / "1.parquet")
    items[1] = replace(items[1], files=(ScanFile(stamp=stamp(path), data_uri=path),))
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, LIMITS)))
    assert together == output_of(alone(items, monkeypatch))
    assert sizes


def test_a_chunk_that_is_said_to_be_null_fails_its_own_table_only(tmp_path: Path) -> None:
    items = written(tmp_path, [pa.table({"a": [1, 2, place], "b": ["x"] * 3}) for place in range(4)])

    forge(tmp_path / "2.parquet", lambda _, statistics: statistics.update({NULL_COUNT: (I64, 3)}))
    path = str(tmp_path / "2.parquet")
    items[2] = replace(items[2], files=(ScanFile(stamp=stamp(path), data_uri=path),))
    with only_alike():
        _, reports = fingerprint_rows.counted(scan_items(items, HASHER, LIMITS))
    assert {row["table"]: row["error"] for row in reports} == {0: "", 1: "", 2: "Statistics", 3: ""}


def test_what_rows_say_against_the_metadata_is_told_of_their_file(tmp_path: Path) -> None:
    fine = pa.table({"a": [1.0, 2.0, 3.0], "b": [1, 2, 3]})
    odd = pa.table({"a": [1.0, float("nan"), 1.0], "b": [None, 1, -1]})
    items = []
    for number, table in enumerate([fine, odd, fine]):
        pq.write_table(table, tmp_path / f"{number}.parquet")
        leaves, claims = evidence(table, Flag.MAY_VALUE, 0)
        options: dict[str, Any] = {"leaves": leaves, "file": {"evidence": claims, "number": 4 + number}}
        items.append(item_of(number, tmp_path / f"{number}.parquet", table, **options))
    with only_alike() as sizes:
        _, reports = fingerprint_rows.counted(scan_items(items, HASHER, LIMITS))
    assert sizes == [3]
    told = {(row["table"], row["status"], row["message"]) for row in reports if row["status"]}
    assert told == {
        (1, HIDDEN_NAN, '{"fragment": 5, "leaf": "[\\"a\\"]"}'),
        (1, LIE, '{"fragment": 5, "leaf": "[\\"a\\"]"}'),
        (1, LIE, '{"fragment": 5, "leaf": "[\\"b\\"]"}'),
    }


def test_items_are_scanned_in_as_many_turns_as_memory_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path, parts(12, rows=1000))
    most = max(read_footer(str(path)).footer_bytes for path in tmp_path.glob("*.parquet"))
    monkeypatch.setattr(alike, "MEMORY_SHARE", LIMITS.memory_bytes // (3 * (2 * 32 * 1000 + 16 * most)))
    with only_alike() as sizes:
        together = output_of(list(scan_items(items, HASHER, LIMITS)))
    assert sizes == [3] * 4
    assert together == output_of(alone(items, monkeypatch))


def test_files_are_read_by_one_query_where_that_takes_less(tmp_path: Path) -> None:
    (item,) = written(tmp_path, parts(1))
    of_size = [
        [replace(item, files=(replace(item.files[0], stamp=FileStamp(uri="x", size=size, token="")),))]
        for size in (100_000, 1000)
    ]
    for items, expected in (
        (of_size[0] * 30, 30),
        (of_size[0] * 3, 0),
        (of_size[1] * 3000, 0),
        (of_size[0], 0),
    ):
        many, rest = with_company(items)
        assert (len(many), len(rest)) == (expected, len(items) - expected)
