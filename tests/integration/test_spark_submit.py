"""The job under a real spark-submit: the results of Sail, and the exit status of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from r2d2.session import delta_package
from tests.integration.audit_helpers import Results, run_audit

pytestmark = [pytest.mark.spark, pytest.mark.slow]

JOB = Path(__file__).parents[2] / "jobs" / "audit.py"
ROWS = pa.table({"id": pa.array(range(50), pa.int64()), "text": [f"row {n % 9}" for n in range(50)]})


def spark_submit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    import pyspark

    submit = Path(pyspark.__path__[0]) / "bin" / "spark-submit"
    command = [submit, "--master", "local[2]", "--packages", delta_package()]
    for setting in (
        "spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions=2",
        "spark.sql.shuffle.partitions=2",
        "spark.ui.enabled=false",
    ):
        command += ["--conf", setting]
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_CONNECT_MODE_ENABLED"}
    environment["PYSPARK_PYTHON"] = sys.executable
    return subprocess.run(
        [*command, JOB, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def write_lake(lake: Path) -> None:
    lake.mkdir()
    pq.write_table(ROWS, lake / "all.parquet")
    pq.write_table(ROWS.select(["text"]).slice(0, 9), lake / "texts.parquet")
    write_deltalake(str(lake / "delta"), ROWS.slice(0, 20))
    write_deltalake(str(lake / "delta"), ROWS.slice(20), mode="append")
    pq.write_table(ROWS.slice(10, 5), lake / "few.parquet")


def proposed(results: Results) -> set[tuple[str, tuple[str, ...], str]]:
    return {(row["table"], tuple(row["parents"]), row["recipe_kind"]) for row in results.proposals}


def test_a_submitted_job_gives_what_sail_gives_and_passes_its_status_on(tmp_path: Path) -> None:
    lake, out = tmp_path / "lake", tmp_path / "spark"
    write_lake(lake)
    (lake / "damaged.parquet").write_bytes(b"PAR1 not a table PAR1")
    done = spark_submit(lake, "--out", out)
    assert done.returncode == 3, done.stdout[-2000:]  # Spark sends a job's stderr there
    by_spark, by_sail = Results.read(out), run_audit(lake, tmp_path / "sail")
    assert "spark" in by_spark.summary["versions"]
    assert "sail" in by_sail.summary["versions"]
    assert by_spark.not_ok() == by_sail.not_ok()
    assert set(by_spark.not_ok()) == {"damaged.parquet"}
    assert ("all.parquet", "delta", "equal", True, True, 50, 50) in by_spark.edge_keys
    assert by_spark.edge_keys == by_sail.edge_keys
    assert len(by_sail.proposals) == 3
    assert proposed(by_spark) == proposed(by_sail)
