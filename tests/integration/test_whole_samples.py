"""What samples of all rows have decided is not read again, and is the same as what a second reading decides."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.session import Engine
from tests.integration.audit_helpers import Results, run_audit


def bytes_of(found: Results, stage: str) -> int:
    """Bytes that a stage has read."""
    return sum(row["bytes"] for row in found.summary["stages"] if row["name"] == stage)


def test_tables_that_were_sampled_whole_are_not_read_again(engine: Engine, tmp_path: Path) -> None:
    draw = random.Random(11)
    (tmp_path / "lake").mkdir()
    for number in range(12):
        values = [draw.randrange(6) for _ in range(draw.randrange(150))]
        columns = {"a": pa.array(values, pa.int64()), "b": ["x" if value < 5 else None for value in values]}
        pq.write_table(pa.table(columns).select(["a", "b"][: 1 + number % 2]), tmp_path / "lake" / f"{number}.parquet")
    whole = run_audit(tmp_path / "lake", tmp_path / "one", spark=engine.spark)
    parts = run_audit(tmp_path / "lake", tmp_path / "two", spark=engine.spark, sketch_rows=16, whole_rows=0)
    assert whole.edge_keys == parts.edge_keys
    assert {edge[3] for edge in whole.edge_keys} == {True, False}, "bags and mere sets are told apart"
    assert bytes_of(whole, "verify") == 0 < bytes_of(parts, "verify")
