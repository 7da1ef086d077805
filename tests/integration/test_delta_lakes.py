"""The same tables as Parquet, as Delta of deltalake and as Delta of delta-spark: the same edges, across them too."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from r2d2.session import Engine
from tests.integration.audit_helpers import EdgeKey, RunInProcess, classic_engine, run_audit

pytestmark = pytest.mark.slow

WRITERS = ("parquet", "rust", "spark")
UNKNOWN_UNTIL = 10
"""Orders below this number have neither day nor amount, so that a file without these columns can hold them."""
DELETED_FROM = 1000
"""Orders from this number on are written to Delta only to be deleted again."""


def orders(numbers: list[int]) -> pa.Table:
    known = [n if n >= UNKNOWN_UNTIL else None for n in numbers]
    amounts = [None if n is None else float("nan") if n % 7 == 0 else n / 8 for n in known]
    days = [None if n is None else dt.date(2024, 1, 1) + dt.timedelta(days=n) for n in known]
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "region": pa.array([("north", "south é", "east")[n % 3] for n in numbers], pa.string()),
            "day": pa.array(days, pa.date32()),
            "amount": pa.array(amounts, pa.float64()),
            "note": pa.array([None if n % 5 == 0 else f"note {n}" for n in numbers], pa.string()),
        }
    )


ALL = list(range(40))
TABLES: dict[str, pa.Table] = {
    "deleted_from": orders(ALL),
    "partitioned": orders(ALL[::-1]),
    "mapped": orders(ALL[::3]),
    "evolved": orders(ALL[:20]).select(["id", "region", "day", "amount"]),
    "slim": orders(ALL).select(["region", "id"]),
    "repeated": orders([3, 3, 12, 12, 30]),
    "differs": orders(ALL[::3]).set_column(4, "note", pa.array(["another"] * len(ALL[::3]))),
    "empty": orders([]),
}


# ---- expectations, by counting rows in plain Python


def counted(table: pa.Table, names: list[str]) -> Counter[tuple[Any, ...]]:
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return Counter(tuple("NaN" if value != value else value for value in row) for row in rows)


def edge(child: str, parent: str, lake: dict[str, pa.Table]) -> EdgeKey | None:
    names = lake[child].column_names
    if not set(names) <= set(lake[parent].column_names):
        return None
    inner, outer = counted(lake[child], names), counted(lake[parent], names)
    if not inner.keys() <= outer.keys():
        return None
    bag = inner <= outer
    same_columns = len(names) == lake[parent].num_columns
    relation = "equal" if bag and same_columns and inner == outer else "contained"
    return (child, parent, relation, bag, True, inner.total(), outer.total())


def expected_edges(lake: dict[str, pa.Table]) -> set[EdgeKey]:
    return {found for pair in permutations(lake, 2) if (found := edge(*pair, lake)) is not None}


# ---- the same tables written by three writers


def write_parquet_tables(folder: Path) -> None:
    for name, table in TABLES.items():
        (folder / name).mkdir(parents=True)
        middle = table.num_rows // 2
        pq.write_table(table.slice(0, middle), folder / name / "part-0.parquet")
        pq.write_table(table.slice(middle), folder / name / "part-1.parquet")


def split_evolved() -> tuple[pa.Table, pa.Table]:
    """The evolved table's first rows without the columns in which they are NULL, and the other rows."""
    table = TABLES["evolved"]
    first = pc.less(table["id"], UNKNOWN_UNTIL)
    return table.filter(first).select(["id", "region"]), table.filter(pc.invert(first))


def write_rust_tables(folder: Path) -> None:
    for name, table in TABLES.items():
        path = str(folder / name)
        if name == "evolved":
            narrow, wide = split_evolved()
            write_deltalake(path, narrow)
            write_deltalake(path, wide, mode="append", schema_mode="merge")
        elif name == "deleted_from":
            write_deltalake(path, pa.concat_tables([table, orders([DELETED_FROM])]))
            DeltaTable(path).delete(f"id >= {DELETED_FROM}")
        else:
            write_deltalake(path, table, partition_by=["region"] if name == "partitioned" else None)


def write_spark_tables(folder: str) -> None:
    with classic_engine() as engine:
        for name, table in TABLES.items():
            SPARK_WRITERS.get(name, write_plain)(engine.spark, f"{folder}/{name}", table)


