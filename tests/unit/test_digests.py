"""Digests over lists of columns are those of the columns one by one."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.model import leaves
from r2d2.scan import digests
from r2d2.scan.digests import digests_sql
from r2d2.scan.footer.read import read_footer
from r2d2.scan.rowhash import RowHasher
from r2d2.scan.source import Source, parquet_source

HASHER = RowHasher(lane_keys=(0x0123456789ABCDEF, 0xFEDCBA9876543210))
VALUES: dict[pa.DataType, list[Any]] = {
    pa.bool_(): [True, False],
    pa.int8(): [-128, 127],
    pa.int32(): [-(2**31), 7],
    pa.int64(): [2**53, 2**53 + 1, -(2**63)],
    pa.uint64(): [0, 2**64 - 1],
    pa.float32(): [math.nan, -0.0, 0.5],
    pa.float64(): [math.nan, math.inf, -0.0, 0.1],
    pa.decimal128(9, 2): [Decimal("-1.50"), Decimal("0.25")],
    pa.decimal128(38, 10): [Decimal("1e27"), Decimal("-1e-10")],
    pa.date32(): [-(10**6), 0, 2**31 - 1],
    pa.timestamp("us"): [-1, 2**62, 2**63 - 1],
    pa.timestamp("us", "UTC"): [0, 10**15],
    pa.timestamp("ns"): [1, 1000, -1],
    pa.string(): ["", "a", "x" * 300],
    pa.binary(): [b"", b"\xff"],
    pa.list_(pa.int64()): [[1, None], []],
    pa.struct([("x", pa.int64()), ("y", pa.float64())]): [{"x": 1, "y": None}, {"x": None, "y": 2.0}],
}
TYPES = list(VALUES)
PER_TYPE = 6


def array_of(dtype: pa.DataType, shift: int) -> pa.Array:
    values = [None, *VALUES[dtype]]
    cells = [values[(row + shift) % len(values)] for row in range(12)]
    if pa.types.is_temporal(dtype):
        stored = pa.int32() if pa.types.is_date(dtype) else pa.int64()
        return pa.array(cells, stored).view(dtype)
    return pa.array(cells, dtype)


def rows_of(source: Source, connection: duckdb.DuckDBPyConnection, paths: list[tuple[str, ...]]) -> list[Any]:
    sql = digests_sql(HASHER, source, paths, ["source.c0 IS NULL"])
    relation = connection.sql(f"SELECT * FROM ({sql})")
    names = [name for i in range(len(relation.columns) // 2) for name in (f"a{i}", f"b{i}")]
    return relation.select(", ".join([*names, "v0"])).fetchall()


def test_digests_of_listed_columns_are_those_of_the_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "t.parquet")
    columns = {f"t{i}_{shift}": array_of(dtype, shift) for shift in range(PER_TYPE) for i, dtype in enumerate(TYPES)}
    pq.write_table(pa.table(columns), path, store_schema=False)
    footer = read_footer(path)
    paths = [leaf for leaf, _ in leaves(footer.schema)] + [("missing",), ("p",)]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        source = parquet_source(connection, path, footer, {"p": 7}, {"p": pa.int64()})
        assert digests_sql(HASHER, source, paths, []).count("list_transform(x") == 2 * 13
        listed = rows_of(source, connection, paths)
        monkeypatch.setattr(digests, "_LEAST_LISTED", 10**9)
        assert "list_transform(x" not in digests_sql(HASHER, source, paths, [])
        alone = rows_of(source, connection, paths)
    assert listed == alone
    assert len({row[:-1] for row in listed}) == 12
