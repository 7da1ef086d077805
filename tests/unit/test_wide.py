"""Wide tables are read in another way than narrow ones; the fingerprints and what is observed must be the same."""

from __future__ import annotations

import base64
import datetime as dt
import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.model import LeafPath, leaves, type_class
from r2d2.recipes.columns import predicate_columns
from r2d2.recipes.rows import load_rows
from r2d2.scan import fingerprints, wide
from r2d2.scan.combine import Lanes, hash_words, row_fingerprints
from r2d2.scan.deletes import DeleteFile, Deletes
from r2d2.scan.duck import KernelLimits, connect, connect_beside
from r2d2.scan.evidence import Flag, LeafEvidence, number_key, pack
from r2d2.scan.files import stamp
from r2d2.scan.fingerprints import fingerprint_batches, observed_batches, scan_items
from r2d2.scan.footer.read import read_footer
from r2d2.scan.items import EVERYTHING, ColumnSet, ScanFile, ScanItem
from r2d2.scan.observe import Expected
from r2d2.scan.rowhash import Digest, RowHasher
from r2d2.scan.sample import Seen
from r2d2.scan.source import arrow_source, leaf_observer
from tests.unit import fingerprint_rows
from tests.unit.test_small_files import HASHER, OTHER, PLAIN, output_of

MOMENTS = [0, 1, -1, 999, 1_600_000_000_000, 2**40]
TEXTS = st.text("aß", max_size=3) | st.just("x" * 300)
TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    **PLAIN,
    **OTHER,
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.uint8(): st.integers(0, 255),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.uint64(): st.sampled_from([0, 1, 2**53 + 1, 2**64 - 1]),
    pa.string(): TEXTS,
    pa.binary(): TEXTS.map(str.encode),
    pa.timestamp("ms"): st.sampled_from(MOMENTS),
    pa.timestamp("ms", tz="UTC"): st.sampled_from(MOMENTS),
    pa.timestamp("ns", tz="UTC"): st.sampled_from(MOMENTS),
    pa.decimal128(38, 0): st.integers(-(10**37), 10**37).map(lambda number: number),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.null(): st.none(),
    pa.list_(pa.string()): st.lists(st.none() | TEXTS, max_size=2),
    pa.map_(pa.string(), pa.float64()): st.dictionaries(TEXTS, st.none() | st.floats(), max_size=2).map(
        lambda entries: list(entries.items())
    ),
    pa.struct([("f", pa.int64()), ("g", pa.struct([("h", pa.string())]))]): st.fixed_dictionaries(
        {"f": st.none() | st.integers(0, 2), "g": st.none() | st.fixed_dictionaries({"h": st.none() | TEXTS})}
    ),
}
NARROW, WIDE = 1 << 30, 1


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    chosen = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=7))
    rows = draw(st.integers(0, 8))
    columns = {}
    for place, dtype in enumerate(chosen):
        plain = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
        values = draw(st.lists(st.none() | TYPES[dtype], min_size=rows, max_size=rows))
        columns[f"C.{place}" if place % 2 else f"c{place}"] = pa.array(values, plain).cast(dtype)
    return pa.table(columns)


def item_of(path: Path, deleted: Sequence[int], partition: str | None, **options: Any) -> ScanItem:
    """A file with its columns in two orders, one with a missing one, evidence of all leaves, and deleted rows."""
    footer = read_footer(str(path))
    typed = leaves(footer.schema)
    paths = tuple(leaf for leaf, _ in typed)
    claims = [
        LeafEvidence(kind=type_class(dtype), flags=Flag.MAY_VALUE | Flag.MAY_NAN, low=number_key(0), nulls=1)
        for _, dtype in typed
    ]
    delete_file = path.with_suffix(".deletes")
    pq.write_table(
        pa.table({"file_path": [str(path)] * len(deleted), "pos": pa.array(deleted, pa.int64())}), delete_file
    )
    pinned = stamp(str(delete_file))
    deletes = Deletes(path=str(path), files=(DeleteFile(uri=pinned.uri, size=pinned.size, token=pinned.token),))
    file = ScanFile(
        stamp=stamp(str(path)),
        data_uri=str(path),
        partition={} if partition is None else {"p": partition},
        deletes=deletes.to_text() if deleted else "",
        number=3,
        evidence=base64.b64encode(pack(claims, [])).decode(),
    )
    sets = (ColumnSet(id=0, paths=paths), ColumnSet(id=4, paths=(*reversed(paths), ("p",), ("MISSING",))))
    schema = pa.schema([] if partition is None else [("p", pa.int32())])
    return ScanItem(table=7, files=(file,), partition_schema=schema, column_sets=sets, leaves=paths, **options)


