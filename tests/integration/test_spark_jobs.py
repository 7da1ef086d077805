"""An audit's number of Spark jobs does not grow with the number of tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tests.integration.audit_helpers import classic_engine, own_process, run_audit

pytestmark = [pytest.mark.spark, pytest.mark.slow]

FEW, MANY = 5, 10


def write_lake(lake: Path, tables: int, kind: str) -> Path:
    """Tables of which each holds the one before and more: many edges, and no recipe."""
    lake.mkdir()
    for number in range(tables):
        rows = pa.table({"id": pa.array(range(10 * (number + 1)), pa.int64()), "name": ["x"] * 10 * (number + 1)})
        if kind == "delta":
            write_deltalake(str(lake / f"t{number}"), rows)
        else:
            pq.write_table(rows, lake / f"t{number}.parquet")
    return lake


def next_job(spark_context: Any) -> int:
    """Number of the job that this starts; Spark numbers all jobs of a context one after another."""
    spark_context.setJobGroup("marker", "marker")
    spark_context.parallelize([0], 1).count()
    number = max(spark_context.statusTracker().getJobIdsForGroup("marker"))
    spark_context.setLocalProperty("spark.jobGroup.id", None)
    return int(number)


def jobs_of_audits(folder: str, kind: str, reader: str) -> list[tuple[int, int, int]]:
    """Jobs, edges and proposals of an audit of few tables and of one of many."""
    with classic_engine() as engine:
        context = engine.spark.sparkContext
        counted = []
        for tables in (FEW, MANY):
            lake = write_lake(Path(folder) / f"{tables}", tables, kind)
            before = next_job(context)
            # Spark loads the log of a Delta table once for each recipe that reads it.
            recipes = "chosen" if kind == "delta" else "all"
            out = f"{folder}/out{tables}"
            results = run_audit(lake, out, spark=engine.spark, reader=reader, recipes=recipes)
            counted.append((next_job(context) - before - 1, len(results.edges), len(results.proposals)))
        return counted


@pytest.fixture(scope="module")
def process() -> Iterator[Any]:
    with own_process() as run:
        yield run


@pytest.mark.parametrize(("kind", "reader"), [("parquet", "files"), ("parquet", "engine"), ("delta", "files")])
def test_twice_as_many_tables_need_no_more_jobs(tmp_path: Path, process: Any, kind: str, reader: str) -> None:
    few, many = process(jobs_of_audits, str(tmp_path), kind, reader)
    assert few[1:] == (FEW * (FEW - 1) // 2, FEW - 1)
    assert many[1:] == (MANY * (MANY - 1) // 2, MANY - 1)
    per_recipe = kind == "delta"
    assert 0 < many[0] - many[2] * per_recipe <= few[0] - few[2] * per_recipe
