"""An engine's reader returns what files hold, whatever their statistics say."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.session import Engine
from tests.integration.audit_helpers import run_audit
from tests.unit.forgery import BINARY, I64, MAX, MAX_IS_EXACT, MIN, MIN_IS_EXACT, NULL_COUNT, Struct, forge

pytestmark = pytest.mark.core("spark")

NAN = math.nan


def as_text(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each row as text, so that nothing but the reader sees the file."""
    for batch in batches:
        yield pa.record_batch({"row": [str(row) for row in batch.to_pylist()]})


def rows_of(engine: Engine, path: Path) -> list[str]:
    frame = engine.spark.read.schema("c double, n bigint").parquet(str(path))
    return sorted(frame.mapInArrow(as_text, "row string").toArrow()["row"].to_pylist())


@pytest.mark.parametrize("values", [[1.0, NAN, 1.0], [NAN, NAN, 1.0], [0.0, NAN, -0.0]], ids=str)
def test_nan_in_a_column_of_one_other_value_is_read(engine: Engine, values: list[float], tmp_path: Path) -> None:
    """Writers leave NaN out of the bounds and call them exact: they are an honest file's."""
    table = pa.table({"c": values, "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows_of(engine, tmp_path / "a.parquet") == sorted(str(row) for row in table.to_pylist())


def constant(_: Struct, statistics: Struct) -> None:
    statistics[MIN] = statistics[MAX] = (BINARY, bytes(8))
    statistics[MIN_IS_EXACT] = statistics[MAX_IS_EXACT] = (1, True)
    statistics[NULL_COUNT] = (I64, 0)


def all_nulls(_: Struct, statistics: Struct) -> None:
    statistics.clear()
    statistics[NULL_COUNT] = (I64, 3)


@pytest.mark.parametrize("lie", [constant, all_nulls])
def test_lying_statistics_change_no_row(engine: Engine, lie: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"c": [1.5, None, 2.5], "n": [1, 2, 3]}), path)
    honest = rows_of(engine, path)
    forge(path, lie)
    assert rows_of(engine, path) == honest


@pytest.mark.parametrize("reader", ["auto", "engine"])
def test_int96_with_nanoseconds_is_unsupported_to_both_readers(engine: Engine, reader: str, tmp_path: Path) -> None:
    """Cut to microseconds the tables would be equal; the one without nanoseconds is read."""
    lake = tmp_path / "lake"
    lake.mkdir()
    for name, nanos in (("fine", 1_001), ("whole", 1_000), ("twin", 1_000)):
        table = pa.table({"t": pa.array([nanos, None], pa.timestamp("ns")), "n": [1, 2]})
        pq.write_table(table, lake / f"{name}.parquet", use_deprecated_int96_timestamps=True)
    results = run_audit(lake, tmp_path / "out", spark=engine.spark, reader=reader)
    assert set(results.not_ok()) == {"fine.parquet"}
    assert results.status("fine.parquet") == "unsupported"
    pairs = {(edge["child"], edge["parent"], edge["relation"]) for edge in results.edges}
    assert pairs == {("twin.parquet", "whole.parquet", "equal"), ("whole.parquet", "twin.parquet", "equal")}


PLAIN_SAIL = """
import sys
from pysail.spark import SparkConnectServer
server = SparkConnectServer("127.0.0.1", 0)
server.start(background=True)
print(server.listening_address[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def plain_sail() -> Iterator[str]:
    """A Sail server with its default settings, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAIL_")}
    with subprocess.Popen(
        [sys.executable, "-c", PLAIN_SAIL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as server:
        assert server.stdout is not None
        yield f"sc://127.0.0.1:{int(server.stdout.readline())}"
        server.terminate()


@pytest.mark.parametrize(("reader", "status"), [("engine", 1), ("files", 0)])
def test_an_engine_that_takes_statistics_for_values_reads_no_table(
    plain_sail: str, reader: str, status: int, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    pq.write_table(pa.table({"c": [1.0, NAN, 1.0]}), lake / "a.parquet")
    command = [sys.executable, "-m", "r2d2.cli", "audit", str(lake), "--out", str(tmp_path / "out")]
    ended = subprocess.run([*command, "--engine", plain_sail, "--reader", reader], capture_output=True, check=False)
    assert ended.returncode == status, ended.stderr
    assert (b"takes statistics for values" in ended.stderr) is bool(status)
