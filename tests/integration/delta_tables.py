"""Makers of real Delta tables, by delta-spark and by deltalake, and a check of a harvest against a table's rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from r2d2.lake.delta.files import data_file_uri
from r2d2.lake.delta.table import harvest_delta
from r2d2.model import Claim, Format, FoundTable, Harvest, LeafPath
from r2d2.prune.evidence import prefix_end, prefix_start

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
Row = Mapping[str, Any]


def harvest(uri: str | Path) -> Harvest:
    """The harvest of the Delta table in a folder."""
    return harvest_delta(FoundTable(table=0, id="t", format=Format.DELTA, uri=str(uri)))


# ---- by delta-spark: each takes a session with Delta's extensions and the path of the table to make


def spark_plain(spark: Any, path: str) -> None:
    """Two commits of one file each, with a type of every kind that Delta keeps statistics for, and NULLs."""
    spark.sql(
        f"CREATE TABLE delta.`{path}` (i int, l bigint, s string, d date, t timestamp, n timestamp_ntz, f double,"
        " m decimal(30,2), b boolean, x binary, st struct<a:int,b:struct<c:string>>, ar array<int>,"
        " ma map<string,int>) USING delta"
    )
    spark.sql(
        f"INSERT INTO delta.`{path}` SELECT /*+ COALESCE(1) */ * FROM VALUES"
        " (1, 9007199254740993, repeat('z', 40), date'1500-02-03', timestamp'1969-12-31 23:59:59.999999+00:00',"
        "  timestamp_ntz'2020-01-01 00:00:00.123456', double('NaN'), 1.25BD, true, X'ff',"
        "  named_struct('a', 1, 'b', named_struct('c', 'x')), array(1), map('k', 1)),"
        " (NULL, NULL, '', NULL, NULL, NULL, -0.0D, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    spark.sql(
        f"INSERT INTO delta.`{path}` SELECT /*+ COALESCE(1) */ * FROM VALUES"
        " (-5, -1, repeat('\\U0010FFFF', 70), date'9999-12-31', timestamp'9999-12-31 23:59:59.999999+00:00',"
        "  timestamp_ntz'0001-01-01 00:00:00', 1.5D, 9.99BD, false, X'',"
        "  named_struct('a', NULL, 'b', NULL), array(), map())"
    )


def spark_partitioned(spark: Any, path: str) -> None:
    """Partition values of several types, hostile texts and NULLs among them."""
    spark.sql(
        f"CREATE TABLE delta.`{path}` (id int, s string, i int, d date, t timestamp, n timestamp_ntz, b boolean,"
        " f float, m decimal(10,2)) USING delta PARTITIONED BY (s, i, d, t, n, b, f, m)"
    )
    spark.sql(
        f"INSERT INTO delta.`{path}` VALUES"
        " (1, 'a b%20/é:=#x', 7, date'2020-02-29', timestamp'2020-01-01 00:00:00.123456+00:00',"
        "  timestamp_ntz'1999-12-31 23:59:59', true, 3.4F, 1.50),"
        " (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),"
        " (3, '+[*]', -7, date'0001-01-01', timestamp'1500-01-01 00:00:00+00:00',"
        "  timestamp_ntz'1500-01-01 00:00:00', false, -0.0F, -1.50)"
    )


def spark_deletion_vector(spark: Any, path: str) -> None:
    """Ten rows of one file, of which a deletion vector hides the first and the last."""
    spark.sql(
        f"CREATE TABLE delta.`{path}` (a int, b string) USING delta"
        " TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')"
    )
    spark.sql(f"INSERT INTO delta.`{path}` SELECT id, nullif(cast(id AS string), '0') FROM range(0, 10, 1, 1)")
    spark.sql(f"DELETE FROM delta.`{path}` WHERE a IN (0, 9)")


def spark_column_mapping(spark: Any, path: str) -> None:
    """Mapped by name: a column renamed, another dropped and added again, a partition column renamed."""
    spark.sql(
        f"CREATE TABLE delta.`{path}` (a int, b string, st struct<x:int>, p string) USING delta PARTITIONED BY (p)"
        " TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"
    )
    spark.sql(f"INSERT INTO delta.`{path}` VALUES (100, 'old', named_struct('x', 1), 'u')")
    spark.sql(f"ALTER TABLE delta.`{path}` RENAME COLUMN a TO c")
    spark.sql(f"ALTER TABLE delta.`{path}` RENAME COLUMN p TO q")
    spark.sql(f"ALTER TABLE delta.`{path}` DROP COLUMN b")
    spark.sql(f"ALTER TABLE delta.`{path}` ADD COLUMNS (b string, a string)")
    spark.sql(f"INSERT INTO delta.`{path}` (c, st, q, b, a) VALUES (2, named_struct('x', 2), 'v', 'new', 'A')")


def spark_evolved(spark: Any, path: str) -> None:
    """A column that the first file lacks."""
    spark.sql("SELECT 1 AS a").write.format("delta").save(path)
    spark.sql("SELECT 2 AS a, 'x' AS b").write.format("delta").mode("append").option("mergeSchema", "true").save(path)


def spark_type_widening(spark: Any, path: str) -> None:
    """Files written before and after int became bigint, float double, and date timestamp_ntz."""
    spark.sql(
        f"CREATE TABLE delta.`{path}` (a int, f float, d date) USING delta"
        " TBLPROPERTIES ('delta.enableTypeWidening' = 'true', 'delta.feature.timestampNtz' = 'supported')"
    )
    spark.sql(f"INSERT INTO delta.`{path}` VALUES (1, 3.4F, date'2020-01-01')")
    for column, wider in (("a", "bigint"), ("f", "double"), ("d", "timestamp_ntz")):
        spark.sql(f"ALTER TABLE delta.`{path}` ALTER COLUMN {column} TYPE {wider}")
    spark.sql(f"INSERT INTO delta.`{path}` VALUES (9007199254740993, 0.1D, timestamp_ntz'2020-01-01 12:00:00.5')")


def spark_v2_checkpoint(spark: Any, path: str, *, top_level: str) -> None:
    """Checkpoints with sidecars, their top-level files in `json` or `parquet`, and commits after the last one."""
    spark.conf.set("spark.databricks.delta.checkpointV2.topLevelFileFormat", top_level)
    _many_commits(spark, path, "'delta.checkpointPolicy' = 'v2', 'delta.checkpointInterval' = '2'")
    spark.conf.unset("spark.databricks.delta.checkpointV2.topLevelFileFormat")


def spark_multi_part_checkpoint(spark: Any, path: str) -> None:
    """A classic checkpoint in several parts."""
    spark.conf.set("spark.databricks.delta.checkpoint.partSize", "2")
    _many_commits(spark, path, "'delta.checkpointInterval' = '4'")
    spark.conf.unset("spark.databricks.delta.checkpoint.partSize")


def spark_struct_statistics(spark: Any, path: str) -> None:
    """Statistics in the checkpoint only as columns, not as JSON."""
    _many_commits(
        spark,
        path,
        "'delta.checkpointInterval' = '3', 'delta.checkpoint.writeStatsAsStruct' = 'true',"
        " 'delta.checkpoint.writeStatsAsJson' = 'false'",
    )


def _many_commits(spark: Any, path: str, properties: str) -> None:
    spark.sql(
        f"CREATE TABLE delta.`{path}` (a int, b string, d date, t timestamp) USING delta TBLPROPERTIES ({properties})"
    )
    for i in range(3):
        spark.sql(
            f"INSERT INTO delta.`{path}` VALUES"
            f" ({i}, 'x{i}', date'2020-01-0{i + 1}', timestamp'2020-01-01 00:00:00.12345{i}+00:00'),"
            f" (NULL, '{i}', NULL, NULL)"
        )
    spark.sql(f"DELETE FROM delta.`{path}` WHERE b = '1'")


def spark_shallow_clone(spark: Any, path: str, source: str) -> None:
    """A clone that reads its source's files, and one file of its own."""
    spark.sql(f"CREATE TABLE delta.`{path}` SHALLOW CLONE delta.`{source}`")