def output(items: Sequence[ScanItem], least_wide: int) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fingerprints, "read_small_item", lambda _: None)
        patched.setattr(wide, "WIDE_LEAVES", least_wide)
        return output_of(list(scan_items(items, HASHER, KernelLimits())))


@settings(max_examples=25, deadline=None)
@given(
    table=tables(),
    deleted=st.sets(st.integers(0, 7)),
    partition=st.sampled_from([None, "7"]),
    threshold=st.sampled_from([EVERYTHING, 1 << 63]),
    observed=st.booleans(),
    batch_values=st.sampled_from([1, 20, 1 << 20]),
    text_bytes=st.sampled_from([0, 2048 * 8, 1 << 28]),
    group=st.sampled_from([3, 1000]),
)
def test_a_wide_file_gives_what_a_narrow_one_gives(
    table: pa.Table,
    deleted: set[int],
    partition: str | None,
    threshold: int,
    observed: bool,
    batch_values: int,
    text_bytes: int,
    group: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(wide, "_BATCH_VALUES", batch_values)
        patched.setattr(wide, "TEXT_BYTES", text_bytes)
        path = Path(folder) / "t.parquet"
        pq.write_table(table, path, row_group_size=group)
        gone = sorted(place for place in deleted if place < table.num_rows)
        item = item_of(path, gone, partition, threshold=threshold, buckets=2)
        if not observed:
            item = ScanItem(**{**vars(item), "leaves": ()})
        found = output([item], WIDE)
        assert found == output([item], NARROW)
        assert [report[-2] for report in found[1] if report[-1] == ""] == [""]


def test_int96_is_an_instant_in_wide_files_too(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    moments = pa.array([0, -(10**6), None, 10**15], pa.timestamp("us"))
    pq.write_table(pa.table({"a": moments, "b": [1, 2, 3, 4]}), path, use_deprecated_int96_timestamps=True)
    item = item_of(path, [], None)
    assert output([item], WIDE) == output([item], NARROW)


@pytest.mark.parametrize("seen_too", [False, True])
def test_rows_of_the_engines_reader_are_read_alike(monkeypatch: pytest.MonkeyPatch, seen_too: bool) -> None:
    table = pa.table(
        {
            "a": pa.array([1.0, math.nan, None, -0.0] * 1000),
            "b": pa.array(["x", None, "", "long" * 50] * 1000),
            "c": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None] * 2000, pa.timestamp("us", tz="UTC")),
        }
    )
    paths: tuple[LeafPath, ...] = (("a",), ("b",), ("c",))
    item = ScanItem(table=0, files=(), partition_schema=pa.schema([]), column_sets=(ColumnSet(id=0, paths=paths),))
    row = {"low": None, "high": None, "flags": 0, "nulls": 0, "kind": 0}
    found = []
    for least in (WIDE, NARROW):
        monkeypatch.setattr(wide, "WIDE_LEAVES", least)
        with connect(KernelLimits()) as connection:
            batches = table.rename_columns(["c0", "c1", "c2"]).to_batches(700)
            connection.register("engine_rows", pa.RecordBatchReader.from_batches(batches[0].schema, batches))
            source = arrow_source(connection, "engine_rows", table.schema, table.schema.names)
            observers = [leaf_observer(source, Expected(path=path, proved=row)) for path in paths]
            seen = Seen(observers=[one for one in observers if one is not None])
            if seen_too:
                rows = list(observed_batches(connection, source, item, HASHER, seen))
            else:
                rows = [batch for _, batch in fingerprint_batches(connection, source, item, HASHER)]
        found.append((fingerprint_rows.counted(rows), seen.rows, seen.leaves))
    assert found[0] == found[1]
    assert sum(found[0][0][0].values()) == 4000


def test_a_wide_table_that_fails_midway_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = []
    for number, rows in enumerate([5000, 3]):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"a": pa.array(range(rows)), "b": pa.nulls(rows, pa.int32())}), path)
        items.append(ScanItem(**{**vars(item_of(path, [], None)), "table": number}))
    of_pieces = wide.row_fingerprints

    def refuse(hasher: RowHasher, columns: Iterable[Lanes]) -> Lanes:
        found = of_pieces(hasher, columns)
        if len(found[0]) > 3:
            raise MemoryError
        return found

    monkeypatch.setattr(wide, "row_fingerprints", refuse)
    monkeypatch.setattr(wide, "_BATCH_VALUES", 1 << 10)
    counts, reports = output(items, WIDE)
    assert {(report[1], report[6]) for report in reports if not report[8] or report[6]} == {(0, "MemoryError"), (1, "")}
    assert {table for _, table, *_ in counts} == {1}


