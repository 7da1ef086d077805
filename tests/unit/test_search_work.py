"""Rows that come with a work item are loaded as those of a file are."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.errors import TableFailed
from r2d2.model import Harvest, leaves
from r2d2.recipes.columns import predicate_columns
from r2d2.recipes.rows import Load, load_rows
from r2d2.recipes.work import load_pieces, packed_rows, scan_items
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.files import stamp
from r2d2.scan.items import ColumnSet, ScanFile, ScanItem
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
