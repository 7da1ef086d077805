"""Rows that come with a work item are loaded as those of a file are."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import TableFailed
from r2d2.model import Harvest, leaves, schema_to_bytes
from r2d2.recipes import search as search_module
from r2d2.recipes import tables
from r2d2.recipes.columns import predicate_columns
from r2d2.recipes.rows import Load, load_rows
from r2d2.recipes.search import ChildWork, SearchItem, search
from r2d2.recipes.small_rows import WantedTable, small_tables
from r2d2.recipes.work import load_pieces, scan_items
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.files import stamp
from r2d2.scan.items import ColumnSet, ScanFile, ScanItem
from r2d2.scan.pieces import packed_rows
from r2d2.scan.rowhash import RowHasher

HASHER = RowHasher(lane_keys=(3, 5))
TABLE = pa.table(
    {
        "id": pa.array(range(50), pa.int32()),
        "text": [None if n % 7 == 0 else f"it's {n % 5}" for n in range(50)],
        "real": [math.nan if n % 5 == 0 else -0.0 if n % 5 == 1 else n / 3 for n in range(50)],
        "bytes": [bytes([n, 255]) for n in range(50)],
        "price": [Decimal(n) / 100 for n in range(50)],
        "day": [dt.date(1969, 12, 20) + dt.timedelta(n) for n in range(50)],
        "at": pa.array([n * 86_399_999_999 - 10**12 for n in range(50)], pa.timestamp("us", "UTC")),
        "s": [None if n % 9 == 0 else {"a": n, "b": [n]} for n in range(50)],
    }
)
PATHS = tuple(path for path, _ in leaves(TABLE.schema))
SETS = (ColumnSet(id=0, paths=PATHS), ColumnSet(id=4, paths=PATHS[1:3]))


def loaded(load: Load, items: tuple[ScanItem, ...]) -> list[tuple[Any, ...]]:
    columns = predicate_columns(TABLE.schema, PATHS)
    assert len(columns) == len(PATHS) - 1, "all but the list"
    with connect(KernelLimits()) as connection:
        load(connection, "rows", items, HASHER, columns)
        return sorted(map(repr, connection.execute("SELECT * FROM rows").fetchall()))


def test_rows_that_the_engine_reads_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path)
    file = ScanFile(stamp=stamp(str(path)), data_uri=str(path))
    of_file = (ScanItem(table=7, files=(file,), partition_schema=pa.schema([]), column_sets=SETS),)
    (of_engine,) = scan_items(7, Harvest(schema=TABLE.schema, version="", fragments=(), reader="engine"), SETS)
    numbered = TABLE.rename_columns([f"c{place}" for place in range(TABLE.num_columns)])
    pieces = [packed_rows(batch) for batch in numbered.to_batches(max_chunksize=16)]
    sent = (ScanItem.from_json(of_engine.to_json()),)
    want = loaded(load_rows, of_file)
    assert len(pieces) == 4
    assert loaded(load_pieces({7: pieces, 8: []}), sent) == want
    assert loaded(load_pieces({}), of_file) == want, "files are read all the same"


def test_rows_that_did_not_come_are_not_taken_for_none() -> None:
    items = scan_items(7, Harvest(schema=TABLE.schema, version="", fragments=(), reader="engine"), SETS)
    with connect(KernelLimits()) as connection, pytest.raises(TableFailed, match="handed over no rows"):
        load_pieces({8: [b"x"]})(connection, "rows", items, HASHER, ())


FLAT = pa.table(
    {
        "long": pa.array([None if n % 7 == 0 else n * 10**12 for n in range(50)], pa.int64()),
        "truth": [None if n % 3 == 0 else n % 2 == 0 for n in range(50)],
        "single": pa.array(
            [math.nan if n % 5 == 0 else -0.0 if n % 5 == 1 else n / 3 for n in range(50)], pa.float32()
        ),
        "wall": pa.array([n * 86_399_999_999 - 10**12 for n in range(50)], pa.timestamp("us")),
        "missing": pa.array([None] * 50, pa.string()),
        **{name: TABLE[name] for name in TABLE.column_names if name != "s"},
    }
)


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 50), max_size=3), names=st.sets(st.sampled_from(FLAT.column_names), min_size=1))
def test_small_tables_are_decoded_as_duckdb_reads_them(cuts: list[int], names: set[str]) -> None:
    """Several tables at once, of one file or of several; values, their order, and fingerprints."""
    shown = [name for name in FLAT.column_names if name in names]
    sets = (ColumnSet(id=0, paths=tuple((name,) for name in shown)), ColumnSet(id=4, paths=((shown[-1],),)))
    columns = predicate_columns(FLAT.schema, [(name,) for name in shown])
    with tempfile.TemporaryDirectory() as folder, connect(KernelLimits()) as connection:
        files = []
        for number, (low, high) in enumerate(itertools.pairwise(sorted({0, *cuts, 50}))):
            path = f"{folder}/{number}.parquet"
            pq.write_table(FLAT.slice(low, high - low), path, row_group_size=7)
            files.append(ScanFile(stamp=stamp(path), data_uri=path))
        whole = ScanItem(table=1, files=tuple(files), partition_schema=pa.schema([]), column_sets=sets)
        first = replace(whole, files=whole.files[:1])
        wanted = [
            WantedTable(name=name, items=(item,), columns=columns)
            for name, item in (("whole", whole), ("first", first), ("again", whole))
        ]
        found = small_tables(connection, wanted, HASHER, 50, 1 << 20)
        for table, small in zip(wanted, found, strict=True):
            load_rows(connection, table.name, table.items, HASHER, columns)
            rows = connection.sql(f"SELECT * FROM {table.name}").to_arrow_table()
            assert small is not None
            assert small.schema == rows.schema
            assert repr(small.to_pylist()) == repr(rows.to_pylist())
        assert small_tables(connection, wanted[:1], HASHER, 49, 1 << 20) == [None]
        assert small_tables(connection, wanted[:1], HASHER, 50, 100) == [None]


@pytest.mark.parametrize("dtype", [pa.list_(pa.int8()), pa.int16(), pa.timestamp("ms")])
def test_what_a_small_table_may_not_have_is_left_to_duckdb(dtype: pa.DataType, tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    pq.write_table(
        pa.table({"x": pa.array([None, None], dtype)}),
        path,
        version="1.0",
        use_deprecated_int96_timestamps=pa.types.is_timestamp(dtype),
    )
    file = ScanFile(stamp=stamp(path), data_uri=path)
    sets = (ColumnSet(id=0, paths=(("x",),)),)
    item = ScanItem(table=1, files=(file,), partition_schema=pa.schema([]), column_sets=sets)
    with connect(KernelLimits()) as connection:
        assert small_tables(connection, [WantedTable(name="t", items=(item,), columns=())], HASHER, 9, 1 << 20) == [
            None
        ]


@pytest.mark.parametrize("held", [True, False])
def test_a_child_that_changed_keeps_no_other_from_being_searched(
    held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr(tables, "HELD_ROWS", -1)
        monkeypatch.setattr(tables, "HELD_CELLS", -1)
    rows = {"parent": FLAT, "low": FLAT.slice(0, 20), "changed": FLAT.slice(0, 20), "high": FLAT.slice(30)}
    paths = tuple((name,) for name in FLAT.column_names)
    sets = (ColumnSet(id=0, paths=paths),)
    items = {}
    for number, (name, table) in enumerate(rows.items()):
        path = str(tmp_path / f"{name}.parquet")
        pq.write_table(table, path)
        file = ScanFile(stamp=stamp(path), data_uri=path)
        items[name] = (ScanItem(table=number, files=(file,), partition_schema=pa.schema([]), column_sets=sets),)
    pq.write_table(FLAT.slice(0, 21), tmp_path / "changed.parquet")
    children = tuple(
        ChildWork(child=number, column_set=0, items=items[name], most_key_bytes=0)
        for number, name in enumerate(rows)
        if name != "parent"
    )
    work = SearchItem(
        parent=0, items=items["parent"], schema=schema_to_bytes(FLAT.schema), shared=paths, children=children
    )
    low, changed, high = search([work], HASHER, KernelLimits())
    assert (low.kind, low.where[:9]) == ("selection", "`wall` <=")
    assert (changed.kind, changed.reason.split(" (")[0]) == ("", "its rows could not be searched")
    assert (high.kind, high.where[:9]) == ("selection", "`wall` >=")
    assert (low.bag and low.bag.rows, changed.bag, high.bag and high.bag.rows) == (20, None, FLAT.num_rows - 30)


@pytest.mark.parametrize("held", [True, False])
def test_children_with_columns_of_their_own_are_searched_in_one_parent(
    held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "LEAST_TOGETHER", 1)
    if not held:
        monkeypatch.setattr(tables, "HELD_ROWS", -1)
        monkeypatch.setattr(tables, "HELD_CELLS", -1)
    paths = tuple((name,) for name in FLAT.column_names)
    sets = (ColumnSet(id=0, paths=paths), ColumnSet(id=1, paths=paths[1:]))
    tables_of = [FLAT, *(FLAT.slice(start, 10).select([p[0] for p in own.paths]) for start in (0, 30) for own in sets)]
    items = []
    for number, table in enumerate(tables_of):
        path = str(tmp_path / f"{number}.parquet")
        pq.write_table(table, path)
        own = sets if number == 0 else (sets[(number - 1) % 2],)
        file = ScanFile(stamp=stamp(path), data_uri=path)
        items.append((ScanItem(table=number, files=(file,), partition_schema=pa.schema([]), column_sets=own),))
    children = tuple(
        ChildWork(child=number, column_set=(number - 1) % 2, items=items[number], most_key_bytes=0)
        for number in range(1, len(tables_of))
    )
    work = SearchItem(parent=0, items=items[0], schema=schema_to_bytes(FLAT.schema), shared=paths, children=children)
    answers = list(search([work], HASHER, KernelLimits()))
    assert [answer.kind for answer in answers] == ["selection"] * 4, answers