def spark_generated_column(spark: Any, path: str) -> None:
    """A column that is computed from another one when rows are written."""
    from delta.tables import DeltaTable as SparkDeltaTable

    table = SparkDeltaTable.create(spark).location(path).addColumn("a", "INT")
    table.addColumn("twice", "INT", generatedAlwaysAs="a * 2").execute()
    spark.sql("SELECT 21 AS a").write.format("delta").mode("append").save(path)


# ---- by deltalake


def rust_plain(path: str | Path, rows: int = 3) -> None:
    """One file with the integers below `rows` and a text for each."""
    write_deltalake(path, pa.table({"a": pa.array(range(rows), pa.int64()), "s": [f"v{i}" for i in range(rows)]}))


def rust_partitioned(path: str | Path) -> None:
    """Partitioned by a text that needs escaping twice, with a NULL."""
    table = pa.table({"a": [1, 2, 3], "p": ["a b%20/é:=#x", None, "plain"]})
    write_deltalake(path, table, partition_by=["p"])


def rust_appended(path: str | Path) -> None:
    """Three appended files."""
    for rows in (3, 2, 1):
        write_deltalake(path, pa.table({"a": pa.array(range(rows), pa.int64())}), mode="append")


def rust_deleted_from(path: str | Path) -> None:
    """One file, rewritten without a row: the old one stays until vacuum."""
    rust_plain(path, 5)
    DeltaTable(path).delete("a = 2")


