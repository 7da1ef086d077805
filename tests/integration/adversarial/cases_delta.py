"""Delta logs: deletion vectors, clones, column mapping, evolved and unindexed columns, what is not in the snapshot."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from tests.integration.adversarial.case import ANY, BAG, NONE, REFUTE, Case
from tests.integration.adversarial.writers import (
    Made,
    Place,
    arrow,
    delta,
    delta_sql,
    log_edit,
    longs,
    no_commit_info,
    operation,
    run_sql,
    rust,
    rust_delete,
    stats_edit,
    texts,
)
from tests.integration.delta_tables import drop_commits_before_checkpoint

VECTORS = {"enableDeletionVectors": "true"}
TEN = pa.table({"a": list(range(10)), "b": [None, *map(str, range(1, 10))]})
LIVE = TEN.slice(1, 8)
WIDE = pa.table({f"a{n}": pa.array([n, None], pa.int64()) for n in range(40)})
NESTED = pa.table(
    {
        "s": pa.array([{f"x{n}": n for n in range(40)}, None], pa.struct([(f"x{n}", pa.int64()) for n in range(40)])),
        "t": pa.array([None, 1], pa.int64()),
    }
)


def deleted_from(*statements: str) -> Made:
    """Ten rows in one file of which a deletion vector hides some."""
    return delta(TEN, **VECTORS).with_spark(run_sql(*statements))


def claim_tight_bounds(stats: dict[str, Any], prefix: str) -> None:
    """Bounds said to be tight although a deletion vector hides rows."""
    stats["tightBounds"] = True


def claim_no_nulls(stats: dict[str, Any], prefix: str) -> None:
    """A count of zero NULLs where nothing is known: neither bounds."""
    stats["nullCount"] = {prefix + "a": 0}
    stats["minValues"] = stats["maxValues"] = {}


def drop_statistics(action: dict[str, Any]) -> None:
    """Files without statistics."""
    if "add" in action:
        del action["add"]["stats"]


def catalog_managed(action: dict[str, Any]) -> None:
    """A table that only its catalog may read."""
    if "protocol" in action:
        action["protocol"] = {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["catalogManaged"],
            "writerFeatures": ["catalogManaged", "inCommitTimestamp"],
        }


def zoneless_partition(action: dict[str, Any]) -> None:
    """Partition timestamps as old writers wrote them, on the clock of their session."""
    if "add" in action:
        values = action["add"]["partitionValues"]
        action["add"]["partitionValues"] = dict.fromkeys(values, "2024-01-01 00:00:00")


def empty_partition_value(action: dict[str, Any]) -> None:
    """A partition value that some engines read as NULL."""
    if "add" in action:
        action["add"]["partitionValues"] = dict.fromkeys(action["add"]["partitionValues"], "")


def uncommitted_file(place: Place) -> None:
    """A data file, and one of a change feed, that the log does not name."""
    (place.folder / "_change_data").mkdir()
    for name in ("left-over.parquet", "_change_data/cdc-0.parquet"):
        pq.write_table(place.named(longs(99)), place.folder / name)


def checkpoint(place: Place) -> None:
    """A checkpoint, and no commits before it."""
    DeltaTable(place.folder).create_checkpoint()
    drop_commits_before_checkpoint(place.folder)


def restore(place: Place) -> None:
    """Goes back to the first version."""
    DeltaTable(place.folder).restore(0)


def add_of_no_rows(place: Place) -> None:
    """A commit that adds a file without rows and without statistics, as deletes do."""
    pq.write_table(place.named(longs()), place.folder / "none.parquet")
    add = {
        "path": "none.parquet",
        "partitionValues": {},
        "size": (place.folder / "none.parquet").stat().st_size,
        "modificationTime": 0,
        "dataChange": True,
        "stats": json.dumps({"numRecords": 0}),
    }
    log = place.folder / "_delta_log"
    (log / f"{len(list(log.glob('*.json'))):020}.json").write_text(json.dumps({"add": add}) + "\n")


def old_and_new_columns(mode: str) -> tuple[str, ...]:
    """Statements that write, rename and drop columns, add them again, and write once more."""
    return (
        (
            "CREATE TABLE {t} ({c}a INT, {c}b STRING) USING delta"
            f" TBLPROPERTIES ('delta.columnMapping.mode' = '{mode}')"
        ),
        "INSERT INTO {t} VALUES (100, 'old')",
        "ALTER TABLE {t} RENAME COLUMN {c}a TO {c}c",
        "ALTER TABLE {t} DROP COLUMN {c}b",
        "ALTER TABLE {t} ADD COLUMNS ({c}b STRING, {c}a STRING)",
        "INSERT INTO {t} ({c}c, {c}b, {c}a) VALUES (2, 'new', 'A')",
    )


RENAMED = pa.table({"c": pa.array([100, 2], pa.int32()), "b": [None, "new"], "a": pa.array([None, "A"], pa.string())})

DELETES = [
    Case(
        name="vector_with_bounds_of_deleted_rows",
        covers=("S29", "S31", "T31"),
        child=deleted_from("DELETE FROM {t} WHERE {c}a IN (0, 9)"),
        parent=arrow(LIVE),
        back=BAG,
    ),
    Case(
        name="vector_with_nulls_of_deleted_rows",
        covers=("S33", "T31"),
        child=deleted_from("DELETE FROM {t} WHERE {c}b IS NULL"),
        parent=arrow(TEN.slice(1)),
        back=BAG,
    ),
    Case(
        name="vector_with_tight_bounds",
        covers=("T32", "T31"),
        child=deleted_from("DELETE FROM {t} WHERE {c}a IN (0, 9)").then(stats_edit(claim_tight_bounds)),
        parent=arrow(LIVE),
        back=BAG,
    ),
    Case(
        name="vector_of_the_parent",
        covers=("S29", "T31"),
        child=arrow(TEN.slice(0, 1)),
        parent=deleted_from("DELETE FROM {t} WHERE {c}a = 0"),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="vector_over_all_rows",
        covers=("T31",),
        child=arrow(TEN.slice(3, 1)),
        parent=deleted_from("DELETE FROM {t} WHERE {c}a >= 0"),
        there=NONE,
        back=BAG,
        metadata=REFUTE,
    ),
    Case(
        name="clone_of_what_has_lost_rows_since",
        covers=("S103", "T32"),
        child=delta_sql("CREATE TABLE {t} SHALLOW CLONE {p}", "DELETE FROM {p} WHERE {c}a = 4"),
        parent=delta(TEN, **VECTORS),
        there=NONE,
        back=BAG,
        metadata=ANY,
    ),
    Case(
        name="clone_of_what_was_overwritten_since",
        covers=("S107",),
        child=delta_sql("CREATE TABLE {t} SHALLOW CLONE {p}", "INSERT OVERWRITE {p} VALUES (77)"),
        parent=delta(longs(1, 2)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="clone_that_has_lost_rows_itself",
        covers=("S103", "T32"),
        child=delta_sql("CREATE TABLE {t} SHALLOW CLONE {p}", "DELETE FROM {t} WHERE {c}a = 4"),
        parent=delta(TEN, **VECTORS),
    ),
    Case(
        name="clone_unchanged",
        covers=("T32",),
        child=delta_sql("CREATE TABLE {t} SHALLOW CLONE {p}"),
        parent=delta(TEN),
        back=BAG,
    ),
    Case(
        name="removed_file_not_vacuumed",
        covers=("T43",),
        child=arrow(longs(2)),
        parent=rust(longs(1, 2, 3)).then(rust_delete("{c}a = 2")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="uncommitted_files_in_the_folder",
        covers=("T43",),
        child=arrow(longs(99)),
        parent=rust(longs(1, 2)).then(uncommitted_file),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="added_file_without_rows",
        covers=("T46",),
        child=rust(longs(1, 2)).then(add_of_no_rows),
        parent=arrow(longs(1, 2)),
        back=BAG,
    ),
    Case(
        name="rows_all_deleted",
        covers=("T46",),
        child=arrow(longs(1)),
        parent=rust(longs(1)).then(rust_delete("{c}a = 1")),
        there=NONE,
        back=BAG,
        metadata=REFUTE,
    ),
]

COLUMNS = [
    Case(
        name="mapped_by_name",
        covers=("S41", "T36"),
        child=delta_sql(*old_and_new_columns("name")),
        parent=arrow(RENAMED),
        back=BAG,
    ),
    Case(
        name="mapped_by_id",
        covers=("S41", "T36"),
        child=arrow(RENAMED.slice(0, 1)),
        parent=delta_sql(*old_and_new_columns("id")),
    ),
    Case(
        name="evolved_as_child",
        covers=("S37", "T37"),
        child=rust(longs(1), pa.table({"a": [2], "b": ["x"]}), schema_mode="merge"),
        parent=arrow(pa.table({"a": [1, 2, 3], "b": [None, "x", None]})),
    ),
    Case(
        name="evolved_as_parent",
        covers=("S37", "T37"),
        child=arrow(pa.table({"a": [1], "b": pa.array([None], pa.string())})),
        parent=rust(longs(1), pa.table({"a": [2], "b": ["x"]}), schema_mode="merge"),
    ),
    Case(
        name="unindexed_columns_of_delta_spark",
        covers=("S35", "T27"),
        child=delta(WIDE),
        parent=rust(WIDE),
        back=BAG,
    ),
    Case(
        name="unindexed_columns_hold_nulls",
        covers=("S35", "T27"),
        child=arrow(WIDE.slice(1).select(["a39"])),
        parent=delta(WIDE),
    ),
    Case(
        name="unindexed_columns_of_a_struct",
        covers=("S35", "T27"),
        child=delta(NESTED),
        parent=rust(NESTED),
        back=BAG,
    ),
    Case(
        name="unindexed_by_choice",
        covers=("T27",),
        child=arrow(pa.table({"a": [1], "b": pa.array([None], pa.string())})),
        parent=delta(pa.table({"a": [1, 2], "b": [None, "x"]}), dataSkippingNumIndexedCols="1"),
    ),
    Case(
        name="int_widened_in_delta",
        covers=("T38",),
        child=arrow(longs(7, 2**40)),
        parent=delta_sql(
            "CREATE TABLE {t} ({c}a INT) USING delta TBLPROPERTIES ('delta.enableTypeWidening' = 'true')",
            "INSERT INTO {t} VALUES (7)",
            "ALTER TABLE {t} ALTER COLUMN {c}a TYPE BIGINT",
            "INSERT INTO {t} VALUES (1099511627776)",
        ),
        back=BAG,
    ),
    Case(
        name="generated_and_identity_columns",
        covers=("T48",),
        child=delta_sql(
            "CREATE TABLE {t} ({c}a BIGINT, {c}b BIGINT GENERATED ALWAYS AS IDENTITY,"
            " {c}c BIGINT GENERATED ALWAYS AS (CAST({c}a * 2 AS BIGINT))) USING delta",
            "INSERT INTO {t} ({c}a) VALUES (21)",
        ),
        parent=arrow(pa.table({"a": [21, 1], "b": [1, 2], "c": [42, 2]})),
    ),
]

LOGS = [
    Case(
        name="invented_count_of_nulls",
        covers=("T11",),
        child=arrow(texts(None)),
        parent=rust(texts(None, "x")).then(stats_edit(claim_no_nulls)),
    ),
    Case(
        name="log_without_statistics",
        covers=("T27",),
        child=arrow(longs(1, None)),
        parent=rust(longs(1, None, 2)).then(log_edit(drop_statistics)),
    ),
    Case(
        name="log_in_a_checkpoint",
        covers=("T1", "T19"),
        child=arrow(pa.table({"a": ["m" * 40], "b": pa.array([1_704_067_200_123_999], pa.timestamp("us", tz="UTC"))})),
        parent=rust(
            pa.table({"a": ["m" * 40], "b": pa.array([1_704_067_200_123_999], pa.timestamp("us", tz="UTC"))}),
            pa.table({"a": ["n"], "b": pa.array([0], pa.timestamp("us", tz="UTC"))}),
        ).then(checkpoint),
    ),
    Case(
        name="log_without_writers",
        covers=("T32", "T8"),
        child=arrow(texts("m" * 40)),
        parent=rust(texts("m" * 40, "n")).then(no_commit_info),
    ),
    Case(
        name="statistics_computed_later",
        covers=("T32", "T42"),
        child=arrow(texts("x", None)),
        parent=rust(texts("x", None, "y")).then(operation("COMPUTE STATS")),
    ),
    Case(
        name="restored_version",
        covers=("T43",),
        child=arrow(longs(1, 2)),
        parent=rust(longs(1, 2), longs(9)).then(restore),
        back=BAG,
    ),
    Case(
        name="managed_by_a_catalog",
        covers=("T44",),
        child=rust(longs(1)).then(log_edit(catalog_managed)),
        parent=arrow(longs(1)),
        there=NONE,
        metadata=ANY,
        not_read={"child": "catalogManaged"},
    ),
    Case(
        name="partition_timestamp_without_zone",
        covers=("S47", "T34"),
        child=rust(pa.table({"a": [1], "p": pa.array([0], pa.timestamp("us", tz="UTC"))}), partition_by=["p"]).then(
            log_edit(zoneless_partition)
        ),
        parent=arrow(pa.table({"a": [1], "p": pa.array([1_704_085_200_000_000], pa.timestamp("us", tz="UTC"))})),
        there=NONE,
        metadata=ANY,
        not_read={"child": "partition value"},
    ),
    Case(
        name="partition_timestamp_of_another_session",
        covers=("S47", "T34"),
        child=delta_sql(
            "CREATE TABLE {t} ({c}a BIGINT, {c}p TIMESTAMP) USING delta PARTITIONED BY ({c}p)",
            "INSERT INTO {t} VALUES (1, timestamp'2024-01-01 00:00:00')",
            conf={"spark.sql.session.timeZone": "America/New_York"},
        ),
        parent=arrow(pa.table({"a": [1], "p": pa.array([1_704_085_200_000_000], pa.timestamp("us", tz="UTC"))})),
        back=BAG,
    ),
    Case(
        name="partition_value_that_may_be_null",
        covers=("T34",),
        child=rust(pa.table({"a": [1], "p": ["x"]}), partition_by=["p"]).then(log_edit(empty_partition_value)),
        parent=arrow(pa.table({"a": [1], "p": [""]})),
        there=NONE,
        metadata=ANY,
        not_read={"child": "partition value"},
    ),
    Case(
        name="partition_of_all_types",
        covers=("S43", "T34"),
        child=delta_sql(
            "CREATE TABLE {t} ({c}a BIGINT, {c}d DATE, {c}f FLOAT, {c}m DECIMAL(10,2)) USING delta"
            " PARTITIONED BY ({c}d, {c}f, {c}m)",
            "INSERT INTO {t} VALUES (1, date'2020-02-29', 3.4F, 1.50), (2, NULL, -0.0F, NULL)",
        ),
        parent=arrow(
            pa.table(
                {
                    "a": [1, 2, 3],
                    "d": [dt.date(2020, 2, 29), None, None],
                    "f": pa.array([3.4, 0.0, 0.0], pa.float32()),
                    "m": pa.array([Decimal("1.5"), None, None], pa.decimal128(12, 4)),
                }
            )
        ),
    ),
    Case(
        name="partition_value_in_the_parents_log_only",
        covers=("S43", "T34"),
        child=arrow(pa.table({"a": [1], "b": ["w"]})),
        parent=rust(pa.table({"a": [1, 2], "b": ["x", "y"]}), partition_by=["b"]),
        there=NONE,
        metadata=ANY,
    ),
]

CASES = [*DELETES, *COLUMNS, *LOGS]
