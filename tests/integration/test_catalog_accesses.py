"""Reads that tables of the engine's catalog tell of: counted as from their exports, and kept for later plans."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.errors import UsageError
from r2d2.replan import replan
from r2d2.retention.catalog_usage import read_catalog_accesses
from r2d2.retention.usage import load_accesses
from r2d2.session import Engine
from r2d2.store.results import read_results
from tests.integration.audit_helpers import planned, run_audit

pytestmark = pytest.mark.core("spark")
BEGIN = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
TEXT, MOMENT = pa.string(), pa.timestamp("us", tz="UTC")
NAMES = ("main.sales.orders", "main.`a b`.t", "s3://bucket/x", "", None)


def lineage(rng: random.Random, rows: int) -> pa.Table:
    """Events of some rows each, as one event may write several tables; some name a path, some nothing."""
    columns = {"source_table_full_name": TEXT, "source_path": TEXT, "event_id": TEXT, "event_time": MOMENT}
    found = [
        {
            "source_table_full_name": rng.choice(NAMES),
            "source_path": rng.choice(NAMES),
            "event_id": rng.choice([None, "", *(f"e{n}" for n in range(rows // 3))]),
            "event_time": BEGIN + datetime.timedelta(seconds=rng.randrange(40 * 86400)),
        }
        for _ in range(rows)
    ]
    return pa.Table.from_pylist(found, schema=pa.schema(columns))


def audit_log(rng: random.Random, rows: int) -> pa.Table:
    """Look-ups, credentials to read and to write, and events of other kinds and services."""
    columns = {"service_name": TEXT, "action_name": TEXT, "request_params": pa.map_(TEXT, TEXT), "event_time": MOMENT}
    found = []
    for _ in range(rows):
        parameters = {"full_name_arg": rng.choice(NAMES), "table_full_name": rng.choice(NAMES)}
        if rng.random() < 0.7:
            parameters["operation"] = rng.choice(["READ", "read_write", "WRITE"])
        row = {
            "service_name": rng.choice(["unityCatalog", "jobs", None]),
            "action_name": rng.choice(["getTable", "generateTemporaryTableCredential", "createTable"]),
            "request_params": list(parameters.items()),
            "event_time": BEGIN + datetime.timedelta(seconds=rng.randrange(40 * 86400)),
        }
        found.append(row)
    return pa.Table.from_pylist(found, schema=pa.schema(columns))


def plain() -> pa.Table:
    rows = [
        {"table": "a", "reads_per_month": 2.5, "last_read": BEGIN},
        {"table": "b", "reads_per_month": None, "last_read": None},
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def views(engine: Engine, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Files by the name of the view that reads each; JSON text stands for the map in `audit_text`."""
    rng = random.Random(7)
    tables = {"lineage": lineage(rng, 400), "audit": audit_log(rng, 400), "plain": plain()}
    tables["without_ids"] = tables["lineage"].drop_columns("event_id")
    texts = [json.dumps(dict(pairs)) for pairs in tables["audit"]["request_params"].to_pylist()]
    place = tables["audit"].schema.get_field_index("request_params")
    tables["audit_text"] = tables["audit"].set_column(place, "request_params", pa.array(texts))
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        engine.spark.read.parquet(str(tmp_path / f"{name}.parquet")).createOrReplaceTempView(f"r2d2_test_{name}")
    yield {name: tmp_path / f"{name}.parquet" for name in tables}
    for name in tables:
        engine.spark.catalog.dropTempView(f"r2d2_test_{name}")


def test_the_engine_counts_as_its_exports_are_counted(engine: Engine, views: dict[str, Path]) -> None:
    for name, path in views.items():
        (told,) = read_catalog_accesses(engine.spark, [f"table:r2d2_test_{name}", str(path)]).values()
        expected = load_accesses([str(path)]).by_name
        assert expected, "the export tells of reads"
        assert told.keys() == expected.keys(), name
        for table, access in expected.items():
            assert told[table].last_read == access.last_read, (name, table)
            assert told[table].reads_per_month == pytest.approx(access.reads_per_month), (name, table)


def test_what_is_no_such_table_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"accesses 'table:no\.such\.table' cannot be read \(\w+\); name a table"):
        read_catalog_accesses(engine.spark, ["table:no.such.table"])
    with pytest.raises(UsageError, match="cannot be read"):
        read_catalog_accesses(engine.spark, ["table:x; DROP TABLE y"])
    pq.write_table(pa.table({"id": [1]}), tmp_path / "odd.parquet")
    engine.spark.read.parquet(str(tmp_path / "odd.parquet")).createOrReplaceTempView("r2d2_test_odd")
    with pytest.raises(UsageError, match="has the columns id; expected: table, reads_per_month, last_read; or"):
        read_catalog_accesses(engine.spark, ["table:r2d2_test_odd"])
    timeless = pa.table({"source_table_full_name": ["a"], "source_path": ["b"], "event_time": pa.array([None], MOMENT)})
    pq.write_table(timeless, tmp_path / "timeless.parquet")
    engine.spark.read.parquet(str(tmp_path / "timeless.parquet")).createOrReplaceTempView("r2d2_test_odd")
    with pytest.raises(UsageError, match="an event has no event_time"):
        read_catalog_accesses(engine.spark, ["table:r2d2_test_odd"])
    engine.spark.catalog.dropTempView("r2d2_test_odd")


def test_later_plans_know_what_the_catalog_said(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The database is one of the engine's own catalog, as `system.access` is one of Unity Catalog's."""
    (tmp_path / "lake").mkdir()
    table = pa.table({"id": range(50_000)})
    for name in ("one", "two"):
        pq.write_table(table, tmp_path / "lake" / f"{name}.parquet")
    reads = {"table": ["one.parquet", "two.parquet", "elsewhere"], "reads_per_month": [10.0, 1e9, 1.0]}
    (tmp_path / "told").mkdir()
    pq.write_table(pa.table(reads), tmp_path / "told" / "reads.parquet")
    spark, name = engine.spark, "r2d2_test_access.reads"
    spark.sql("CREATE DATABASE IF NOT EXISTS r2d2_test_access")
    spark.sql(f"CREATE TABLE {name} (table STRING, reads_per_month DOUBLE) USING parquet LOCATION '{tmp_path}/told'")
    try:
        access = (f"table:{name}",)
        run_audit(tmp_path / "lake", tmp_path / "out", spark=spark, access=access)
    finally:
        spark.sql(f"DROP TABLE {name}")
        spark.sql("DROP DATABASE r2d2_test_access")
    results, summary = read_results(str(tmp_path / "out"))
    told = {row["table"]: row["reads_per_month"] for row in results["accesses"].to_pylist()}
    assert told == dict(zip(reads["table"], reads["reads_per_month"], strict=True))
    assert summary["plan_inputs"]["tables_with_accesses"] == 2
    assert summary["plan_inputs"]["unknown_access_names"] == ["elsewhere"]
    decisions = results["decisions"].to_pylist()
    again = planned(capsys, tmp_path / "out")
    assert [(row["table"], row["cost_deleted"]) for row in again["decisions"]] == [
        (row["table"], row["cost_deleted"]) for row in decisions
    ]
    assert planned(capsys, tmp_path / "out", "--no-access")["plan_inputs"]["tables_with_accesses"] == 0
    changes: dict[str, Any] = {"access": ("table:other",)}
    with pytest.raises(UsageError, match="'table:other' were not read by the audit"):
        replan(str(tmp_path / "out"), changes, now=BEGIN)
