"""What the audit asks of every engine: each of these must hold on Sail, on classic Spark and through Spark Connect."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest

from r2d2.config import AuditConfig
from r2d2.errors import EngineError
from r2d2.session import Engine, engine_errors, open_engine

pytestmark = pytest.mark.core

ROWS = pa.table({"g": [i % 7 for i in range(1000)], "h": [i % 3 for i in range(1000)], "a": list(range(1000))})


def sum_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """One row per partition: how many rows it held and their sum of `a`."""
    table = pa.Table.from_batches(batches, pa.schema([("a", pa.int64())]))
    total = sum(value.as_py() for value in table["a"])
    yield pa.RecordBatch.from_pydict({"n": pa.array([table.num_rows], pa.int64()), "s": pa.array([total], pa.int64())})


def count_both(left: pa.Table, right: pa.Table) -> pa.Table:
    """One row per key: how many rows each side has."""
    key = (left if left.num_rows else right).select(["g", "h"]).slice(0, 1)
    counts = {"l": left.num_rows, "r": right.num_rows}
    return pa.table({"g": key["g"], "h": key["h"], **{name: pa.array([n], pa.int64()) for name, n in counts.items()}})


def test_map_in_arrow_sees_every_row_once(engine: Engine) -> None:
    frame = engine.spark.createDataFrame(ROWS.select(["a"])).repartition(4)
    out = frame.mapInArrow(sum_batches, "n bigint, s bigint").toArrow().to_pydict()
    assert (sum(out["n"]), sum(out["s"])) == (1000, 999 * 1000 // 2)


def test_cogroup_over_two_keys_meets_each_pair_of_groups_once(engine: Engine) -> None:
    other = pa.table({"g": [0, 0, 6, 99], "h": [0, 1, 2, 99]})
    left = engine.spark.createDataFrame(ROWS).repartition(3).groupBy("g", "h")
    right = engine.spark.createDataFrame(other).repartition(2).groupBy("g", "h")
    out = left.cogroup(right).applyInArrow(count_both, "g bigint, h bigint, l bigint, r bigint").toArrow().to_pylist()
    sides = {"l": [(g, h) for g, h in zip(*ROWS.select(["g", "h"]).to_pydict().values(), strict=True)]}
    sides["r"] = list(zip(other["g"].to_pylist(), other["h"].to_pylist(), strict=True))
    expected = {key: (sides["l"].count(key), sides["r"].count(key)) for key in {*sides["l"], *sides["r"]}}
    assert len(out) == len(expected)
    assert {(row["g"], row["h"]): (row["l"], row["r"]) for row in out} == expected


def test_parquet_comes_back_as_written(engine: Engine, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    engine.spark.createDataFrame(ROWS).repartition(3).write.parquet(path)
    assert pq.read_table(path).sort_by("a").to_pydict() == ROWS.to_pydict()
    assert engine.spark.read.parquet(path).orderBy("a").toArrow().to_pydict() == ROWS.to_pydict()


def test_delta_is_read_at_a_version(engine: Engine, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    deltalake.write_deltalake(path, ROWS.slice(0, 10))
    deltalake.write_deltalake(path, ROWS.slice(10, 5), mode="append")
    reader = engine.spark.read.format("delta")
    assert reader.load(path).count() == 15
    assert engine.spark.read.format("delta").option("versionAsOf", 0).load(path).count() == 10


def test_the_session_is_on_the_utc_clock(engine: Engine) -> None:
    assert engine.spark.conf.get("spark.sql.session.timeZone") == "UTC"
    stamp = engine.spark.sql("SELECT TIMESTAMP '2020-07-01 12:00:00' AS ts").toArrow()["ts"][0].as_py()
    assert stamp.astimezone(UTC) == datetime(2020, 7, 1, 12, tzinfo=UTC)


def test_versions_name_everything_that_shapes_results(engine: Engine) -> None:
    assert set(engine.versions) == {"r2d2", "python", "pyspark", "duckdb", engine.name}
    assert engine.versions["python"] == platform.python_version()
    assert engine.versions["pyspark"] == pyspark.__version__


def test_a_session_handed_in_is_used_and_left_as_it_was(engine: Engine) -> None:
    engine.spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        with open_engine(AuditConfig(lake="unused", out="unused"), engine.spark) as adopted:
            assert adopted.spark is engine.spark
            assert adopted.name == ("spark" if engine.name == "spark" else "connect")
            assert adopted.spark.conf.get("spark.sql.session.timeZone") == "UTC"
        assert engine.spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
        assert engine.spark.range(3).count() == 3
    finally:
        engine.spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_a_session_handed_in_has_as_many_tasks_as_where_it_was_opened(engine: Engine) -> None:
    """However little of its engine it shows."""
    with open_engine(AuditConfig(lake="lake", out="out"), engine.spark) as handed_in:
        assert handed_in.parallelism == engine.parallelism
        assert (handed_in.is_spark, handed_in.runs_here) == (engine.is_spark, engine.runs_here)


def test_workers_of_this_machine_share_its_files(engine: Engine) -> None:
    assert engine.workers_share_files
    assert engine.parallelism >= 1


def test_a_refused_connection_is_an_error_within_seconds() -> None:
    with pytest.raises(EngineError, match=r"no Spark Connect server answers at 127\.0\.0\.1:1 .*check host, port"):
        open_engine(AuditConfig(lake="unused", out="unused", engine="sc://127.0.0.1:1/;token=secret"))


def test_missing_java_is_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    program = """
from r2d2.config import AuditConfig
from r2d2.errors import EngineError
from r2d2.session import open_engine, union_all
try:
    open_engine(AuditConfig(lake="unused", out="unused", engine="spark"))
except EngineError as exc:
    print(exc)
"""
    environment = os.environ | {"JAVA_HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "needs Java 17 or newer" in said.stdout
    assert "openjdk-17-jre-headless" in said.stdout


def test_a_scratch_session_shares_the_engine_but_no_views(engine: Engine) -> None:
    with engine.scratch_session() as scratch:
        scratch.range(3).createOrReplaceTempView("only_here")
        assert scratch.conf.get("spark.sql.session.timeZone") == "UTC"
        assert scratch.sql("SELECT * FROM only_here").count() == 3
        assert not engine.spark.catalog.tableExists("only_here")
    assert engine.spark.range(3).count() == 3


def test_a_vanished_file_is_an_error_of_the_engine_or_has_no_rows(engine: Engine, tmp_path: Path) -> None:
    """Sail does not notice; the audit counts. Classic Spark's own error is none of pyspark's."""
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    frame = engine.spark.read.schema("a bigint").parquet(str(tmp_path))
    assert frame.count() == 1000
    (tmp_path / "rows.parquet").unlink()
    try:
        with engine_errors():
            rows = frame.toArrow().num_rows
    except EngineError as exc:
        assert "a job of the audit failed" in str(exc)  # noqa: PT017 - only some engines raise
    else:
        assert rows == 0
