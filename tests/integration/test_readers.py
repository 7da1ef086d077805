"""The files reader and the engine's reader are each other's oracle: the same edges on all that both can read."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from r2d2.session import Engine
from tests.integration.audit_helpers import EdgeKey, run_audit

ROWS = 24
UTC = dt.UTC
STRUCT = pa.struct([("x", pa.int32()), ("inner", pa.struct([("Y z", pa.string()), ("t", pa.timestamp("us", "UTC"))]))])


def nested(n: int) -> dict[str, object] | None:
    """A struct that is NULL, has a NULL struct, or is whole."""
    inner = {"Y z": f"é{n}", "t": dt.datetime(2020, 1, 1, 0, 0, 0, n, UTC)}
    return (None, {"x": None, "inner": None}, {"x": n, "inner": inner})[n % 3]


def everything() -> pa.Table:
    """A column of every kind, with NULLs and the values that readers like to treat apart."""
    numbers = range(ROWS)
    real = [(float("nan"), -0.0, 0.0, 0.1, float("inf"), None)[n % 6] for n in numbers]
    instant = [dt.datetime(1969, 12, 31, 23, 59, 59, n, UTC) for n in numbers]
    wall = [dt.datetime(2024, 3, 31, 2, 30, n) for n in numbers]  # noqa: DTZ001
    maps = [([], None, [("b", n), ("a", None)])[n % 3] for n in numbers]
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "tiny": pa.array([n - 12 for n in numbers], pa.int8()),
            "flag": pa.array([None if n % 4 == 0 else n % 2 == 0 for n in numbers], pa.bool_()),
            "real": pa.array(real, pa.float64()),
            "short": pa.array([(float("nan"), -0.0, 0.1)[n % 3] for n in numbers], pa.float32()),
            "price": pa.array([Decimal(n) / 100 for n in numbers], pa.decimal128(20, 2)),
            "text": pa.array([("", None, "a\x00b", "ü", " x ", "null")[n % 6] for n in numbers], pa.string()),
            "bytes": pa.array([(b"", b"\xff\x00", None)[n % 3] for n in numbers], pa.binary()),
            "day": pa.array([dt.date(1, 1, 1) + dt.timedelta(days=n * 100_000) for n in numbers], pa.date32()),
            "instant": pa.array(instant, pa.timestamp("us", "UTC")),
            "wall": pa.array(wall, pa.timestamp("us")),
            "list": pa.array([([], None, [None], [n, None])[n % 4] for n in numbers], pa.list_(pa.int32())),
            "map": pa.array(maps, pa.map_(pa.string(), pa.int64())),
            "struct": pa.array([nested(n) for n in numbers], STRUCT),
            "Odd `name.x`": pa.array([str(n) for n in numbers], pa.string()),
            "nothing": pa.nulls(ROWS, pa.string()),
        }
    )  # fmt: skip


def mixed_numbers() -> dict[str, pa.Table]:
    """The same numbers under several types, and numbers that are only nearly the same."""
    exact = [None, 0, 1, -1, 1 << 31, 1 << 53]
    types = {"int64": pa.int64(), "decimal": pa.decimal128(38, 4), "double": pa.float64()}
    same = {f"numbers_{name}": pa.table({"n": pa.array(exact).cast(dtype)}) for name, dtype in types.items()}
    return {
        **same,
        "numbers_small": pa.table({"n": pa.array([0, 1], pa.int32())}),
        "numbers_float": pa.table({"n": pa.array([0.0, 1.0, -1.0], pa.float32())}),
        "numbers_near": pa.table({"n": pa.array([(1 << 53) + 1], pa.int64())}),
        "tenth_float": pa.table({"tenth": pa.array([0.1], pa.float32())}),
        "tenth_double": pa.table({"tenth": pa.array([0.1], pa.float64())}),
        "tenth_decimal": pa.table({"tenth": pa.array([Decimal("0.1")])}),
    }


def write_lake(lake: Path) -> None:
    table = everything()
    plain = table.select(["id", "price", "day", "wall", "nothing"])
    write_parquet_tables(lake, table)
    for name, numbers in mixed_numbers().items():
        pq.write_table(numbers, lake / f"{name}.parquet")
    write_deltalake(str(lake / "delta"), table.drop_columns(["tiny"]), partition_by=["flag"])
    write_deltalake(str(lake / "delta_appended"), plain.slice(0, 9))
    write_deltalake(str(lake / "delta_appended"), plain.slice(9), mode="append")
    DeltaTable(str(lake / "delta_appended")).delete("id = 3")
    texts = plain.set_column(4, "nothing", plain["nothing"].cast(pa.string()))
    pyarrow.csv.write_csv(texts, lake / "plain.csv", pyarrow.csv.WriteOptions(quoting_style="none"))
    (lake / "part.csv.gz").write_bytes(gzip.compress(b"id,price\n1,0.01\n2,0.02\n"))
    lines = [json.dumps({"id": n, "text": text}) for n, text in enumerate(table["text"].to_pylist())]
    (lake / "lines.jsonl").write_text("\n".join(lines) + "\n")


def write_parquet_tables(lake: Path, table: pa.Table) -> None:
    (lake / "folder").mkdir(parents=True)
    pq.write_table(table, lake / "single.parquet", row_group_size=7)
    pq.write_table(table.slice(0, 5), lake / "folder" / "part-0.parquet")
    pq.write_table(table.slice(5).select(table.column_names[::-1]), lake / "folder" / "part-1.parquet")
    pq.write_table(table.slice(2, 4), lake / "few.parquet")
    for tiny, part in ((-12, table.slice(0, 1)), (-11, table.slice(1, 1))):
        folder = lake / "hive" / f"tiny={tiny}"
        folder.mkdir(parents=True)
        pq.write_table(part.drop_columns(["tiny"]), folder / "a.parquet")
    null_struct = pa.table({"id": [0], "struct": pa.nulls(1, STRUCT)})
    struct_of_nulls = pa.table(
        {"id": [0], "struct": pa.array([{"x": None, "inner": {"Y z": None, "t": None}}], STRUCT)}
    )
    pq.write_table(null_struct, lake / "null_struct.parquet")
    pq.write_table(struct_of_nulls, lake / "struct_of_nulls.parquet")
    pq.write_table(
        table.select(["id"]).append_column("nothing", pa.nulls(ROWS, pa.int64())), lake / "other_nulls.parquet"
    )


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers") / "lake"
    write_lake(folder)
    return folder


def pairs(edges: set[EdgeKey]) -> set[tuple[str, str]]:
    return {(child, parent) for child, parent, *_ in edges}


@pytest.mark.core
@pytest.mark.slow
def test_both_readers_give_the_same_edges(engine: Engine, lake: Path, tmp_path: Path) -> None:
    files, by_engine = (
        run_audit(lake, tmp_path / reader, spark=engine.spark, reader=reader) for reader in ("files", "engine")
    )
    assert files.not_ok() == by_engine.not_ok() == {}
    assert files.edge_keys == by_engine.edge_keys
    assert {row["table"]: row["rows"] for row in files.tables} == {
        row["table"]: row["rows"] for row in by_engine.tables
    }


def test_the_lake_has_edges_of_every_kind_and_near_misses(engine: Engine, lake: Path, tmp_path: Path) -> None:
    """What the comparison of the readers rests on: both could agree on nothing."""
    found = pairs(run_audit(lake, tmp_path, spark=engine.spark).edge_keys)
    assert found >= {
        ("single.parquet", "folder"),
        ("folder", "single.parquet"),
        ("few.parquet", "folder"),
        ("hive", "single.parquet"),
        ("delta", "single.parquet"),
        ("delta_appended", "delta"),
        ("plain.csv", "single.parquet"),
        ("part.csv.gz", "plain.csv"),
        ("lines.jsonl", "delta"),
        ("other_nulls.parquet", "single.parquet"),
        ("null_struct.parquet", "single.parquet"),
        ("numbers_int64.parquet", "numbers_decimal.parquet"),
        ("numbers_decimal.parquet", "numbers_double.parquet"),
        ("numbers_float.parquet", "numbers_int64.parquet"),
        ("numbers_small.parquet", "numbers_double.parquet"),
    }
    assert not {child for child, _ in found} & {"struct_of_nulls.parquet", "numbers_near.parquet"}
    assert not any("tenth" in child for child, _ in found)