def test_a_source_that_is_read_once_is_wide_only_if_arrow_carries_its_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "WIDE_LEAVES", 1)
    for dtype, expected in ((pa.int64(), True), (pa.list_(pa.int64()), False)):
        table = pa.table({"c0": pa.nulls(1, dtype)})
        with connect(KernelLimits()) as connection:
            connection.register("rows", table)
            source = arrow_source(connection, "rows", table.schema, ["a"])
            item = ScanItem(
                table=0,
                files=(),
                partition_schema=pa.schema([]),
                column_sets=(ColumnSet(id=0, paths=(("a",), ("missing",))),),
            )
            assert wide.is_wide(source, item) is expected


def test_values_that_are_carried_come_back_as_the_type_they_were() -> None:
    names = (
        "BOOLEAN TINYINT SMALLINT INTEGER BIGINT UTINYINT USMALLINT UINTEGER UBIGINT FLOAT DOUBLE DATE VARCHAR BLOB "
        "TIMESTAMP TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS TIMESTAMPTZ DECIMAL(4,1) DECIMAL(38,10) HUGEINT UUID TIME"
    )
    with connect(KernelLimits()) as connection:
        for name in names.split():
            relation = connection.sql(f"SELECT CAST(NULL AS {name}) AS x")
            (dtype,), rows = relation.types, relation.to_arrow_table()
            connection.register("rows", rows)
            is_carried = wide._CARRIED.fullmatch(str(dtype)) is not None
            assert is_carried is (name not in ("HUGEINT", "UUID", "TIME"))
            assert not is_carried or connection.sql("SELECT x FROM rows").types == [dtype]


@settings(max_examples=20, deadline=None)
@given(
    words=st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), min_size=1, max_size=20),
)
def test_rows_are_combined_as_duckdb_combines_them(words: list[list[int]]) -> None:
    columns = [np.array(column, np.uint64) for column in words]
    lanes = [(column, column[::-1].copy()) for column in columns]
    names = {f"{lane}{i}": pa.array(own[index]) for i, own in enumerate(lanes) for index, lane in enumerate("ab")}
    row = HASHER.row([Digest(first=f"a{i}", second=f"b{i}") for i in range(len(lanes))])
    with duckdb.connect() as connection:
        connection.register("digests", pa.table(names))
        expected = connection.sql(f"SELECT {row.first}, {row.second}, hash(a0) FROM digests").fetchall()
    found = [*row_fingerprints(HASHER, lanes), hash_words(columns[0])]
    assert list(zip(*(own.tolist() for own in found), strict=True)) == expected


def test_a_row_without_leaves_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one leaf"):
        row_fingerprints(HASHER, [])


def test_a_second_connection_has_the_settings_of_the_first() -> None:
    sql = "SELECT current_setting('TimeZone'), current_setting('disabled_optimizers'), current_setting('memory_limit')"
    with connect(KernelLimits()) as connection:
        expected = connection.sql(sql).fetchall()
        rows = iter(connection.sql("SELECT range AS x FROM range(10000)").to_arrow_reader(1))
        first = next(rows)
        with connect_beside(connection) as other:
            assert other.sql(sql).fetchall() == expected
        assert first.num_rows + sum(batch.num_rows for batch in rows) == 10_000


@pytest.mark.parametrize("text_bytes", [0, 1 << 28])
def test_rows_for_the_search_are_loaded_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_bytes: int) -> None:
    table = pa.table(
        {
            "a": pa.array([1, None, 2**53 + 1] * 1000),
            "b": pa.array(["x", None, "long" * 50] * 1000),
            "c": pa.array([dt.date(2020, 1, 1), None, dt.date(1, 1, 1)] * 1000),
            "d": pa.array([{"e": 1.5}, None, {"e": None}] * 1000),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1000)
    monkeypatch.setattr(wide, "TEXT_BYTES", text_bytes)
    monkeypatch.setattr(wide, "_BATCH_VALUES", 1000)
    item = item_of(tmp_path / "t.parquet", [0, 5, 2999], "7")
    columns = predicate_columns(table.schema, [("a",)])
    found = []
    for least in (WIDE, NARROW):
        monkeypatch.setattr(wide, "WIDE_LEAVES", least)
        with connect(KernelLimits()) as connection:
            load_rows(connection, "loaded", [item], HASHER, columns)
            found.append(connection.sql("SELECT * FROM loaded ORDER BY ALL").fetchall())
    assert found[0] == found[1]
    assert len(found[0]) == 2997