def rust_cleaned_log(path: str | Path) -> None:
    """A log whose commits before its checkpoint are gone, and one commit after it."""
    rust_appended(path)
    DeltaTable(path).create_checkpoint()
    rust_more = pa.table({"a": pa.array([7], pa.int64())})
    write_deltalake(path, rust_more, mode="append")
    drop_commits_before_checkpoint(path)


def drop_commits_before_checkpoint(path: str | Path) -> None:
    """Delete the commits older than the newest checkpoint, as log retention does."""
    log = Path(path) / "_delta_log"
    newest = max((file.name[:20] for file in log.glob("*.checkpoint.parquet")), default="")
    for commit in log.glob("*.json"):
        if commit.name[:20] < newest:
            commit.unlink()


# ---- checks


def parquet_rows(uri: str) -> list[dict[str, Any]]:
    """Rows of one data file as it lies."""
    with open(uri, "rb") as file:
        return list(pq.ParquetFile(file).read().to_pylist())


def spark_rows(spark: Any, path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Live rows of a Delta table as Spark reads them, by the uri of their data file."""
    read = spark.read.format("delta").load(str(path))
    names = [f"`{name}`" for name in read.columns]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in read.selectExpr(*names, "_metadata.file_path AS _uri").toArrow().to_pylist(maps_as_pydicts="lossy"):
        rows.setdefault(data_file_uri(str(path), row.pop("_uri")), []).append(row)
    return rows


def assert_claims_hold(found: Harvest, rows_of: Callable[[str], Iterable[Row]]) -> None:
    """Fail unless every claim and row count of a harvest is true of the rows of its files.

    Args:
        found: The harvest.
        rows_of: Live rows of a data file by its uri.
    """
    rows = {i: list(rows_of(fragment.data_uri)) for i, fragment in enumerate(found.fragments)}
    for i, fragment in enumerate(found.fragments):
        assert fragment.rows is None or fragment.rows == len(rows[i]), fragment
    for claim in found.claims:
        values = [_leaf(row, claim.leaf) for row in rows[claim.fragment]]
        if claim.source == "delta-log":
            _assert_claim(values, claim)
            if claim.writer:
                _assert_bounds_are_of_rows([value for value in values if value is not None and value == value], claim)
        elif rows_have_partitions(rows[claim.fragment], claim):
            _assert_partition(values, claim)


def rows_have_partitions(rows: list[Row], claim: Claim) -> bool:
    """Whether rows come from an engine, which adds the partition columns that the files lack."""
    return all(claim.leaf[0] in row for row in rows)


def _assert_partition(values: list[Any], claim: Claim) -> None:
    assert len({repr(value) for value in values}) <= 1, claim
    assert claim.nulls is None or claim.nulls == sum(value is None for value in values), claim
    assert claim.low == claim.high, claim
    _assert_claim(values, claim)


def _assert_claim(values: list[Any], claim: Claim) -> None:
    assert claim.nulls is None or claim.nulls == sum(value is None for value in values), claim
    for value in values:
        if value is not None and value == value:  # bounds say nothing of NaN
            assert claim.low is None or _comparable(claim.low, value) <= _micros(value), (claim, value)
            assert claim.high is None or _micros(value) <= _comparable(claim.high, value), (claim, value)


def _assert_bounds_are_of_rows(values: list[Any], claim: Claim) -> None:
    """The first and last values stand at the bounds of a writer that computes them from rows.

    Texts are cut there, timestamps lose what is below the millisecond.
    """
    near = 999 if claim.type.startswith("timestamp") else 0
    for bound, extreme in ((claim.low, min), (claim.high, max)):
        if bound is None:
            continue
        value = extreme(map(_micros, values))
        if not isinstance(value, str):
            assert abs(_comparable(bound, value) - value) <= near, (claim, value)
        elif extreme is min:
            assert (end := prefix_end(bound)) is None or value.encode() < end, (claim, value)
        else:
            assert (start := prefix_start(bound)) is None or start <= value.encode(), (claim, value)


def _comparable(bound: bytes, value: Any) -> Any:
    if isinstance(value, str):
        return bound.decode()
    return float(bound) if isinstance(value, float) else Decimal(bound.decode())


def _micros(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return (aware - _EPOCH) // dt.timedelta(microseconds=1)
    if isinstance(value, dt.date):
        return (value - dt.date(1970, 1, 1)).days * 86_400_000_000
    return value


def _leaf(row: Row, path: LeafPath) -> Any:
    value: Any = row
    for name in path:
        value = None if value is None else value.get(name)
    return value
