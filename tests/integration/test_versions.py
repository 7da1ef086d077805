"""Tables that equal an older version of a Delta table, planted: found through the log, run, and dated."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from r2d2.lake.delta.history import old_versions
from r2d2.model import Format, FoundTable
from r2d2.session import Engine
from tests.integration.audit_helpers import RunInProcess, classic_engine
from tests.integration.recipe_checks import assert_comes_back, audited, bag

pytestmark = pytest.mark.slow

ROWS = 60


def rows(name: str, start: int = 0, end: int = ROWS, shift: int = 0) -> pa.Table:
    """Rows of one case; no other case has its columns."""
    numbers = range(start, end)
    return pa.table(
        {
            f"{name}_id": pa.array(numbers, pa.int64()),
            f"{name}_text": [f"text {n % 5} {shift}" for n in numbers],
            f"{name}_value": [None if n % 9 == 0 else n / 8 + shift for n in numbers],
            "part": [f"p{n % 2}" for n in numbers],
        }
    )


def delete(path: str, name: str) -> None:
    DeltaTable(path).delete(f"{name}_id >= 50")


def update(path: str, name: str) -> None:
    DeltaTable(path).update({f"{name}_text": "'new'"}, predicate=f"{name}_id % 3 = 0")


def merge(path: str, name: str) -> None:
    merger = DeltaTable(path).merge(rows(name, 55, 70, shift=1), f"s.{name}_id = t.{name}_id", "s", "t")
    merger.when_matched_update_all().when_not_matched_insert_all().execute()


def overwrite(path: str, name: str) -> None:
    write_deltalake(path, rows(name, 100, 130), mode="overwrite")


def other_columns(path: str, name: str) -> None:
    write_deltalake(path, rows(name).select([f"{name}_id", "part"]), mode="overwrite", schema_mode="overwrite")


def evolve(path: str, name: str) -> None:
    wide = rows(name, 60, 70).append_column(f"{name}_new", pa.array(range(10), pa.int64()))
    write_deltalake(path, wide, mode="append", schema_mode="merge")
    delete(path, name)


def checkpoint(path: str, name: str) -> None:
    delete(path, name)
    DeltaTable(path).create_checkpoint()
    update(path, name)


def several(path: str, name: str) -> None:
    for shift in range(1, 4):
        write_deltalake(path, rows(name, shift=shift), mode="overwrite")


def optimize(path: str, name: str) -> None:
    write_deltalake(path, rows(name, 60, 70), mode="append")
    DeltaTable(path).optimize.compact()
    delete(path, name)


CHANGES: dict[str, Callable[[str, str], None]] = {
    "delete": delete,
    "update": update,
    "merge": merge,
    "overwrite": overwrite,
    "columns": other_columns,
    "evolve": evolve,
    "checkpoint": checkpoint,
    "several": several,
    "optimize": optimize,
    "partition": update,
}


def vacuum(path: str, name: str) -> None:
    overwrite(path, name)
    DeltaTable(path).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def clean_log(path: str, name: str) -> None:
    overwrite(path, name)
    DeltaTable(path).create_checkpoint()
    os.remove(f"{path}/_delta_log/{0:020}.json")


def expire(path: str, name: str) -> None:
    overwrite(path, name)
    commit = Path(f"{path}/_delta_log/{1:020}.json")
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        if "remove" in action:
            action["remove"]["deletionTimestamp"] -= 8 * 86_400_000
    commit.write_text("\n".join(map(json.dumps, actions)) + "\n")


def one_off(path: str, name: str) -> None:
    overwrite(path, name)


GONE: dict[str, Callable[[str, str], None]] = {
    "vacuum": vacuum,
    "clean_log": clean_log,
    "expire": expire,
    "one_off": one_off,
}
"""Changes after which the older version is not to be proposed, or is not what the child holds."""


def write_lake(lake: Path) -> None:
    """A Delta table for each case that was changed, and a child that holds what it held before."""
    lake.mkdir()
    for name, change in {**CHANGES, **GONE}.items():
        path = str(lake / f"{name}_table")
        partition = ["part"] if name == "partition" else None
        kept = {"delta.deletedFileRetentionDuration": "interval 3 days"} if name == "update" else None
        write_deltalake(path, rows(name), partition_by=partition, configuration=kept)
        change(path, name)
        old = rows(name, shift=2) if name == "several" else rows(name)
        if name == "one_off":
            old = pa.concat_tables([old.slice(0, ROWS - 1), rows(name, ROWS - 1, ROWS, shift=1)])
        pq.write_table(old, lake / f"{name}_old.parquet")


@pytest.mark.core("spark")
def test_older_versions_come_back_until_they_may_be_vacuumed(engine: Engine, tmp_path: Path) -> None:
    today = dt.datetime.now(dt.UTC).date()
    write_lake(tmp_path / "lake")
    results = audited(engine, tmp_path / "lake", tmp_path / "out")
    recipes = {row["child"]: row for row in results["recipes"] if row["recipe_kind"] == "version"}
    assert set(recipes) == {f"{name}_old.parquet" for name in CHANGES}
    for name in CHANGES:
        recipe = recipes[f"{name}_old.parquet"]
        assert recipe["parents"] == [f"{name}_table"]
        days = 3 if name == "update" else 7
        assert today + dt.timedelta(days) <= recipe["expires"] <= today + dt.timedelta(days + 1)
        assert_comes_back(engine, recipe, pq.read_table(tmp_path / "lake" / f"{name}_old.parquet"))


VECTORS = {"marked": "id IN (0, 9, 31)", "marked_more": "id % 7 = 3"}
"""By version: what was deleted last, of a table whose deletions mark rows in vectors."""


def write_with_vectors(folder: str) -> None:
    """A table by delta-spark, each of whose versions VECTORS some child holds; the newest one has other rows."""
    with classic_engine() as engine:
        spark, path = engine.spark, f"{folder}/table"
        spark.sql(
            f"CREATE TABLE delta.`{path}` (id bigint, text string, value double) USING delta"
            " TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')"
        )
        rows = "SELECT id, concat('text ', id % 5) AS text, IF(id % 9 = 0, double('NaN'), id / 8D) AS value"
        spark.sql(f"INSERT INTO delta.`{path}` {rows} FROM range(0, {ROWS}, 1, 1)")
        for name, deleted in VECTORS.items():
            spark.sql(f"DELETE FROM delta.`{path}` WHERE {deleted}")
            pq.write_table(spark.read.format("delta").load(path).toArrow(), f"{folder}/{name}.parquet")
            spark.sql(f"UPDATE delta.`{path}` SET text = 'after {name}' WHERE id = 12")
        spark.sql(f"INSERT OVERWRITE delta.`{path}` {rows} FROM range(1000, 1030, 1, 1)")


@pytest.mark.java
def test_versions_with_deletion_vectors_come_back(spark_process: RunInProcess, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    spark_process(write_with_vectors, str(tmp_path / "lake"))
    log = (tmp_path / "lake" / "table" / "_delta_log").glob("*.json")
    assert any('"deletionVector":{' in file.read_text() for file in log)
    results = audited(engine, tmp_path / "lake", tmp_path / "out")
    recipes = {row["child"]: row for row in results["recipes"] if row["recipe_kind"] == "version"}
    assert set(recipes) == {f"{name}.parquet" for name in VECTORS}
    for child, recipe in recipes.items():
        assert recipe["parents"] == ["table"]
        assert_comes_back(engine, recipe, pq.read_table(tmp_path / "lake" / child))


def found(path: Path) -> FoundTable:
    return FoundTable(table=0, id="t", format=Format.DELTA, uri=str(path))


def test_versions_have_the_rows_and_columns_of_time_travel(tmp_path: Path) -> None:
    write_lake(tmp_path / "lake")
    for name in {**CHANGES, "one_off": one_off}:
        path = tmp_path / "lake" / f"{name}_table"
        newest = DeltaTable(str(path)).version()
        told = {old.version: old for old in old_versions(found(path))}
        assert told, name
        seen: list[object] = [DeltaTable(str(path)).file_uris()]
        for version in range(newest - 1, -1, -1):
            table = DeltaTable(str(path), version=version)
            if table.file_uris() in seen:
                assert version not in told
                continue
            seen.append(table.file_uris())
            read = table.to_pyarrow_table()
            assert (told[version].rows, set(told[version].columns)) == (read.num_rows, set(read.column_names))


def test_a_version_is_kept_as_long_as_its_log_and_its_files(tmp_path: Path) -> None:
    path = tmp_path / "t"
    properties = {"delta.logRetentionDuration": "interval 10 days", "delta.deletedFileRetentionDuration": "30 days"}
    write_deltalake(str(path), rows("x"), configuration=properties)
    write_deltalake(str(path), rows("x", 60, 70), mode="append")
    (log_bound,) = old_versions(found(path))
    assert log_bound.expires == written(path, 0) + dt.timedelta(days=10)
    write_deltalake(str(path), rows("x"), mode="overwrite", configuration=None)
    overwritten, first = old_versions(found(path))
    assert overwritten.expires == first.expires == written(path, 0) + dt.timedelta(days=10)


def test_without_clean_up_of_the_log_only_removed_files_date_a_version(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_deltalake(str(path), rows("x"), configuration={"delta.enableExpiredLogCleanup": "false"})
    write_deltalake(str(path), rows("x", 60, 70), mode="append")
    (kept,) = old_versions(found(path))
    assert kept.expires is None
    write_deltalake(str(path), rows("x"), mode="overwrite")
    assert {old.expires for old in old_versions(found(path))} == {written(path, 2) + dt.timedelta(days=7)}


def test_what_retention_is_not_understood_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_deltalake(str(path), rows("x"), mode="append")
    write_deltalake(str(path), rows("x"), mode="overwrite")
    commit = path / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"]["delta.deletedFileRetentionDuration"] = "a fortnight"
    commit.write_text("\n".join(map(json.dumps, actions)) + "\n")
    (old,) = old_versions(found(path))
    assert old.expires == written(path, 1)


def written(path: Path, version: int) -> dt.date:
    """The day, UTC, of a commit."""
    lines = (path / "_delta_log" / f"{version:020}.json").read_text().splitlines()
    (info,) = [action["commitInfo"] for action in map(json.loads, lines) if "commitInfo" in action]
    return dt.datetime.fromtimestamp(info["timestamp"] / 1000, dt.UTC).date()


def test_the_case_that_is_one_row_off_has_the_rows_of_a_version(tmp_path: Path) -> None:
    """What refutes it is the check, not the count."""
    write_lake(tmp_path / "lake")
    (old,) = old_versions(found(tmp_path / "lake" / "one_off_table"))
    child = pq.read_table(tmp_path / "lake" / "one_off_old.parquet")
    assert old.rows == child.num_rows
    assert bag(child) != bag(rows("one_off"))