def write_plain(spark: Any, path: str, table: pa.Table) -> None:
    spark.createDataFrame(table).coalesce(1).write.format("delta").save(path)


def write_deletion_vector(spark: Any, path: str, table: pa.Table) -> None:
    create(spark, path, "'delta.enableDeletionVectors' = 'true'")
    append(spark, path, pa.concat_tables([table, orders([DELETED_FROM, DELETED_FROM + 1])]))
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id >= {DELETED_FROM}")


def write_mapped(spark: Any, path: str, table: pa.Table) -> None:
    """Mapped by name, a column renamed between two files."""
    create(spark, path, "'delta.columnMapping.mode' = 'name'", last="remark")
    append(spark, path, table.slice(0, 5).rename_columns([*table.column_names[:-1], "remark"]))
    spark.sql(f"ALTER TABLE delta.`{path}` RENAME COLUMN remark TO note")
    append(spark, path, table.slice(5))


def write_partitioned(spark: Any, path: str, table: pa.Table) -> None:
    spark.createDataFrame(table).coalesce(1).write.format("delta").partitionBy("region").save(path)


def write_evolved(spark: Any, path: str, table: pa.Table) -> None:
    narrow, wide = split_evolved()
    append(spark, path, narrow)
    append(spark, path, wide)


def create(spark: Any, path: str, properties: str, last: str = "note") -> None:
    columns = f"id bigint, region string, day date, amount double, {last} string"
    spark.sql(f"CREATE TABLE delta.`{path}` ({columns}) USING delta TBLPROPERTIES ({properties})")


def append(spark: Any, path: str, table: pa.Table) -> None:
    frame = spark.createDataFrame(table).coalesce(1)
    frame.write.format("delta").mode("append").option("mergeSchema", "true").save(path)


SPARK_WRITERS: dict[str, Callable[[Any, str, pa.Table], None]] = {
    "deleted_from": write_deletion_vector,
    "mapped": write_mapped,
    "partitioned": write_partitioned,
    "evolved": write_evolved,
}


@pytest.fixture(scope="session")
def lake(spark_process: RunInProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One lake with the tables of each writer in a folder of its own."""
    folder = tmp_path_factory.mktemp("delta") / "lake"
    write_parquet_tables(folder / "parquet")
    write_rust_tables(folder / "rust")
    spark_process(write_spark_tables, str(folder / "spark"))
    return folder


def test_the_tables_of_delta_spark_are_what_they_are_meant_to_be(lake: Path) -> None:
    logs = {name: logged(lake / "spark" / name) for name in TABLES}
    assert [name for name, log in logs.items() if '"deletionVector":{' in log] == ["deleted_from"]
    assert [name for name, log in logs.items() if '"delta.columnMapping.mode":"name"' in log] == ["mapped"]
    assert [name for name, log in logs.items() if '"partitionColumns":["region"]' in log] == ["partitioned"]
    assert logs["evolved"].count('"metaData":{') == 2


def logged(table: Path) -> str:
    return "".join(path.read_text() for path in sorted((table / "_delta_log").glob("*.json")))


def test_every_format_gives_the_same_edges(engine: Engine, lake: Path, tmp_path: Path) -> None:
    tables = {f"{writer}/{name}": table for writer in WRITERS for name, table in TABLES.items()}
    expected = expected_edges(tables)
    assert {found[2:5] for found in expected} == {
        ("equal", True, True),
        ("contained", True, True),
        ("contained", False, True),
    }
    results = run_audit(lake, tmp_path, spark=engine.spark)
    assert results.not_ok() == {}
    assert {row["table"]: row["rows"] for row in results.tables} == {
        table: rows.num_rows for table, rows in tables.items()
    }
    assert results.edge_keys == expected


def test_deletion_vectors_and_mapped_columns_are_read_by_both_readers_alike(
    engine: Engine, lake: Path, tmp_path: Path
) -> None:
    files, engines = (
        run_audit(lake / "spark", tmp_path / reader, spark=engine.spark, reader=reader)
        for reader in ("files", "engine")
    )
    assert files.not_ok() == {}
    unread = set(engines.not_ok())
    assert not unread & {"deleted_from", "mapped"}
    assert engines.edge_keys == {key for key in files.edge_keys if not {key[0], key[1]} & unread}
